"""NGS under torch's own learning rate schedulers: the exact method, with the sequences they write.

A scheduler that cycles momentum is heard one step late; a callable momentum is on time.
"""

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler
from torch_oracle import Bowl, Oracle, distance, set_grads

from ngs.errors import InputError
from ngs.methods import lookahead, nesterov, start
from ngs.optim.torch import NGS
from ngs.schedules import Constant, OneCycle

STEPS = 120
CYCLE = OneCycle(0.95, 0.85, 0.95, total=STEPS)
"""The momentum that OneCycleLR writes with its default settings."""
RATE = OneCycle(0.3 / 25, 0.3, 0.3 / 25e4, total=STEPS)


def exact_path(lr_at, momentum_at):
    """Return theta_t, y_t before each step of the plain method on the whole vector."""
    bowl = Bowl()
    state = start(np.concatenate([x.ravel() for x in bowl.start]))
    path = []
    for t in range(STEPS):
        y = lookahead(state, momentum_at(t))
        path.append((state.theta, y))
        grad = bowl.A @ (y - bowl.center)
        state = nesterov.step(state, grad, lr_at(t), momentum_at(t))
    return path


def assert_runs_on(optimizer, scheduler, params, path):
    bowl = Bowl()
    for theta, y in path:
        assert distance(params, bowl.split(y)) < 1e-12
        with optimizer.at_iterate():
            assert distance(params, bowl.split(theta)) < 1e-12
        set_grads(bowl, params)
        optimizer.step()
        scheduler.step() if optimizer.state[params[0]]["step"] < STEPS else None


def test_one_cycle_on_a_number_is_the_exact_method_with_its_momentum_one_step_late():
    params = Bowl().parameters()
    optimizer = NGS(params, lr=0.1, momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=STEPS)
    late = exact_path(RATE, lambda t: CYCLE(t - 1) if t else 0.0)
    assert_runs_on(optimizer, scheduler, params, late)
    on_time = exact_path(RATE, CYCLE)
    assert np.abs(late[-1][0] - on_time[-1][0]).max() > 1e-6, "the test sees no difference"


def test_one_cycle_as_a_callable_is_the_exact_method_on_time():
    params = Bowl().parameters()
    optimizer = NGS(params, lr=0.1, momentum=CYCLE)
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.3, total_steps=STEPS, cycle_momentum=False
    )
    assert_runs_on(optimizer, scheduler, params, exact_path(RATE, CYCLE))


def test_a_callable_is_on_time_after_a_warm_up_from_zero():
    params = Bowl().parameters()
    optimizer = NGS(params, lr=0.3, momentum=CYCLE)

    def warm_up(t):
        return min(max(t - 3, 0) / 10, 1.0)  # four steps that do not move

    scheduler = lr_scheduler.LambdaLR(optimizer, warm_up)
    path = exact_path(lambda t: 0.3 * warm_up(t), CYCLE)
    assert_runs_on(optimizer, scheduler, params, path)


CYCLING = {
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.3, total_steps=STEPS),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, base_lr=0.01, max_lr=0.3),
}


@pytest.mark.parametrize("name", CYCLING)
def test_a_callable_and_a_scheduler_that_cycles_momentum_refuse_each_other(name):
    params = Bowl().parameters()
    optimizer = NGS(params, lr=0.3, momentum=Constant(0.9))
    CYCLING[name](optimizer)
    set_grads(Bowl(), params)
    with pytest.raises(InputError, match=r"momentum is a schedule .* cycle_momentum=False"):
        optimizer.step()
    assert distance(params, Bowl().start) == 0.0


def warm_up_then_cosine(optimizer):
    warm_up = lr_scheduler.LambdaLR(optimizer, lambda t: t / 10)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS - 10)
    return lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], milestones=[10])


SCHEDULERS = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, step_size=20, gamma=0.3),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [10, 30], gamma=1e-3),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, gamma=0.95),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, start_factor=0.01, total_iters=50),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, total_iters=60, power=2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=20),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=15),
    "warm-up from 0, then cosine": warm_up_then_cosine,
    "LambdaLR with zeros": lambda o: lr_scheduler.LambdaLR(o, lambda t: float(t % 7 not in (0, 3))),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=2, factor=0.5),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, base_lr=0.01, max_lr=0.3, step_size_up=9),
}


@pytest.mark.parametrize("momentum", [0.9, CYCLE], ids=["number", "callable"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_stock_schedulers_drive_ngs_exactly(name, momentum):
    bowl = Bowl()
    params, oracle = bowl.parameters(), Oracle(bowl)
    optimizer = NGS(params, lr=0.3, momentum=momentum)
    if name == "CyclicLR" and callable(momentum):
        scheduler = lr_scheduler.CyclicLR(optimizer, 0.01, 0.3, 9, cycle_momentum=False)
    else:
        scheduler = SCHEDULERS[name](optimizer)
    seen = set()
    for t in range(STEPS):
        group = optimizer.param_groups[0]
        beta = momentum(t + 1) if callable(momentum) else group["momentum"]
        seen.add((group["lr"], beta))
        set_grads(bowl, params)
        optimizer.step()
        oracle.step((group["lr"],), (beta,))
        scheduler.step(*([1.0] if name == "ReduceLROnPlateau" else []))
        assert distance(params, oracle.points()) < 1e-12
    assert len(seen) > 1, "the scheduler changed nothing"
    cycles = callable(momentum) or name == "CyclicLR"
    assert (len({beta for _, beta in seen}) > 5) == cycles


def test_a_learning_rate_in_a_tensor_is_read_at_every_step():
    bowl = Bowl()
    params, oracle = bowl.parameters(), Oracle(bowl)
    optimizer = NGS(params, lr=torch.tensor(0.3, dtype=torch.float64))
    scheduler = lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    for _ in range(20):
        lr = optimizer.param_groups[0]["lr"]
        assert isinstance(lr, torch.Tensor)
        set_grads(bowl, params)
        optimizer.step()
        oracle.step((lr.item(),), (0.9,))
        scheduler.step()
        assert distance(params, oracle.points()) < 1e-12
    assert optimizer.report.lr == (pytest.approx(0.3 * 0.9**19),)


def test_a_scheduler_and_ngs_go_on_together_from_what_was_saved():
    def build():
        params = Bowl().parameters()
        optimizer = NGS(params, lr=0.1)
        return params, optimizer, lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=STEPS)

    def advance(params, optimizer, scheduler, steps):
        for _ in range(steps):
            set_grads(Bowl(), params)
            optimizer.step()
            scheduler.step()

    whole, half, again = build(), build(), build()
    advance(*whole, 60)
    advance(*half, 30)
    for new, old in zip(again[0], half[0], strict=True):
        new.data.copy_(old.data)
    again[2].load_state_dict(half[2].state_dict())
    again[1].load_state_dict(half[1].state_dict())
    advance(*again, 30)
    assert all(torch.equal(p, q) for p, q in zip(whole[0], again[0], strict=True))
