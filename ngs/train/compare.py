"""Many runs that differ in optimizer, learning rate and seed: resumable, shared, and then a table.

It rests on the training loop, the checkpoints and the records beside it.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from ngs.errors import InputError
from ngs.records import Record, read_records
from ngs.train.checkpoint import alone, checkpoint_path
from ngs.train.config import TrainConfig
from ngs.train.data import load
from ngs.train.loop import Stopped, train
from ngs.train.optimizers import check_installed
from ngs.train.policy import StoppedByGuardError
from ngs.train.records import append_record
from ngs.train.run import DivergenceError

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
    stop: Callable[[], bool] | None = None,
    save_every: float = 60.0,
) -> None:
    """Train whatever ``path`` has no record of yet, and append a record for each.

    A run that diverges is recorded too, with ``"failed"`` instead of an accuracy. Processes that
    are given the same runs and file share the work: each leaves to another the run that it has
    under way. A run that was stopped goes on from its checkpoint (see :func:`unfinished`).

    Args:
        configs: what to run; all name the same data set.
        path: file of records.
        command: what was typed, for the records.
        download: whether CIFAR-10 may be fetched.
        say: is handed a line of news after every run.
        stop: is asked after every step and between runs; when it says yes, the run that is under
            way is saved and all stops.
        save_every: seconds from one checkpoint of a run to the next.

    Raises:
        InputError: see :func:`ngs.train.loop.train`; or ``path`` is not a file of records.
        Stopped: ``stop`` said so.
        ImportError: an optimizer belongs to a package that is not installed.
        OSError: a record cannot be written.
    """
    say = say or (lambda line: None)
    configs = list(configs)
    todo = _missing(configs, path)
    say(f"{len(configs)} runs, {len(configs) - len(todo)} of them recorded already")
    for optimizer in dict.fromkeys(config.optimizer for config in todo):
        check_installed(optimizer)
    data = cache(lambda: load(configs[0].dataset, download=download))

    def done(number: int, config: TrainConfig) -> bool:
        """Train, unless another process has this run or is at it; return whether it is recorded."""
        name = f"{number}/{len(todo)}  {_name(config)}"
        checkpoint = checkpoint_path(unfinished(path), config)
        with _alone_or_not(checkpoint) as mine:
            # Asked behind the lock: whoever had it before has appended its record by now.
            if not _missing([config], path):
                say(f"{name}: recorded by another process")
                return True
            if not mine:
                return False
            if stop is not None and stop():
                raise Stopped
            try:
                _, record = train(
                    config,
                    download=download,
                    data=data(),
                    warn=say,
                    checkpoint=checkpoint,
                    save_every=save_every,
                    stop=stop,
                )
                accuracy, seconds = record["test"]["accuracy"], record["wall_seconds"]
                news = f"test accuracy {accuracy:.2%}, {seconds:.0f} s"
            except (DivergenceError, StoppedByGuardError) as error:
                record, news = error.record, str(error)
            say(f"{name}: {news}")
            append_record(path, {"command": command, **record})
            checkpoint.unlink(missing_ok=True)
        return True

    waiting = list(enumerate(todo, start=1))
    with _tidied(configs, path):
        while waiting:  # come back to what others had: they may have been stopped since
            left = [run for run in waiting if not done(*run)]
            if len(left) == len(waiting):
                break
            waiting = left
    if waiting:
        number, config = waiting[0]
        say(
            f"{_count(len(waiting), 'run')} still under way in another process, such as {number}/"
            f"{len(todo)}  {_name(config)}: give the command again when it is done"
        )


def unfinished(path: Path) -> Path:
    """Return the folder where the runs of a file of records keep their checkpoints."""
    return path.with_name(f"{path.stem}.unfinished")


def _name(config: TrainConfig) -> str:
    return f"{config.optimizer}, lr {config.lr:g}, seed {config.seed}"


def _missing(configs: Sequence[TrainConfig], path: Path) -> list[TrainConfig]:
    """Return the runs that ``path`` has no record of at this moment."""
    done = recorded(configs, path) if path.is_file() else []
    settings = [_settings(record) for record in done]
    return [config for config in configs if asdict(config) not in settings]


@contextmanager
def _alone_or_not(checkpoint: Path) -> Iterator[bool]:
    """Say whether this process has a run to itself, and keep others out of it inside the block."""
    with ExitStack() as held:
        try:
            held.enter_context(alone(checkpoint))
            mine = True
        except InputError:
            mine = False
        yield mine


@contextmanager
def _tidied(configs: Sequence[TrainConfig], path: Path) -> Iterator[None]:
    """Remove, after the block, the checkpoints of runs that are recorded, and the empty folder."""
    try:
        yield
    finally:
        folder = unfinished(path)
        if folder.is_dir():
            left = _missing(configs, path)
            for config in configs:
                if config not in left:
                    with suppress(OSError):
                        checkpoint_path(folder, config).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()  # refuses while anything is in it


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
        tests = [_test(r) for r in runs]
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
    rows = list(rows)
    width = max([14, *(len(row.optimizer) + 1 for row in rows)])
    lines = [
        f"{'optimizer':<{width}}{'lr':>8}{'seeds':>7}{'failed':>8}  validation     test "
        "(95 % interval)"
    ]
    for row in rows:
        held = "         -" if row.validation is None else f"{row.validation:10.2%}"
        around = "" if math.isinf(row.margin) else f" ± {row.margin:.2%}"
        lines.append(
            f"{row.optimizer:<{width}}{row.lr:>8.3g}{row.seeds:>7}{row.failed:>8}  {held}"
            f"  {row.test:7.2%}{around}"
        )
    return lines


@dataclass(frozen=True)
class Tuned:
    """An optimizer at the best of its learning rates, never by test accuracy.

    Attributes:
        optimizer: its name.
        lr: the learning rate of the highest mean accuracy on the images held out; on the training
            images where none were. Only rates that as many seeds as any were run at are compared.
        lrs: the rates that were compared, in ascending order.
        seeds: the fewest and the most seeds at a rate, over all rates that were run.
        runs: the record of every seed at the best rate.
    """

    optimizer: str
    lr: float
    lrs: tuple[float, ...]
    seeds: tuple[int, int]
    runs: dict[int, Record]


def chosen_by(records: Iterable[Record]) -> str:
    """Return the accuracy that runs are chosen by: ``"validation"`` or ``"training"``."""
    held_out = all(record["config"].get("validation") for record in records)
    return "validation" if held_out else "training"


def tuned(records: Iterable[Record], optimizers: Iterable[str]) -> list[Tuned]:
    """Return every optimizer that has a run at its best learning rate, in the order given."""
    records = list(records)
    by = chosen_by(records)
    found = []
    for optimizer in optimizers:
        groups: dict[float, dict[int, Record]] = {}
        for record in records:
            config = record["config"]
            if config["optimizer"] == optimizer:
                groups.setdefault(config["lr"], {})[config["seed"]] = record
        if not groups:
            continue
        counts = [len(runs) for runs in groups.values()]
        means = {
            lr: statistics.fmean(_accuracy(record, by) for record in runs.values())
            for lr, runs in sorted(groups.items())
            if len(runs) == max(counts)
        }
        best = max(means, key=means.__getitem__)
        seeds = (min(counts), max(counts))
        found.append(Tuned(optimizer, best, tuple(means), seeds, groups[best]))
    return found


def judges(
    base: TrainConfig, records: Iterable[Record], optimizers: Sequence[str], seeds: Sequence[int]
) -> list[TrainConfig]:
    """Return the runs that judge: every optimizer at its chosen learning rate, with other seeds.

    The seeds that chose a rate favour it: of many rates that are equally good, the luckiest is
    chosen. Seeds that had no part in the choice do not.

    Args:
        base: settings of all runs.
        records: of the runs that choose.
        optimizers: their optimizers.
        seeds: that judge; none should be among those that choose.

    Raises:
        InputError: a seed is given twice.
    """
    best = tuned(records, optimizers)
    return [config for one in best for config in grid(base, [one.optimizer], [one.lr], seeds)]


def judged(best: Iterable[Tuned], records: Iterable[Record]) -> list[Tuned]:
    """Return the same choices with the runs that judge them in place of those that chose."""
    records = list(records)
    found = []
    for one in best:
        runs = {
            record["config"]["seed"]: record
            for record in records
            if (record["config"]["optimizer"], record["config"]["lr"]) == (one.optimizer, one.lr)
        }
        if runs:
            found.append(replace(one, runs=runs))
    return found


def report(
    records: Iterable[Record], optimizers: Sequence[str], judging: Iterable[Record] = ()
) -> list[str]:
    """Return what a study found, as lines of text.

    First the tuning budget and what stands against a comparison, then the table, then the paired
    differences from the first optimizer.

    Args:
        records: of the runs.
        optimizers: their optimizers in the order in which they were named.
        judging: records of the runs that judge, if there are any: the differences are theirs.
    """
    records, judging = list(records), list(judging)
    if not records:
        return []
    best = tuned(records, optimizers)
    lines = [
        *_budget(records, best),
        *_warnings([*records, *judging], best),
        *table(summarize(records)),
    ]
    if judging:
        seeds = sorted({record["config"]["seed"] for record in judging})
        said = ", ".join(map(str, seeds))
        lines.append(f"each at its chosen rate, judged by seeds that chose nothing: {said}")
        lines += table(summarize(judging))
        best = judged(best, judging)
    return [*lines, *differences(best, optimizers, chosen_by(records))]


def _budget(records: Sequence[Record], best: Sequence[Tuned]) -> list[str]:
    """Return the line that says how many learning rates and seeds each optimizer had."""
    had: dict[str, list[str]] = {}
    for one in best:
        of = [r["config"]["lr"] for r in records if r["config"]["optimizer"] == one.optimizer]
        few, many = one.seeds
        seeds = _count(many, "seed") if few == many else f"{few} to {many} seeds"
        budget = f"{_count(len(set(of)), 'learning rate')} and {seeds}"
        had.setdefault(budget, []).append(one.optimizer)
    if len(had) < 2:
        return [f"tuning budget of each optimizer: {budget}" for budget in had]
    shares = "; ".join(f"{', '.join(names)}: {budget}" for budget, names in had.items())
    return [f"tuning budgets are not equal: {shares}"]


def _warnings(records: Sequence[Record], best: Sequence[Tuned]) -> Iterator[str]:
    """Yield a line for everything that stands against the comparison."""
    commits = {record.get("commit") for record in records}
    if len(commits) > 1:
        yield f"warning: these runs were made at {len(commits)} commits: their code may differ"
    for what in ("device", "precision"):
        values = {str(record[what]) for record in records if what in record}
        if len(values) > 1:
            yield f"warning: these runs have more than one {what}: {', '.join(sorted(values))}"
    by = chosen_by(records)
    for one in best:
        if len(one.lrs) < 2:
            yield f"warning: {one.optimizer} is not tuned: {one.lr:g} is its only learning rate"
        elif one.lr in (one.lrs[0], one.lrs[-1]):
            end, beyond = ("lowest", "lower") if one.lr == one.lrs[0] else ("highest", "higher")
            yield (
                f"warning: the best learning rate of {one.optimizer} by {by} accuracy, {one.lr:g}, "
                f"is the {end} tried: try {beyond} ones"
            )


def differences(best: Sequence[Tuned], optimizers: Sequence[str], by: str) -> list[str]:
    """Return, as lines of text, how each optimizer does beside the first one, seed by seed.

    Args:
        best: each at its best learning rate.
        optimizers: in the order in which they were named.
        by: the accuracy by which the learning rates were chosen.
    """
    if not best or len(optimizers) < 2 or best[0].optimizer != optimizers[0]:
        return []  # of the first there is no run yet
    first = best[0]
    width = max([14, *(len(one.optimizer) + 1 for one in best)])
    lines = [
        f"test accuracy minus that of {first.optimizer} at lr {first.lr:g}, in points, paired by "
        f"seed; each at its best lr by {by} accuracy"
    ]
    for one in best[1:]:
        pairs = [
            100.0 * (_test(run) - _test(first.runs[seed]))
            for seed, run in one.runs.items()
            if seed in first.runs
        ]
        start = f"{one.optimizer:<{width}}{one.lr:>8.3g}"
        if len(pairs) < 2:
            said = f"  {pairs[0]:+.2f}" if pairs else ""
            lines.append(f"{start}{_count(len(pairs), 'seed'):>9}{said}  no difference shown")
            continue
        mean, around = statistics.fmean(pairs), margin(pairs)
        lines.append(
            f"{start}{_count(len(pairs), 'seed'):>9}  {mean:+.2f} ± {around:.2f}  "
            f"{verdict(mean, around)}"
        )
    return lines


def verdict(mean: float, around: float) -> str:
    """Return what an interval says of a difference in accuracy: which side of 0 it lies on.

    Args:
        mean: of the difference.
        around: half the width of its interval.
    """
    if abs(mean) <= around:
        return "no difference shown"
    return "better" if mean > 0.0 else "worse"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _student(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t for 10 degrees of freedom or more.

    Source: Abramowitz & Stegun (1964), 26.7.5.
    """
    z = 1.959964  # that of the normal distribution
    first = (z**3 + z) / 4.0
    second = (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0
    third = (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0
    return z + first / degrees + second / degrees**2 + third / degrees**3


def _test(record: Record) -> float:
    return float(record["test"]["accuracy"]) if "test" in record else CHANCE


def _accuracy(record: Record, by: str) -> float:
    """Return the accuracy that a run is chosen by, after its last epoch."""
    if "failed" in record:
        return CHANCE
    last = record["epochs"][-1]
    return float(last["validation"]["accuracy"] if by == "validation" else last["train_accuracy"])


def _validation(record: Record) -> float | None:
    if "failed" in record:
        return CHANCE if record["config"]["validation"] else None
    last = record["epochs"][-1]
    return float(last["validation"]["accuracy"]) if "validation" in last else None
