"""Claims about the decoupled hyper-parameters: the recipe's numbers, and what a change of one
leaves alone, measured with NGS itself along a constant gradient and without any.
"""

import itertools
import math
from typing import Any

import pytest
import torch

from ngs.errors import InputError
from ngs.optim.hyperparameters import UNIT, decoupled_hyperparameters
from ngs.optim.torch import NGS

RECIPE = {"lr": 11.5, "momentum": 0.85, "weight_decay": 0.0153, "batch_size": 1024}


def test_the_recipes_numbers_come_out_as_its_own_code_computes_them() -> None:
    # airbench94.py, with its loss summed over the batch
    kilostep_scale = 1024 * (1 + 1 / (1 - 0.85))
    lr = 11.5 / kilostep_scale
    wd = 0.0153 * 1024 / kilostep_scale
    summed = decoupled_hyperparameters(**RECIPE, mean_loss=False)
    assert summed == pytest.approx({"lr": lr, "momentum": 0.85, "weight_decay": wd / lr})
    assert summed["lr"] == pytest.approx(0.00146484, rel=1e-5)
    assert summed["weight_decay"] == pytest.approx(1.3623652, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 100, 1024])
def test_the_mean_of_a_batch_takes_the_same_step_as_its_sum(batch_size: int) -> None:
    given = {**RECIPE, "batch_size": batch_size}
    mean = decoupled_hyperparameters(**given)
    total = decoupled_hyperparameters(**given, mean_loss=False)
    assert mean["lr"] == pytest.approx(batch_size * total["lr"])
    assert mean["lr"] * mean["weight_decay"] == pytest.approx(total["lr"] * total["weight_decay"])


def steady(group: dict[str, float], gradient: float, start: float, steps: int) -> list[float]:
    """The iterates of NGS along a constant gradient."""
    weight = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = NGS([weight], **group)
    found = []
    for _ in range(steps):
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        with optimizer.at_iterate():
            found.append(weight.item())
    return found


@pytest.mark.parametrize("mean_loss", [True, False])
def test_steady_steps_are_proportional_to_lr_and_depend_on_momentum_by_the_convention_alone(
    mean_loss: bool,
) -> None:
    # 1/(1-beta) eta g a step, with eta = lr / (1024 (1 + 1/(1-beta))): lr g / (1024 (2 - beta)).
    example = 0.25  # gradient of one example's loss
    for lr, momentum, batch_size in itertools.product((1.0, 2.0), (0.0, 0.5, 0.8), (64, 1024)):
        group = decoupled_hyperparameters(lr, momentum, 0.0, batch_size, mean_loss=mean_loss)
        seen = example if mean_loss else batch_size * example
        before, last = steady(group, seen, 0.0, 120)[-2:]
        over_1024_examples = (before - last) * UNIT / batch_size
        assert over_1024_examples * (2.0 - momentum) == pytest.approx(lr * example, rel=1e-9)


def test_the_share_lost_over_1024_examples_is_independent_of_lr_batch_size_and_loss() -> None:
    decay = 0.001
    for momentum in (0.0, 0.5, 0.8):
        shares = []
        for lr, batch_size, mean_loss in itertools.product((0.5, 5.0), (64, 256), (True, False)):
            group = decoupled_hyperparameters(lr, momentum, decay, batch_size, mean_loss=mean_loss)
            path = steady(group, 0.0, 1.0, 120)
            steps = UNIT // batch_size
            shares.append(1.0 - path[-1] / path[-1 - steps])
        assert shares == pytest.approx([decay / (2.0 - momentum)] * 8, rel=3e-3)


def test_momentum_changes_steps_and_decay_alike() -> None:
    # so tuning momentum leaves the ratio of the two as it was
    rates = [decoupled_hyperparameters(2.0, momentum, 0.01, 128) for momentum in (0.0, 0.6, 0.99)]
    assert [r["weight_decay"] for r in rates] == pytest.approx([rates[0]["weight_decay"]] * 3)
    assert [r["momentum"] for r in rates] == [0.0, 0.6, 0.99]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.0}, "lr must be finite and above 0, got 0.0"),
        ({"lr": -1.0}, "lr must be finite and above 0, got -1.0"),
        ({"lr": math.nan}, "lr must be finite and above 0, got nan"),
        ({"lr": math.inf}, "lr must be finite and above 0, got inf"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, r"momentum must lie in \[0, 1\), got -0.1"),
        ({"momentum": math.nan}, r"momentum must lie in \[0, 1\), got nan"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and at least 0, got -0.1"),
        ({"weight_decay": math.inf}, "weight_decay must be finite and at least 0, got inf"),
        ({"weight_decay": math.nan}, "weight_decay must be finite and at least 0, got nan"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"batch_size": math.nan}, "batch_size must be 1 or more, got nan"),
    ],
)
def test_a_value_outside_its_range_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        decoupled_hyperparameters(**{**RECIPE, **changes})
    decoupled_hyperparameters(lr=1e-9, momentum=0.0, weight_decay=0.0, batch_size=1)
