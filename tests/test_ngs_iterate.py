"""at_iterate: the true iterate in the parameters, and the look-ahead point back, bit for bit."""

import copy
import io

import numpy as np
import pytest
import torch
from torch_oracle import Bowl, Oracle, Setting, distance, set_grads

from ngs.optim.torch import NGS
from ngs.schedules import NesterovMomentum

TWO = Setting(groups=((0, 2), (1,)), weight_decay=(0.1, 0.0), decoupled=True)


def under_way(steps=7, setting=TWO):
    """Return parameters, optimizer and oracle in mid-course; the last parameter has not moved."""
    bowl = setting.bowl()
    params, oracle = bowl.parameters(), Oracle(bowl, setting)
    optimizer = setting.optimizer(params)
    for t in range(steps):
        advance(params, optimizer, oracle, lr=0.3 / (1 + t % 3), momentum=0.9 - 0.1 * (t % 4))
    return params, optimizer, oracle


def advance(params, optimizer, oracle, lr=0.2, momentum=0.8):
    for group in optimizer.param_groups:
        group.update(lr=lr, momentum=momentum)
    set_grads(oracle.bowl, params, (True, True, False))
    optimizer.step()
    oracle.step((lr, lr), (momentum, momentum), (True, True, False))


def values(params):
    return [p.detach().clone() for p in params]


def same(params, others):
    return all(torch.equal(p, q) for p, q in zip(params, others, strict=True))


def test_the_parameters_hold_the_iterate_inside_the_block_at_every_step():
    params, optimizer, oracle = under_way(0)
    for t in range(30):
        with optimizer.at_iterate():
            assert distance(params, [state.theta for state in oracle.states]) < 1e-12
        advance(params, optimizer, oracle, lr=0.3 * (t % 5 > 0), momentum=0.9 * (t % 7 > 0))
        assert distance(params, oracle.points()) < 1e-12
    assert distance(params, [state.theta for state in oracle.states]) > 1e-4


def test_the_lookahead_point_comes_back_bit_for_bit_and_the_run_goes_on_as_without():
    params, optimizer, oracle = under_way()
    twin, twin_optimizer, twin_oracle = under_way()
    memory = [p.data_ptr() for p in params]
    before, buffer = values(params), optimizer.state[params[0]]["momentum_buffer"].clone()
    for _ in range(3):
        with optimizer.at_iterate():
            assert not same(params, before)
        assert same(params, before)
    assert [p.data_ptr() for p in params] == memory, "views of a parameter must stay its views"
    assert torch.equal(optimizer.state[params[0]]["momentum_buffer"], buffer)
    advance(params, optimizer, oracle)
    advance(twin, twin_optimizer, twin_oracle)
    assert same(params, twin)


def test_changes_inside_the_block_are_lost():
    params, optimizer, _ = under_way()
    before = values(params)
    with optimizer.at_iterate():
        params[0].data.fill_(7.0)
    assert same(params, before)


def test_a_parameter_that_has_not_moved_is_where_it_was():
    params, optimizer, _ = under_way()
    with optimizer.at_iterate():
        assert torch.equal(params[2], torch.tensor(Bowl().start[2]))


def test_low_precision_comes_back_bit_for_bit_too():
    weight = torch.nn.Parameter(torch.randn(50).bfloat16())
    optimizer = NGS([weight], lr=0.1)
    for _ in range(3):
        weight.grad = torch.randn(50).bfloat16()
        optimizer.step()
    before = weight.detach().clone()
    with optimizer.at_iterate():
        assert not torch.equal(weight, before)
    assert torch.equal(weight, before)


def test_the_block_cannot_be_nested():
    params, optimizer, _ = under_way()
    before = values(params)
    with optimizer.at_iterate():
        inside = values(params)
        with pytest.raises(RuntimeError, match="hold the iterate already"), optimizer.at_iterate():
            pass
        assert same(params, inside)
        with pytest.raises(RuntimeError, match="hold the iterate already"):
            optimizer.to_iterate()
    assert same(params, before)


def test_an_exception_inside_the_block_goes_through_and_everything_is_put_back():
    params, optimizer, _ = under_way()
    before = values(params)
    with pytest.raises(KeyError, match="mine"), optimizer.at_iterate():
        raise KeyError("mine")
    assert same(params, before)
    with optimizer.at_iterate():
        pass


