"""The checks of problem set 6 that students see, its images, and the meter of the budget.

It rests on torch, which counts the operations, on ngs.train.data and on ngs.course.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch._dynamo  # the first optimizer brings it along: seconds that are no claim's
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.flop_counter import FlopCounterMode

from ngs.course import Claims, UnmetError, answer, close, expect, number, own_numbers
from ngs.train import data as datasets

SIDE, TRAIN, TEST = 16, 5000, 1000
PATIENCE = 55.0
"""Seconds for a claim that trains."""
SMALL = 6e9
"""Multiply-adds of the run that the visible check makes."""

Pair = tuple[torch.Tensor, torch.Tensor]


class Budget:
    """Multiply-adds that a run may spend, counted by torch inside a ``with`` block.

    Attributes:
        total: how many there are.
    """

    def __init__(self, total: float):
        self.total = float(total)
        self._counter = FlopCounterMode(display=False)

    def __enter__(self) -> "Budget":
        self._counter.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._counter.__exit__(*error)

    @property
    def spent(self) -> float:
        """Multiply-adds so far."""
        return self._counter.get_total_flops() / 2

    @property
    def left(self) -> float:
        """What is left; negative where more was spent than there was."""
        return self.total - self.spent


class Data:
    """Images and labels: bytes ``(n, 3, 16, 16)`` and classes ``(n,)``.

    Attributes:
        name: of the data set.
        train: training images and labels.
    """

    def __init__(self, name: str, train: Pair, test: Pair):
        self.name, self.train, self._test = name, train, test
        self.read: list[float] = []
        self.budget: Budget | None = None

    def __repr__(self) -> str:
        return f"{self.name}: {len(self.train[1])} training and {len(self._test[1])} test images"

    @property
    def test(self) -> Pair:
        """Test images and labels. What the budget had spent by then is noted at each reading."""
        spent = self.budget.spent if self.budget else 0.0
        if not self.read or spent != self.read[-1]:  # images and labels may be asked for one by one
            self.read.append(spent)
        return self._test

    def for_choosing(self, hold_out: Callable[..., Any], count: int = 1000) -> "Data":
        """Return the data to choose settings on: a validation split stands for the test set."""
        a, b, c, d = hold_out(*self.train, count, 0)
        return Data(f"{self.name}, validation", (a, b), (c, d))


def load(name: str) -> Data:
    """Return a data set: ``"offline"``, or ``"cifar10"`` where it can be found."""
    found = datasets.load(name, download=False)
    found = found.reduced(TRAIN, SIDE)
    test = (found.test.images[:TEST], found.test.labels[:TEST])
    return Data(name, (found.train.images, found.train.labels), test)


def few(count: int, seed: int) -> Pair:
    """Return made-up images, each of which can be told by its first pixel, and labels."""
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (count, 3, 4, 4), dtype=np.uint8))
    images[:, 0, 0, 0] = torch.arange(count) % 256
    images[:, 0, 0, 1] = torch.arange(count) // 256
    return images, torch.from_numpy(rng.integers(0, 10, count))


def which(images: Any) -> list[int]:
    """Return which of the :func:`few` images these are."""
    expect(
        isinstance(images, torch.Tensor) and images.ndim == 4 and images.dtype == torch.uint8,
        "images should stay bytes of shape (n, 3, h, w)",
    )
    first = images[:, 0, 0, :2].long()
    return (first[:, 0] + 256 * first[:, 1]).tolist()


def split_of(hold_out: Callable[..., Any], pair: Pair, count: int, seed: int) -> list[Any]:
    """Return the four tensors of a split, and see that each image kept its label."""
    images, labels = pair
    found = answer(hold_out, images, labels, count, seed)
    expect(
        isinstance(found, tuple | list) and len(found) == 4,
        "hold_out should return four tensors: images, labels, and both of the validation split",
    )
    expect(
        len(found[2]) == count and len(found[0]) == len(labels) - count,
        f"of {len(labels)} images {count} should be held out and the others be trained on; yours "
        f"are {len(found[2])} and {len(found[0])}",
    )
    for part, answers in (found[:2], found[2:]):
        numbers = which(part)
        expect(
            len(answers) == len(numbers) and torch.equal(answers, labels[numbers]),
            "each image should keep its own label: shuffle both by one and the same order",
        )
    return list(found)


def parts(hold_out, statistics, normalize) -> float:
    """Check part A on a few made-up images."""
    claims = Claims()
    pair = few(40, seed=1)
    with claims(1, "every image is in one split, with its label"):
        found = split_of(hold_out, pair, 10, 3)
        both = sorted(which(found[0]) + which(found[2]))
        expect(both == list(range(40)), "every image should be in one of the two, and in one only")
    with claims(1, "the split is drawn at random, and is that of its seed"):
        first, again, other = (set(which(split_of(hold_out, pair, 10, s)[2])) for s in (3, 3, 4))
        expect(first == again, "the same seed should hold out the same images")
        expect(first != other, "another seed should hold out others")
    with claims(1, "normalised training images have mean 0 and variance 1 by channel"):
        mean, std = answer(statistics, pair[0])
        found = answer(normalize, pair[0], mean, std)
        expect(found.dtype == torch.float32, "normalised images should be 32-bit floats")
        expect(
            close(found.mean(dim=(0, 2, 3)), np.zeros(3), atol=1e-4)
            and close(found.var(dim=(0, 2, 3)), np.ones(3), rtol=5e-3),
            "after normalising with their own statistics every channel should have mean 0 and "
            "variance 1",
        )
    return claims.points


class Network(NamedTuple):
    """A network of one's own: side of its images, channels of its convolution, batch, budget."""

    side: int
    channels: int
    batch_size: int
    budget: int


