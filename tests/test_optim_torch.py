"""NGS, the torch optimizer, against ngs.methods.nesterov under every schedule.

Torch has three kernels (the for-loop, foreach, which it takes on accelerators, and fused); what
concerns the update itself is tested through each of them.
"""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_oracle import KERNELS, Bowl, Oracle, Setting, deviation, distance, set_grads
from torch_schedules import EACH_ITS_OWN, LR, PRESENCE, SCHEDULES, SHORT, TWO_GROUPS

from ngs.optim.torch import NGS
from ngs.schedules import Linear, NesterovMomentum


@pytest.fixture(params=KERNELS.values(), ids=KERNELS.keys())
def kernel(request):
    return request.param


every_schedule = pytest.mark.parametrize("rows", SCHEDULES.values(), ids=SCHEDULES.keys())


# --- the method itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["both", "zeros scattered"])
def test_ngs_is_the_lookahead_method_over_300_steps(name, kernel):
    assert deviation(SCHEDULES[name], **kernel) < 1e-12


@every_schedule
def test_ngs_is_the_lookahead_method_under_every_schedule(rows, kernel):
    assert deviation(rows[:SHORT], **kernel) < 1e-12


@every_schedule
def test_a_parameter_without_gradient_stands_still_and_so_does_its_clock(rows, kernel):
    assert deviation(rows[:SHORT], presence=PRESENCE, **kernel) < 1e-12


def test_each_group_follows_its_own_schedule(kernel):
    assert deviation(EACH_ITS_OWN, TWO_GROUPS, PRESENCE, **kernel) < 1e-12


def zero_or(least, most):
    return st.just(0.0) | st.floats(least, most)


STEP = st.tuples(zero_or(1e-6, 1.0), zero_or(1e-3, 0.99), st.tuples(*[st.booleans()] * 3))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(STEP, min_size=1, max_size=15), st.sampled_from(list(KERNELS.values())))
def test_ngs_is_the_lookahead_method_in_any_short_run(steps, kernel):
    rows = [((lr,), (momentum,)) for lr, momentum, _ in steps]
    assert deviation(rows, presence=[present for _, _, present in steps], **kernel) < 1e-12


def test_the_momentum_of_a_step_forms_the_next_lookahead_point():
    # One step by hand from 1 on f = theta^2/2: theta_1 = 0.5, v_1 = -0.5, y_1 = 0.5 - 0.8 * 0.5.
    weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = NGS([weight], lr=0.5, momentum=0.3)
    optimizer.param_groups[0]["momentum"] = 0.8
    weight.grad = weight.detach().clone()
    optimizer.step()
    assert weight.item() == pytest.approx(0.1, rel=1e-14)


@pytest.mark.parametrize("name", ["lr schedule", "lr 0 for the first ten steps", "zeros scattered"])
def test_a_callable_momentum_is_on_time_on_each_parameters_own_clock(name, kernel):
    own = replace(TWO_GROUPS, schedules=(Linear(0.1, 0.95, 40), lambda t: 0.9 * (t % 7 > 1)))
    assert deviation(SCHEDULES[name][:SHORT], own, PRESENCE, **kernel) < 1e-12


def test_parameters_that_differ_in_nothing_but_their_next_momentum_step_apart(kernel):
    late = Setting(schedules=(lambda t: 0.5 if t < 3 else 0.9,))
    presence = [(True, False, True)] + [(True, True, True)] * 9
    assert deviation([((0.3,), (None,))] * 10, late, presence, **kernel) < 1e-12


def test_a_frozen_parameter_keeps_its_velocity_until_it_is_unfrozen():
    bowl = Bowl()
    params, oracle = bowl.parameters(), Oracle(bowl)
    params[1].requires_grad_(False)  # frozen from the start, so it has no state when it wakes
    optimizer = NGS(params)
    for t, ((lr, _), (momentum, _)) in enumerate(SCHEDULES["both"][:80]):
        optimizer.param_groups[0].update(lr=lr, momentum=momentum)
        present = (t % 20 < 15, t >= 30, True)
        for p, moves in zip(params, present, strict=True):
            p.requires_grad_(moves)
        optimizer.zero_grad()
        bowl.loss(params).backward()
        optimizer.step()
        oracle.step((lr,), (momentum,), present)
        assert distance(params, oracle.points()) < 1e-12


