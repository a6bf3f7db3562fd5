"""Claims about the optimizers that a run can name: their coefficients step by step, the point at
which each is evaluated, and what is said where a peer's package is missing.
"""

import math
import sys
import warnings
from typing import Any

import pytest
import torch
from few_images import few_images
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from ngs.errors import InputError
from ngs.optim.torch import NGS
from ngs.schedules import OneCycle
from ngs.train import data, loop, models, optimizers
from ngs.train.augment import normalize
from ngs.train.config import OPTIMIZERS, SCHEDULES, TrainConfig
from ngs.train.optimizers import (
    PEERS,
    build_optimizer,
    evaluation_point,
    full_batch,
    learning_rates,
    momenta,
)

TRAIN, TEST = 120, 40
SMALL = {
    "model": "tiny",
    "epochs": 2,
    "batch_size": 32,
    "lr": 0.02,
    "device": "cpu",
    "precision": "float32",
}


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{**SMALL, **changes})


@pytest.fixture(scope="module")
def small() -> data.Dataset:
    return few_images(TRAIN, TEST)


@pytest.fixture(autouse=True)
def a_tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "tiny", lambda batch_norm: models.ConvNet(4, batch_norm))


def make_run(small: data.Dataset, network: nn.Module | None = None, **changes: Any) -> loop.Run:
    torch.manual_seed(0)
    network = network or nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    cpu = torch.device("cpu")
    return loop.Run(config(**changes), small, network, cpu, torch.float32, loop.Clock())


def step(run: loop.Run, count: int = 1) -> None:
    images = normalize(run.data.train.images[:32], run.data.mean, run.data.std)
    for _ in range(count):
        run.train_step(images, run.data.train.labels[:32])