def own_network(student_id: str) -> Network:
    """Return the numbers of part B for one student."""
    numbers = own_numbers(student_id, "ps6-hand")
    side = 2 * int(numbers.integers(5, 15))
    channels = int(numbers.integers(11, 40))
    batch_size = int(numbers.choice([32, 48, 64, 96]))
    budget = 10**8 * int(numbers.integers(300, 900))
    return Network(side, channels, batch_size, budget)


def by_hand(given: dict[str, Any]) -> float:
    """Check the first number of part B, so that a wrong account is noticed at once."""
    claims = Claims()
    with claims(1, "parameters"):
        network = own_network(given.get("student_id", ""))
        found = number(given.get("parameters"), "parameters")
        expect(
            found != 37 * network.channels, "the linear layer has a bias; the convolution has none"
        )
        expect(
            found == 37 * network.channels + 10,
            "count the weights of every filter, those of the linear layer and its biases, for the "
            "network of your account",
        )
    return claims.points


class Table(nn.Module):
    """A network that knows the :func:`few` images by heart, and notes how it is asked.

    Args:
        labels: the class of each.
        wrong: how many of them, the last ones, it gets wrong.
    """

    def __init__(self, labels: torch.Tensor, wrong: int):
        super().__init__()
        answers = labels.clone()
        answers[len(labels) - wrong :] = (answers[len(labels) - wrong :] + 1) % 10
        self.answers = nn.Parameter(nn.functional.one_hot(answers, 10).float())
        self.sizes: list[int] = []
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return scores, and note how many images came and in which mode."""
        self.sizes.append(len(images))
        self.modes.append((self.training, torch.is_grad_enabled()))
        return self.answers[images.round().long()[:, 0, 0, 0]]


def ask(accuracy, count: int, wrong: int, training: bool) -> tuple[Any, Table]:
    """Return what an accuracy function says of a network that gets ``wrong`` of ``count`` wrong."""
    labels = torch.from_numpy(np.random.default_rng(count).integers(0, 10, count))
    model = Table(labels, wrong)
    model.train(training)
    images = torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    found = answer(accuracy, model, images, labels)
    expect(model.sizes, "the images should go through the model")
    expect(model.training == training, "afterwards the model should be in the mode it was in")
    return found, model


def measure(lr_at, accuracy) -> float:
    """Check part C on a short triangle and a model that is right on three of four images."""
    claims = Claims()
    with claims(1, "the triangle rises to its peak and falls"):
        found = [answer(lr_at, t, 10, 1.0) for t in range(10)]
        expect(
            close(found[1], 1.0) and close(found[0], 0.5),
            "with 10 steps the first fifth is 2 steps: half the peak, then the peak",
        )
        expect(found[-1] > 0, "the last step should still have a rate above 0: steps count from 0")
        expect(
            close(np.diff(found[1:]), np.full(8, -1 / 9)),
            "from the peak on each step should lower the rate by the same amount, to 0 after the "
            "last",
        )
    with claims(1, "the accuracy is a share, the model in evaluation mode, no gradients recorded"):
        found, model = ask(accuracy, 7, 2, training=True)
        expect(not close(found, 500 / 7, rtol=1e-5), "a share lies between 0 and 1, not 100")
        expect(close(found, 5 / 7, rtol=1e-5), "5 of 7 right should be 0.714…")
        expect(not any(t for t, _ in model.modes), "the model should be in evaluation mode")
        expect(not any(g for _, g in model.modes), "no gradients should be recorded")
    with claims(1, "batches of at most 500"):
        found, model = ask(accuracy, 600, 0, training=False)
        expect(max(model.sizes) <= 500, "no more than 500 images should go through at once")
        expect(close(found, 1.0), "600 of 600 right should be 1")
    return claims.points


class Outcome(NamedTuple):
    """What a run did: how it predicts, what it reports, what it spent, when it read the test.

    Where it broke a rule it was stopped at once: then ``broken`` says which, and there is nothing
    to predict with.
    """

    predict: Any
    reported: Any
    spent: float
    read: list[float]
    total: float
    broken: str = ""


class _StoppedError(Exception):
    """A run broke a rule; it need not go on."""


def make_run(final_run, data: Data, total: float, seed: int) -> Outcome:
    """Make a run with a meter on it, and see that it hands back what it should.

    It is stopped at the first step of an optimizer after its budget is spent or the test set read.
    """
    broken = ""

    def look(*step: Any) -> None:
        nonlocal broken
        if data.read:
            broken = "after the test set was read something was still trained: read it at the end"
        elif budget.left < 0:
            broken = "the budget was spent, and the run went on"
        if broken:
            raise _StoppedError

    hook = register_optimizer_step_post_hook(look)
    try:
        with Budget(total) as budget:
            data.budget, data.read = budget, []
            try:
                found = final_run(data, budget, seed)
            except _StoppedError:
                return Outcome(None, None, budget.spent, data.read, total, broken)
            spent = budget.spent
    finally:
        hook.remove()
    if found is None:
        raise NotImplementedError
    expect(
        isinstance(found, tuple | list) and len(found) == 2 and callable(found[0]),
        "final_run should return a pair: a function that predicts, and the test accuracy",
    )
    return Outcome(found[0], found[1], spent, data.read, total, broken)


def classes(predict, images: torch.Tensor) -> torch.Tensor:
    """Return predicted classes, and see that they are classes."""
    expect(predict is not None, "there is no run to look at: it broke a rule, see above")
    found = predict(images)
    expect(
        isinstance(found, torch.Tensor) and found.shape == (len(images),),
        "predict should return one class an image, a tensor of shape (n,); yours is "
        f"{tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__}",
    )
    return found


def kept_budget(outcome: Outcome) -> None:
    """See that a run trained, and spent no more than its budget before it read the test set."""
    before = outcome.read[0] if outcome.read else outcome.spent
    expect(
        before > 0,
        "the test set was read before anything was computed: train first, and read it last"
        if outcome.read
        else "nothing was computed: is a network trained?",
    )
    expect(
        before <= outcome.total,
        f"the budget was {outcome.total / 1e9:.0f} billion multiply-adds, and the run was stopped "
        f"at {before / 1e9:.2f}: a step costs its forward and its backward pass, and the last one "
        "must still fit",
    )


def kept_rules(outcome: Outcome, data: Data) -> None:
    """See that a run trained, and read the test set once, afterwards."""
    kept_budget(outcome)
    expect(not outcome.broken, outcome.broken)
    expect(outcome.read, "the test set should be read, once: the accuracy is measured on it")
    expect(
        len(outcome.read) == 1,
        f"the test set may be read once; this run read it {len(outcome.read)} times, and what is "
        "chosen by looking at it is no longer tested",
    )
    with FlopCounterMode(display=False) as counter, contextlib.suppress(UnmetError):
        classes(outcome.predict, data._test[0])  # what is wrong with it is said by another claim
    once = counter.get_total_flops() / 2
    expect(
        not once or outcome.spent - outcome.read[0] <= 1.01 * once,
        "after the test set was read more was computed than the answers for its images",
    )


def run(final_run) -> float:
    """Check the rules of part D on a short run."""
    claims = Claims(PATIENCE)
    data, outcome = load("offline"), None
    with claims(1, "a run keeps its budget"):
        outcome = make_run(final_run, data, SMALL, seed=1)
        kept_budget(outcome)
    with claims(1, "the test set is read once, after training"):
        expect(outcome is not None, "there is no run to look at: see the line above")
        kept_rules(outcome, data)
    with claims(1, "the accuracy that it reports is that of its predictions"):
        expect(outcome is not None, "there is no run to look at: see the first line")
        found = classes(outcome.predict, data._test[0]) == data._test[1]
        expect(
            close(number(outcome.reported, "the test accuracy"), found.float().mean(), atol=2e-3),
            "the reported accuracy should be the share of test images that predict gets right",
        )
    return claims.points
