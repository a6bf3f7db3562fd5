"""What NGS refuses, and that a refused step changes nothing. Loss scaling, and late parameters."""

import copy
import math
import warnings

import pytest
import torch
from torch_oracle import KERNELS, Bowl, Oracle, Setting, Steer, distance, set_grads

from ngs.errors import InputError
from ngs.optim.torch import NGS
from ngs.restart import GradientRestart
from ngs.schedules import NesterovMomentum

NAN, INF = math.nan, math.inf
LOOKS = {
    "check_finite": {"check_finite": True},
    "max_norm": {"max_norm": 1.0},
    "factor": {"factor": Steer()},
    "restart": {"restart": GradientRestart()},
}
every_look = pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())


@pytest.fixture(params=KERNELS.values(), ids=KERNELS.keys())
def kernel(request):
    return request.param


def snapshot(params, optimizer):
    """Everything that a refused step must leave as it is."""
    saved = copy.deepcopy(optimizer.state_dict())
    for group in saved["param_groups"]:
        group.pop("refused")
    return [p.detach().clone() for p in params], saved, [copy.copy(p.grad) for p in params]


def assert_unchanged(params, optimizer, before):
    now = snapshot(params, optimizer)
    torch.testing.assert_close(now, before, rtol=0.0, atol=0.0, equal_nan=True)
    assert now[1]["param_groups"] == before[1]["param_groups"]


def in_mid_course(steps=3, groups=None, **options):
    bowl, params = Bowl(), Bowl().parameters()
    optimizer = NGS(groups(params) if groups else params, lr=0.3, **options)
    for _ in range(steps):
        set_grads(bowl, params)
        optimizer.step()
    set_grads(bowl, params)
    return params, optimizer


# --- gradients that are not finite ----------------------------------------------------------------


@every_look
@pytest.mark.parametrize("steps", [0, 3], ids=["first step", "mid-course"])
@pytest.mark.parametrize("bad", [NAN, INF, -INF], ids=str)
def test_a_gradient_that_is_not_finite_changes_nothing_at_all(kernel, look, steps, bad):
    momentum = NesterovMomentum()
    params, optimizer = in_mid_course(steps, momentum=momentum, **look, **kernel)
    params[1].grad[0, 1] = bad
    before = snapshot(params, optimizer)
    for refused in (1, 2):
        with pytest.warns(RuntimeWarning, match=rf"refused a step \({refused} so far\)"):
            optimizer.step()
        assert_unchanged(params, optimizer, before)
        assert optimizer.refused == refused
        assert optimizer.report.refused == ("parameter 1 of group 0",)
        assert optimizer.report.lr == ()
    set_grads(Bowl(), params)
    optimizer.step()  # and it goes on
    assert optimizer.report.refused == ()
    twin, twin_optimizer = in_mid_course(steps, momentum=momentum, **look, **kernel)
    twin_optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(params, twin, strict=True))


def test_the_warning_names_the_parameters_and_the_line_that_called_step():
    model = torch.nn.Sequential(*[torch.nn.Linear(2, 2) for _ in range(3)])
    optimizer = NGS(model.named_parameters(), check_finite=True)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    model[1].bias.grad[0] = NAN
    with pytest.warns(RuntimeWarning, match=r"the gradient of 1\.bias is not finite") as caught:
        optimizer.step()
    assert caught[0].filename == __file__
    for p in model.parameters():
        p.grad.fill_(INF)
    with pytest.warns(RuntimeWarning, match=r"of 0\.weight, 0\.bias, 1\.weight and 3 more is"):
        optimizer.step()
    assert len(optimizer.report.refused) == 6
    for p in list(model.parameters())[3:]:
        p.grad.fill_(1.0)
    with pytest.warns(RuntimeWarning, match=r"of 0\.weight, 0\.bias, 1\.weight is not finite"):
        optimizer.step()


def test_a_refused_step_returns_the_closures_loss_too():
    params, optimizer = in_mid_course(check_finite=True)

    def closure():
        optimizer.zero_grad()
        loss = NAN * Bowl().loss(params)
        loss.backward()
        return loss

    with pytest.warns(RuntimeWarning, match="refused"):
        assert math.isnan(optimizer.step(closure).item())


