"""Many runs that differ in optimizer, learning rate and seed: resumable, and then a table.

It rests on the training loop and the records beside it.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ngs.errors import InputError
from ngs.train.config import TrainConfig
from ngs.train.data import load
from ngs.train.loop import DivergenceError, pick_device, train
from ngs.train.optimizers import check_installed
from ngs.train.records import Record, append_record, provenance, read_records

DEFAULTS = asdict(TrainConfig())
"""The settings of a run that names none."""


def grid(
    base: TrainConfig,
    optimizers: Sequence[str],
    lrs: Sequence[float],
    seeds: Sequence[int],
) -> list[TrainConfig]:
    """Return the settings of every run, seeds outermost so that an early stop leaves whole sets.

    Raises:
        InputError: a list is empty, has a value twice, or has one that no run can use.
    """
    for name, values in (("optimizers", optimizers), ("lrs", lrs), ("seeds", seeds)):
        if not values:
            raise InputError(f"{name} must be one or more, got none")
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise InputError(f"{name} must all be different, got {twice[0]} more than once")
    return [
        replace(base, optimizer=optimizer, lr=lr, seed=seed)
        for seed in seeds
        for optimizer in optimizers
        for lr in lrs
    ]


def run_all(
    configs: Iterable[TrainConfig],
    path: Path,
    *,
    command: str,
    download: bool = True,
    say: Callable[[str], None] | None = None,
) -> None:
    """Train whatever ``path`` has no record of yet, and append a record for each.

    A run that diverges is recorded too, with ``"failed"`` instead of an accuracy.

    Args:
        configs: what to run; all name the same data set.
        path: file of records.
        command: what was typed, for the records.
        download: whether CIFAR-10 may be fetched.
        say: is handed a line of news after every run.

    Raises:
        InputError: see :func:`ngs.train.loop.train`; or ``path`` is not a file of records.
        ImportError: an optimizer belongs to a package that is not installed.
        OSError: a record cannot be written.
    """
    say = say or (lambda line: None)
    configs = list(configs)
    done = recorded(configs, path) if path.is_file() else []
    settings = [_settings(record) for record in done]
    todo = [config for config in configs if asdict(config) not in settings]
    say(f"{len(configs)} runs, {len(configs) - len(todo)} of them recorded already")
    if not todo:
        return
    for optimizer in dict.fromkeys(config.optimizer for config in todo):
        check_installed(optimizer)
    data = load(todo[0].dataset, download=download)
    for number, config in enumerate(todo, start=1):
        name = f"{config.optimizer}, lr {config.lr:g}, seed {config.seed}"
        try:
            _, record = train(config, download=download, data=data)
        except DivergenceError as error:
            record = {
                "kind": "train",
                "config": asdict(config),
                **provenance(pick_device(config.device)),
                "failed": str(error),
            }
            say(f"{number}/{len(todo)}  {name}: {error}")
        else:
            say(
                f"{number}/{len(todo)}  {name}: test accuracy {record['test']['accuracy']:.2%}, "
                f"{record['wall_seconds']:.0f} s"
            )
        append_record(path, {"command": command, **record})


def recorded(configs: Iterable[TrainConfig], path: Path) -> list[Record]:
    """Return the records that ``path`` has of these runs, one a run, whatever else it holds.

    Raises:
        InputError: ``path`` is not a file of records.
    """
    found = [r for r in read_records(path) if r.get("kind") == "train" and "config" in r]
    settings = [_settings(record) for record in found]
    return [found[settings.index(asdict(c))] for c in configs if asdict(c) in settings]


def _settings(record: Record) -> dict[str, object]:
    """Return all settings of a run."""
    # What the record does not name came later, with a default that does what was done before.
    return {**DEFAULTS, **record["config"]}


@dataclass(frozen=True)
class Row:
    """What the seeds of one optimizer and learning rate gave together.

    Attributes:
        optimizer: its name.
        lr: its learning rate.
        seeds: how many runs.
        failed: how many of them diverged; they count as accuracy by chance.
        validation: mean accuracy on the images held out, or ``None`` without any.
        test: mean accuracy on the test set.
        margin: half the width of the 95 % interval of that mean (Student's t over the seeds);
            infinite for a single seed.
    """

    optimizer: str
    lr: float
    seeds: int
    failed: int
    validation: float | None
    test: float
    margin: float


CHANCE = 0.1
"""Accuracy of a network that has diverged, with ten classes."""

STUDENT = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""The 97.5 % quantile of Student's t for 0 (never used), 1, 2, ... 9 degrees of freedom."""


def summarize(records: Iterable[Record]) -> list[Row]:
    """Return one row for each optimizer and learning rate, in the order of both."""
    groups: dict[tuple[str, float], list[Record]] = {}
    for record in records:
        config = record["config"]
        groups.setdefault((config["optimizer"], config["lr"]), []).append(record)
    rows = []
    for (optimizer, lr), runs in sorted(groups.items()):
        tests = [r["test"]["accuracy"] if "test" in r else CHANCE for r in runs]
        held = [_validation(r) for r in runs]
        known = [x for x in held if x is not None]
        rows.append(
            Row(
                optimizer=optimizer,
                lr=lr,
                seeds=len(runs),
                failed=sum("failed" in r for r in runs),
                validation=statistics.fmean(known) if len(known) == len(runs) else None,
                test=statistics.fmean(tests),
                margin=margin(tests),
            )
        )
    return rows


def margin(values: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of a mean, by Student's t."""
    n = len(values)
    if n < 2:
        return math.inf
    quantile = STUDENT[n - 1] if n <= len(STUDENT) else _student(n - 1)
    return quantile * statistics.stdev(values) / math.sqrt(n)


def table(rows: Iterable[Row]) -> list[str]:
    """Return the rows as lines of text."""
    lines = ["optimizer          lr   seeds  failed  validation     test (95 % interval)"]
    for row in rows:
        held = "         -" if row.validation is None else f"{row.validation:10.2%}"
        around = "" if math.isinf(row.margin) else f" ± {row.margin:.2%}"
        lines.append(
            f"{row.optimizer:<14}{row.lr:>8.3g}{row.seeds:>7}{row.failed:>8}  {held}"
            f"  {row.test:7.2%}{around}"
        )
    return lines


def _student(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t for 10 degrees of freedom or more.

    Source: Abramowitz & Stegun (1964), 26.7.5.
    """
    z = 1.959964  # that of the normal distribution
    first = (z**3 + z) / 4.0
    second = (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0
    third = (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0
    return z + first / degrees + second / degrees**2 + third / degrees**3


def _validation(record: Record) -> float | None:
    if "failed" in record:
        return CHANCE if record["config"]["validation"] else None
    last = record["epochs"][-1]
    return float(last["validation"]["accuracy"]) if "validation" in last else None
