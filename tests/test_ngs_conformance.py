"""What PyTorch asks of its own optimizers, asked of NGS: one table, and a test for each behaviour.

The table is torch's own ``OptimizerInfo``; the names are those of torch's ``test/test_optim.py``.
Not asked: sparse gradients, capturable, differentiable and 0-step CUDA cases, which NGS has not.
"""

import pytest
import torch
from torch.nn import Parameter
from torch.optim.lr_scheduler import (
    ConstantLR,
    ExponentialLR,
    LinearLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)
from torch.testing._internal.common_optimizers import (
    ErrorOptimizerInput,
    OptimizerErrorEnum,
    OptimizerInfo,
    OptimizerInput,
    get_error_inputs_for_all_optims,
)
from torch_conformance import TYPES, assert_same, inputs, made, model, set_grads, stepped

from ngs.errors import InputError
from ngs.optim.torch import NGS


def error_inputs(device="cpu", dtype=torch.float64):
    shared = [
        x
        for x in get_error_inputs_for_all_optims(device, dtype)
        if x.error_regex != "Tensor lr must be 1-element"
    ]
    own = {
        "lr must be a number or a tensor of one element": {"lr": torch.tensor([0.1, 0.2])},
        r"momentum must lie in \[0, 1\), got -0.5": {"lr": 1e-2, "momentum": -0.5},
        "foreach and fused cannot both be True": {"foreach": True, "fused": True},
    }
    return shared + [
        ErrorOptimizerInput(
            OptimizerInput(params=None, kwargs=x, desc=message),
            error_type=InputError,
            error_regex=message,
        )
        for message, x in own.items()
    ]


INFO = OptimizerInfo(
    NGS,
    optim_inputs_func=inputs,
    optim_error_inputs_func=error_inputs,
    scheduler_inputs=(
        [lambda o: StepLR(o, gamma=0.9, step_size=10)],
        [
            lambda o: LinearLR(o, start_factor=0.4, total_iters=4),
            lambda o: ReduceLROnPlateau(o),
        ],
        [
            lambda o: StepLR(o, gamma=0.9, step_size=10),
            lambda o: ExponentialLR(o, gamma=0.99),
            lambda o: ReduceLROnPlateau(o),
        ],
        [lambda o: ConstantLR(o, factor=0.4, total_iters=4)],
        [lambda o: PolynomialLR(o, power=0.9, total_iters=4)],
    ),
    supported_impls=("foreach", "fused"),
    not_og_supported_flags=("decoupled_weight_decay", "rescale_velocity"),
    supports_fused_on=("cpu", "cuda"),
)

every_input = pytest.mark.parametrize("given", inputs(), ids=lambda x: x.desc)
every_impl = pytest.mark.parametrize("impl", INFO.supported_impls)
every_type = pytest.mark.parametrize("dtype", TYPES, ids=str)


# --- errors ---------------------------------------------------------------------------------------


def test_optim_infos_do_not_specify_global_cliquey_kwargs():
    cliquey = {"foreach", "fused", "differentiable"}
    assert not any(cliquey & set(x.kwargs) for x in INFO.optim_inputs_func())


@pytest.mark.parametrize(
    "given", error_inputs(), ids=lambda x: x.optimizer_error_input.desc.replace(" ", "-")
)
def test_errors(given):
    asked = given.optimizer_error_input
    params = asked.params if asked.params is not None else [Parameter(torch.randn(2, 3))]
    assert given.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR
    if issubclass(given.error_type, Warning):
        with pytest.warns(given.error_type, match=given.error_regex):
            INFO.optim_cls(params, **asked.kwargs)
    else:
        with pytest.raises(given.error_type, match=given.error_regex):
            INFO.optim_cls(params, **asked.kwargs)


def test_param_group_must_be_a_dict_and_its_tensors_ordered_leaves():
    weight = Parameter(torch.ones(2))
    optimizer = NGS([weight])
    with pytest.raises(TypeError, match="param_group must be a dict"):
        optimizer.add_param_group([Parameter(torch.ones(2))])
    with pytest.raises(TypeError, match="ordered collections"):
        optimizer.add_param_group({"params": {Parameter(torch.ones(2))}})
    with pytest.raises(ValueError, match="non-leaf"):
        optimizer.add_param_group({"params": [2 * weight]})
    with pytest.raises(ValueError, match="empty parameter list"):
        NGS([])


@every_type
def test_fused_error_on_params_on_meta(dtype):
    with torch.device("meta"):
        net = model(dtype)
    optimizer = NGS(net.parameters(), fused=True)
    for p in net.parameters():
        p.grad = torch.rand_like(p)
    with pytest.raises(RuntimeError, match="`fused=True` requires all the params to be floating"):
        optimizer.step()
    assert not optimizer.state
    net.to_empty(device="cpu")
    optimizer = NGS(net.parameters(), fused=True)
    set_grads(net.parameters(), 0)
    optimizer.step()
    assert len(optimizer.state) == 4


def test_without_fused_a_model_on_meta_steps():
    with torch.device("meta"):
        net = model()
    optimizer = NGS(net.parameters())
    for p in net.parameters():
        p.grad = torch.rand_like(p)
    optimizer.step()
    assert {own["momentum_buffer"].device.type for own in optimizer.state.values()} == {"meta"}


# --- it goes the right way ------------------------------------------------------------------------


