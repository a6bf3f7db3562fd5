"""NGS on every kind of tensor: type, precision, memory format, complex, empty, without a dimension.

Each of torch's three kernels must do the same to all of them.
"""

import math

import numpy as np
import pytest
import torch
from torch_oracle import KERNELS, Bowl, Setting, Steer, deviation

import ngs.optim.torch.kernel
from ngs.methods import State, lookahead, nesterov
from ngs.optim.torch import NGS
from ngs.optim.torch.kernel import exact_step
from ngs.restart import GradientRestart

COURSE = [(0.3, 0.9), (0.1, 0.5), (0.2, 0.0), (0.2, 0.8), (0.0, 0.7), (0.1, 0.7), (0.05, 0.95)]
"""Learning rate and momentum of a few steps: changing, constant, and with zeros."""


@pytest.fixture(params=KERNELS.values(), ids=KERNELS.keys())
def kernel(request):
    return request.param


def run(params, grads, course=COURSE, **options):
    """Step with given gradients, one list for each step."""
    optimizer = NGS(params, **options)
    for (lr, momentum), own in zip(course, grads, strict=True):
        optimizer.param_groups[0].update(lr=lr, momentum=momentum)
        for p, grad in zip(params, own, strict=True):
            p.grad = grad.clone()
        optimizer.step()
    return optimizer


def laid(tensor, memory_format):
    return tensor.clone(memory_format=memory_format)


CONTIGUOUS = torch.contiguous_format
LAST, LAST_3D = torch.channels_last, torch.channels_last_3d
EXTRAS = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "signals": {"max_norm": 1.0, "factor": Steer(), "restart": GradientRestart(0.0, 2)},
}


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS.keys())
@pytest.mark.parametrize(
    ("shape", "param_format", "grad_format"),
    [
        ((4, 3, 2, 5), LAST, LAST),
        ((4, 3, 2, 5), LAST, CONTIGUOUS),
        ((4, 3, 2, 5), CONTIGUOUS, LAST),
        ((4, 1, 2, 5), LAST, CONTIGUOUS),
        ((4, 3, 1, 1), CONTIGUOUS, LAST),
        ((2, 3, 2, 2, 3), LAST_3D, CONTIGUOUS),
        ((2, 3, 2, 2, 3), LAST_3D, LAST_3D),
    ],
    ids=str,
)
def test_the_memory_format_changes_nothing(kernel, shape, param_format, grad_format, extra):
    torch.manual_seed(0)
    values, grads = torch.randn(shape).double(), torch.randn(len(COURSE), *shape).double()
    plain = torch.nn.Parameter(values.clone())
    other = torch.nn.Parameter(laid(values, param_format))
    beside = [torch.nn.Parameter(torch.ones(3).double()) for _ in range(2)]
    mates = [torch.ones(3).double()] * len(COURSE)
    run([plain, beside[0]], list(zip(grads, mates, strict=True)), foreach=False, **extra)
    unlike = [laid(grad, grad_format) for grad in grads]
    run([other, beside[1]], list(zip(unlike, mates, strict=True)), **kernel, **extra)
    assert other.is_contiguous(memory_format=param_format)
    torch.testing.assert_close(other, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(*beside, rtol=1e-12, atol=1e-12)


def test_strided_and_overlapping_views_of_other_tensors_are_stepped_alike(kernel):
    torch.manual_seed(0)
    base, grads = torch.randn(4, 6).double(), torch.randn(len(COURSE), 4, 3).double()
    plain = torch.nn.Parameter(base[:, ::2].contiguous())
    strided = base.clone()[:, ::2].requires_grad_()
    transposed = base[:, ::2].t().contiguous().t().requires_grad_()
    run([plain], [[g] for g in grads], foreach=False)
    run([strided], [[g] for g in grads], **kernel)
    run([transposed], [[g.t().contiguous().t()] for g in grads], **kernel)
    torch.testing.assert_close(strided, plain.detach(), rtol=1e-12, atol=1e-12, check_stride=False)
    torch.testing.assert_close(
        transposed, plain.detach(), rtol=1e-12, atol=1e-12, check_stride=False
    )


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS.keys())
def test_tensors_without_dimension_or_entries_step_like_the_others(kernel, extra):
    grads = [[torch.full(s, 0.5).double() for s in ((), (0, 3), (1,))] for _ in COURSE]
    params = [torch.nn.Parameter(torch.full(s, 2.0).double()) for s in ((), (0, 3), (1,))]
    run(params, grads, **kernel, **extra)
    assert params[0].item() == params[2].item() != 2.0
    assert params[0].shape == ()
    assert params[1].shape == (0, 3)


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS.keys())
@pytest.mark.parametrize("maximize", [False, True])
def test_a_complex_parameter_steps_as_its_pairs_of_real_numbers(kernel, extra, maximize):
    torch.manual_seed(0)
    values = torch.randn(2, 3, dtype=torch.complex128)
    grads = torch.randn(len(COURSE), 2, 3, dtype=torch.complex128)
    whole = torch.nn.Parameter(values.clone())
    pairs = torch.nn.Parameter(torch.view_as_real(values).clone())
    ours = run([whole], [[g] for g in grads], maximize=maximize, **kernel, **extra)
    run(
        [pairs],
        [[torch.view_as_real(g)] for g in grads],
        maximize=maximize,
        foreach=False,
        **extra,
    )
    torch.testing.assert_close(torch.view_as_real(whole), pairs, rtol=1e-12, atol=1e-12)
    assert ours.state[whole]["momentum_buffer"].dtype == torch.complex128
    with ours.at_iterate():
        assert not torch.equal(torch.view_as_real(whole), pairs)