@pytest.mark.parametrize("name", ["both", "lr and momentum 0 together", "zeros scattered"])
def test_rescaled_velocities_follow_the_learning_rate(name, kernel):
    rescaled = replace(TWO_GROUPS, rescale=True)
    assert deviation(SCHEDULES[name][:SHORT], rescaled, PRESENCE, **kernel) < 1e-12
    on_time = replace(rescaled, schedules=(Linear(0.1, 0.95, 40), NesterovMomentum()))
    assert deviation(SCHEDULES[name][:SHORT], on_time, PRESENCE, **kernel) < 1e-12


# --- weight decay, maximize, clipping -------------------------------------------------------------


either_decay = pytest.mark.parametrize("decoupled", [False, True], ids=["coupled", "decoupled"])


@either_decay
@pytest.mark.parametrize("name", ["both", "lr and momentum 0 together", "zeros scattered"])
def test_weight_decay_acts_at_the_lookahead_point(name, kernel, decoupled):
    decaying = replace(TWO_GROUPS, weight_decay=(0.05, 0.3), decoupled=decoupled)
    assert deviation(SCHEDULES[name][:SHORT], decaying, PRESENCE, **kernel) < 1e-12


@either_decay
def test_a_group_that_maximizes_goes_up_and_still_decays(kernel, decoupled):
    turned = replace(
        TWO_GROUPS, maximize=(True, False), weight_decay=(0.0, 0.1), decoupled=decoupled
    )
    assert deviation(EACH_ITS_OWN[:SHORT], turned, PRESENCE, **kernel) < 1e-12
    turned = replace(turned, maximize=(False, True))
    assert deviation(EACH_ITS_OWN[:SHORT], turned, PRESENCE, **kernel) < 1e-12


@either_decay
def test_clipping_takes_all_groups_together_and_leaves_decay_and_gradients_alone(kernel, decoupled):
    clipped = replace(TWO_GROUPS, max_norm=0.7, weight_decay=(0.05, 0.3), decoupled=decoupled)
    assert deviation(EACH_ITS_OWN[:SHORT], clipped, PRESENCE, **kernel) < 1e-12


def test_a_gradient_of_exactly_the_largest_norm_is_not_clipped():
    weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = NGS([weight], lr=0.1, max_norm=5.0)
    for grad, lr in (((3.0, 4.0), 0.1), ((6.0, 8.0), 0.05)):
        weight.grad = torch.tensor(grad, dtype=torch.float64)
        optimizer.step()
        assert optimizer.report.lr == (lr,)


# --- beside torch's SGD ---------------------------------------------------------------------------


def beside_sgd(lrs, weight_decay=0.0, kernel=KERNELS["fused"], **options):
    """Return the parameters of NGS and of torch's SGD(nesterov=True) after the same schedule."""
    bowl = Bowl()
    ours, theirs = bowl.parameters(), bowl.parameters()
    a = NGS(ours, momentum=0.9, weight_decay=weight_decay, **kernel, **options)
    b = torch.optim.SGD(theirs, momentum=0.9, weight_decay=weight_decay, nesterov=True, **kernel)
    for lr in lrs:
        for params, optimizer in ((ours, a), (theirs, b)):
            optimizer.param_groups[0]["lr"] = lr
            set_grads(bowl, params)
            optimizer.step()
    return ours, theirs


either_weight_decay = pytest.mark.parametrize("weight_decay", [0.0, 0.05])


@either_weight_decay
def test_ngs_is_torch_sgd_to_the_bit_while_the_coefficients_are_constant(kernel, weight_decay):
    ours, theirs = beside_sgd([0.3] * SHORT, weight_decay, kernel)
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


def test_ngs_differs_from_torch_sgd_after_a_drop_of_the_learning_rate():
    ours, theirs = beside_sgd([0.3] * 20 + [0.03] * 20)
    assert distance(ours, [q.detach().numpy() for q in theirs]) > 1e-3


@either_weight_decay
def test_ngs_with_rescaled_velocities_is_torch_sgd_to_the_bit_under_any_rates(kernel, weight_decay):
    ours, theirs = beside_sgd(LR[:SHORT].tolist(), weight_decay, kernel, rescale_velocity=True)
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))
