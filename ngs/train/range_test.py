"""The learning-rate range test: one short run whose learning rate grows from far too small on.

It rests on the run and the records beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace

from tqdm import tqdm

from ngs.errors import InputError
from ngs.records import Record
from ngs.train import models
from ngs.train.config import LEARNERS, TrainConfig
from ngs.train.data import Dataset
from ngs.train.loop import set_up
from ngs.train.records import provenance

SMOOTHING = 0.9
"""Decay a step of the running mean of the losses."""
LOST = 2.0
"""How many times its lowest value the smoothed loss may reach before the test is over."""


def range_test(
    config: TrainConfig,
    low: float = 1e-4,
    high: float = 10.0,
    steps: int = 200,
    *,
    download: bool = True,
    data: Dataset | None = None,
) -> Record:
    r"""Train with the rates :math:`\eta_t = \text{low}\,(\text{high}/\text{low})^{t/(T-1)}`.

    Args:
        config: what to train. Its rates and what belongs to a whole run do not matter (``lr``,
            ``schedule``, ``epochs``, averages, epochs on small images); no image that it holds out,
            and no test image, is read.
        low: first learning rate, above 0.
        high: last learning rate, above ``low``.
        steps: T, 10 or more; fewer are taken where the loss is lost before.
        download: whether CIFAR-10 may be fetched.
        data: the data set that ``config`` names, if the caller has loaded it already.

    Returns:
        The record: ``lr`` and ``loss`` of every step, ``smoothed`` loss, and two readings of it,
        ``begins`` (the rate by which the smoothed loss has made a tenth of its fall) and ``lowest``
        (the rate at which it is lowest). Both lag a little, as the running mean does.

    Raises:
        InputError: a bound is out of its range; the optimizer sets its rate itself; or the data
            cannot be had, or do not fit the configuration.

    Source: Smith (2017), section 3.3.
    """
    if config.optimizer in LEARNERS:
        raise InputError(f"a range test sets the learning rate, which {config.optimizer} learns")
    if not 0.0 < low < high < math.inf:
        raise InputError(f"low and high must be above 0, low the smaller, got {low} and {high}")
    if steps < 10:
        raise InputError(f"steps must be 10 or more, got {steps}")
    config = replace(
        config,
        schedule="constant",
        average=0.0,
        lookahead=0,
        low_share=0.0,
        low_side=0,
        guard="off",  # it would mend what is looked for
    )
    run = set_up(config, download=download, data=data)
    rates = [low * (high / low) ** (t / (steps - 1)) for t in range(steps)]
    run.lr = rates.__getitem__
    run.train_mode(1)
    losses: list[float] = []
    source = run.endless()
    for _ in tqdm(rates, unit="step", disable=None, leave=False):
        losses.append(float(run.train_step(*next(source))[0]))
        so_far = smoothed(losses)
        if not math.isfinite(losses[-1]) or so_far[-1] > LOST * min(so_far):
            break
    if not math.isfinite(losses[-1]):
        losses.pop()
    if len(losses) < 2:
        raise InputError(f"the loss is lost at once: give a smaller low, it was {low:g}")
    means = smoothed(losses)
    return {
        "kind": "range-test",
        "config": asdict(config),
        **provenance(run.device),
        "precision": str(run.dtype).removeprefix("torch."),
        "parameters": models.parameter_count(run.model),
        "low": low,
        "high": high,
        "steps": steps,
        "lr": [float(f"{lr:.5g}") for lr in rates[: len(losses)]],
        "loss": [round(loss, 5) for loss in losses],
        "smoothed": [round(mean, 5) for mean in means],
        "lowest": float(f"{rates[lowest(means)]:.3g}"),
        "begins": float(f"{rates[begins(means)]:.3g}"),
    }


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return the running mean after every loss, each divided by the weights that are in it."""
    mean, weight, found = 0.0, 0.0, []
    for loss in losses:
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * loss
        weight = SMOOTHING * weight + (1.0 - SMOOTHING)
        found.append(mean / weight)
    return found


def lowest(means: Sequence[float]) -> int:
    """Return the number of the step with the lowest smoothed loss."""
    return min(range(len(means)), key=means.__getitem__)


def begins(means: Sequence[float]) -> int:
    """Return the number of the step by which the smoothed loss has made a tenth of its fall."""
    goal = means[0] - 0.1 * (means[0] - min(means))
    return next(t for t, mean in enumerate(means) if mean <= goal)
