"""NGS, the torch optimizer, against ngs.methods.nesterov under every schedule, and its promises.

Torch has three kernels (the for-loop, foreach, which it takes on accelerators, and fused); what
concerns the update itself is tested through each of them.
"""

import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import OneCycleLR, StepLR
from torch_oracle import Bowl, Oracle, backward, deviation, distance

import ngs.optim.torch.kernel
from ngs.errors import InputError
from ngs.optim.torch import NGS

STEPS = 300
SHORT = 120  # holds every kind of zero, and keeps the file quick
KERNELS = {"for-loop": (False, False), "foreach": (False, True), "fused": (True, False)}


@pytest.fixture(params=KERNELS.values(), ids=KERNELS.keys())
def kernel(request, monkeypatch):
    """Make NGS choose the kernel (fused, foreach) that it may choose on another device."""
    monkeypatch.setattr(ngs.optim.torch.kernel, "pick_kernel", lambda *_: request.param)


def columns(lr, momentum):
    """Rows of (lrs, momenta) with the same schedule for both parameters."""
    lr, momentum = (np.broadcast_to(x, STEPS) for x in (lr, momentum))
    return [((a, a), (b, b)) for a, b in zip(lr.tolist(), momentum.tolist(), strict=True)]


def with_zeros(values, where):
    values = np.array(values)
    values[where] = 0.0
    return values


rng = np.random.default_rng(42)
LR = 10.0 ** rng.uniform(-3.0, -0.3, STEPS)
MOMENTUM = rng.uniform(0.05, 0.95, STEPS)
SCATTERED = rng.random(STEPS) < 0.25
SCHEDULES = {
    "constant": columns(0.3, 0.9),
    "lr schedule": columns(LR, 0.9),
    "momentum schedule": columns(0.3, MOMENTUM),
    "both": columns(LR, MOMENTUM),
    "lr drops a thousandfold": columns(np.where(np.arange(STEPS) < 150, 0.3, 3e-4), 0.9),
    "momentum 0 throughout": columns(LR, 0.0),
    "lr 0 at the first step": columns(with_zeros(LR, [0]), MOMENTUM),
    "lr 0 for the first ten steps": columns(with_zeros(LR, slice(10)), MOMENTUM),
    "lr 0 in mid-course": columns(with_zeros(LR, [50, 51, 52, 100]), MOMENTUM),
    "lr 0 at the last steps": columns(with_zeros(LR, slice(280, None)), MOMENTUM),
    "momentum 0 at the first step": columns(LR, with_zeros(MOMENTUM, [0])),
    "momentum 0 in mid-course": columns(LR, with_zeros(MOMENTUM, [50, 51, 52, 100])),
    "lr and momentum 0 together": columns(*(with_zeros(x, [0, 60, 61]) for x in (LR, MOMENTUM))),
    "zeros scattered": columns(
        with_zeros(LR, SCATTERED), with_zeros(MOMENTUM, rng.random(STEPS) < 0.25)
    ),
}
PRESENCE = (rng.random((STEPS, 2)) < 0.6).tolist()
every_schedule = pytest.mark.parametrize("rows", SCHEDULES.values(), ids=SCHEDULES.keys())


@every_schedule
def test_ngs_is_the_lookahead_method_under_every_schedule(rows, kernel):
    assert deviation(rows) < 1e-12


@every_schedule
def test_a_parameter_without_gradient_stands_still_and_so_does_its_clock(rows, kernel):
    assert deviation(rows[:SHORT], presence=PRESENCE) < 1e-12


@every_schedule
def test_weight_decay_acts_at_the_lookahead_point(rows, kernel):
    assert deviation(rows[:SHORT], weight_decay=0.05) < 1e-12


def zero_or(least, most):
    return st.just(0.0) | st.floats(least, most)


STEP = st.tuples(zero_or(1e-6, 1.0), zero_or(1e-3, 0.99), st.booleans(), st.booleans())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(STEP, min_size=1, max_size=15))
def test_ngs_is_the_lookahead_method_in_any_short_run(steps):
    rows = [((lr, lr), (momentum, momentum)) for lr, momentum, _, _ in steps]
    assert deviation(rows, presence=[present for _, _, *present in steps]) < 1e-12


def test_each_group_follows_its_own_schedule(kernel):
    rows = [
        ((a[0][0], b[0][0]), (a[1][0], b[1][0]))
        for a, b in zip(SCHEDULES["both"], SCHEDULES["zeros scattered"], strict=True)
    ]
    assert deviation(rows, groups=2) < 1e-12
    assert deviation(rows, groups=2, presence=PRESENCE) < 1e-12


