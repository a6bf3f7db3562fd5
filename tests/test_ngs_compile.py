"""NGS under torch.compile: the same numbers, and nothing is compiled anew after the warm-up."""

import pytest
import torch
import torch._dynamo
from torch_oracle import Bowl, Steer

from ngs.optim.torch import NGS
from ngs.restart import GradientRestart
from ngs.schedules import NesterovMomentum, OneCycle

OPTIONS = {
    "plain": {},
    "schedule": {"momentum": OneCycle(0.95, 0.85, 0.95, 40)},
    "everything": {
        "momentum": NesterovMomentum(),
        "max_norm": 1.0,
        "factor": Steer(),
        "restart": GradientRestart(),
        "check_finite": True,
    },
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
WARM_UP, STEPS = 4, 14


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def course(optimizer, step, steps=STEPS):
    """Run a step under a changing learning rate; after the warm-up nothing may be compiled."""
    for t in range(steps):
        optimizer.param_groups[0]["lr"] = 0.3 / (1 + t)
        with torch._dynamo.config.patch(error_on_recompile=t >= WARM_UP):
            step()


def plain_course(options):
    bowl = Bowl()
    params = bowl.parameters()
    optimizer = NGS(params, **options)

    def step():
        optimizer.zero_grad()
        bowl.loss(params).backward()
        optimizer.step()

    course(optimizer, step)
    return params


def assert_same(ours, theirs):
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


@every_option
def test_a_compiled_step_steps_the_same_and_is_compiled_once(options):
    bowl = Bowl()
    params = bowl.parameters()
    optimizer = NGS(params, **options)
    compiled = torch.compile(optimizer.step, backend="eager")

    def step():
        optimizer.zero_grad()
        bowl.loss(params).backward()
        compiled()

    course(optimizer, step)
    assert_same(params, plain_course(options))


@every_option
def test_a_compiled_train_step_steps_the_same_and_is_compiled_once(options):
    bowl = Bowl()
    params = bowl.parameters()
    optimizer = NGS(params, **options)
    A, center = torch.tensor(bowl.A), torch.tensor(bowl.center)
    compiled = []

    def count(graph, _):
        compiled.append(graph)
        return graph.forward

    @torch.compile(backend=count)
    def step():
        optimizer.zero_grad()
        offset = torch.cat([p.flatten() for p in params]) - center
        (0.5 * offset @ (A @ offset)).backward()
        optimizer.step()

    course(optimizer, step)
    assert_same(params, plain_course(options))
    assert 0 < len(compiled) < WARM_UP, "the forward pass is compiled, and not at every step"
