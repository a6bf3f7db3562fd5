"""NGS's acceleration factor and restart, and all its options at once, against the oracle."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_oracle import KERNELS, Setting, Steer, deviation
from torch_schedules import EACH_ITS_OWN, PRESENCE, SCHEDULES, SHORT, TWO_GROUPS

from ngs.errors import InputError
from ngs.factor import AngleRule
from ngs.methods import nesterov
from ngs.minimize import minimize
from ngs.optim.torch import NGS
from ngs.optim.torch.control import cosine
from ngs.problems import quadratic
from ngs.restart import GradientRestart, Memory
from ngs.schedules import Linear, NesterovMomentum, OneCycle


@pytest.fixture(params=KERNELS.values(), ids=KERNELS.keys())
def kernel(request):
    return request.param


STEERED = replace(TWO_GROUPS, rule=Steer())


@pytest.mark.parametrize("scope", ["group", "all"])
@pytest.mark.parametrize(("every", "eager"), [(1, 0), (3, 0), (3, 10)])
def test_the_factor_multiplies_the_learning_rate(kernel, scope, every, eager):
    steered = replace(STEERED, factor_scope=scope, factor_every=every, factor_eager=eager)
    rows = [((a, 0.5 * b), m) for (a, b), m in SCHEDULES["both"][:SHORT]]
    assert deviation(rows, steered, PRESENCE, **kernel) < 1e-10


def test_the_factor_knows_which_way_a_maximizing_group_goes():
    turned = replace(STEERED, maximize=(False, True), factor_scope="all")
    assert deviation(EACH_ITS_OWN[:SHORT], turned, PRESENCE) < 1e-10


@pytest.mark.parametrize("average", [0.0, 0.8])
@pytest.mark.parametrize("wait", [1, 12])
def test_a_restart_throws_velocity_and_clock_away(kernel, average, wait):
    restarting = replace(
        TWO_GROUPS, restart=(average, wait), schedules=(NesterovMomentum(), Linear(0.2, 0.95, 20))
    )
    rows = [((0.5, 0.3), (None, None))] * SHORT
    assert deviation(rows, restarting, **kernel) < 1e-11
    assert deviation(rows, replace(restarting, max_norm=0.5), PRESENCE, **kernel) < 1e-11


SEEDS = range(24)


@pytest.mark.parametrize("seed", SEEDS)
def test_ngs_follows_the_oracle_whatever_is_combined(seed):
    draw = np.random.default_rng(seed)
    setting = Setting(
        groups=(((0, 1, 2),), ((0, 2), (1,)), ((1,), (0, 2)))[draw.integers(3)],
        schedules=(None, (OneCycle(0.95, 0.8, 0.95, 60), NesterovMomentum()))[draw.integers(2)],
        weight_decay=tuple(draw.choice([0.0, 0.1], 2)),
        decoupled=bool(draw.integers(2)),
        rescale=bool(draw.integers(2)),
        maximize=tuple(draw.choice([False, True], 2).tolist()),
        max_norm=(None, 0.5)[draw.integers(2)],
        rule=(None, Steer())[draw.integers(2)],
        factor_every=int(draw.integers(1, 4)),
        factor_eager=int(draw.choice([0, 7])),
        factor_scope=("group", "all")[draw.integers(2)],
        restart=(None, (0.0, 1), (0.9, 5))[draw.integers(3)],
    )
    rows = [
        tuple(tuple((draw.random(2) > 0.1) * draw.uniform(0.1, top, 2)) for top in (0.5, 0.97))
        for _ in range(60)
    ]
    presence = (draw.random((60, 3)) < 0.8).tolist()
    kernel = list(KERNELS.values())[draw.integers(3)]
    assert deviation(rows, setting, presence, **kernel) < 1e-10


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_the_restart_is_that_of_minimize(scale):
    curvatures = scale * np.array([1.0, 0.1, 0.004])
    problem, theta = quadratic(curvatures), np.array([1.0, -2.0, 3.0])
    schedule, lr = NesterovMomentum(), 1.0 / scale
    run = minimize(
        nesterov, problem, theta, lr=lr, momentum=schedule, steps=150, restart="gradient"
    )
    weight = torch.nn.Parameter(torch.tensor(theta))
    optimizer = NGS(
        [weight], lr=lr, momentum=schedule, restart=GradientRestart(average=0.0, wait=1)
    )
    restarts = []
    for t in range(150):
        weight.grad = torch.tensor(problem.grad(weight.detach().numpy()))
        optimizer.step()
        if optimizer.report.restarted:
            restarts.append(t)
        with optimizer.at_iterate():
            assert np.abs(weight.detach().numpy() - run.iterates[t + 1]).max() < 1e-10
    assert tuple(restarts) == run.restarts
    assert len(restarts) == optimizer.restarts >= 2


def test_the_factor_follows_the_direction_travelled_where_momentum_is_0():
    """The last step of gradient descent is v_t too, though its next step has no use for it."""
    setting = Setting(rule=Steer(), weight_decay=(0.1,))
    rows = [((0.3,), (0.0,))] * 10 + [((0.2,), (0.8,)), ((0.3,), (0.0,))] * 10
    for kernel in KERNELS.values():
        assert deviation(rows, setting, **kernel) < 1e-10


def test_every_group_has_the_same_factor_where_there_is_one_in_all():
    params = [torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(3)]
    settings = {"factor": Steer(), "factor_scope": "all", "factor_every": 3, "factor_eager": 4}
    optimizer = NGS([{"params": params[:1]}], lr=0.1, **settings)
    looked = []
    for t in range(12):
        if t == 5:
            optimizer.add_param_group({"params": params[1:]})
        for p in params:
            p.grad = p.detach().clone()
        optimizer.step()
        assert len(set(optimizer.factors)) == 1
        assert len({group["factor_state"] for group in optimizer.param_groups}) == 1
        looked += [t] * (optimizer.report.cosine[0] is not None)
    assert optimizer.factors[0] != 1.0
    assert looked == [1, 2, 3, 6, 9]  # a group that comes late does not begin eagerly anew


def test_a_group_that_comes_later_has_a_factor_of_its_own_where_each_group_has_one():
    params = [torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2)]
    optimizer = NGS(params[:1], lr=0.1, factor=Steer(), factor_every=10, factor_eager=3)
    for p in params:
        p.grad = p.detach().clone()
    for _ in range(5):
        optimizer.step()
    before = optimizer.factors[0]
    optimizer.add_param_group({"params": params[1:]})
    assert optimizer.factors == (before, 1.0)
    assert before != 1.0
    assert len({group["factor_state"] for group in optimizer.param_groups}) == 2
    looked = []
    for _ in range(5):
        optimizer.step()
        looked.append(optimizer.report.cosine[0] is not None)
    assert looked == [True, True, True, False, False]  # its own beginning is an eager one too


def test_the_report_has_the_cosine_of_gradient_and_direction_where_it_was_measured():
    weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = NGS([weight], lr=0.1, momentum=0.5, factor=Steer(), factor_every=2, factor_eager=0)
    cosines = []
    for grad in ((3.0, 4.0), (4.0, 3.0), (1.0, 0.0), (-8.0, -6.0), (0.0, 1.0), (0.0, 0.0)):
        weight.grad = torch.tensor(grad, dtype=torch.float64)
        optimizer.step()
        cosines.append(optimizer.report.cosine[0])
    assert cosines[0] is cosines[2] is cosines[4] is cosines[5] is None
    assert cosines[1] == pytest.approx(0.96)
    assert cosines[3] < -0.9
    assert cosine(1.0 + 1e-15, 1.0, 1.0) == 1.0  # rounding makes no angle below 0
    assert cosine(-1.0 - 1e-15, 1.0, 1.0) == -1.0


def test_the_state_of_a_group_counts_its_restarts():
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = NGS([weight], lr=0.3, momentum=0.9, restart=GradientRestart(0.0, 1))
    for _ in range(60):
        weight.grad = weight.detach().clone()
        before = optimizer.restarts
        optimizer.step()
        assert optimizer.restarts - before == optimizer.report.restarted
        if optimizer.report.restarted:
            assert optimizer.state[weight]["scale"] == optimizer.state[weight]["step"] == 0
    counted = optimizer.restarts
    optimizer.add_param_group({"params": torch.nn.Parameter(torch.ones(1))})
    assert optimizer.restarts == counted > 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"average": 1.0}, r"average must lie in \[0, 1\), got 1\.0"),
        ({"average": -0.1}, r"average .* got -0\.1"),
        ({"wait": 0}, "wait must be 1 step or more, got 0"),
    ],
    ids=str,
)
def test_a_restart_rule_out_of_range_is_refused(bad, message):
    with pytest.raises(InputError, match=message):
        GradientRestart(**bad)


@pytest.mark.parametrize("velocity_square", [0.0, -1e-18])
def test_a_velocity_that_vanishes_has_no_direction_and_no_restart(velocity_square):
    """The square is a difference of three terms, and rounding may leave it below zero."""
    rule = GradientRestart(average=0.5, wait=1)
    assert rule(Memory(-0.5, 3), 1e-20, 1.0, velocity_square) == (Memory(-0.25, 4), False)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_product_that_is_not_finite_has_no_direction_and_is_not_remembered(bad):
    rule = GradientRestart(average=0.5, wait=1)
    assert rule(Memory(-0.5, 3), bad, 1.0, 1.0) == (Memory(-0.25, 4), False)


def test_one_factor_for_all_groups_is_learned_where_the_first_group_stands_still():
    params = [torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2)]
    groups = [{"params": params[:1], "lr": 0.0}, {"params": params[1:], "lr": 0.01}]
    optimizer = NGS(groups, momentum=0.5, factor=AngleRule(), factor_scope="all")
    for _ in range(20):
        for p in params:
            p.grad = p.detach().clone()
        optimizer.step()
    assert optimizer.factors[0] == optimizer.factors[1] > 1.0