def goes_right_direction(
    given, schedulers=(), groups=None, dtype=torch.float64, devices=("cpu", "cpu")
):
    torch.manual_seed(1)
    weight = Parameter(torch.randn(3, 5, dtype=dtype).to(devices[0]))
    bias = Parameter(torch.randn(3, dtype=dtype).to(devices[1]))
    data = torch.randn(5, dtype=dtype).to(devices[0])
    optimizer = made(groups(weight, bias) if groups else [weight, bias], given, foreach=False)
    schedulers = [build(optimizer) for build in schedulers]

    def closure():
        optimizer.zero_grad()
        value = 0.1 * (weight.mv(data).to(bias.device) + bias).abs().square().sum()
        (-value if optimizer.param_groups[0]["maximize"] else value).backward()
        return value.detach()

    first = closure().item()
    for _ in range(20):
        loss = optimizer.step(closure)
        for scheduler in schedulers:
            scheduler.step(*([loss] if isinstance(scheduler, ReduceLROnPlateau) else []))
    return closure().item() < first


@every_input
@pytest.mark.parametrize("with_lrsched", [False, True])
def test_forloop_goes_right_direction(given, with_lrsched):
    for schedulers in INFO.scheduler_inputs if with_lrsched else [()]:
        assert goes_right_direction(given, schedulers)


@every_input
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_forloop_goes_right_direction_multigpu(given):
    assert goes_right_direction(given, devices=("cuda:0", "cuda:1"))


@every_input
@pytest.mark.parametrize("with_lrsched", [False, True])
def test_param_group_with_lrscheduler_goes_right_direction(given, with_lrsched):
    for schedulers in INFO.scheduler_inputs if with_lrsched else [()]:
        assert goes_right_direction(
            given, schedulers, lambda w, b: [{"params": [w]}, {"params": [b], "lr": 0.01}]
        )


@every_input
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
def test_tensor_lr(given, shape):
    plain, tensor = model(), model()
    stepped(plain.parameters(), given, lr=0.02)
    optimizer = stepped(tensor.parameters(), given, lr=torch.full(shape, 0.02, dtype=torch.float64))
    assert_same(plain.parameters(), tensor.parameters())
    assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor)


@every_input
def test_complex(given):
    """A complex parameter goes where its real and imaginary part go together."""
    values = torch.randn(4, 3, dtype=torch.complex128)
    whole, parts = Parameter(values.clone()), Parameter(torch.view_as_real(values).clone())
    ours, theirs = made([whole], given), made([parts], given)
    for t in range(5):
        set_grads([parts], t)
        whole.grad = torch.view_as_complex(parts.grad)
        ours.step()
        theirs.step()
    torch.testing.assert_close(torch.view_as_real(whole), parts, rtol=1e-12, atol=1e-12)
    assert goes_right_direction(given, dtype=torch.complex128)


# --- foreach and fused do what the for-loop does --------------------------------------------------


@every_input
@every_impl
def test_impl_matches_forloop(given, impl):
    one, other = model(), model()
    a = stepped(one.parameters(), given, foreach=False, fused=False)
    b = stepped(other.parameters(), given, **{impl: True})
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
        for key in a.state[p]:
            torch.testing.assert_close(a.state[p][key], b.state[q][key], rtol=1e-12, atol=1e-12)


@every_impl
def test_mixed_device_dtype(impl):
    """Several types in one group; other devices than the CPU join where there are any."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    torch.manual_seed(0)
    values = [torch.randn(37, dtype=t, device=d) for t in TYPES for d in devices]
    one, other = ([Parameter(x.clone()) for x in values] for _ in range(2))
    for params, more in ((one, {"foreach": False}), (other, {impl: True})):
        optimizer = NGS(params, lr=0.1, max_norm=3.0, **more)
        for t in range(5):
            for i, p in enumerate(params):
                torch.manual_seed(10 * t + i)
                p.grad = torch.randn(37).to(p)
            optimizer.step()
    for p, q in zip(one, other, strict=True):
        torch.testing.assert_close(p, q)


@every_impl
def test_set_default_dtype_works(impl):
    before = torch.get_default_dtype()
    nets = []
    try:
        for default in (torch.float64, torch.float16):
            torch.set_default_dtype(default)
            net = model(torch.float32)
            for p in net.parameters():
                p.data.fill_(0.5)
            stepped(net.parameters(), inputs()[0], **{impl: True})
            nets.append(net)
    finally:
        torch.set_default_dtype(before)
    assert_same(*(net.parameters() for net in nets))


@every_impl
@every_type
def test_large_tensor(impl, dtype):
    """Larger than one chunk of the kernels, which threads share."""
    torch.manual_seed(0)
    values, grad = torch.randn(70_001).to(dtype), torch.randn(70_001).to(dtype)
    one, other = Parameter(values.clone()), Parameter(values.clone())
    for p, more in ((one, {"foreach": False}), (other, {impl: True})):
        optimizer = NGS([p], lr=0.1, **more)
        for lr in (0.1, 0.05, 0.05):
            optimizer.param_groups[0]["lr"] = lr
            p.grad = grad.clone()
            optimizer.step()
    roundings = 4.0 * torch.finfo(dtype).eps * values.abs().max().item()
    torch.testing.assert_close(one, other, rtol=0.0, atol=roundings)
    assert (other != values).float().mean() > 0.99


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CPU keeps no count of peak memory")
def test_peak_memory_foreach():
    peaks = []
    for foreach in (False, True):
        params = [Parameter(torch.ones(2**20, device="cuda")) for _ in range(16)]
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer = NGS(params, foreach=foreach)
        optimizer.step()
        torch.cuda.reset_peak_memory_stats()
        optimizer.step()
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] - peaks[0] <= 16 * 2**22 + 2**20  # foreach may hold one copy of the gradients
