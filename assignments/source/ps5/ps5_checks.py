"""The checks of problem set 5 that students see. It rests on torch, ngs.methods and ngs.course."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch._dynamo  # the first optimizer brings it along: seconds that are no claim's
from torch import nn
from torch.nn import functional

from ngs import methods
from ngs.course import Claims, UnmetError, close, expect, number, own_numbers

torch.set_num_threads(1)  # for tensors this small a second thread only costs time


class Drop(NamedTuple):
    """A bowl of one's own, and two steps on it: one before the learning rate drops, one after."""

    curvature: float
    start: float
    lr_before: float
    lr_after: float
    momentum: float


def own_drop(student_id: str) -> Drop:
    """Return the numbers of part D for one student."""
    numbers = own_numbers(student_id, "ps5-hand")
    curvature = float(numbers.integers(2, 7))
    start = float(numbers.integers(3, 10))
    # In these ranges no mistake that is easily made lands where the right answer does.
    before = round(float(numbers.uniform(0.15, 0.25)) / curvature, 3)
    after = round(before / int(numbers.integers(4, 9)), 4)
    return Drop(curvature, start, before, after, int(numbers.integers(60, 76)) / 100)


def two_steps(drop: Drop, method: methods.Method, *coefficients: float) -> tuple[float, float]:
    """Return the stored points after the first step and after the second."""
    points, state = [], method.start(drop.start)
    for lr in (drop.lr_before, drop.lr_after):
        grad = drop.curvature * method.gradient_point(state, *coefficients)
        state = method.step(state, grad, lr, *coefficients)
        points.append(method.gradient_point(state, *coefficients))
    return points[0], points[1]


def double(values) -> torch.Tensor:
    """Return a tensor of float64, a copy."""
    return torch.tensor(np.array(values, dtype=float))


def values(tensor: torch.Tensor) -> np.ndarray:
    """Return what a tensor holds now, as an array of its own."""
    return tensor.detach().numpy().copy()


# --- what is right, and what goes wrong ---------------------------------------------------------


def exact_points(start, curvature, lrs, momenta, decay=0.0) -> np.ndarray:
    """Return the look-ahead points y_1, y_2, ... of Nesterov's method on a bowl.

    Args:
        start: the point of rest.
        curvature: of each direction.
        lrs: the learning rate of each step.
        momenta: what the group holds at each step: the momentum of the *next* look-ahead point.
        decay: the weight decay.
    """
    state, before, points = methods.nesterov_stored.start(np.array(start, float)), 0.0, []
    for lr, following in zip(lrs, momenta, strict=True):
        grad = (np.asarray(curvature) + decay) * state.lookahead
        state = methods.nesterov_stored.step(state, grad, lr, before, following)
        before = following
        points.append(state.lookahead)
    return np.array(points)


def framework_points(method, start, curvature, lrs, momenta) -> np.ndarray:
    """Return the weights of a method that knows one momentum a step."""
    state, points = method.start(np.array(start, float)), []
    for lr, momentum in zip(lrs, momenta, strict=True):
        grad = np.asarray(curvature) * method.gradient_point(state, momentum)
        state = method.step(state, grad, lr, momentum)
        points.append(method.gradient_point(state, momentum))
    return np.array(points)


def heavy_ball_points(start, curvature, lrs, momenta) -> np.ndarray:
    """Return the iterates of heavy ball, which takes its gradients there."""
    return framework_points(methods.heavy_ball, start, curvature, lrs, momenta)


def recognise(found, mistakes: dict[str, np.ndarray]) -> None:
    """Give up the claim with the first message whose numbers are the ones found."""
    for message, wrong in mistakes.items():
        expect(not close(found, wrong), message)


# --- how a student's optimizer is run -----------------------------------------------------------


@contextlib.contextmanager
def _without_sgd() -> Iterator[None]:
    """Let nobody make an SGD meanwhile: the step is the student's own."""
    kept = torch.optim.SGD.__init__

    def refuse(self, *arguments, **named):
        raise UnmetError("the step should be your own: no torch.optim.SGD inside")

    torch.optim.SGD.__init__ = refuse
    try:
        yield
    finally:
        torch.optim.SGD.__init__ = kept


