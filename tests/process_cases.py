"""What the processes of test_ngs_processes do: ``process_cases.py RANK COUNT FOLDER``.

All cases run in one start, and what came out is written to ``FOLDER/RANK.json``. The tests run the
same courses in one process on ordinary tensors.
"""

import faulthandler
import json
import sys
import warnings
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)

from ngs.errors import InputError
from ngs.factor import AngleRule
from ngs.optim.torch import NGS
from ngs.restart import GradientRestart
from ngs.schedules import NesterovMomentum

SECONDS = 120
STEPS, HALF = 16, 8
EVERYTHING = {
    "momentum": NesterovMomentum(),
    "weight_decay": 0.01,
    "decoupled_weight_decay": True,
    "rescale_velocity": True,
    "factor": AngleRule(),
    "restart": GradientRestart(0.0, 4),
    "max_norm": 0.3,
    "check_finite": True,
}
OPTIONS = {
    "plain": {},
    "momentum schedule": {"momentum": NesterovMomentum()},
    "weight decay": {"weight_decay": 0.1},
    "decoupled weight decay": {"weight_decay": 0.1, "decoupled_weight_decay": True},
    "factor of each group": {"factor": AngleRule()},
    "factor of all": {"factor": AngleRule(), "factor_scope": "all", "factor_every": 2},
    "factor looked at now and then": {"factor": AngleRule(), "factor_every": 3, "factor_eager": 2},
    "restart": {"restart": GradientRestart(0.0, 3)},
    "max_norm": {"max_norm": 0.3},
    "max_norm with weight decay": {"max_norm": 0.3, "weight_decay": 0.1},
    "check_finite": {"check_finite": True},
    "rescale_velocity": {"rescale_velocity": True},
    "maximize": {"maximize": True, "max_norm": 0.3},
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "everything": EVERYTHING,
    "everything, fused": {**EVERYTHING, "fused": True},
}


class Network(nn.Module):
    """A perceptron; of its factor of length 1 the second process holds nothing."""

    def __init__(self, idle=True):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(5, 7)
        self.second = nn.Linear(7, 3)
        self.gain = nn.Parameter(torch.ones(1))
        if idle:
            self.idle = nn.Parameter(torch.ones(4))  # it never has a gradient
        self.double()

    def forward(self, inputs):
        return self.gain * self.second(torch.tanh(self.first(inputs)))


def batch():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, n, dtype=torch.float64, generator=generator) for n in (5, 3)]


def optimizer_of(model, **options):
    """Weights and the rest, in two groups with learning rates of their own."""
    named = list(model.named_parameters())
    groups = [
        {"params": [(n, p) for n, p in named if ("weight" in n) == weights], "lr": 0.5}
        for weights in (True, False)
    ]
    return NGS(groups, **options)


def whole(tensor):
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach()


def values(model):
    return [whole(p).tolist() for p in model.parameters()]


def loss(model, inputs, wanted):
    return (model(inputs) - wanted).square().mean()


def reshard(model):
    """Let a module of fully_shard forget the parameters that it has gathered."""
    getattr(model, "reshard", lambda: None)()


def course(model, optimizer, data, steps):
    """Train; return what each step reported and how many collectives it took."""
    reports, collectives = [], []
    for t in steps:
        for number, group in enumerate(optimizer.param_groups):
            group["lr"] = 0.0 if t == 3 else 0.1 / (1 + number + 0.1 * t)
        optimizer.zero_grad()
        loss(model, *data).backward()
        if t == 5 and optimizer.options.check_finite:
            spoil(model)
        with count_collectives() as reduce:
            step(optimizer)
        reports.append(asdict(optimizer.report))
        collectives.append(reduce.call_count)
    return {"reports": reports, "collectives": collectives}


def count_collectives():
    return mock.patch.object(dist, "all_reduce", wraps=dist.all_reduce)


