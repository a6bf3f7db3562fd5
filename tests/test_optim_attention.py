"""AttentionSGD against a slow NumPy loop, its old limits, and what every optimizer promises."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import StepLR

from ngs.errors import InputError
from ngs.optim.attention import AttentionSGD

SHAPES = ((3,), (2, 2), ())
STEPS = 40


class Bowl:
    """A quadratic that couples parameters of several shapes, with a noise of its own a step."""

    def __init__(self):
        rng = np.random.default_rng(3)
        Q, _ = np.linalg.qr(rng.normal(size=(8, 8)))
        self.A = Q @ np.diag(np.geomspace(0.05, 1.5, 8)) @ Q.T
        self.center, self.start = rng.normal(size=8), 3.0 * rng.normal(size=8)
        self.noise = 0.3 * rng.normal(size=(STEPS, 8))

    def split(self, flat):
        parts = np.split(np.asarray(flat), [3, 7])
        return [part.reshape(shape).copy() for part, shape in zip(parts, SHAPES, strict=True)]

    def parameters(self):
        return [torch.nn.Parameter(torch.tensor(x)) for x in self.split(self.start)]

    def grads(self, points, t):
        flat = np.concatenate([np.ravel(p) for p in points])
        return self.split(self.A @ (flat - self.center) + self.noise[t])


BOWL = Bowl()
EVERY = [(True, True, True)] * STEPS
SOME = [tuple(row) for row in np.random.default_rng(5).random((STEPS, 3)) < 0.6]


def oracle(window, temperature, score, decay=0.0, lr=lambda t, i: 0.3, presence=EVERY):
    """Follow the formulas of chapter 9 with lists of whole gradients.

    A tuple stands for one value a parameter; `lr` knows step and parameter.
    """
    each = [x if isinstance(x, tuple) else (x,) * 3 for x in (window, temperature, score, decay)]
    points, pasts = BOWL.split(BOWL.start), [[], [], []]
    for t in range(STEPS):
        grads = BOWL.grads(points, t)
        for i, (m, T, kind, decay_i) in enumerate(zip(*each, strict=True)):
            if not presence[t][i]:
                continue
            past = pasts[i] = [grads[i] + decay_i * points[i], *pasts[i]][:m]
            inner = np.array([np.sum(past[0] * g) for g in past])
            if kind == "dot":
                s = inner / math.sqrt(past[0].size)
            else:
                s = inner / [np.linalg.norm(past[0]) * np.linalg.norm(g) for g in past]
            w = np.exp((s - s.max()) / T)
            w = w / w.sum()
            direction = sum(a * g for a, g in zip(w, past, strict=True))
            points[i] = points[i] - lr(t, i) * direction
    return points


def set_grads(params, t, present=(True, True, True)):
    grads = BOWL.grads([p.detach().numpy() for p in params], t)
    for p, grad, here in zip(params, grads, present, strict=True):
        p.grad = torch.tensor(grad) if here else None


def course(params, optimizer, presence=EVERY, steps=range(STEPS)):
    for t in steps:
        set_grads(params, t, presence[t])
        optimizer.step()
    return [p.detach().numpy().copy() for p in params]


def assert_same(found, expected, atol=1e-12):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def make(params, **options):
    return AttentionSGD(params, lr=0.3, **{"window": 4, "temperature": 0.7, **options})


# --- the update ---------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 5, STEPS + 10])
@pytest.mark.parametrize("temperature", [0.1, 1.0, math.inf])
@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_the_optimizer_follows_the_slow_loop(window, temperature, score):
    params = BOWL.parameters()
    optimizer = make(params, window=window, temperature=temperature, score=score)
    assert_same(course(params, optimizer), oracle(window, temperature, score))


def test_weight_decay_is_weighed_and_remembered_with_the_gradient():
    params = BOWL.parameters()
    found = course(params, make(params, weight_decay=0.2))
    assert_same(found, oracle(4, 0.7, "cosine", decay=0.2))


@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_a_parameter_without_gradient_stands_still_and_keeps_its_past(score):
    params = BOWL.parameters()
    found = course(params, make(params, score=score), presence=SOME)
    assert_same(found, oracle(4, 0.7, score, presence=SOME))


def test_schedulers_set_the_learning_rate_and_zero_still_remembers():
    params = BOWL.parameters()
    optimizer = make(params)
    scheduler = StepLR(optimizer, step_size=7, gamma=0.5)
    lrs = []
    for t in range(STEPS):
        if t in (10, 11):
            optimizer.param_groups[0]["lr"] = 0.0
        lrs.append(optimizer.param_groups[0]["lr"])
        course(params, optimizer, steps=[t])
        scheduler.step()
        if t == 11:
            optimizer.param_groups[0]["lr"] = 0.2
    assert_same(
        [p.detach().numpy() for p in params], oracle(4, 0.7, "cosine", lr=lambda t, i: lrs[t])
    )
    assert 0.0 in lrs
    assert len(set(lrs)) > 4


def test_a_window_of_one_is_gradient_descent():
    params, plain = BOWL.parameters(), BOWL.parameters()
    found = course(params, make(params, window=1, weight_decay=0.1))
    assert_same(found, course(plain, torch.optim.SGD(plain, lr=0.3, weight_decay=0.1)))


def test_a_small_temperature_is_gradient_descent_too():
    params, plain = BOWL.parameters()[:2], BOWL.parameters()[:2]
    for both in (params, plain):
        both.append(torch.nn.Parameter(torch.ones(2, dtype=torch.float64)))  # no scalar: cosine 1
    grads = np.random.default_rng(0).normal(size=(10, 9))
    ours, theirs = make(params, temperature=1e-9), torch.optim.SGD(plain, lr=0.3)
    for row in torch.tensor(grads):
        for optimizer, given in ((ours, params), (theirs, plain)):
            for p, grad in zip(given, row.split([3, 4, 2]), strict=True):
                p.grad = grad.reshape(p.shape).clone()
            optimizer.step()
    assert_same([p.detach() for p in params], [p.detach() for p in plain], atol=1e-9)


def test_an_infinite_temperature_is_the_mean_of_the_gradients_there_are():
    p = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = AttentionSGD([p], lr=1.0, window=3, temperature=math.inf)
    grads = torch.tensor([[1.0, 2.0], [3.0, -4.0], [-5.0, 0.0], [7.0, 1.0]], dtype=torch.float64)
    for t in range(4):
        before, p.grad = p.detach().clone(), grads[t].clone()
        optimizer.step()
        expected = grads[max(t - 2, 0) : t + 1].mean(dim=0)
        torch.testing.assert_close(before - p.detach(), expected, rtol=0, atol=1e-12)


def test_opposing_gradients_come_through_as_tanh():
    p = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = AttentionSGD([p], lr=1.0, window=6, temperature=0.8)
    g = torch.tensor([3.0, -1.0], dtype=torch.float64)
    for t in range(9):
        before, p.grad = p.detach().clone(), (-1.0) ** t * g
        optimizer.step()
    torch.testing.assert_close(before - p.detach(), math.tanh(1 / 0.8) * g, rtol=0, atol=1e-12)


def test_cosine_sees_no_scale_of_the_loss_and_dot_does():
    found = {}
    for score in ("cosine", "dot"):
        for c in (1.0, 50.0):
            params = BOWL.parameters()
            optimizer = AttentionSGD(params, lr=0.3 / c, window=4, score=score)
            for t in range(STEPS):
                set_grads(params, t)
                for p in params:
                    p.grad *= c
                optimizer.step()
            found[score, c] = np.concatenate([p.detach().numpy().ravel() for p in params])
    np.testing.assert_allclose(found["cosine", 1.0], found["cosine", 50.0], rtol=0, atol=1e-12)
    assert abs(found["dot", 1.0] - found["dot", 50.0]).max() > 0.01


def test_order_and_grouping_of_the_parameters_do_not_matter():
    first, second, third = BOWL.parameters(), BOWL.parameters(), BOWL.parameters()
    expected = course(first, make(first))
    assert_same(course(second, make(second[::-1])), expected, atol=0.0)
    groups = [{"params": [p]} for p in third]
    assert_same(course(third, make(groups)), expected, atol=0.0)


def test_groups_have_coefficients_of_their_own():
    params = BOWL.parameters()
    groups = [
        {"params": params[:1], "window": 2, "score": "dot"},
        {"params": params[1:], "lr": 0.1, "temperature": 0.2, "weight_decay": 0.5},
    ]
    optimizer = make(groups)
    expected = oracle(
        window=(2, 4, 4),
        temperature=(0.7, 0.2, 0.2),
        score=("dot", "cosine", "cosine"),
        decay=(0.0, 0.5, 0.5),
        lr=lambda t, i: (0.3, 0.1, 0.1)[i],
    )
    assert_same(course(params, optimizer), expected)


def test_a_zero_gradient_takes_the_mean_of_the_past():
    p = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = AttentionSGD([p], lr=1.0, window=2, temperature=0.1)
    p.grad = torch.tensor([4.0, 2.0], dtype=torch.float64)
    optimizer.step()
    p.grad = torch.zeros(2, dtype=torch.float64)
    optimizer.step()
    assert p.tolist() == [-6.0, -3.0]
    p.grad = torch.tensor([0.0, 1.0], dtype=torch.float64)  # now the past is zero
    optimizer.step()
    share = 1.0 / (1.0 + math.exp(-10.0))
    assert p.tolist() == pytest.approx([-6.0, -3.0 - share], abs=1e-12)


# --- what it keeps and what it leaves alone -------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 8])
def test_it_keeps_one_copy_less_than_the_window_in_one_place(window):
    p = torch.nn.Parameter(torch.ones(10, 3))
    optimizer = AttentionSGD([p], window=window)
    places = set()
    for t in range(12):
        p.grad = torch.full_like(p, t + 1.0)
        optimizer.step()
        past = optimizer.state[p]["past"]
        places.add((past.data_ptr(), past.untyped_storage().nbytes()))
    assert past.shape == (window - 1, 30)
    assert len(places) == 1
    assert places.pop()[1] == 4 * 30 * (window - 1)
    if window > 1:
        assert sorted(past[:, 0].tolist()) == list(range(12 - window + 2, 13))


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_gradient_is_not_changed_and_not_kept(decay):
    params, twins = BOWL.parameters(), BOWL.parameters()
    ours, theirs = (make(ps, weight_decay=decay) for ps in (params, twins))
    for t in range(STEPS):
        set_grads(params, t)
        set_grads(twins, t)
        before = [p.grad.clone() for p in params]
        ours.step()
        theirs.step()
        for p, grad in zip(params, before, strict=True):
            assert torch.equal(p.grad, grad)
            p.grad.mul_(-1e3)  # a caller that reuses its buffer must not change the past
    assert_same([p.detach() for p in params], [p.detach() for p in twins], atol=0.0)


def test_a_parameter_that_never_had_a_gradient_has_no_state():
    params = BOWL.parameters()
    optimizer = make(params)
    set_grads(params, 0, (True, False, True))
    optimizer.step()
    assert params[1] not in optimizer.state
    np.testing.assert_array_equal(params[1].detach().numpy(), BOWL.split(BOWL.start)[1])


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("cut", [0, 2, 17])
@pytest.mark.parametrize("carry", [lambda s: s, through_a_file], ids=["in memory", "file"])
def test_a_run_goes_on_from_its_state_dict_to_the_last_bit(cut, carry):
    params = BOWL.parameters()
    expected = course(params, make(params))
    params = BOWL.parameters()
    optimizer = make(params)
    course(params, optimizer, steps=range(cut))
    resumed = [torch.nn.Parameter(p.detach().clone()) for p in params]
    other = AttentionSGD(resumed, lr=9.0, window=2)
    other.load_state_dict(carry(optimizer.state_dict()))
    assert_same(course(resumed, other, steps=range(cut, STEPS)), expected, atol=0.0)


def test_a_deep_copy_goes_its_own_way():
    params = BOWL.parameters()
    optimizer = make(params)
    course(params, optimizer, steps=range(9))
    twins, twin = copy.deepcopy((params, optimizer))
    course(twins, twin, steps=range(9, 20))  # must leave the first pair alone
    found = course(params, optimizer, steps=range(9, STEPS))
    assert_same(found, oracle(4, 0.7, "cosine"))
    assert_same(course(twins, twin, steps=range(20, STEPS)), found, atol=0.0)


def test_two_runs_agree_to_the_last_bit():
    runs = []
    for _ in range(2):
        params = BOWL.parameters()
        runs.append(course(params, make(params)))
    assert_same(*runs, atol=0.0)


def test_a_closure_is_called_with_gradients_on_and_its_loss_returned():
    p = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = AttentionSGD([p], lr=0.5, window=2)

    def closure():
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    assert p.item() == 0.0
    assert optimizer.step() is None


def test_parameters_of_any_layout_are_stepped_alike():
    start = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    plain = torch.nn.Parameter(start.clone())
    strided = torch.nn.Parameter(start.clone().contiguous(memory_format=torch.channels_last))
    for p in (plain, strided):
        optimizer = AttentionSGD([p], lr=0.1, window=3, temperature=0.2)
        for t in range(5):
            p.grad = (p.detach() + t).sin()
            optimizer.step()
    torch.testing.assert_close(plain.detach(), strided.detach())
    empty = torch.nn.Parameter(torch.empty(0))
    empty.grad = torch.empty(0)
    AttentionSGD([empty], score="dot").step()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow_in_the_squares(dtype):
    p = torch.nn.Parameter(torch.zeros(4, dtype=dtype))
    optimizer = AttentionSGD([p], lr=2.0**-10, window=2, temperature=math.inf)
    for _ in range(2):
        p.grad = torch.full_like(p, 512.0)
        optimizer.step()
    assert p.tolist() == [-1.0] * 4


def test_what_is_not_finite_shows():
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = AttentionSGD([p], window=2)
    p.grad = torch.tensor([1.0, math.inf])
    optimizer.step()
    assert p.isnan().all()


# --- what is refused ------------------------------------------------------------------------------

BAD = [
    ({"lr": -0.1}, r"lr must be finite and at least 0, got -0\.1"),
    ({"lr": math.nan}, "got nan"),
    ({"lr": math.inf}, "got inf"),
    ({"window": 0}, "window must be a whole number of at least 1, got 0"),
    ({"window": 2.0}, r"got 2\.0"),
    ({"temperature": 0.0}, r"temperature must be above 0, got 0\.0"),
    ({"temperature": math.nan}, "got nan"),
    ({"score": "softmax"}, "score must be 'cosine' or 'dot', got 'softmax'"),
    ({"weight_decay": -1.0}, r"weight_decay must be finite and at least 0, got -1\.0"),
    ({"weight_decay": math.inf}, "got inf"),
]


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_impossible_coefficients_are_refused_at_once(bad, message):
    with pytest.raises(InputError, match=message):
        AttentionSGD([torch.nn.Parameter(torch.ones(1))], **bad)
    good = AttentionSGD([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(InputError, match=message):
        good.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], **bad})
    assert len(good.param_groups) == 1


@pytest.mark.parametrize(("bad", "message"), [*BAD, ({"window": 3}, "window must stay 4 once")])
def test_what_a_group_cannot_use_later_is_refused_before_anything_moves(bad, message):
    params = BOWL.parameters()
    optimizer = make([{"params": params[:1]}, {"params": params[1:]}])
    before = course(params, optimizer, steps=range(2))
    optimizer.param_groups[1].update(bad)
    set_grads(params, 2)
    with pytest.raises(InputError, match=message):
        optimizer.step()
    assert_same([p.detach() for p in params], before, atol=0.0)


@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_sparse_and_complex_gradients_are_refused_before_anything_moves(kind):
    first = torch.nn.Parameter(torch.ones(2))
    odd = torch.nn.Parameter(torch.ones(2, dtype=torch.cfloat if kind == "complex" else None))
    first.grad = torch.ones(2)
    odd.grad = torch.ones(2).to_sparse() if kind == "sparse" else torch.ones(2, dtype=torch.cfloat)
    with pytest.raises(RuntimeError, match="no sparse and no complex gradients"):
        AttentionSGD([first, odd]).step()
    assert first.tolist() == [1.0, 1.0]


def test_it_learns():
    params = BOWL.parameters()
    optimizer = make(params)
    for _ in range(600):
        grads = BOWL.grads([p.detach().numpy() for p in params], 0)
        noise = BOWL.split(BOWL.noise[0])
        for p, grad, xi in zip(params, grads, noise, strict=True):
            p.grad = torch.tensor(grad - xi)
        optimizer.step()
    assert_same([p.detach() for p in params], BOWL.split(BOWL.center), atol=1e-3)