def make(kind, params, **settings) -> torch.optim.Optimizer:
    """Return a student's optimizer, if it is one, and their own."""
    expect(
        isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer),
        "Nesterov should be a class that derives from torch.optim.Optimizer",
    )
    for base in kind.__mro__:
        ready = base.__module__.startswith(("torch.optim", "ngs"))
        expect(
            base is torch.optim.Optimizer or not ready,
            f"the step should be your own, not that of {base.__name__}",
        )
    with _without_sgd():
        return kind(params, **settings)


def run(kind, start, curvature, lrs, momenta, decay=0.0, gradients=None) -> np.ndarray:
    """Return the weights after each step of a student's optimizer, as a scheduler would drive it.

    Args:
        kind: the student's class.
        start: where the weights begin.
        curvature: of each direction of the bowl.
        lrs: what the group holds at each step.
        momenta: the same for the momentum.
        decay: the weight decay.
        gradients: for each step whether there is a gradient; ``None`` for all.
    """
    weight, points = nn.Parameter(double(start)), []
    optimizer = make(kind, [weight], lr=lrs[0], momentum=momenta[0], weight_decay=decay)
    for t, (lr, momentum) in enumerate(zip(lrs, momenta, strict=True)):
        optimizer.param_groups[0].update(lr=lr, momentum=momentum)
        there = gradients is None or gradients[t]
        weight.grad = double(curvature) * weight.detach() if there else None
        optimizer.step()
        points.append(values(weight))
    expect(
        np.any(points[-1] != np.asarray(start)),
        "after several steps the weights should have moved; change p itself, in place",
    )
    return np.array(points)


def velocity_of(optimizer, weight) -> torch.Tensor:
    """Return the velocity from the state of a parameter, if it is there."""
    state = optimizer.state.get(weight, {})
    expect("velocity" in state, 'self.state[p] of a parameter that was stepped lacks "velocity"')
    velocity = state["velocity"]
    expect(
        isinstance(velocity, torch.Tensor) and velocity.shape == weight.shape,
        "the velocity should be a tensor of its parameter's shape",
    )
    return velocity


def refuses(kind, groups: Callable[[nn.Parameter], list], **settings) -> None:
    """Expect a ValueError."""
    said = " and ".join(f"{name} = {value}" for name, value in settings.items())
    given = groups(nn.Parameter(torch.ones(2)))
    said = said or "a group with " + " and ".join(
        f"{name} = {value}" for name, value in given[-1].items() if name != "params"
    )
    try:
        make(kind, given, **{"lr": 0.1, **settings})
    except ValueError:
        return
    except (NotImplementedError, UnmetError):
        raise
    except Exception as error:  # whatever a student raises
        raise UnmetError(
            f"{said} should raise ValueError, and raised {type(error).__name__}"
        ) from None
    raise UnmetError(f"{said} should raise ValueError, and was accepted")


# --- part A -------------------------------------------------------------------------------------