def values(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def are_equal(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_every_name_that_the_settings_know_is_built() -> None:
    assert tuple(optimizers.BUILDERS) == OPTIMIZERS
    assert set(PEERS) < set(OPTIMIZERS)


# One cycle --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgd", "sgd-nesterov"])
@pytest.mark.parametrize("momentum", [0.9, 0.0])  # the cycle's own counts, whatever is given
def test_onecycle_is_torchs_onecyclelr_for_torchs_sgd_at_every_step(
    name: str, momentum: float, small: data.Dataset
) -> None:
    run = make_run(small, optimizer=name, schedule="onecycle", lr=0.3, momentum=momentum, epochs=6)
    assert run.total_steps == 24
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    oracle = torch.optim.SGD([weight], lr=0.3, momentum=0.9, nesterov=name == "sgd-nesterov")
    scheduler = OneCycleLR(oracle, max_lr=0.3, total_steps=24)
    seen = set()
    for number in range(24):
        step(run)
        (group,), (expected,) = run.optimizer.param_groups, oracle.param_groups
        assert group["lr"] == pytest.approx(expected["lr"], rel=1e-12)
        assert group["momentum"] == pytest.approx(expected["momentum"], rel=1e-12)
        assert group["nesterov"] == expected["nesterov"]
        seen.add(round(group["momentum"], 3))
        oracle.step()
        if number < 23:
            scheduler.step()
    assert {0.95, 0.85} < seen


NGS_NAMES = [name for name in OPTIMIZERS if name.startswith("ngs")]


@pytest.mark.parametrize("name", NGS_NAMES)
def test_onecycle_hands_ngs_its_momentum_as_a_callable_and_leaves_it_there(
    name: str, small: data.Dataset
) -> None:
    run = make_run(small, optimizer=name, schedule="onecycle", lr=0.3)
    cycle = OneCycle(0.95, 0.85, 0.95, run.total_steps)
    rates = OneCycle(0.3 / 25, 0.3, 0.3 / 25e4, run.total_steps)
    for number in range(run.total_steps):
        step(run)
        (group,) = run.optimizer.param_groups
        assert group["momentum"] == cycle
        assert group["lr"] == rates(number)
        ahead = {state["momentum"] for state in run.optimizer.state.values()}
        assert ahead == {cycle(number + 1)}  # of the next look-ahead point, in time


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_no_other_schedule_touches_the_momentum(schedule: str, small: data.Dataset) -> None:
    assert momenta(config(schedule=schedule), 8) is None
    for name in ("ngs", "sgd", "sgd-nesterov"):
        run = make_run(small, optimizer=name, schedule=schedule, momentum=0.7)
        step(run)
        assert run.optimizer.param_groups[0]["momentum"] == 0.7


@pytest.mark.parametrize("name", ["ngs", "sgd"])
def test_a_run_too_short_for_a_cycle_is_told_how_to_be_longer(name: str) -> None:
    short = config(optimizer=name, schedule="onecycle")
    message = "onecycle needs 4 steps or more, got 3: train for more epochs or with a smaller batch"
    for ask in (
        learning_rates,
        momenta,
        lambda settings, steps: build_optimizer(settings, models.ConvNet(4), steps),
    ):
        with pytest.raises(InputError, match=message):
            ask(short, 3)
        ask(short, 4)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ["sgd-plain", "gradient-descent"])
def test_plain_sgd_has_no_momentum_under_any_schedule(
    name: str, schedule: str, small: data.Dataset
) -> None:
    changes = {"optimizer": name, "schedule": schedule, "weight_decay": 0.1, "momentum": 0.7}
    changes["epochs"] = 4  # a step each, for gradient descent
    run = make_run(small, **changes)
    weights = values(run.model)
    for _ in range(3):
        step(run)
        (group,) = run.optimizer.param_groups
        assert (group["momentum"], group["nesterov"]) == (0.0, False)
        weights = [
            w - group["lr"] * (p.grad + 0.1 * w)
            for w, p in zip(weights, run.model.parameters(), strict=True)
        ]
        for found, expected in zip(values(run.model), weights, strict=True):
            torch.testing.assert_close(found, expected)


def test_gradient_descent_alone_takes_the_whole_training_set_a_step() -> None:
    assert [n for n in OPTIMIZERS if full_batch(config(optimizer=n))] == ["gradient-descent"]


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
@pytest.mark.parametrize(("name", "kind"), [("adam", "Adam"), ("nadam", "NAdam")])
def test_adam_and_nadam_are_torchs_with_fixed_betas_and_a_coupled_penalty(
    name: str, kind: str, schedule: str, small: data.Dataset
) -> None:
    changes = {"optimizer": name, "schedule": schedule, "momentum": 0.7, "weight_decay": 0.1}
    run = make_run(small, **changes)
    weights = [nn.Parameter(w) for w in values(run.model)]
    oracle = getattr(torch.optim, kind)(weights, betas=(0.7, 0.999))
    for _ in range(run.total_steps):
        before = values(run.model)
        step(run)
        (group,) = run.optimizer.param_groups
        assert group["betas"] == (0.7, 0.999)
        assert "momentum" not in group  # nobody would read it
        oracle.param_groups[0]["lr"] = group["lr"]
        for weight, w, p in zip(weights, before, run.model.parameters(), strict=True):
            weight.grad = p.grad + 0.1 * w
        oracle.step()
        for found, expected in zip(values(run.model), weights, strict=True):
            torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "nadam"])
def test_adam_and_nadam_need_no_first_moment(name: str, small: data.Dataset) -> None:
    run = make_run(small, optimizer=name, momentum=0.0)
    before = values(run.model)
    step(run, 2)
    assert all(w.isfinite().all() for w in values(run.model))
    assert not are_equal(values(run.model), before)


# Where it is evaluated --------------------------------------------------------------------------


@pytest.mark.parametrize("name", NGS_NAMES)
def test_ngs_is_evaluated_at_its_iterate_and_goes_on_from_where_it_was(
    name: str, small: data.Dataset
) -> None:
    run = make_run(small, optimizer=name)
    step(run, 3)
    before = values(run.model)
    states = [run.optimizer.state[p] for p in run.model.parameters()]
    with evaluation_point(run.optimizer):
        inside = values(run.model)
    assert are_equal(values(run.model), before)  # bit by bit
    for y, theta, state in zip(before, inside, states, strict=True):
        velocity = -state["scale"] * state["momentum_buffer"]
        assert velocity.abs().max() > 0.0
        torch.testing.assert_close(theta, y - state["momentum"] * velocity)
        assert not torch.equal(theta, y)