def test_a_step_inside_the_block_is_refused_before_anything_is_called_or_moved():
    params, optimizer, _ = under_way()
    with optimizer.at_iterate():
        inside = values(params)
        set_grads(Bowl(), params)
        with pytest.raises(RuntimeError, match="inside at_iterate"):
            optimizer.step(lambda: pytest.fail("the closure was called"))
        assert same(params, inside)
    optimizer.step()


def test_to_lookahead_does_nothing_where_the_parameters_are_there_already():
    params, optimizer, _ = under_way()
    before = values(params)
    optimizer.to_lookahead()
    assert same(params, before)


def test_what_was_saved_inside_the_block_goes_on_outside():
    params, optimizer, oracle = under_way()
    saved = io.BytesIO()
    with optimizer.at_iterate():
        torch.save([params, optimizer.state_dict()], saved)
    saved.seek(0)
    loaded, state = torch.load(saved, weights_only=True)
    fresh = TWO.optimizer(loaded)
    fresh.load_state_dict(state)
    assert distance(loaded, [state.theta for state in oracle.states]) < 1e-12
    with pytest.raises(RuntimeError, match="hold the iterate already"):
        fresh.to_iterate()
    fresh.to_lookahead()
    assert distance(loaded, oracle.points()) < 1e-12
    advance(loaded, fresh, oracle)
    assert distance(loaded, oracle.points()) < 1e-12


def test_a_step_after_such_a_state_goes_to_the_lookahead_point_by_itself():
    params, optimizer, _ = under_way()
    with optimizer.at_iterate():
        twin, twin_optimizer = copy.deepcopy((params, optimizer))
    set_grads(Bowl(), params)
    for p, q in zip(params, twin, strict=True):
        q.grad = p.grad.clone()
    optimizer.step()
    twin_optimizer.step()  # with the same gradients, so only the point differs, by rounding
    assert distance(twin, [p.detach().numpy() for p in params]) < 1e-12


def test_a_deep_copy_inside_the_block_is_at_the_iterate_and_leaves_the_original_alone():
    params, optimizer, oracle = under_way()
    before = values(params)
    with optimizer.at_iterate():
        twin, twin_optimizer = copy.deepcopy((params, optimizer))
        assert same(twin, params)
        twin_optimizer.to_lookahead()
        assert distance(twin, oracle.points()) < 1e-12
        assert distance(params, [state.theta for state in oracle.states]) < 1e-12
    assert same(params, before)
    twin_optimizer.to_lookahead()
    assert distance(twin, oracle.points()) < 1e-12


def test_what_is_loaded_inside_the_block_stays_after_it_and_goes_on():
    params, optimizer, oracle = under_way()
    saved, state = values(params), copy.deepcopy(optimizer.state_dict())
    advance(params, optimizer, copy.deepcopy(oracle))
    with optimizer.at_iterate():
        for p, q in zip(params, saved, strict=True):
            p.data.copy_(q)
        optimizer.load_state_dict(state)
    assert same(params, saved)
    advance(params, optimizer, oracle)
    assert distance(params, oracle.points()) < 1e-12


def test_at_iterate_keeps_no_graph_and_works_without_gradients():
    params, optimizer, _ = under_way()
    with torch.inference_mode(), optimizer.at_iterate():
        Bowl().loss(params)
    with optimizer.at_iterate():
        assert all(p.requires_grad and p.grad_fn is None for p in params)


def test_the_iterate_of_a_group_added_in_mid_course_is_known_too():
    bowl = Bowl()
    params, oracle = bowl.parameters(), Oracle(bowl, Setting(schedules=(NesterovMomentum(),)))
    optimizer = NGS(params[:1], lr=0.3, momentum=NesterovMomentum())
    for t in range(20):
        if t == 5:
            optimizer.add_param_group({"params": params[1:]})
        present = (True, t >= 5, t >= 5)
        set_grads(bowl, params, present)
        optimizer.step()
        oracle.step((0.3,), (None,), present)
        with optimizer.at_iterate():
            thetas = [np.asarray(state.theta) for state in oracle.states]
            assert distance(params, thetas) < 1e-12