def step(stored_step_) -> float:
    """Check part A where one thing at a time can be seen."""
    claims = Claims()

    def after(y, velocity, grad, lr, momentum, next_momentum):
        y, velocity = double(y), double(velocity)
        stored_step_(y, velocity, double(grad), lr, momentum, next_momentum)
        return values(y), values(velocity)

    in_place = (
        "y and velocity should change themselves: y.add_(…) works in place, while y = y + … makes "
        "a new tensor and leaves the caller's as it was"
    )
    with claims(1, "from rest, the velocity becomes a step, and the point looks ahead along it"):
        start, grad = np.array([1.0, -2.0]), np.array([0.5, 4.0])
        y, v = after(start, [0, 0], grad, 0.1, 0.0, 0.0)
        expect(not close(y, start) and not close(v, [0, 0]), in_place)
        expect(not close(y, start + 0.1 * grad), "at β = 0 you go up the gradient: look at signs")
        expect(close(y, start - 0.1 * grad), "at β = 0 the step should equal gradient descent")
        expect(close(v, -0.1 * grad), "from rest the new velocity should be the gradient step −ηg")
        y, v = after(start, [0, 0], grad, 0.1, 0.0, 0.8)
        expect(
            not close(y, start - 0.1 * grad),
            "that is heavy ball's first step: the stored point looks ahead, with the next momentum",
        )
        expect(
            close(y, start - 0.18 * grad) and close(v, -0.1 * grad),
            "from rest, with next momentum 0.8, the point should move 1.8 gradient steps, "
            "the velocity be one",
        )
    with claims(1, "without a gradient, the velocity shrinks and carries the point along"):
        y, v = after([0, 0], [1, -2], [0, 0], 0.1, 0.8, 0.5)
        carried = np.array([1.0, -2.0])
        expect(not close(y, [0, 0]) or not close(v, carried), in_place)
        expect(
            close(v, 0.8 * carried),
            "without a gradient the new velocity should be β_t times the old one, 0.8 of it here",
        )
        recognise(
            y,
            {
                "the point moved by the whole new velocity: that is heavy ball, which stores θ": 0.8
                * carried,
                "your y seems to use the new velocity where the formula has v_t: mind the order in "
                "which the two change, or write the formula with v_{t+1}": 0.8 * 0.4 * carried,
                "your y seems to use only one of β_t and β_{t+1}": 0.5 * carried,
            },
        )
        expect(close(y, 0.4 * carried), "without a gradient y should move by β_t β_{t+1} v_t")
    return claims.points


# --- parts B and C ------------------------------------------------------------------------------

BOWL = [1.0, 4.0, 7.0]
START = [1.0, -2.0, 0.5]


def method(kind) -> float:
    """Check part B on a bowl: is it Nesterov's method?"""
    claims = Claims()
    with claims(1, "with constant coefficients the weights are those of SGD(nesterov=True)"):
        lrs, momenta = [0.05] * 8, [0.8] * 8
        found = run(kind, START, BOWL, lrs, momenta)
        rest = [exact_points(START, BOWL, [0.05], [0.8])[0]]
        while len(rest) < 8:  # each step from rest
            rest.append(exact_points(rest[-1], BOWL, [0.05], [0.8])[0])
        up = exact_points(START, BOWL, [-0.05] * 8, momenta)
        recognise(
            found,
            {
                "you go up the gradient: look at the signs": up,
                "that is heavy ball: the weights should hold y, and look ahead": heavy_ball_points(
                    START, BOWL, lrs, momenta
                ),
                "every step of yours looks like a first one: the velocity should be kept from step "
                "to step": np.array(rest),
                "that is gradient descent: the velocity never acts": heavy_ball_points(
                    START, BOWL, lrs, [0.0] * 8
                ),
            },
        )
        right = framework_points(methods.torch_sgd, START, BOWL, lrs, momenta)
        expect(close(found[0], right[0]), "the first step already is another one")
        expect(close(found, right), "the first step is right, a later one is not")
    with claims(1, "after a drop of the learning rate it is still Nesterov's method"):
        lrs, momenta = [0.05] * 4 + [0.005] * 6, [0.8] * 10
        found = run(kind, START, BOWL, lrs, momenta)
        right = exact_points(START, BOWL, lrs, momenta)
        recognise(
            found,
            {
                "that is PyTorch's form, another method from the drop on: a velocity remembers "
                "each gradient with the learning rate of its own day": framework_points(
                    methods.torch_sgd, START, BOWL, lrs, momenta
                ),
                "the drop of group['lr'] had no effect: read the settings from the group, at "
                "every step": exact_points(START, BOWL, [0.05] * 10, momenta),
            },
        )
        expect(close(found[:4], right[:4]), "the steps before the drop are not right yet")
        expect(close(found, right), "up to the drop of the learning rate it is right, then not")
    with claims(1, "the momentum in a group is the next one"):
        lrs, momenta = [0.05] * 8, [0.8] * 3 + [0.4] * 5
        found = run(kind, START, BOWL, lrs, momenta)
        right = exact_points(START, BOWL, lrs, momenta)
        late = exact_points(START, BOWL, lrs, [momenta[0], *momenta[:-1]])
        recognise(
            found,
            {
                "in the step where the momentum changes, the old velocity should still be "
                "multiplied by the momentum of the step before": framework_points(
                    methods.keras_sgd, START, BOWL, lrs, momenta
                ),
                "the change of group['momentum'] comes a step late: what the group holds now "
                "makes the point of this step": late,
                "the change of group['momentum'] had no effect: read the settings from the group, "
                "at every step": exact_points(START, BOWL, lrs, [0.8] * 8),
            },
        )
        expect(close(found[:3], right[:3]), "the steps before the change are not right yet")
        expect(close(found, right), "up to the change of the momentum it is right, then not")
    return claims.points


