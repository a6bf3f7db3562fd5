"""What PyTorch asks of its optimizers' states and hooks, asked of NGS.

The names are those of torch's ``test/test_optim.py``.
"""

import copy
import io

import pytest
import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch_conformance import assert_same, inputs, made, model, set_grads, stepped

from ngs.errors import InputError
from ngs.optim.torch import NGS

every_input = pytest.mark.parametrize("given", inputs(), ids=lambda x: x.desc)


# --- states ---------------------------------------------------------------------------------------


@every_input
def test_state_dict_deterministic(given):
    """From a state as loaded, the same gradients lead to the same bits, group by group."""
    net = model()
    optimizer = stepped(net.parameters(), given)
    other = copy.deepcopy(net)
    loaded = made(other.parameters(), given)
    loaded.load_state_dict(optimizer.state_dict())
    torch.testing.assert_close(loaded.state_dict(), optimizer.state_dict(), rtol=0.0, atol=0.0)
    for t in range(20, 26):
        for params, each in ((net.parameters(), optimizer), (other.parameters(), loaded)):
            set_grads(list(params), t)
            each.step()
    assert_same(net.parameters(), other.parameters())
    torch.testing.assert_close(loaded.state_dict(), optimizer.state_dict(), rtol=0.0, atol=0.0)


@every_input
def test_can_load_older_state_dict(given):
    """A state that was saved before an option existed leaves that option as it is set."""
    net = model()
    optimizer = stepped(net.parameters(), given)
    older = copy.deepcopy(optimizer.state_dict())
    since = ("decoupled_weight_decay", "rescale_velocity", "maximize", "foreach", "fused")
    for group in older["param_groups"]:
        for key in since:
            del group[key]
    loaded = made(net.parameters(), given)
    loaded.load_state_dict(older)
    for key in since:
        assert loaded.param_groups[0][key] == optimizer.param_groups[0][key]


@every_input
def test_save_load_equality_with_weights_only(given):
    net = model()
    optimizer = stepped(net.parameters(), given)
    saved = io.BytesIO()
    torch.save(optimizer.state_dict(), saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=True)
    torch.testing.assert_close(loaded, optimizer.state_dict(), rtol=0.0, atol=0.0)


@every_input
def test_can_load_from_to_named_state_dict(given):
    net = model()
    named = stepped(net.parameters(), given).state_dict()
    plain = made(net.parameters(), given)
    with_names = made(net.named_parameters(), given)
    names = [name for name, _ in net.named_parameters()]
    with_names.load_state_dict(named)
    assert with_names.param_groups[0]["param_names"] == names
    plain.load_state_dict(with_names.state_dict())
    assert plain.param_groups[0]["param_names"] == names
    for optimizer in (plain, with_names):
        set_grads(net.parameters(), 0)
        optimizer.step()


@every_input
def test_non_empty_state(given):
    net = model()
    for own in stepped(net.parameters(), given).state.values():
        assert own


@every_input
def test_load_state_dict_shares_no_memory(given):
    net = model()
    optimizer = stepped(net.parameters(), given)
    other = copy.deepcopy(net)
    loaded = made(other.parameters(), given)
    state = optimizer.state_dict()
    kept = copy.deepcopy(state)
    loaded.load_state_dict(state)
    set_grads(other.parameters(), 9)
    loaded.step()
    torch.testing.assert_close(state, kept, rtol=0.0, atol=0.0)  # changed by nothing
    torch.testing.assert_close(optimizer.state_dict(), kept, rtol=0.0, atol=0.0)


@every_input
def test_state_is_cast_to_the_type_of_the_parameters(given):
    state = stepped(model().parameters(), given).state_dict()
    net = model(torch.float32)
    loaded = made(net.parameters(), given)
    loaded.load_state_dict(state)
    assert {own["momentum_buffer"].dtype for own in loaded.state.values()} == {torch.float32}
    assert all(isinstance(own["step"], int) for own in loaded.state.values())
    set_grads(net.parameters(), 0)
    loaded.step()


@every_input
def test_deepcopy_copies_all_public_attrs(given):
    optimizer = stepped(model().parameters(), given)
    optimizer.register_step_post_hook(lambda *_: None)
    optimizer.mine = [1, 2]
    twin = copy.deepcopy(optimizer)
    public = [{key for key in vars(o) if not key.startswith("_")} for o in (optimizer, twin)]
    assert public[0] - {"mine"} == public[1]  # torch keeps what __getstate__ names, as it does here
    assert twin.options == optimizer.options
    assert twin.report == optimizer.report
    assert twin.defaults.keys() == optimizer.defaults.keys()


@every_input
def test_printing_shows_every_group(given):
    weight, bias = list(model().parameters())[:2]
    optimizer = made([{"params": [weight]}, {"params": [bias], "lr": 0.25}], given)
    for text in (repr(optimizer), str(optimizer), repr(copy.deepcopy(optimizer))):
        assert text.startswith("NGS (\nParameter Group 0\n")
        assert "Parameter Group 1\n" in text
        assert "lr: 0.25\n" in text
        assert "differentiable" not in text


# --- hooks ----------------------------------------------------------------------------------------


@every_input
def test_step_all_hooks(given):
    calls = []
    net = model()
    optimizer = made(net.parameters(), given)
    handles = [
        register_optimizer_step_pre_hook(lambda o, a, k: calls.append(("global pre", o))),
        register_optimizer_step_post_hook(lambda o, a, k: calls.append(("global post", o))),
        optimizer.register_step_pre_hook(lambda o, a, k: calls.append(("pre", o))),
        optimizer.register_step_post_hook(lambda o, a, k: calls.append(("post", o))),
    ]
    try:
        set_grads(net.parameters(), 0)
        optimizer.step()
    finally:
        for handle in handles:
            handle.remove()
    optimizer.step()
    assert calls == [(name, optimizer) for name in ("global pre", "pre", "post", "global post")]


def test_state_dict_hooks():
    net = model()
    optimizer = stepped(net.parameters(), inputs()[0])
    optimizer.register_state_dict_pre_hook(lambda o: o.param_groups[0].update(lr=0.125))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "mine": 1})
    state = optimizer.state_dict()
    assert state["mine"] == 1
    assert state["param_groups"][0]["lr"] == 0.125


def test_load_state_dict_hooks():
    net = model()
    state = stepped(net.parameters(), inputs()[0]).state_dict()
    optimizer, calls = NGS(net.parameters()), []

    def half_the_rate(_, state):
        groups = [{**group, "lr": group["lr"] / 2} for group in state["param_groups"]]
        return {**state, "param_groups": groups}

    optimizer.register_load_state_dict_pre_hook(half_the_rate)
    optimizer.register_load_state_dict_post_hook(lambda o: calls.append(o.param_groups[0]["lr"]))
    optimizer.load_state_dict(state)
    assert calls == [state["param_groups"][0]["lr"] / 2]


def test_a_load_hook_can_make_a_foreign_state_fit():
    net = model()
    adam = torch.optim.Adam(net.parameters())
    set_grads(net.parameters(), 0)
    adam.step()
    optimizer = NGS(net.parameters(), lr=0.5)
    handle = optimizer.register_load_state_dict_pre_hook(
        lambda _, state: {"state": {}, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    optimizer.load_state_dict(adam.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.5
    handle.remove()
    with pytest.raises(InputError, match="the state of another optimizer"):
        optimizer.load_state_dict(adam.state_dict())