def test_the_momentum_of_a_step_forms_the_next_lookahead_point():
    # One step by hand from 1 on f = theta^2/2: theta_1 = 0.5, v_1 = -0.5, y_1 = 0.5 - 0.8 * 0.5.
    weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = NGS([weight], lr=0.5, momentum=0.3)
    optimizer.param_groups[0]["momentum"] = 0.8
    weight.grad = weight.detach().clone()
    optimizer.step()
    assert weight.item() == pytest.approx(0.1, rel=1e-14)


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_gradients_are_never_changed_in_place(kernel, weight_decay):
    bowl = Bowl()
    params = bowl.parameters()
    optimizer = NGS(params, lr=0.3, momentum=0.9, weight_decay=weight_decay)
    for lr, momentum in ((0.3, 0.9), (0.1, 0.5), (0.0, 0.5), (0.1, 0.0), (0.2, 0.9)):
        optimizer.param_groups[0].update(lr=lr, momentum=momentum)
        backward(bowl, params, optimizer)
        before = [p.grad.clone() for p in params]
        optimizer.step()
        assert all(torch.equal(p.grad, old) for p, old in zip(params, before, strict=True))


def run_beside_sgd(lrs, momentum=0.9, weight_decay=0.0):
    """Return the worst distance between NGS and torch's SGD(nesterov=True)."""
    bowl = Bowl()
    ours, theirs = bowl.parameters(), bowl.parameters()
    a = NGS(ours, momentum=momentum, weight_decay=weight_decay)
    b = torch.optim.SGD(theirs, momentum=momentum, weight_decay=weight_decay, nesterov=True)
    worst = 0.0
    for lr in lrs:
        for params, optimizer in ((ours, a), (theirs, b)):
            optimizer.param_groups[0]["lr"] = lr
            backward(bowl, params, optimizer)
            optimizer.step()
        worst = max(worst, distance(ours, theirs))
    return worst


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_ngs_equals_torch_sgd_while_the_coefficients_are_constant(weight_decay):
    assert run_beside_sgd([0.3] * STEPS, weight_decay=weight_decay) < 1e-12


def test_ngs_differs_from_torch_sgd_after_a_drop_of_the_learning_rate():
    assert run_beside_sgd([0.3] * 20 + [0.03] * 20) > 1e-3


@pytest.mark.parametrize("name", ["StepLR", "OneCycleLR"])
def test_stock_schedulers_drive_ngs_exactly(name):
    bowl = Bowl()
    params, oracle = bowl.parameters(), Oracle(bowl)
    optimizer = NGS(params, lr=0.3, momentum=0.9)
    if name == "StepLR":
        scheduler = StepLR(optimizer, step_size=40, gamma=0.3)
    else:
        scheduler = OneCycleLR(optimizer, max_lr=0.3, total_steps=STEPS, cycle_momentum=True)
    seen = set()
    for _ in range(STEPS):
        lr, momentum = (optimizer.param_groups[0][key] for key in ("lr", "momentum"))
        seen.add((lr, momentum))
        backward(bowl, params, optimizer)
        optimizer.step()
        scheduler.step()
        oracle.step((lr, lr), (momentum, momentum))
        assert distance(params, oracle.points()) < 1e-12
    assert len(seen) > 5, "the scheduler changed nothing"
    assert (len({momentum for _, momentum in seen}) > 5) == (name == "OneCycleLR")


def advance(bowl, params, optimizer, rows):
    for (lr, _), (momentum, _) in rows:
        optimizer.param_groups[0].update(lr=lr, momentum=momentum)
        backward(bowl, params, optimizer)
        optimizer.step()


@pytest.mark.parametrize("at", [0, 1, 50, 61, 100])
def test_a_run_goes_on_identically_from_its_saved_state(at):
    bowl, rows = Bowl(), SCHEDULES["lr and momentum 0 together"]
    params = bowl.parameters()
    optimizer = NGS(params)
    advance(bowl, params, optimizer, rows[:at])
    saved = io.BytesIO()
    torch.save({"params": params, "optimizer": optimizer.state_dict()}, saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=True)
    new_params = [torch.nn.Parameter(p.detach()) for p in loaded["params"]]
    new_optimizer = NGS(new_params, lr=123.0, momentum=0.1)
    new_optimizer.load_state_dict(loaded["optimizer"])
    advance(bowl, params, optimizer, rows[at:])
    advance(bowl, new_params, new_optimizer, rows[at:])
    assert all(torch.equal(p, q) for p, q in zip(params, new_params, strict=True))


def test_a_deep_copy_goes_on_identically_and_apart():
    bowl, rows = Bowl(), SCHEDULES["both"]
    params = bowl.parameters()
    optimizer = NGS(params)
    advance(bowl, params, optimizer, rows[:50])
    twin_params, twin = copy.deepcopy((params, optimizer))
    frozen = [p.detach().clone() for p in params]
    advance(bowl, twin_params, twin, rows[50:])
    assert all(torch.equal(p, old) for p, old in zip(params, frozen, strict=True))
    advance(bowl, params, optimizer, rows[50:])
    assert all(torch.equal(p, q) for p, q in zip(params, twin_params, strict=True))


def test_a_group_added_in_mid_course_starts_at_rest():
    bowl = Bowl()
    params, oracle = bowl.parameters(), Oracle(bowl)
    optimizer = NGS(params[:1], lr=0.3, momentum=0.9)
    for t in range(100):
        if t == 30:
            optimizer.add_param_group({"params": params[1:], "lr": 0.2})
        present = (True, t >= 30)
        backward(bowl, params, optimizer, present)
        if t < 30:
            params[1].grad = None
        optimizer.step()
        oracle.step((0.3, 0.2), (0.9, 0.9), present)
        assert distance(params, oracle.points()) < 1e-12