def test_a_gradient_that_is_a_lazy_conjugate_is_read_conjugated(kernel):
    values = torch.tensor([1.0 + 2.0j], dtype=torch.complex128)
    lazy, done = (torch.nn.Parameter(values.clone()) for _ in range(2))
    grad = torch.tensor([0.3 - 0.4j], dtype=torch.complex128)
    for p, g in ((lazy, grad.conj()), (done, grad.conj().resolve_conj())):
        optimizer = NGS([p], lr=0.1, max_norm=10.0, **kernel)
        for _ in range(3):
            p.grad = g
            optimizer.step()
    assert torch.equal(lazy, done)
    assert lazy[0].item() != values[0].item()


def test_a_group_of_several_types_steps_each_as_if_it_were_alone(kernel):
    torch.manual_seed(0)
    types = (torch.float32, torch.float64, torch.bfloat16, torch.float32, torch.complex64)
    start = [torch.randn(5, dtype=dtype) for dtype in types]
    grads = [[torch.randn(5, dtype=dtype) for dtype in types] for _ in COURSE]
    together = [torch.nn.Parameter(x.clone()) for x in start]
    optimizer = run(together, grads, **kernel)
    for i, x in enumerate(start):
        alone = torch.nn.Parameter(x.clone())
        run([alone], [[own[i]] for own in grads], **kernel)
        assert torch.equal(alone, together[i])
        assert optimizer.state[together[i]]["momentum_buffer"].dtype == types[i]


def test_a_buffer_keeps_its_type_where_the_model_is_cast_in_mid_course(kernel):
    torch.manual_seed(0)
    values, grads = torch.randn(40), torch.randn(6, 40).double()
    cast, exact = (torch.nn.Parameter(x) for x in (values.clone(), values.double()))
    ours, theirs = (NGS([p], lr=0.1, **kernel) for p in (cast, exact))
    for t, grad in enumerate(grads):
        if t == 3:
            cast.data = cast.data.double()
        for p, optimizer in ((cast, ours), (exact, theirs)):
            p.grad = grad.to(p.dtype)
            optimizer.step()
    torch.testing.assert_close(cast, exact, rtol=1e-5, atol=1e-5)


# --- which kernel ---------------------------------------------------------------------------------