def test_a_parameter_without_a_name_is_given_by_its_place():
    params, optimizer = in_mid_course(
        groups=lambda p: [{"params": p[:1]}, {"params": p[1:]}], max_norm=1.0
    )
    params[2].grad[0] = NAN
    with pytest.warns(RuntimeWarning, match="of parameter 1 of group 1 is not finite"):
        optimizer.step()
    assert [group["refused"] for group in optimizer.param_groups] == [1, 1]
    optimizer.add_param_group({"params": torch.nn.Parameter(torch.ones(1))})
    assert optimizer.refused == 1


@every_look
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
def test_a_finite_gradient_whose_square_leaves_float32_is_taken(look, dtype):
    weight = torch.nn.Parameter(torch.ones(4, dtype=dtype))
    optimizer = NGS([weight], lr=1e-30, **look)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            weight.grad = torch.full_like(weight, 2.0**100)
            optimizer.step()
    assert optimizer.refused == 0
    assert optimizer.report.grad_norm == pytest.approx(2.0**101, rel=1e-6)


def test_check_finite_alone_decides_where_nothing_else_reads_the_gradients():
    params, optimizer = in_mid_course(check_finite=None)
    params[0].grad[0] = NAN
    optimizer.step()  # None does not look for its own sake
    assert params[0].isnan().any()
    assert optimizer.report.grad_norm is None
    for bad in (NAN, INF):
        params, optimizer = in_mid_course(check_finite=False, max_norm=1.0)
        params[0].grad[0] = bad
        optimizer.step()  # False takes what comes
        assert not params[0].isfinite().all()
        assert optimizer.refused == 0


def test_none_looks_only_when_the_factor_does():
    params, optimizer = in_mid_course(steps=4, factor=Steer(), factor_every=3, factor_eager=0)
    assert optimizer.report.grad_norm is None  # the fourth step did not look
    optimizer.step()
    set_grads(Bowl(), params)
    params[0].grad[0] = NAN
    with pytest.warns(RuntimeWarning, match="refused"):
        optimizer.step()  # the sixth is one that does


# --- bad settings ---------------------------------------------------------------------------------

BAD = [
    ({"lr": -0.1}, r"lr must be finite and at least 0, got -0\.1"),
    ({"lr": NAN}, "lr .* got nan"),
    ({"lr": INF}, "lr .* got inf"),
    ({"lr": torch.tensor([0.1, 0.2])}, "lr must be a number or a tensor of one element"),
    ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1\.0"),
    ({"momentum": -0.1}, r"momentum .* got -0\.1"),
    ({"momentum": NAN}, "momentum .* got nan"),
    ({"weight_decay": -1.0}, r"weight_decay must be finite and at least 0, got -1\.0"),
    ({"weight_decay": INF}, "weight_decay .* got inf"),
    ({"foreach": True, "fused": True}, "foreach and fused cannot both be True"),
]
every_bad_setting = pytest.mark.parametrize(("bad", "message"), BAD, ids=str)


@every_bad_setting
def test_a_bad_setting_is_refused_at_construction_and_in_a_new_group(bad, message):
    params = Bowl().parameters()
    with pytest.raises(InputError, match=message):
        NGS(params, **bad)
    with pytest.raises(InputError, match=message):
        NGS([{"params": params, **bad}])
    optimizer = NGS(params[:1])
    with pytest.raises(InputError, match=message):
        optimizer.add_param_group({"params": params[1:], **bad})
    assert len(optimizer.param_groups) == 1


@every_bad_setting
@pytest.mark.parametrize("group", [0, 1])
def test_a_bad_setting_before_a_step_moves_no_parameter_of_any_group(bad, message, group):
    params, optimizer = in_mid_course(
        groups=lambda p: [{"params": p[:1]}, {"params": p[1:]}], max_norm=1.0
    )
    good = {key: optimizer.param_groups[group][key] for key in bad}
    before = snapshot(params, optimizer)
    optimizer.param_groups[group].update(bad)
    with pytest.raises(InputError, match=message):
        optimizer.step()
    optimizer.param_groups[group].update(good)
    assert_unchanged(params, optimizer, before)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"factor_every": 0}, "factor_every must be 1 step or more, got 0"),
        ({"factor_eager": -1}, "factor_eager must be 0 steps or more, got -1"),
        ({"factor_scope": "layer"}, "factor_scope must be 'group' or 'all', got 'layer'"),
        ({"max_norm": 0.0}, r"max_norm must be finite and above 0, got 0\.0"),
        ({"max_norm": INF}, "max_norm .* got inf"),
        ({"max_norm": NAN}, "max_norm .* got nan"),
    ],
    ids=str,
)
def test_a_bad_option_is_refused(bad, message):
    with pytest.raises(InputError, match=message):
        NGS(Bowl().parameters(), **bad)


