"""How many images a second a run trains on, and where the time of a step goes.

It rests on the training loop and the records beside it.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import wraps
from typing import Any

import torch
from tqdm import tqdm

from ngs.records import Record
from ngs.train import models
from ngs.train.config import TrainConfig
from ngs.train.data import Dataset
from ngs.train.loop import set_up
from ngs.train.optimizers import check_installed
from ngs.train.records import provenance
from ngs.train.run import Run

WARMUP_STEPS = 3
PARTS = ("data", "forward", "backward", "optimizer")


def bench_train(
    config: TrainConfig, steps: int, *, download: bool = True, data: Dataset | None = None
) -> Record:
    """Time the steps of a run, part by part, and return the record.

    The parts are waited for one after the other, which on an accelerator costs a little; the images
    per second are those of the sum. ``data`` is drawing, gathering, augmenting and normalising a
    batch; ``forward`` has the loss in it, ``optimizer`` the scaler and the average, if any.

    Args:
        config: whose steps, those on images of the full size; no test image is read.
        steps: how many are timed, after 3 that are not.
        download: whether CIFAR-10 may be fetched.
        data: the data set that ``config`` names, if the caller has loaded it already.

    Raises:
        InputError: the data cannot be had, or do not fit the configuration.
        ImportError: the optimizer belongs to a package that is not installed.
    """
    check_installed(config.optimizer)
    config = replace(config, low_share=0.0, low_side=0, guard="off")
    run = set_up(config, download=download, data=data)
    times = _timed(run, WARMUP_STEPS + steps, run.device)[WARMUP_STEPS:]
    medians = {part: statistics.median(row[part] for row in times) for part in PARTS}
    step = sum(medians.values())
    return {
        "kind": "bench-train",
        "config": asdict(config),
        **provenance(run.device),
        "precision": str(run.dtype).removeprefix("torch."),
        "parameters": models.parameter_count(run.model),
        "steps": steps,
        "images_per_second": round(len(run.data.train) / run.steps_per_epoch / step, 1),
        "step_ms": round(step * 1e3, 3),
        "share": {part: round(seconds / step, 4) for part, seconds in medians.items()},
    }


def _timed(run: Run, steps: int, device: torch.device) -> list[dict[str, float]]:
    """Take full steps and return the seconds of each by part."""
    rows: list[dict[str, float]] = []

    def timing(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def timed(*args: Any, **kwargs: Any) -> Any:
            _wait(device)
            begin = time.perf_counter()
            result = work(*args, **kwargs)
            _wait(device)
            rows[-1][part] = rows[-1].get(part, 0.0) + time.perf_counter() - begin
            return result

        return timed

    run.train_mode(1)
    step, forward, optimize = run.train_step, run.loss, run.optimize
    run.loss = timing("forward", forward)  # type: ignore[method-assign]
    run.optimize = timing("optimizer", optimize)  # type: ignore[method-assign]
    take_step, next_batch = timing("all", step), timing("data", next)
    source = run.endless()
    for _ in tqdm(range(steps), unit="step", disable=None, leave=False):
        rows.append({})
        take_step(*next_batch(source))
        row = rows[-1]
        row["backward"] = row["all"] - row["forward"] - row["optimizer"]
    return rows


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