LARGE, LARGE_3D, FEW = (64, 32, 6, 6), (32, 16, 5, 5, 6), (4, 3, 2, 2)
"""Shapes above and below the number of entries at which a CPU's fused kernel pays."""


@pytest.mark.parametrize(
    ("asked", "shape", "taken"),
    [
        ({}, LARGE, "fused"),
        ({}, LARGE_3D, "fused"),
        ({}, FEW, "for-loop"),
        ({"fused": True}, FEW, "fused"),
        ({"foreach": True}, LARGE, "foreach"),
        ({"foreach": False}, LARGE, "for-loop"),
        ({"fused": False}, LARGE, "for-loop"),
    ],
    ids=str,
)
def test_the_kernel_is_the_one_asked_for_or_the_fastest(monkeypatch, asked, shape, taken):
    calls = []
    sgd = ngs.optim.torch.kernel.sgd

    def spy(params, *args, **kwargs):
        calls.append((params, kwargs["foreach"], kwargs["fused"]))
        sgd(params, *args, **kwargs)

    monkeypatch.setattr(ngs.optim.torch.kernel, "sgd", spy)
    params = [torch.nn.Parameter(torch.ones(s)) for s in (shape, (5,))]
    last = LAST if len(shape) == 4 else LAST_3D
    params[0].data = laid(params[0].data, last)
    grads = [laid(torch.ones(shape), last), torch.ones(5)]
    run(params, [grads] * 2, [(0.1, 0.9)] * 2, **asked)
    assert {(foreach, fused) for _, foreach, fused in calls} == {
        (taken == "foreach", taken == "fused")
    }
    assert len(calls) == 2, "all parameters go to the kernel together"
    if taken == "fused":  # channels_last reaches it as a vector, which is twice as fast
        assert {p.dim() for tensors, _, _ in calls for p in tensors} == {1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_signals_of_a_long_tensor_are_those_of_all_its_entries(dtype):
    """Longer than a piece that is read at once, with a rest; and one that is not finite is seen."""
    torch.manual_seed(0)
    size = 2**20 + 2**18
    weight = torch.nn.Parameter(torch.zeros(size, dtype=dtype))
    beside = torch.nn.Parameter(torch.zeros(3, dtype=dtype))
    optimizer = NGS([beside, weight], lr=0.1, momentum=0.5, factor=Steer(0.0))
    grads = [[torch.randn(n).to(dtype) for n in (3, size)] for _ in range(2)]
    for own in grads:
        beside.grad, weight.grad = (g.clone() for g in own)
        optimizer.step()
    first, second = (torch.cat(own).double() for own in grads)
    assert optimizer.report.grad_norm == pytest.approx(second.norm().item(), rel=1e-4)
    cosine = first @ second / first.norm() / second.norm()
    assert optimizer.report.cosine[0] == pytest.approx(cosine.item(), abs=1e-4)
    weight.grad[-1] = math.inf
    with pytest.warns(RuntimeWarning, match="parameter 1 of group 0 is not finite"):
        optimizer.step()
    large = (
        6e4 if dtype is torch.float16 else 1e30
    )  # its products leave float32, in both directions
    for last in (large, -large):
        weight.grad = torch.full_like(weight, large)
        weight.grad[2**20 :] = last
        optimizer.step()
        assert math.isfinite(optimizer.report.grad_norm)
    assert optimizer.report.cosine[0] == pytest.approx(0.6, abs=1e-3)
    assert optimizer.refused == 1


# --- rounding -------------------------------------------------------------------------------------


def test_float32_stays_within_one_rounding_a_step_of_the_exact_path(kernel):
    """On a convex quadratic a rounding is not amplified, so that their number bounds the sum."""
    rng = np.random.default_rng(5)
    steps = 300
    lrs, momenta = 10.0 ** rng.uniform(-3.0, -0.3, steps), rng.uniform(0.05, 0.95, steps)
    lrs[rng.random(steps) < 0.1] = 0.0
    momenta[rng.random(steps) < 0.1] = 0.0
    rows = [((lr,), (momentum,)) for lr, momentum in zip(lrs, momenta, strict=True)]
    bound = steps * torch.finfo(torch.float32).eps
    off = deviation(rows, dtype=torch.float32, **kernel)
    assert 0.0 < off < bound
    assert deviation(rows, Setting(max_norm=1.0), dtype=torch.float32, **kernel) < bound


def unit(dtype, *terms):
    """Return the unit in the last place of a sum of terms, by their absolute values."""
    return torch.finfo(dtype).eps * sum(term.double().abs() for term in terms)


SCALARS = {
    "first step": (0.2, 0.0, 0.0, 0.9),
    "constant": (0.2, 0.2, 0.9, 0.9),
    "lr drops": (0.02, 0.2, 0.9, 0.9),
    "lr grows": (0.2, 0.02, 0.9, 0.9),
    "momentum grows": (0.1, 0.1, 0.5, 0.95),
    "momentum falls": (0.1, 0.13, 0.95, 0.5),
    "momentum was 0": (0.1, 0.13, 0.0, 0.5),
    "momentum becomes 0": (0.1, 0.13, 0.9, 0.0),
    "lr is 0": (0.0, 0.13, 0.9, 0.8),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scalars", SCALARS.values(), ids=SCALARS.keys())
def test_a_step_in_low_precision_is_the_exact_step_within_two_units(kernel, dtype, scalars):
    """A step rounds each entry four times, by half a unit: m b, b, g + m b, and the parameter.

    The tensors are longer than a vector register: on a CPU torch's fused kernel steps nothing but
    what is left over when registers of low precision are full (pytorch #191763).
    """
    lr, scale, momentum, following = scalars
    torch.manual_seed(1)
    param, grad, buffer = (torch.randn(2003).to(dtype) for _ in range(3))
    y, g, b = param.double(), grad.double(), buffer.double()
    velocity = -scale * b
    new = nesterov.step(State(y - momentum * velocity, velocity), g, lr, momentum)
    coefficients = {"lr": lr, "scale": scale, "momentum": momentum, "next_momentum": following}
    new_scale = exact_step([param], [grad], [buffer], **coefficients, **kernel)
    parts = (y, lr * g, following * momentum * velocity, following * lr * g)
    off = (param.double() - lookahead(new, following)).abs()
    assert (off <= 2.0 * unit(dtype, *parts)).all()
    if following > 0.0:  # else the step has no use for the velocity, and the kernel leaves it out
        parts = (momentum * velocity / new_scale, lr * g / new_scale)
        off = (buffer.double() + new.velocity / new_scale).abs()
        assert (off <= 2.0 * unit(dtype, *parts)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_parameters_learn_in_their_own_type(kernel, dtype):
    bowl = Bowl()
    params = bowl.parameters(dtype)
    first = bowl.loss([p.double() for p in params]).item()
    optimizer = NGS(params, lr=0.3, momentum=0.8, max_norm=100.0, **kernel)
    for _ in range(60):
        optimizer.zero_grad()
        bowl.loss(params).backward()
        optimizer.step()
    assert {p.dtype for p in params} == {dtype}
    assert {optimizer.state[p]["momentum_buffer"].dtype for p in params} == {dtype}
    assert bowl.loss([p.double() for p in params]).item() < first / 50
    assert math.isfinite(optimizer.report.grad_norm)


TYPES = (torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("before", TYPES)
@pytest.mark.parametrize("after", TYPES)
def test_the_factor_goes_on_where_the_model_is_cast_in_mid_course(before, after):
    weight = torch.nn.Parameter(torch.ones(3, dtype=before))
    optimizer = NGS([weight], lr=0.1, momentum=0.5, factor=Steer())
    for step in range(4):
        if step == 2:
            weight.data = weight.data.to(after)
        weight.grad = weight.detach().clone()
        optimizer.step()
    assert optimizer.report.cosine[0] == pytest.approx(1.0, abs=1e-2)