class Wild:
    """A rule that gives what it is told."""

    def __init__(self, **given):
        self.given = given

    def follow(self, state, signal):
        return state._replace(**self.given)


@pytest.mark.parametrize("name", ["factor", "damping"])
@pytest.mark.parametrize("bad", [NAN, INF, -0.5])
def test_a_rule_that_leaves_the_range_is_refused_before_anything_moves(name, bad):
    params, optimizer = in_mid_course(0, factor=Wild(**{name: bad}))
    before = snapshot(params, optimizer)
    with pytest.raises(InputError, match="must stay finite and at least 0"):
        optimizer.step()
    assert_unchanged(params, optimizer, before)


def test_a_factor_of_zero_is_a_learning_rate_of_zero():
    params, optimizer = in_mid_course(0, factor=Wild(factor=0.0))
    optimizer.step()
    assert optimizer.report.lr == optimizer.factors == (0.0,)
    assert distance(params, Bowl().start) == 0.0


@pytest.mark.parametrize("value", [1.0, -0.1, NAN])
def test_a_schedule_that_leaves_its_range_is_refused_at_the_step_it_does(value):
    params, optimizer = in_mid_course(2, momentum=lambda t: 0.5 if t < 3 else value)
    before = snapshot(params, optimizer)
    with pytest.raises(InputError, match=r"momentum must lie in \[0, 1\).* at step 3"):
        optimizer.step()
    assert_unchanged(params, optimizer, before)


@pytest.mark.parametrize("sparse", [0, 2])
def test_a_sparse_gradient_is_refused_and_moves_no_parameter(sparse):
    params, optimizer = in_mid_course()
    dense = params[sparse].grad
    before = snapshot(params, optimizer)
    params[sparse].grad = dense.to_sparse()
    with pytest.raises(RuntimeError, match="sparse=False"):
        optimizer.step()
    params[sparse].grad = dense
    assert_unchanged(params, optimizer, before)


# --- loss scaling, and parameters that come late --------------------------------------------------


def test_grad_scaler_steps_as_without_and_skips_what_overflowed(kernel):
    bowl = Bowl()
    params, plain = bowl.parameters(torch.float32), bowl.parameters(torch.float32)
    optimizer, beside = (NGS(p, lr=0.3, **kernel) for p in (params, plain))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=4)
    for t in range(12):
        overflows = t in (0, 5)
        optimizer.zero_grad()
        scaler.scale(bowl.loss(params) * (INF if overflows else 1.0)).backward()
        before = [p.detach().clone() for p in params]
        scaler.step(optimizer)
        scaler.update()
        if overflows:
            assert all(torch.equal(p, old) for p, old in zip(params, before, strict=True))
            continue
        beside.zero_grad()
        bowl.loss(plain).backward()
        beside.step()
        assert all(torch.equal(p, q) for p, q in zip(params, plain, strict=True))
    assert optimizer.state[params[0]]["step"] == 10


@every_look
def test_a_parameter_unfrozen_late_starts_at_rest_while_the_others_go_on(kernel, look):
    setting = Setting(schedules=(NesterovMomentum(),))
    bowl = Bowl()
    params, oracle = bowl.parameters(), Oracle(bowl, setting)
    plain = {key: value for key, value in look.items() if key == "check_finite"}
    optimizer = NGS(params, lr=0.3, momentum=NesterovMomentum(), **plain, **kernel)
    also = NGS(bowl.parameters(), lr=0.3, **look, **kernel)
    params[2].requires_grad_(False)
    for t in range(30):
        present = (True, True, t >= 10)
        params[2].requires_grad_(t >= 10)
        optimizer.zero_grad()
        bowl.loss(params).backward()
        optimizer.step()
        oracle.step((0.3,), (None,), present)
        assert distance(params, oracle.points()) < 1e-12
        set_grads(bowl, also.param_groups[0]["params"], present)
        also.step()
    assert all(p.isfinite().all() for p in also.param_groups[0]["params"])