def test_the_closure_is_called_once_with_gradients_on_and_its_loss_returned():
    bowl = Bowl()
    params, oracle = bowl.parameters(), Oracle(bowl)
    optimizer = NGS(params, lr=0.3, momentum=0.9)
    losses = []

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = bowl.loss(params)
        loss.backward()
        losses.append(loss.item())
        return losses[-1]

    for t in range(10):
        assert optimizer.step(closure) == losses[-1]
        assert len(losses) == t + 1
        oracle.step((0.3, 0.3), (0.9, 0.9))
    assert distance(params, oracle.points()) < 1e-12
    assert optimizer.step() is None


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_nothing_moves_while_lr_is_zero_from_the_start(momentum):
    bowl = Bowl()
    params = bowl.parameters()
    optimizer = NGS(params, lr=0.0, momentum=momentum, weight_decay=0.1)
    for _ in range(5):
        backward(bowl, params, optimizer)
        optimizer.step()
    assert distance(params, bowl.split(bowl.start)) == 0.0


def test_a_step_without_any_gradient_does_nothing():
    params = Bowl().parameters()
    NGS(params, lr=0.3).step()
    assert distance(params, Bowl().split(Bowl().start)) == 0.0


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_low_precision_parameters_step_in_their_own_type(kernel, dtype, near):
    bowl, exact = Bowl(dtype), Bowl()
    params, oracle = bowl.parameters(), Oracle(exact)
    first = bowl.loss(params).item()
    optimizer = NGS(params)
    for (lr, _), (momentum, _) in SCHEDULES["zeros scattered"][:100]:
        optimizer.param_groups[0].update(lr=lr, momentum=momentum)
        backward(bowl, params, optimizer)
        optimizer.step()
        oracle.step((lr, lr), (momentum, momentum))
    assert {p.dtype for p in params} == {dtype}
    assert {optimizer.state[p]["momentum_buffer"].dtype for p in params} == {dtype}
    assert distance([p.double() for p in params], oracle.points()) < near
    assert bowl.loss(params).item() < first / 2


BAD = [
    ({"lr": -0.1}, r"lr must be finite and at least 0, got -0\.1"),
    ({"lr": float("nan")}, "lr .* got nan"),
    ({"lr": float("inf")}, "lr .* got inf"),
    ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1\.0"),
    ({"momentum": -0.1}, r"momentum .* got -0\.1"),
    ({"momentum": float("nan")}, "momentum .* got nan"),
    ({"weight_decay": -1.0}, r"weight_decay must be finite and at least 0, got -1\.0"),
    ({"weight_decay": float("inf")}, "weight_decay .* got inf"),
]
every_bad_coefficient = pytest.mark.parametrize(("bad", "message"), BAD, ids=lambda x: str(x))


@every_bad_coefficient
def test_a_bad_coefficient_is_refused_at_construction(bad, message):
    with pytest.raises(InputError, match=message):
        NGS(Bowl().parameters(), **bad)
    with pytest.raises(InputError, match=message):
        NGS([{"params": Bowl().parameters(), **bad}])


@every_bad_coefficient
def test_a_bad_coefficient_is_refused_in_a_new_group(bad, message):
    params = Bowl().parameters()
    optimizer = NGS(params[:1])
    with pytest.raises(InputError, match=message):
        optimizer.add_param_group({"params": params[1:], **bad})
    assert len(optimizer.param_groups) == 1


def two_groups_in_mid_course():
    bowl = Bowl()
    params = bowl.parameters()
    optimizer = NGS([{"params": [p]} for p in params], lr=0.3, momentum=0.9)
    for _ in range(3):
        backward(bowl, params, optimizer)
        optimizer.step()
    backward(bowl, params, optimizer)
    return params, optimizer


def assert_step_raises_and_moves_nothing(params, optimizer, error, message):
    before = copy.deepcopy((params, optimizer.state_dict()["state"]))
    with pytest.raises(error, match=message):
        optimizer.step()
    assert all(torch.equal(p, old) for p, old in zip(params, before[0], strict=True))
    for now, old in zip(optimizer.state_dict()["state"].values(), before[1].values(), strict=True):
        assert torch.equal(now.pop("momentum_buffer"), old.pop("momentum_buffer"))
        assert now == old


@every_bad_coefficient
@pytest.mark.parametrize("group", [0, 1])
def test_a_bad_coefficient_set_before_a_step_moves_no_parameter_of_any_group(bad, message, group):
    params, optimizer = two_groups_in_mid_course()
    optimizer.param_groups[group].update(bad)
    assert_step_raises_and_moves_nothing(params, optimizer, InputError, message)


@pytest.mark.parametrize("sparse", [0, 1])
def test_a_sparse_gradient_is_refused_and_moves_no_parameter_of_any_group(sparse):
    params, optimizer = two_groups_in_mid_course()
    params[sparse].grad = params[sparse].grad.to_sparse()
    assert_step_raises_and_moves_nothing(params, optimizer, RuntimeError, "sparse=False")
