"""What PyTorch asks of its optimizers' groups, and of steps without a gradient, asked of NGS.

The names are those of torch's ``test/test_optim.py``.
"""

import copy

import pytest
import torch
from torch.nn import Parameter
from torch_conformance import assert_same, inputs, made, model, set_grads

from ngs.optim.torch import NGS

every_input = pytest.mark.parametrize("given", inputs(), ids=lambda x: x.desc)
every_kernel = pytest.mark.parametrize("fused", [False, True], ids=["for-loop", "fused"])


# --- groups ---------------------------------------------------------------------------------------


@every_input
def test_param_groups_lr(given):
    """A group with learning rate 0 stands still while the other goes."""
    net = model()
    weight, bias = list(net.parameters())[:2]
    optimizer = made([{"params": [weight]}, {"params": [bias], "lr": 0.0}], given, lr=0.01)
    before = weight.detach().clone(), bias.detach().clone()
    for t in range(5):
        set_grads([weight, bias], t)
        optimizer.step()
    assert not torch.equal(weight, before[0])
    assert torch.equal(bias, before[1])


@pytest.mark.parametrize("decoupled", [False, True])
def test_param_groups_weight_decay(decoupled):
    """Without gradient of its own a group goes to zero exactly if it decays."""
    weight, bias = Parameter(torch.ones(3)), Parameter(torch.ones(3))
    groups = [{"params": [weight], "weight_decay": 0.5}, {"params": [bias]}]
    optimizer = NGS(groups, lr=0.1, decoupled_weight_decay=decoupled)
    for _ in range(40):
        for p in (weight, bias):
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert weight.norm() < 0.3
    assert torch.equal(bias, torch.ones(3))


def test_duplicate_params_in_one_param_group():
    weight = Parameter(torch.ones(2))
    with pytest.warns(UserWarning, match="a parameter group with duplicate parameters"):
        NGS([weight, weight])


def test_duplicate_params_across_param_groups():
    weight = Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        NGS([{"params": weight}, {"params": weight}])


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([[0], [1]], "different number of parameter groups"),
        ([[0, 1, 2]], "doesn't match the size of optimizer's group"),
        ([[0]], "doesn't match the size of optimizer's group"),
    ],
    ids=str,
)
def test_state_dict_of_other_groups_is_refused(saved, message):
    params = [Parameter(torch.ones(2)) for _ in range(3)]
    state = NGS([{"params": [params[i] for i in own]} for own in saved]).state_dict()
    optimizer = NGS(params[:2])
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)


# --- no gradient, zero gradient, the gradient itself ----------------------------------------------


@every_input
@every_kernel
def test_step_is_noop_when_params_have_no_grad(given, fused):
    net = model()
    optimizer = made(net.parameters(), given, fused=fused)
    before = copy.deepcopy(list(net.parameters()))
    assert optimizer.step() is None
    assert_same(net.parameters(), before)
    assert not optimizer.state


@every_input
@every_kernel
@pytest.mark.parametrize("steps", [1, 4])
def test_step_is_noop_for_zero_grads(given, fused, steps):
    net = model()
    optimizer = made(net.parameters(), given, fused=fused)
    before = copy.deepcopy(list(net.parameters()))
    for _ in range(steps):
        set_grads(net.parameters(), 0, scale=0.0)
        optimizer.step()
    decays = given.kwargs.get("weight_decay", 0.0) > 0.0
    for p, q in zip(net.parameters(), before, strict=True):
        assert torch.equal(p, q) != decays


@every_input
@pytest.mark.parametrize("kernel", [{"foreach": False}, {"foreach": True}, {"fused": True}, {}])
def test_grads_are_never_inplaced_into(given, kernel):
    net = model()
    optimizer = made(net.parameters(), given, **kernel)
    for t in range(4):
        set_grads(net.parameters(), t)
        grads = [p.grad for p in net.parameters()]
        before = [(grad.clone(), grad._version) for grad in grads]
        optimizer.step()
        for p, grad, (value, version) in zip(net.parameters(), grads, before, strict=True):
            assert p.grad is grad
            assert grad._version == version
            assert torch.equal(grad, value)


def test_the_closure_is_called_once_with_gradients_on_and_its_loss_returned():
    net, losses = model(), []
    optimizer = NGS(net.parameters(), lr=0.01)

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = net(torch.ones(1, 2, 4, 4, dtype=torch.float64)).square().sum()
        loss.backward()
        losses.append(loss)
        return loss

    for t in range(5):
        with torch.no_grad():
            assert optimizer.step(closure) is losses[-1]
        assert len(losses) == t + 1
    assert losses[-1] < losses[0]
    assert torch.is_grad_enabled()