def step(optimizer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a refused step warns, on purpose
        optimizer.step()


def spoil(model):
    """Make the last entry of a gradient infinite; with fully_shard one process of a row has it."""
    grad = max(model.parameters(), key=torch.numel).grad
    if not hasattr(grad, "to_local"):
        grad.view(-1)[-1] = torch.inf
        return
    mesh = grad.device_mesh
    if mesh.get_local_rank(mesh.ndim - 1) == mesh.size(mesh.ndim - 1) - 1:
        grad.to_local().view(-1)[-1] = torch.inf


def outcome(model, optimizer):
    """Everything that must agree at the end, and that at_iterate() puts back what was there."""
    found = {"ahead": values(model), "loss ahead": evaluate(model)}
    with optimizer.at_iterate():
        found.update(iterate=values(model), loss=evaluate(model))
    assert values(model) == found["ahead"]
    assert evaluate(model) == found["loss ahead"]
    found.update(factors=optimizer.factors, restarts=optimizer.restarts, refused=optimizer.refused)
    return found


def evaluate(model):
    with torch.no_grad():
        found = loss(model, *batch()).item()
    reshard(model)
    return found


def run(model, data, options, steps=range(STEPS)):
    optimizer = optimizer_of(model, **options)
    found = course(model, optimizer, data, steps)
    return {**found, **outcome(model, optimizer)}


# --- what only several processes do ---------------------------------------------------------------


def share():
    """This process's part of the batch."""
    rank, count = dist.get_rank(), dist.get_world_size()
    return [part.chunk(count)[rank] for part in batch()]


def sharded(mesh=None, **options):
    from torch.distributed.fsdp import fully_shard

    model = Network(**options)
    for module in (model.first, model):
        fully_shard(module, mesh=mesh)
    return model


def meshes():
    from torch.distributed.device_mesh import init_device_mesh

    count = dist.get_world_size()
    return [
        init_device_mesh("cpu", shape, mesh_dim_names=("copies", "parts"))
        for shape in ((2, count // 2), (1, count))
    ]


def replicated_run():
    network = Network()
    model = nn.parallel.DistributedDataParallel(network, find_unused_parameters=True)
    optimizer = optimizer_of(network, **EVERYTHING)
    found = course(model, optimizer, share(), range(STEPS))
    return {**found, **outcome(network, optimizer)}


class Laid:
    """Parameters laid over a mesh in every way, with gradients written by hand."""

    def __init__(self, mesh=None):
        self.mesh = mesh
        generator = torch.Generator().manual_seed(2)
        self.start, self.target = (
            [torch.randn(shape, dtype=torch.float64, generator=generator) for shape, *_ in WAYS]
            for _ in range(2)
        )
        self.params = [
            nn.Parameter(lay(tensor.clone(), mesh, own))
            for tensor, (_, own, _) in zip(self.start, WAYS, strict=True)
        ]

    def write_gradients(self):
        rows = zip(self.params, self.target, WAYS, strict=True)
        for number, (p, target, (_, _, of_gradient)) in enumerate(rows):
            grad = (1 + number) / 10 * (whole(p) - target)
            p.grad = lay(grad, self.mesh, of_gradient)


WAYS = (
    ((2,), None, None),
    ((5, 4), "RS", "RS"),
    ((6,), "SR", "SR"),
    ((4, 6), "ST", "ST"),
    ((3,), "RR", "RR"),
    ((1,), "SR", "SR"),
    ((4, 2), "SR", "PR"),
    ((4, 2), "RR", "PR"),
    ((6, 2), "RS", "RR"),
    ((4,), "RR", "WR"),
)
"""Shape; how the parameter lies; how its gradient lies.

R is Replicate, S is Shard(0), T is Shard(1), P is Partial; W is Replicate while the collective that
makes it so is still under way. ``None`` is an ordinary tensor.
"""


def lay(tensor, mesh, way):
    from torch.distributed._functional_collectives import all_reduce
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

    if mesh is None or way is None:
        return tensor
    if way == "WR":
        waiting = all_reduce(tensor / mesh.size(0), "sum", mesh.get_group(0))
        return DTensor.from_local(waiting, mesh, [Replicate(), Replicate()], run_check=False)
    kinds = {"R": Replicate(), "S": Shard(0), "T": Shard(1), "P": Partial()}
    placements = [kinds[letter] for letter in way]
    if "P" not in way:
        return distribute_tensor(tensor, mesh, placements)
    share = tensor * (1 + mesh.get_local_rank(0)) / sum(range(1, 1 + mesh.size(0)))
    return DTensor.from_local(share, mesh, placements, run_check=False)


def laid_run(mesh=None):
    laid = Laid(mesh)
    rules = {"factor": AngleRule(), "restart": GradientRestart()}
    optimizer = NGS(laid.params, lr=0.5, max_norm=1.0, **rules)
    reports, collectives = [], []
    for _ in range(STEPS):
        laid.write_gradients()
        with count_collectives() as reduce:
            step(optimizer)
        reports.append(asdict(optimizer.report))
        collectives.append(reduce.call_count)
    return {
        "reports": reports,
        "collectives": collectives,
        "ahead": [whole(p).tolist() for p in laid.params],
        "like the parameter": all(
            p.placements == buffer.placements and p.device_mesh == buffer.device_mesh
            for p in laid.params
            if hasattr(p, "placements")
            for buffer in [optimizer.state[p]["momentum_buffer"]]
        ),
    }


def cut_vector(mesh, length=4, dtype=torch.float64):
    return nn.Parameter(lay(torch.ones(length, dtype=dtype), mesh, "RS"))


def norms_out_of_range(mesh):
    """Squares that leave float32's range, in the part of the last process only."""
    p = cut_vector(mesh, 2 * mesh.size(1), torch.float32)
    optimizer = NGS([p], lr=1e-30, max_norm=1e38)
    grad = torch.ones(p.shape, dtype=torch.float32)
    grad[-1] = 2.0**80
    p.grad = lay(grad, mesh, "RS")
    with count_collectives() as reduce:
        step(optimizer)
    return {"norm": optimizer.report.grad_norm, "collectives": reduce.call_count}


def clock_after_a_step_without_a_rate(mesh):
    """The first step counts as one where a process, be it not this one, has a gradient."""
    p = cut_vector(mesh, 2 * mesh.size(1))
    optimizer = NGS([p], lr=0.0)
    grad = torch.zeros(p.shape, dtype=torch.float64)
    grad[-1] = 1.0
    p.grad = lay(grad, mesh, "RS")
    optimizer.step()
    return optimizer.state[p]["step"]


def changed_between_forward_and_backward(mesh):
    """Return what autograd says where a step lies between them."""
    p = cut_vector(mesh)
    square = (p * p).sum()
    square.backward(retain_graph=True)
    NGS([p], lr=0.1).step()
    try:
        square.backward()
    except RuntimeError as error:
        return str(error)
    return "nothing"


def states_that_do_not_fit(mesh):
    """Return what loading says where one of two is cut over the processes and one is not."""
    said = []
    plain, cut = nn.Parameter(torch.ones(4, dtype=torch.float64)), cut_vector(mesh)
    optimizers = [NGS([p], lr=0.1) for p in (plain, cut)]
    for p, optimizer in zip((plain, cut), optimizers, strict=True):
        p.grad = p.detach().clone()
        optimizer.step()
    states = [optimizer.state_dict() for optimizer in optimizers]
    for optimizer, state in zip(optimizers, reversed(states), strict=True):
        before = optimizer.state_dict()
        try:
            optimizer.load_state_dict(state)
        except InputError as error:
            said.append(str(error))
        assert optimizer.state_dict() == before
    return said


# --- torch.distributed.checkpoint -----------------------------------------------------------------


def save(model, optimizer, folder, *, alone=False, flat=False):
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    model_state, state = get_state_dict(model, optimizer, options=options)
    dcp.save({"model": model_state, "optimizer": state}, checkpoint_id=folder, no_dist=alone)


def load(model, optimizer, folder, *, alone=False, flat=False):
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    model_state, state = get_state_dict(model, optimizer, options=options)
    found = {"model": model_state, "optimizer": state}
    dcp.load(found, checkpoint_id=folder, no_dist=alone)
    set_states(model, optimizer, (found["model"], found["optimizer"]), options)


def set_states(model, optimizer, states, options):
    model_state, state = states
    set_state_dict(
        model, optimizer, model_state_dict=model_state, optim_state_dict=state, options=options
    )


def own_state(model, optimizer):
    """Everything that a state holds, as numbers."""
    states = [optimizer.state[p] for p in model.parameters()]
    tensors = [{k: whole(v).tolist() for k, v in s.items() if torch.is_tensor(v)} for s in states]
    numbers = [{k: v for k, v in s.items() if not torch.is_tensor(v)} for s in states]
    kept = ("lr", "factor", "factor_state", "looks", "since_factor", "restart_memory", "restarts")
    groups = [{k: g[k] for k in (*kept, "refused")} for g in optimizer.param_groups]
    return {"tensors": tensors, "numbers": numbers, "groups": groups}


def first_half(model, data):
    optimizer = optimizer_of(model, **EVERYTHING)
    course(model, optimizer, data, range(HALF))
    return optimizer


def second_half(model, optimizer, data):
    found = {"state": own_state(model, optimizer)}
    found.update(course(model, optimizer, data, range(HALF, STEPS)))
    return {**found, **outcome(model, optimizer)}


def checkpoints(folder):
    """Save what was sharded, and load it and what one process has saved."""
    found, data = {}, share()
    model = sharded(idle=False)
    optimizer = first_half(model, data)
    save(model, optimizer, folder / "sharded")
    full = StateDictOptions(full_state_dict=True)
    states = get_state_dict(model, optimizer, options=full)
    if dist.get_rank() == 0:
        torch.save(states, folder / "full.pt")
    found["without a break"] = second_half(model, optimizer, data)

    def fresh():
        model = sharded(idle=False)
        return model, optimizer_of(model, **EVERYTHING)

    for source in ("sharded", "whole"):
        model, optimizer = fresh()
        load(model, optimizer, folder / source)
        found[f"from {source}"] = second_half(model, optimizer, data)
    model, optimizer = fresh()
    set_states(model, optimizer, states, full)
    found["from full"] = second_half(model, optimizer, data)
    return found


def all_cases(folder):
    hybrid, single = meshes()
    found = {"sharded": {name: run(sharded(), share(), own) for name, own in OPTIONS.items()}}
    found["copies of parts"] = run(sharded(hybrid), share(), EVERYTHING)
    found["replicated"] = replicated_run()
    found["laid"] = laid_run(hybrid)
    found["laid in one row"] = laid_run(single)
    found["out of range"] = norms_out_of_range(single)
    found["clock"] = clock_after_a_step_without_a_rate(single)
    found["changed"] = changed_between_forward_and_backward(single)
    found["unfit"] = states_that_do_not_fit(single)
    found["checkpoints"] = checkpoints(folder)
    return found


def main(rank, count, folder):
    faulthandler.dump_traceback_later(SECONDS, exit=True)  # a process that hangs says where
    dist.init_process_group(
        "gloo",
        init_method=(folder / "meeting").as_uri(),
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=SECONDS / 2),
    )
    found = all_cases(folder)
    (folder / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
