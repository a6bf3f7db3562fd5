"""HypergradientSGD against the published algorithm written out, and what it keeps and refuses."""

import copy
import pickle

import numpy as np
import pytest
import torch

from ngs.errors import InputError
from ngs.optim.hypergradient import HypergradientSGD

START = [np.array([1.0, -2.0, 0.5]), np.array([[3.0], [-1.0]])]
CURVATURE = [np.array([1.0, 0.3, 2.0]), np.array([[0.5], [1.5]])]
SETTINGS = {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.1, "hyper_lr": 2e-3}


def parameters():
    return [torch.nn.Parameter(torch.tensor(x)) for x in START]


def set_grads(params, present=(True, True)):
    for p, curvature, here in zip(params, CURVATURE, present, strict=True):
        p.grad = torch.tensor(curvature) * p.detach() if here else None


def algorithm(steps, presence, lr, momentum, weight_decay, hyper_lr):
    """Algorithm 3: the inner product over all parameters moves the rate, then the step is taken."""
    points, buffers, directions = [x.copy() for x in START], [0.0, 0.0], [None, None]
    rates = []
    for t in range(steps):
        moving = [i for i in range(2) if presence[t][i]]
        grads = {i: CURVATURE[i] * points[i] + weight_decay * points[i] for i in moving}
        past = [i for i in moving if directions[i] is not None]
        lr += hyper_lr * sum(np.sum(grads[i] * directions[i]) for i in past)
        for i in moving:
            buffers[i] = momentum * buffers[i] + grads[i]
            directions[i] = grads[i] + momentum * buffers[i]
            points[i] = points[i] - lr * directions[i]
        rates.append(lr)
    return points, rates


def course(params, optimizer, presence):
    rates = []
    for present in presence:
        set_grads(params, present)
        grads = [None if p.grad is None else p.grad.clone() for p in params]
        optimizer.step()
        rates.append(optimizer.param_groups[0]["learned_lr"])
        for p, grad in zip(params, grads, strict=True):
            assert p.grad is grad is None or torch.equal(p.grad, grad)
    return rates


EVERY = [(True, True)] * 40
SOME = [tuple(row) for row in np.random.default_rng(0).random((40, 2)) < 0.6]


@pytest.mark.parametrize("changes", [{}, {"weight_decay": 0.0}, {"hyper_lr": 0.0}], ids=str)
@pytest.mark.parametrize("presence", [EVERY, SOME], ids=["every gradient", "some missing"])
def test_it_is_the_published_algorithm(changes, presence):
    params, settings = parameters(), {**SETTINGS, **changes}
    rates = course(params, HypergradientSGD(params, **settings), presence)
    points, expected = algorithm(40, presence, **settings)
    assert rates == pytest.approx(expected, rel=1e-12)
    for p, point in zip(params, points, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), point, rtol=0.0, atol=1e-12)
    assert (rates[-1] != SETTINGS["lr"]) == (settings["hyper_lr"] > 0.0)


def test_after_the_first_step_the_groups_own_rate_does_not_count_and_stays_as_it_is():
    params, other = parameters(), parameters()
    plain, scheduled = (HypergradientSGD(p, **SETTINGS) for p in (params, other))
    for t in range(10):
        scheduled.param_groups[0]["lr"] = given = SETTINGS["lr"] / (1 + t)
        course(params, plain, EVERY[:1])
        course(other, scheduled, EVERY[:1])
        assert scheduled.param_groups[0]["lr"] == given
    assert all(torch.equal(p, q) for p, q in zip(params, other, strict=True))


def test_a_run_goes_on_from_its_state_dict_to_the_last_bit():
    params = parameters()
    optimizer = HypergradientSGD(params, **SETTINGS)
    course(params, optimizer, EVERY[:7])
    twin = copy.deepcopy(params)
    loaded = HypergradientSGD(twin, lr=9.0, hyper_lr=SETTINGS["hyper_lr"])
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert course(twin, loaded, EVERY) == course(params, optimizer, EVERY)
    assert all(torch.equal(p, q) for p, q in zip(params, twin, strict=True))


def test_a_closure_is_called_with_gradients_on_and_its_loss_returned():
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = HypergradientSGD([weight], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    assert weight.item() < 2.0
    assert optimizer.step() is None


def test_a_negative_gain_and_a_second_group_are_refused():
    with pytest.raises(InputError, match=r"hyper_lr must be at least 0, got -0\.1"):
        HypergradientSGD(parameters(), hyper_lr=-0.1)
    with pytest.raises(InputError, match="one parameter group, got 2"):
        HypergradientSGD([{"params": [p]} for p in parameters()])


@pytest.mark.parametrize("way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_as_the_optimizer_would(way):
    params = parameters()
    optimizer = HypergradientSGD(params, **SETTINGS)
    course(params, optimizer, EVERY[:5])
    twin = way(optimizer)
    twins = twin.param_groups[0]["params"]
    assert course(twins, twin, EVERY[:5]) == course(params, optimizer, EVERY[:5])
    assert all(map(torch.equal, twins, params))


def test_a_hook_runs_once_a_step_whatever_was_built_before():
    torch.optim.SGD(parameters(), lr=0.1)
    params, calls = parameters(), []
    optimizer = HypergradientSGD(params, lr=0.1)
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    course(params, optimizer, EVERY[:3])
    assert len(calls) == 3
