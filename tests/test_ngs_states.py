"""The state of NGS: saved and loaded, copied, pickled, of older versions, and torch.optim.SGD's."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch_oracle import KERNELS, Bowl, Oracle, Setting, Steer, distance, set_grads

from ngs.errors import InputError
from ngs.factor import MultiplicativeRule
from ngs.methods import State, lookahead, nesterov
from ngs.optim.torch import NGS
from ngs.restart import GradientRestart
from ngs.schedules import Linear, NesterovMomentum, OneCycle

FULL = Setting(
    groups=((0, 2), (1,)),
    schedules=(NesterovMomentum(), Linear(0.2, 0.95, 20)),
    weight_decay=(0.1, 0.0),
    rescale=True,
    max_norm=1.0,
    rule=Steer(),
    factor_every=3,
    factor_eager=20,
    restart=(0.0, 4),
)
PLAIN = Setting(groups=((0, 2), (1,)))
PRESENCE = (np.random.default_rng(3).random((100, 3)) < 0.7).tolist()


def advance(params, optimizer, steps, first=0):
    bowl = Bowl()
    for t in range(first, first + steps):
        for i, group in enumerate(optimizer.param_groups):
            group["lr"] = 0.4 / (1 + (t + i) % 4)
            if not callable(group["momentum"]):
                group["momentum"] = (0.9, 0.0, 0.8, 0.5)[(t + i) % 4]
        set_grads(bowl, params, PRESENCE[t])
        optimizer.step()


def through_a_file(params, optimizer):
    saved = io.BytesIO()
    torch.save({"params": params, "optimizer": optimizer.state_dict()}, saved)
    saved.seek(0)
    return torch.load(saved, weights_only=True)


def same(params, others):
    return all(torch.equal(p, q) for p, q in zip(params, others, strict=True))


@pytest.mark.parametrize("at", [0, 1, 2, 17, 18, 19])
@pytest.mark.parametrize("setting", [PLAIN, FULL], ids=["plain", "everything on"])
def test_a_run_goes_on_identically_from_what_was_saved(setting, at):
    params = Bowl().parameters()
    optimizer = setting.optimizer(params)
    advance(params, optimizer, at)
    loaded = through_a_file(params, optimizer)
    fresh = setting.optimizer(loaded["params"])
    for group in fresh.param_groups:
        group.update(lr=123.0, weight_decay=0.5)
    fresh.load_state_dict(loaded["optimizer"])
    advance(params, optimizer, 30, at)
    advance(loaded["params"], fresh, 30, at)
    assert same(params, loaded["params"])
    assert fresh.factors == optimizer.factors
    assert fresh.restarts == optimizer.restarts
    assert setting is PLAIN or optimizer.restarts > 0


@pytest.mark.parametrize("setting", [PLAIN, FULL], ids=["plain", "everything on"])
@pytest.mark.parametrize("way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_identically_and_apart(setting, way):
    params = Bowl().parameters()
    optimizer = setting.optimizer(params)
    advance(params, optimizer, 10)
    twin_params, twin = way((params, optimizer))
    frozen = [p.detach().clone() for p in params]
    assert twin.options == optimizer.options
    assert twin.report == optimizer.report
    advance(twin_params, twin, 20, 10)
    assert same(params, frozen)
    advance(params, optimizer, 20, 10)
    assert same(params, twin_params)
    assert twin.factors == optimizer.factors


def test_the_rules_of_ngs_and_its_schedules_pickle():
    weight = torch.nn.Parameter(torch.ones(2))
    made = NGS(
        [weight],
        momentum=OneCycle(0.95, 0.85, 0.95, 100),
        factor=MultiplicativeRule(),
        restart=GradientRestart(),
    )
    found = pickle.loads(pickle.dumps(made))
    assert found.options == made.options
    assert found.param_groups[0]["momentum"] == OneCycle(0.95, 0.85, 0.95, 100)


def test_the_state_has_as_many_elements_as_that_of_sgd():
    ours, theirs = Bowl().parameters(), Bowl().parameters()
    optimizer = FULL.optimizer(ours)
    sgd = torch.optim.SGD(theirs, momentum=0.9)
    for params, each in ((ours, optimizer), (theirs, sgd)):
        for _ in range(3):
            set_grads(Bowl(), params)
            each.step()

    def elements(state):
        tensors = [x for own in state.values() for x in own.values() if isinstance(x, torch.Tensor)]
        return sum(x.numel() for x in tensors), {x.dtype for x in tensors}

    assert elements(optimizer.state) == elements(sgd.state) == (9, {torch.float64})


def test_the_saved_state_is_plain_numbers_beside_the_buffers():
    params = Bowl().parameters()
    optimizer = FULL.optimizer(params)
    advance(params, optimizer, 6)
    state = optimizer.state_dict()
    assert all(not callable(x) for group in state["param_groups"] for x in group.values())
    assert {key for own in state["state"].values() for key in own} == {
        "momentum_buffer",
        "scale",
        "momentum",
        "step",
        "lr",
    }
    assert callable(optimizer.param_groups[0]["momentum"]), "saving must not take the schedule away"


def test_a_saved_momentum_schedule_needs_one_to_go_on():
    params = Bowl().parameters()
    optimizer = FULL.optimizer(params)
    advance(params, optimizer, 4)
    twin = Bowl().parameters()
    without = PLAIN.optimizer(twin)
    with pytest.raises(InputError, match="saved with a momentum schedule"):
        without.load_state_dict(optimizer.state_dict())
    assert without.state_dict()["state"] == {}
    with_one = FULL.optimizer(twin)
    with_one.load_state_dict(without.state_dict())  # the other way round the new schedule holds
    assert with_one.param_groups[0]["momentum"] == NesterovMomentum()
    with pytest.raises(InputError, match="saved with a momentum schedule"):
        without.load_state_dict(with_one.state_dict())
    set_grads(Bowl(), twin)
    with_one.step()
    with_one.param_groups[0]["momentum"] = 0.5
    with pytest.raises(InputError, match="momentum is a schedule of this optimizer"):
        with_one.step()


def test_a_loaded_buffer_lies_in_memory_like_its_parameter():
    plain = torch.nn.Parameter(torch.randn(4, 3, 2, 2))
    other = torch.nn.Parameter(plain.detach().clone(memory_format=torch.channels_last))
    optimizer, fresh = NGS([plain]), NGS([other])
    plain.grad = torch.randn(4, 3, 2, 2)
    optimizer.step()
    fresh.load_state_dict(optimizer.state_dict())
    found = fresh.state[other]["momentum_buffer"]
    assert found.stride() == other.stride() != plain.stride()
    assert torch.equal(found, optimizer.state[plain]["momentum_buffer"])


# --- older states ---------------------------------------------------------------------------------


def test_a_state_of_version_01_goes_on():
    """Its groups hold three settings, its parameters no step."""
    bowl = Bowl()
    params, oracle = bowl.parameters(), Oracle(bowl)
    optimizer = NGS(params, lr=0.3, momentum=0.9)
    for _ in range(5):
        set_grads(bowl, params)
        optimizer.step()
        oracle.step((0.3,), (0.9,))
    new = optimizer.state_dict()
    old = {
        "state": {
            i: {key: own[key] for key in ("momentum_buffer", "scale", "momentum")}
            for i, own in new["state"].items()
        },
        "param_groups": [
            {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.0, "params": [0, 1, 2]},
        ],
    }
    fresh = NGS(params, lr=9.0, momentum=0.1, foreach=False, factor=Steer())
    fresh.load_state_dict(copy.deepcopy(old))
    assert fresh.state[params[0]]["step"] == 0
    assert fresh.param_groups[0]["foreach"] is False, "what it does not say stays as it was set"
    fresh = NGS(params, lr=9.0, momentum=0.1)
    fresh.load_state_dict(old)
    for _ in range(20):
        set_grads(bowl, params)
        fresh.step()
        oracle.step((0.3,), (0.9,))
        assert distance(params, oracle.points()) < 1e-12


# --- torch.optim.SGD's ----------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}, {"maximize": True}], ids=str)
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_from_sgd_with_nesterov_the_run_goes_on_exactly_as_sgds(settings, kernel):
    bowl = Bowl((-1.0,) * 3 if "maximize" in settings else (1.0,) * 3)
    theirs = bowl.parameters()
    sgd = torch.optim.SGD(theirs, lr=0.3, momentum=0.9, nesterov=True, **settings, **kernel)
    for _ in range(10):
        set_grads(bowl, theirs)
        sgd.step()
    loaded = through_a_file(theirs, sgd)
    ours = loaded["params"]
    optimizer = NGS(ours)
    optimizer.load_state_dict(loaded["optimizer"])
    assert not {"nesterov", "dampening"} & set(optimizer.param_groups[0])
    for _ in range(30):
        for params, each in ((ours, optimizer), (theirs, sgd)):
            set_grads(bowl, params)
            each.step()
        assert distance(ours, [p.detach().numpy() for p in theirs]) < 1e-12


def test_from_sgd_rescaled_velocities_follow_its_learning_rate_on():
    bowl, params = Bowl(), Bowl().parameters()
    sgd = torch.optim.SGD(params, lr=0.3, momentum=0.9, nesterov=True)
    for _ in range(5):
        set_grads(bowl, params)
        sgd.step()
    ours = copy.deepcopy(params)
    optimizer = NGS(ours, rescale_velocity=True)
    optimizer.load_state_dict(sgd.state_dict())
    for lr in (0.03, 0.1, 0.1, 0.2):
        for each, own in ((sgd, params), (optimizer, ours)):
            each.param_groups[0]["lr"] = lr
            set_grads(bowl, own)
            each.step()
        assert distance(ours, [p.detach().numpy() for p in params]) < 1e-12


def test_from_sgd_only_the_groups_without_nesterov_are_at_the_iterate():
    bowl, params = Bowl(), Bowl().parameters()
    groups = [{"params": params[:1], "nesterov": True}, {"params": params[1:]}]
    sgd = torch.optim.SGD(groups, lr=0.3, momentum=0.9)
    for _ in range(5):
        before = [p.detach().numpy().copy() for p in params]
        set_grads(bowl, params)
        sgd.step()
    optimizer = NGS([{"params": params[:1]}, {"params": params[1:]}])
    optimizer.load_state_dict(sgd.state_dict())
    here = [p.detach().numpy().copy() for p in params]
    with pytest.raises(RuntimeError, match="hold the iterate already"):
        optimizer.to_iterate()
    assert distance(params, here) == 0.0
    optimizer.to_lookahead()
    ahead = [p + 0.9 * (p - old) for p, old in zip(here, before, strict=True)]
    assert distance(params, [here[0], *ahead[1:]]) < 1e-12


def test_from_sgd_without_nesterov_the_first_step_is_heavy_balls_and_the_rest_nesterovs():
    bowl, lr, momentum = Bowl(), 0.2, 0.8
    params = bowl.parameters()
    sgd = torch.optim.SGD(params, lr=lr, momentum=momentum)
    theta = previous = np.concatenate([x.ravel() for x in bowl.start])
    for _ in range(10):
        set_grads(bowl, params)
        sgd.step()
        previous, theta = theta, np.concatenate([p.detach().numpy().ravel() for p in params])
    optimizer = NGS(params)
    optimizer.load_state_dict(sgd.state_dict())
    state = State(theta, theta - previous)
    for t in range(30):
        at = lookahead(state, momentum) if t else theta  # the gradient of the first is at theta
        set_grads(bowl, params)
        optimizer.step()
        state = nesterov.step(state, bowl.A @ (at - bowl.center), lr, momentum)
        assert distance(params, bowl.split(lookahead(state, momentum))) < 1e-12


def test_from_sgd_without_nesterov_to_lookahead_makes_the_first_step_nesterovs_too():
    bowl, lr, momentum = Bowl(), 0.2, 0.8
    params = bowl.parameters()
    sgd = torch.optim.SGD(params, lr=lr, momentum=momentum)
    for _ in range(2):
        before = np.concatenate([p.detach().numpy().ravel() for p in params])
        set_grads(bowl, params)
        sgd.step()
    theta = np.concatenate([p.detach().numpy().ravel() for p in params])
    optimizer = NGS(params)
    optimizer.load_state_dict(sgd.state_dict())
    optimizer.to_lookahead()
    assert distance(params, bowl.split(theta + momentum * (theta - before))) < 1e-12


@pytest.mark.parametrize("empty", [False, True], ids=["no state", "empty places of old versions"])
@pytest.mark.parametrize("nesterov_flag", [False, True])
def test_from_sgd_without_momentum_ngs_starts_at_rest(empty, nesterov_flag):
    bowl = Bowl()
    params, oracle = bowl.parameters(), Oracle(bowl)
    state = torch.optim.SGD(params, lr=0.2).state_dict()
    state["param_groups"][0]["nesterov"] = nesterov_flag
    if empty:
        state["state"] = {i: {"momentum_buffer": None} for i in range(3)}
    optimizer = NGS(params, momentum=0.9)
    optimizer.load_state_dict(state)
    assert not any(optimizer.state.values())
    for _ in range(10):
        optimizer.param_groups[0]["momentum"] = 0.9
        set_grads(bowl, params)
        optimizer.step()
        oracle.step((0.2,), (0.9,))
    assert distance(params, oracle.points()) < 1e-12


def test_from_sgd_a_schedule_of_ngs_takes_over_on_its_own_clock():
    bowl = Bowl()
    params = bowl.parameters()
    sgd = torch.optim.SGD(params, lr=0.2, momentum=0.8, nesterov=True)
    set_grads(bowl, params)
    sgd.step()
    schedule = Linear(0.1, 0.9, 10)
    optimizer = NGS(params, momentum=schedule)
    optimizer.load_state_dict(sgd.state_dict())
    assert optimizer.state[params[0]]["momentum"] == 0.8
    set_grads(bowl, params)
    optimizer.step()
    assert optimizer.state[params[0]]["momentum"] == schedule(1)


def test_the_state_of_adam_is_refused_in_one_line_that_says_what_fits():
    params = Bowl().parameters()
    adam = torch.optim.Adam(params)
    set_grads(Bowl(), params)
    adam.step()
    optimizer = NGS(params)
    message = "holds exp_avg, exp_avg_sq: NGS loads states of NGS and of torch.optim.SGD$"
    with pytest.raises(InputError, match=message) as caught:
        optimizer.load_state_dict(adam.state_dict())
    assert "\n" not in str(caught.value)
    assert not optimizer.state
    assert "betas" not in optimizer.param_groups[0]


def test_a_state_with_a_factor_for_each_group_gives_one_for_all_where_that_is_asked():
    def made(scope):
        params = [torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2)]
        groups = [{"params": params[:1], "lr": 0.1}, {"params": params[1:], "lr": 0.3}]
        return params, NGS(groups, momentum=0.5, factor=Steer(), factor_scope=scope)

    def go_on(params, optimizer, steps=5):
        for _ in range(steps):
            for p in params:
                p.grad = p.detach().clone()
            optimizer.step()

    params, each = made("group")
    go_on(params, each)
    assert each.factors[0] != each.factors[1]
    params, together = made("all")
    together.load_state_dict(each.state_dict())
    assert together.factors == (each.factors[0],) * 2
    go_on(params, together)
    assert together.factors[0] == together.factors[1] != each.factors[0]