def citizen(kind) -> float:
    """Check part B as PyTorch sees it: groups, closure, settings."""
    claims = Claims()
    with claims(1, "every group is stepped with its own settings, and nothing without a gradient"):
        alone = []
        for lr in (0.1, 0.01):
            weight = nn.Parameter(double([1.0, -1.0]))
            optimizer = make(kind, [weight], lr=lr)
            for t in range(3):
                weight.grad = double([1.0, t])
                optimizer.step()
            alone.append(values(weight))
        first, second, unused = (nn.Parameter(double([1.0, -1.0])) for _ in range(3))
        groups = [{"params": [first]}, {"params": [unused, second], "lr": 0.01}]
        optimizer = make(kind, groups, lr=0.1)
        for t in range(3):
            for p in (first, second):
                p.grad = double([1.0, t])
            try:
                optimizer.step()
            except (AttributeError, TypeError) as error:
                raise UnmetError(
                    "a parameter whose grad is None should stand still; your step raised "
                    f"{type(error).__name__} there"
                ) from None
        expect(close(values(unused), [1, -1]), "a parameter whose grad is None should not move")
        expect(
            not optimizer.state.get(unused), "a parameter whose grad is None should get no state"
        )
        expect(not close(values(first), [1, -1]), "the first group did not move")
        expect(not close(values(second), [1, -1]), "only the first group is stepped")
        expect(
            not close(values(second), alone[0]),
            "the second group has a learning rate of its own, and should be stepped with it",
        )
        expect(
            close(values(first), alone[0]) and close(values(second), alone[1]),
            "each of two groups should go where it goes in an optimizer of its own; yours do not",
        )
    with claims(1, "a closure is called with gradients on, before anything moves"):
        weight = nn.Parameter(double([1.0, -2.0]))
        optimizer, calls = make(kind, [weight], lr=0.1), []

        def closure():
            calls.append((torch.is_grad_enabled(), values(weight)))
            weight.grad = None
            loss = (weight**2).sum()
            if torch.is_grad_enabled():
                loss.backward()
            return loss

        loss = optimizer.step(closure)
        expect(calls, "a closure that is passed to step should be called")
        expect(len(calls) == 1, f"the closure should be called once, not {len(calls)} times")
        expect(calls[0][0], "the closure calls backward: it needs gradients switched on")
        expect(close(calls[0][1], [1, -2]), "the closure should be called before anything moves")
        expect(
            close(loss.item() if isinstance(loss, torch.Tensor) else loss, 5.0),
            "step(closure) should return the loss that the closure returned",
        )
        expect(not close(values(weight), [1, -2]), "after the closure the weights should move")
    with claims(1, "a negative learning rate and a momentum of 1 are refused"):
        make(kind, [nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
        refuses(kind, lambda p: [p], lr=-0.1)
        refuses(kind, lambda p: [p], momentum=1.0)
    return claims.points


def checkpoint(kind) -> float:
    """Check part C with constant settings."""
    claims = Claims()
    with claims(1, "a run that is saved and loaded goes on as if nothing had happened"):
        weight, straight = nn.Parameter(double(START)), []
        optimizer = make(kind, [weight], lr=0.05, momentum=0.8)
        for t in range(10):
            if t == 5:
                saved, at_five = copy.deepcopy(optimizer.state_dict()), values(weight)
            weight.grad = double(BOWL) * weight.detach()
            optimizer.step()
            straight.append(values(weight))
        velocity_of(optimizer, weight)
        resumed = nn.Parameter(double(at_five))
        optimizer = make(kind, [resumed], lr=1.0, momentum=0.1)
        optimizer.load_state_dict(saved)
        after = []
        for _ in range(5):
            resumed.grad = double(BOWL) * resumed.detach()
            optimizer.step()
            after.append(values(resumed))
        expect(not close(straight[-1], START), "after several steps the weights should have moved")
        recognise(
            after,
            {
                "the resumed run starts from rest: the velocity was not saved, or is not read from "
                "the state that was loaded": exact_points(at_five, BOWL, [0.05] * 5, [0.8] * 5),
            },
        )
        expect(
            close(after, straight[5:]),
            "after loading, the weights should be those of the run that was not interrupted",
        )
    return claims.points


# --- part D -------------------------------------------------------------------------------------


def by_hand(given: dict) -> float:
    """Check the first number of part D, so that a wrong account is noticed at once."""
    claims = Claims()
    drop = own_drop(given.get("student_id", ""))
    with claims(1, "first is where both stand after the first step"):
        found = number(given.get("first"), "first")
        gradient_step = drop.start * (1 - drop.lr_before * drop.curvature)
        expect(
            not close(found, gradient_step, atol=5e-4),
            "that is θ after the first step; both optimizers keep the look-ahead point",
        )
        expect(
            close(found, two_steps(drop, methods.torch_sgd, drop.momentum)[0], atol=5e-4),
            "from rest, one step with the learning rate before the drop should lead to the "
            "look-ahead point of part A, for the numbers of your account",
        )
    return claims.points


# --- part E -------------------------------------------------------------------------------------


class Still(torch.optim.Optimizer):
    """An optimizer that takes no step: parameters, and the state that part B describes."""

    def __init__(self, groups, momentum=0.9):
        super().__init__(groups, {"lr": 0.1, "momentum": momentum, "weight_decay": 0.0})

    def remember(self, p, velocity, momentum):
        """Give a parameter the state of one that was stepped."""
        self.state[p] = {"velocity": velocity, "momentum": momentum}


def scattered(seed: int, shape=(40,), dtype=torch.float64) -> torch.Tensor:
    """Return numbers of many sizes, on which rounding shows."""
    source = torch.Generator().manual_seed(seed)
    sizes = 10.0 ** torch.randint(-3, 4, shape, generator=source)
    return (torch.randn(shape, generator=source, dtype=torch.float64) * sizes).to(dtype)


def at_iterate(context) -> float:
    """Check part E on one parameter."""
    claims = Claims()
    with claims(1, "inside the block the weights are θ, after it y again, bit by bit"):
        weight = nn.Parameter(scattered(1))
        optimizer, velocity = Still([weight]), scattered(2)
        optimizer.remember(weight, velocity.clone(), 0.9)
        y = weight.detach().clone()
        with context(optimizer):
            inside = values(weight)
        v, stored = velocity.numpy(), y.numpy()
        recognise(
            inside,
            {
                "inside the block the weights are still y": stored,
                "inside you stand ahead of y: θ lies behind it": stored + 0.9 * v,
                "y is β times the velocity ahead of θ, not the whole of it": stored - v,
            },
        )
        expect(close(inside, stored - 0.9 * v), "inside the block the weights should be θ = y − βv")
        expect(close(values(weight), stored), "after the block the weights should be y again")
        expect(
            torch.equal(weight.detach(), y),
            "after the block the weights are y but for rounding; to add what was subtracted is not "
            "exact, a copy is",
        )
    return claims.points


# --- part F -------------------------------------------------------------------------------------


class Probe(nn.Module):
    """A linear classifier that notes how it is called."""

    def __init__(self, seed: int, inputs: int = 3, classes: int = 2):
        super().__init__()
        self.linear = nn.Linear(inputs, classes).double()
        source = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=source, dtype=torch.float64))
        self.calls: list[tuple[int, bool, bool]] = []

    def forward(self, images):
        """Note batch size, mode and whether gradients are on."""
        self.calls.append((len(images), self.training, torch.is_grad_enabled()))
        return self.linear(images)