def test_the_point_is_put_back_also_when_the_evaluation_fails(small: data.Dataset) -> None:
    run = make_run(small)
    step(run, 2)
    before = values(run.model)
    inside = []
    with pytest.raises(ZeroDivisionError), evaluation_point(run.optimizer):
        inside.append(values(run.model)) or 1 / 0
    assert not are_equal(inside[0], before)
    assert are_equal(values(run.model), before)


def test_validation_is_measured_at_the_iterate(small: data.Dataset) -> None:
    run = make_run(small, lr=0.1)
    step(run, 4)
    measured = run.evaluate(small.test)
    ahead = run._measure(small.test)
    run.optimizer.to_iterate()
    assert run._measure(small.test) == measured
    assert ahead["loss"] != measured["loss"]


class WithModes(torch.optim.SGD):
    """Stands for Schedule-Free: its eval() moves the parameters by 1, its train() moves back."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.said: list[str] = []

    @torch.no_grad()
    def move(self, name: str, by: float) -> None:
        self.said.append(name)
        for p in self.param_groups[0]["params"]:
            p.add_(by)

    def eval(self) -> None:
        self.move("eval", 1.0)

    def train(self) -> None:
        self.move("train", -1.0)


@pytest.mark.parametrize("fails", [False, True])
def test_an_optimizer_with_modes_is_put_into_eval_and_back_into_train(fails: bool) -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = WithModes([weight], lr=0.1)
    try:
        with evaluation_point(optimizer):
            assert weight.item() == 3.0
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert weight.item() == 2.0
    assert optimizer.said == ["eval", "train"]
    optimizers.stay_at_evaluation_point(optimizer)
    assert weight.item() == 3.0
    assert optimizer.said == ["eval", "train", "eval"]


def test_torchs_sgd_is_evaluated_where_its_parameters_are() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, nesterov=True)
    weight.grad = torch.ones(1)
    optimizer.step()
    before = weight.item()
    with evaluation_point(optimizer):
        assert weight.item() == before
    optimizers.stay_at_evaluation_point(optimizer)
    assert weight.item() == before


def test_the_network_that_comes_back_is_at_the_iterate_where_it_was_tested(
    small: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    build = build_optimizer

    def spy(*args: Any) -> torch.optim.Optimizer:
        kept.append(build(*args))
        return kept[-1]

    monkeypatch.setattr("ngs.train.run.build_optimizer", spy)
    network, record = loop.train(config(lr=0.1, schedule="constant"), data=small)
    (optimizer,) = kept
    at_end = values(network)
    run = make_run(small)
    run.model = run.network = network
    worst = len(record["test"]["worst"])
    assert run._measure(small.test, worst=worst) == record["test"]
    optimizer.to_lookahead()
    assert not are_equal(values(network), at_end)
    for y, theta in zip(network.parameters(), at_end, strict=True):
        state = optimizer.state[y]
        ahead = state["momentum"] * state["scale"] * state["momentum_buffer"]
        torch.testing.assert_close(theta, y.detach() + ahead)


# Steps that NGS refuses -------------------------------------------------------------------------


def test_refused_steps_are_counted_by_epoch_and_said_once_not_once_a_step(
    small: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = NGS.step
    count = 0

    def spoiled(self: NGS, *args: Any) -> Any:
        nonlocal count
        count += 1
        if count in (2, 3):  # of the four steps of the first epoch
            self.param_groups[0]["params"][0].grad.fill_(math.inf)
        return taken(self, *args)

    monkeypatch.setattr(NGS, "step", spoiled)
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        _, record = loop.train(config(optimizer="ngs-factor"), data=small, say=lines.append)
    assert [str(w.message) for w in shown if "refused" in str(w.message)] == []
    assert [row.get("refused") for row in record["epochs"]] == [2, None]
    assert ["2 steps refused" in line for line in lines[-2:]] == [True, False]


# Peers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PEERS)
def test_a_missing_peer_is_named_with_its_extra_before_anything_is_loaded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr(loop, "load", loaded)
    monkeypatch.setitem(sys.modules, PEERS[name], None)
    with pytest.raises(ImportError) as caught:
        loop.train(config(optimizer=name))
    assert str(caught.value) == (f"optimizer {name} needs {PEERS[name]}: pip install 'ngs[peers]'")


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_trains(name: str, small: data.Dataset) -> None:
    pytest.importorskip(PEERS[name])
    settings = {"prodigy": {"lr": 1.0}, "schedule-free": {"lr": 0.5, "schedule": "constant"}}
    run_config = config(optimizer=name, epochs=8, augment=False, **settings[name])
    network, record = loop.train(run_config, data=small)
    losses = [row["train_loss"] for row in record["epochs"]]
    assert losses[0] > 2.0
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_prodigy_decays_its_weights_by_the_penalty_that_the_others_minimise() -> None:
    pytest.importorskip("prodigyopt")
    (group,) = build_optimizer(
        config(optimizer="prodigy", lr=1.0, weight_decay=0.01), models.ConvNet(4), 8
    ).param_groups
    assert (group["lr"], group["weight_decay"], group["decouple"]) == (1.0, 0.01, False)


def test_prodigy_keeps_its_own_momentum_under_onecycle(small: data.Dataset) -> None:
    pytest.importorskip("prodigyopt")
    run = make_run(small, optimizer="prodigy", schedule="onecycle", lr=1.0)
    (group,) = run.optimizer.param_groups
    betas = group["betas"]
    step(run)
    assert group["betas"] == betas
    assert "momentum" not in group  # nobody would read it
    assert group["lr"] == pytest.approx(1.0 / 25.0)


def test_schedule_free_is_evaluated_at_its_average_and_trained_at_its_own_point(
    small: data.Dataset,
) -> None:
    pytest.importorskip("schedulefree")
    run = make_run(small, optimizer="schedule-free", schedule="constant", lr=0.5)
    assert run.optimizer.param_groups[0]["train_mode"]
    step(run, 3)
    before = values(run.model)
    with evaluation_point(run.optimizer):
        average = values(run.model)
    # y = (1 - beta) z + beta x, with x the average
    for p, y, x in zip(run.model.parameters(), before, average, strict=True):
        z = run.optimizer.state[p]["z"]
        torch.testing.assert_close(y, 0.1 * z + 0.9 * x, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(p.detach(), y, rtol=1e-4, atol=1e-5)
    assert run.optimizer.param_groups[0]["train_mode"]


def test_batch_norm_is_measured_anew_at_schedule_frees_average(small: data.Dataset) -> None:
    pytest.importorskip("schedulefree")
    network = models.ConvNet(4)
    run = make_run(small, network, optimizer="schedule-free", schedule="constant", lr=0.5)
    step(run, 3)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    stale = [norm.running_mean.clone() for norm in norms]
    measured = run.evaluate(small.test)
    found = [norm.running_mean.clone() for norm in norms]
    assert not any(torch.equal(a, b) for a, b in zip(stale, found, strict=True))
    for norm in norms:
        norm.running_mean.fill_(7.0)
        norm.running_var.fill_(7.0)
    assert run.evaluate(small.test)["loss"] == pytest.approx(measured["loss"], rel=1e-3)
    for norm, mean in zip(norms, found, strict=True):
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-3, atol=1e-3)
        assert norm.momentum == 0.1  # training goes on as before
    plain = make_run(small, models.ConvNet(4), schedule="constant", lr=0.5)
    step(plain, 3)
    before = {k: v.clone() for k, v in plain.model.state_dict().items()}
    plain.evaluate(small.test)
    assert all(torch.equal(v, before[k]) for k, v in plain.model.state_dict().items())