def data(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images of three numbers, and labels of two classes."""
    source = torch.Generator().manual_seed(seed)
    images = torch.randn((count, 3), generator=source, dtype=torch.float64)
    return images, (images.sum(1) > 0).long()


def reference(model, images, labels, epochs, batch_size, seed, mistake="") -> list[float]:
    """Return the losses of a training loop with SGD, right or with one mistake."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    order, losses = torch.Generator().manual_seed(seed), []
    if mistake not in ("old gradients", "no zero_grad"):
        optimizer.zero_grad()
    for _ in range(epochs):
        shuffled = torch.randperm(len(images), generator=order)
        for picked in shuffled.split(batch_size):
            if mistake != "no zero_grad" and (mistake != "old gradients" or losses):
                optimizer.zero_grad()
            loss = functional.cross_entropy(model(images[picked]), labels[picked])
            loss.backward()
            if mistake != "no step":
                optimizer.step()
            losses.append(loss.item())
    return losses


def losses_of(found, batches: int) -> list[float]:
    """Return a student's losses, if they are a list of so many plain numbers."""
    expect(found is not None, "train returned None: it should return the losses")
    expect(isinstance(found, list), f"train should return a list, not a {type(found).__name__}")
    expect(
        not any(isinstance(x, torch.Tensor) for x in found),
        "the losses should be plain numbers: a tensor keeps the whole graph that made it (.item())",
    )
    expect(
        len(found) == batches,
        f"there should be a loss for each batch of each epoch, {batches} here; yours has "
        f"{len(found)}",
    )
    return found


def loop(train, accuracy) -> float:
    """Check part F where every batch is full, and where y and θ are one."""
    claims = Claims(seconds=5.0)
    with claims(1, "each batch: old gradients away, loss, backward, step"):
        images, labels = data(3, 8)
        setting = (images, labels, 2, 4)
        model = Probe(4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        order = torch.Generator().manual_seed(7)
        found = losses_of(train(model, optimizer, *setting, order), 4)
        right = reference(Probe(4), *setting, seed=7)
        recognise(
            found,
            {
                "the gradients of earlier batches still count: backward adds to p.grad": reference(
                    Probe(4), *setting, 7, "no zero_grad"
                ),
                "the weights never move: a step needs what backward computes, so it comes after "
                "backward, and before the gradients are put away": reference(
                    Probe(4), *setting, 7, "no step"
                ),
            },
        )
        unmoved = close(found[:2], reference(Probe(4), *setting, 7, "no step")[:2])
        expect(not unmoved, "the first step moved nothing: step needs what backward computes")
        expect(
            close(found[:1], right[:1]),
            "the loss of the first batch is another one: it is the mean cross-entropy of the "
            "images that torch.randperm puts first, before the step",
        )
        expect(close(found, right), "the first loss is right, a later one is not")
    with claims(1, "accuracy is measured in eval mode, and the model's mode is given back"):
        images, labels = data(5, 12)
        model = Probe(6)
        right = (model(images).argmax(1) == labels).double().mean().item()
        model.calls.clear()
        model.train()
        found = accuracy(model, Still(list(model.parameters())), images, labels)
        expect(found is not None, "accuracy returned None")
        expect(model.calls, "accuracy should ask the model for its answers")
        expect(
            not any(training for _, training, _ in model.calls),
            "accuracy was measured in training mode: there a dropout drops, and a batch "
            "normalisation takes the statistics of the batch",
        )
        expect(not any(graph for *_, graph in model.calls), "to measure takes no gradients")
        expect(model.training, "the model came in training mode, and should be in it afterwards")
        expect(
            close(number(found, "accuracy"), right),
            "accuracy should be the share of images whose largest output is at their label",
        )
    return claims.points
