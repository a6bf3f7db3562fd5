"""The command ``ngs``. Each subcommand loads what it needs and nothing more.

Exit codes: 0 done, 1 the run failed (it says how), 2 the input cannot be used, 130 interrupted.
"""

import itertools
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

from ngs import __version__, options
from ngs.errors import InputError

Number = TypeVar("Number", int, float)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; end the process with its exit code and, on error, one clear line."""
    try:
        code = ngs.main(arguments, prog_name="ngs", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "ngs"
        text = " ".join(error.format_message().split())
        _stop(2, f"{text} ('{where} --help' lists what is allowed)")
    except (click.ClickException, InputError, ImportError) as error:
        _stop(2, str(error))
    except (KeyboardInterrupt, click.Abort):
        _stop(130, "interrupted; nothing was recorded")
    sys.exit(code or 0)


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "show_default": True,
        "max_content_width": 100,
    }
)
@click.version_option(__version__, prog_name="ngs")
def ngs() -> None:
    """Nesterov's accelerated gradient: get data, train networks, keep records."""


@ngs.command()
@options.dataset
@options.download
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder whose records.jsonl also gets what was found.  [default: no record]",
)
def data(dataset: str, download: bool, out: Path | None) -> None:
    """Find or fetch a data set, check every file, and say what is in it.

    CIFAR-10 is looked for in $NGS_DATA, then in data/; where neither has it, it is downloaded to
    the first of them, from the first of two mirrors that answers; every file that is read is
    checked against its official md5. The offline data set
    needs no network: ten classes of coloured shapes, generated from a fixed seed.
    """
    from ngs.train.data import load
    from ngs.train.records import data_record

    if out is not None:
        _check_writable(out)
    found = load(dataset, download=download)
    counts = found.train.labels.bincount().tolist()
    click.echo(f"{found.name}: {found.source}")
    click.echo(f"  training images  {len(found.train):>6,}")
    click.echo(f"  test images      {len(found.test):>6,}")
    click.echo("  mean by channel  " + "  ".join(f"{x:.4f}" for x in found.mean))
    click.echo("  std by channel   " + "  ".join(f"{x:.4f}" for x in found.std))
    named = zip(found.classes, counts, strict=True)
    click.echo("  training images by class: " + ", ".join(f"{c} {n:,}" for c, n in named))
    if out is not None:
        _append(out / "records.jsonl", data_record(found))


@ngs.command()
@options.preset
@options.settings()
@options.download
@click.option(
    "--out",
    default="runs",
    type=click.Path(path_type=Path),
    help="Folder for the record, the trained weights and, until it is done, the checkpoint.",
)
@click.option("--save-every", default=60.0, help="Seconds from one checkpoint to the next.")
@click.option("--fresh", is_flag=True, help="Start anew where a checkpoint of this run exists.")
@click.option(
    "--report",
    is_flag=True,
    help="Also draw the run: epochs, confusion matrix, the worst mistakes as pictures.",
)
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that TensorBoard is to show (the extra tensorboard).  [default: none]",
)
@click.option(
    "--parallel",
    default="ddp",
    help="Under torchrun: ddp (every process holds the network) or fsdp (parts of it).",
)
def train(
    download: bool,
    out: Path,
    save_every: float,
    fresh: bool,
    report: bool,
    tensorboard: Path | None,
    parallel: str,
    **settings: Any,
) -> None:
    """Train a network, test it once, and keep a record.

    Without options it trains a small network on the offline data set: about a minute on two cores.
    The real thing, with the ten-convolution network of the book:

    \b
      ngs train --dataset cifar10 --model convnet --epochs 10 --batch-size 128

    Stopped with Ctrl-C, or by any accident, it goes on where it was when the same command is given
    again; on a CPU to the very same weights.

    The run appends one line of JSON to OUT/records.jsonl: configuration, commit, device, versions,
    seed, every epoch, test accuracy and seconds by part. The weights go beside it. Choose settings
    by the validation accuracy that --validation makes it print, not by the test accuracy.

    Several processes train one network together where torchrun starts them:

    
      torchrun --nproc-per-node 2 -m ngs train --dataset cifar10 --model resnet18
    """  # noqa: D301 (click wants a real \b before lines that it must not refill)
    from ngs.train.checkpoint import checkpoint_path
    from ngs.train.config import TrainConfig
    from ngs.train.processes import PeerLostError

    config = TrainConfig(**settings)
    if not save_every >= 0.0:
        raise InputError(f"save-every must be 0 seconds or more, got {save_every}")
    _check_writable(out)
    if report:
        import ngs.figures  # noqa: F401 (says, if need be, which extra is missing)
    if tensorboard is not None:
        _check_writable(tensorboard, "tensorboard")
    checkpoint = checkpoint_path(out, config)
    options = {"download": download, "checkpoint": checkpoint, "save_every": save_every}
    try:
        done = _train(config, parallel, fresh, tensorboard, options)
    except PeerLostError as error:
        then = "nothing was saved yet"
        if checkpoint.is_file():
            then = f"the same command goes on from {checkpoint}"
        _stop(1, f"{error}; {then}")
    if done is None:  # the first process has the result
        return
    record, weights = done
    views = ""
    if "views_accuracy" in record["test"]:
        views = f" ({record['test']['views_accuracy']:.2%} with views)"
    _say(
        f"test accuracy {record['test']['accuracy']:.2%}{views} on {record['images']['test']:,} "
        f"images of {config.dataset}, {record['wall_seconds']:.0f} s"
    )
    _say(f"record: {out / 'records.jsonl'}   weights: {weights}")
    if report:
        _report(record, weights.with_name(f"{weights.stem}-report.png"), download)


def _train(
    config: Any, parallel: str, fresh: bool, tensorboard: Path | None, options: dict[str, Any]
) -> tuple[dict[str, Any], Path] | None:
    """Train, and keep the result; return record and weights, in the first process alone."""
    from ngs.train.checkpoint import alone
    from ngs.train.loop import Stopped
    from ngs.train.loop import train as run
    from ngs.train.policy import StoppedByGuardError
    from ngs.train.processes import join, restarted
    from ngs.train.run import DivergenceError

    checkpoint: Path = options["checkpoint"]
    path = checkpoint.parent / "records.jsonl"
    with ExitStack() as stack:
        processes = stack.enter_context(join(parallel, config.device))
        board = None
        if processes.main:
            stack.enter_context(alone(checkpoint))
            if tensorboard is not None:
                from ngs.train.board import Board

                board = stack.enter_context(Board(tensorboard))
            if fresh and not restarted():
                checkpoint.unlink(missing_ok=True)
        stop = stack.enter_context(_asked_to_stop(patient=processes.together))
        say = _say if processes.main else None
        try:
            network, record = run(
                config, say=say, stop=stop, watch=board, processes=processes, **options
            )
        except (DivergenceError, StoppedByGuardError, Stopped) as error:
            if not processes.main:
                sys.exit(130 if isinstance(error, Stopped) else 1)  # the first one says why
            if isinstance(error, Stopped) and checkpoint.is_file():
                _stop(130, f"stopped; the same command goes on from {checkpoint}")
            if isinstance(error, Stopped):
                _stop(130, "stopped; nothing was recorded")
            kept = ""
            if isinstance(error, StoppedByGuardError):
                weights = _keep(error.network, error.record, path)
                kept = f"; its last good weights: {weights}"
            elif config.guard != "off":  # its events are what it was for
                _append(path, error.record)
            checkpoint.unlink(missing_ok=True)
            _stop(1, f"the guard stopped the run: {error}{kept}" if kept else str(error))
        if not processes.main:
            return None
        weights = _keep(network, record, path)
        checkpoint.unlink(missing_ok=True)
        return record, weights


def _keep(network: Any, record: dict[str, Any], path: Path) -> Path:
    """Write the weights and append the record; return where the weights are."""
    from ngs.records import read_records
    from ngs.train.loop import save_weights
    from ngs.train.records import append_record

    try:
        if path.is_file():  # a run that was killed between its record and its end has one already
            for kept in read_records(path):
                named = path.parent / str(kept.get("weights", ""))
                if kept.get("run") == record["run"] and named.is_file():
                    return named
        stamp = record["date"].split("+")[0].replace("-", "").replace(":", "")
        name = f"{record['config']['dataset']}-{record['config']['model']}-{stamp}.pt"
        weights = _unused(path.parent / name)
        save_weights(network, weights)
        append_record(path, {"command": _command(), **record, "weights": weights.name})
    except OSError as error:
        _stop(1, f"the run is done, but its result cannot be kept: {error}")
    return weights


def _report(record: dict[str, Any], path: Path, download: bool) -> None:
    """Draw a run that is done."""
    from ngs.train.config import TrainConfig
    from ngs.train.curves import save
    from ngs.train.data import load
    from ngs.train.loop import prepared
    from ngs.train.report import draw

    config = TrainConfig(**record["config"])
    data = prepared(config, load(config.dataset, download=download))
    try:
        save(draw(record, data), path)
    except OSError as error:
        _stop(1, f"the run is kept, but its report cannot be written: {error}")
    _say(f"report: {path}")


@ngs.command()
@click.option(
    "--optimizers", default="sgd-nesterov,ngs", help="Names as for 'ngs train', with commas."
)
@click.option("--lrs", default="0.01,0.03,0.1,0.3,1", help="Learning rates, with commas.")
@click.option("--seeds", default="0,1,2,3,4", help="Seeds, with commas.")
@click.option(
    "--judge",
    default="",
    help="Other seeds, with commas: every optimizer runs again with them at its chosen rate, and "
    "the differences are theirs.  [default: none]",
)
@options.settings("optimizer", "lr", "seed", model="small", epochs=6)
@options.download
@click.option(
    "--out",
    default=Path("runs/compare.jsonl"),
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="File of records; runs that it has already are not repeated.",
)
@click.option(
    "--figure",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Also draw accuracy against epochs and seconds: a .png or .svg.  [default: no figure]",
)
def compare(
    optimizers: str,
    lrs: str,
    seeds: str,
    judge: str,
    download: bool,
    out: Path,
    figure: Path | None,
    **settings: Any,
) -> None:
    """Train with several optimizers, learning rates and seeds, and print a table.

    Stopped with Ctrl-C, or by any accident, it goes on where it was when the same command is given
    again. The same command in a second terminal takes over some of the runs.

    With --validation 5000 learning rates are chosen by the accuracy on those images, without it by
    that on the training images, never by the test accuracy. Give every optimizer a range of rates
    with its best one inside. Below the table stands how the others differ from the first optimizer,
    seed by seed. Seeds that choose a rate also favour it; with --judge others have the last word.
    """
    from ngs.train.compare import grid, judges, recorded, report, run_all, summarize, table
    from ngs.train.config import TrainConfig
    from ngs.train.loop import Stopped

    names = [name.strip() for name in optimizers.split(",")]
    base, chosen = TrainConfig(**settings), _numbers("seeds", seeds, int)
    configs = grid(base, names, _numbers("lrs", lrs, float), chosen)
    judging = _numbers("judge", judge, int) if judge else []
    try:
        grid(base, names[:1], [base.lr], judging or [0])
    except InputError as error:
        raise InputError(f"judge: {error}") from error
    for seed in judging:
        if seed in chosen:
            raise InputError(f"judge must name seeds that choose nothing, got {seed} in both lists")
    if figure is not None:
        if figure.suffix.lower() not in (".png", ".svg"):
            raise InputError(f"figure must end in .png or .svg, got {str(figure)!r}")
        import ngs.figures  # noqa: F401 (says, if need be, which extra is missing)

        _check_writable(figure.parent, "figure")
    _check_writable(out.parent)
    records, verdicts, waiting = [], [], 0
    go_on = f"the same command goes on after what {out} has, in mid-run where it can"
    try:
        with _asked_to_stop() as stop:
            run = partial(
                run_all, path=out, command=_command(), download=download, say=_say, stop=stop
            )
            run(configs)
            records = recorded(configs, out) if out.is_file() else []
            final = judges(base, records, names, judging) if judging else []
            if final and len(records) == len(configs):  # else another process is at the rest
                run(final)
                verdicts = recorded(final, out)
            waiting = len(configs) + len(names) * len(judging) - len(records) - len(verdicts)
    except Stopped:
        _stop(130, f"stopped; {go_on}")
    except KeyboardInterrupt:
        click.echo(err=True)  # ends the line on which a terminal has echoed ^C
        _stop(130, f"interrupted; {go_on}")
    except OSError as error:
        _stop(1, f"a run is done, but its record cannot be kept: {error}")
    if judging and waiting:
        for line in table(summarize([*records, *verdicts])):
            _say(line)
        _say(f"not judged yet: {waiting} runs are left; give the command again")
    else:
        for line in report(records, names, verdicts):
            _say(line)
    if figure is not None and records:
        from ngs.train.curves import draw, save

        try:
            save(draw(records, names), figure)
        except OSError as error:
            _stop(1, f"the runs are recorded in {out}, but the figure cannot be kept: {error}")
        _say(f"figure: {figure}")


@ngs.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--kind",
    default="train",
    help="Kind of the records: train, data, bench-step, bench-train, range-test, levers, fault, "
    "guard-cost, depth or processes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the records whole, one JSON a line.")
def results(files: tuple[Path, ...], kind: str, as_json: bool) -> None:
    """List what was run, oldest first.

    Without FILES it reads those of runs/records.jsonl and results/*.jsonl that there are. The
    validation accuracy is that of the last epoch; a star after the commit means that ngs/ was not
    as committed.
    """
    import json

    from ngs.train.results import any_table, collect, default_files, run_table

    chosen = list(files) or default_files(Path())
    if not chosen:
        raise InputError(
            "no runs/records.jsonl and no results/*.jsonl here: 'ngs train' makes the first, or "
            "name a file of records"
        )
    records = collect(chosen, kind)
    if as_json:
        for record in records:
            click.echo(json.dumps(record))
        return
    for line in (run_table if kind == "train" else any_table)(records):
        click.echo(line)


@ngs.command(name="range")
@options.preset
@options.settings("lr", "epochs", "schedule", "target", "views", "factor_every", "guard")
@click.option("--low", default=1e-4, help="First learning rate.")
@click.option("--high", default=10.0, help="Last learning rate.")
@click.option("--steps", default=200, help="Steps from the first to the last.")
@options.download
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="File that the record is appended to.  [default: no record]",
)
def range_command(
    low: float, high: float, steps: int, download: bool, out: Path | None, **settings: Any
) -> None:
    """Find the range of useful learning rates in one short run.

    The learning rate grows from step to step, from LOW to HIGH or until the loss is lost. Rates are
    useful where the loss falls.
    """
    from ngs.train.config import TrainConfig
    from ngs.train.range_test import range_test

    config = TrainConfig(**settings)
    if out is not None:
        _check_writable(out.parent)
    record = range_test(config, low, high, steps, download=download)
    rows = range(0, len(record["lr"]), max(1, len(record["lr"]) // 12))
    _say(f"{'lr':>10}  smoothed training loss")
    for row in rows:
        _say(f"{record['lr'][row]:>10.3g}  {record['smoothed'][row]:.3f}")
    if record["lowest"] <= record["lr"][0]:
        _say("the loss never falls: give a smaller --low")
    elif record["smoothed"][-1] <= min(record["smoothed"]):
        _say("the loss still falls at the last rate: give a larger --high")
    else:
        _say(
            f"the loss begins to fall at lr {record['begins']:g} and is lowest at "
            f"{record['lowest']:g}: tune between the two, nearer to the second"
        )
    if out is not None:
        _append(out, record)


@ngs.group()
def bench() -> None:
    """Measure what things cost on this machine."""


@bench.command(name="step")
@click.option("--model", default="convnet", help="Whose parameters: a name as for 'ngs train'.")
@click.option(
    "--layout", default="channels_last", help="channels_last (as 'ngs train' has it) or contiguous."
)
@click.option("--rounds", default=100, help="Steps of each optimizer that are timed.")
@click.option("--device", default="auto", help="auto, cpu, cuda or mps.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="File that the record is appended to.  [default: no record]",
)
def bench_step_command(model: str, layout: str, rounds: int, device: str, out: Path | None) -> None:
    """Time a step of NGS beside torch's SGD and a plain copy, alternating in one process."""
    from ngs.train.bench import LAYOUTS, bench_step
    from ngs.train.loop import pick_device
    from ngs.train.models import MODELS

    for name, given, allowed in (("model", model, MODELS), ("layout", layout, LAYOUTS)):
        if given not in allowed:
            raise InputError(f"{name} must be one of {', '.join(allowed)}, got {given!r}")
    if rounds < 1:
        raise InputError(f"rounds must be 1 or more, got {rounds}")
    if out is not None:
        _check_writable(out.parent)
    record = bench_step(model, layout, rounds, pick_device(device))
    _say(f"{record['parameters']:,} parameters, {layout}, {record['device']}")
    _say(f"{'':<26}{'median ms':>10}{'ratio':>8}{'mean ratio':>12}")
    for row in record["rows"]:
        _say(
            f"{row['name']:<26}{row['median_ms']:>10.2f}{row['ratio']:>8.2f}"
            f"{row['mean_ratio']:>12.2f}"
        )
    if out is not None:
        _append(out, record)


@bench.command(name="train")
@options.preset
@options.settings("epochs", "target", "views", "seed", "guard")
@click.option("--steps", default=30, help="Steps that are timed, after 3 that are not.")
@options.download
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="File that the record is appended to.  [default: no record]",
)
def bench_train_command(steps: int, download: bool, out: Path | None, **settings: Any) -> None:
    """Say how many images a second a run trains on, and where the time of a step goes."""
    from ngs.train.config import TrainConfig
    from ngs.train.throughput import bench_train

    if steps < 1:
        raise InputError(f"steps must be 1 or more, got {steps}")
    config = TrainConfig(**settings)
    if out is not None:
        _check_writable(out.parent)
    record = bench_train(config, steps, download=download)
    _say(
        f"{config.model}, {record['parameters']:,} parameters, batches of {config.batch_size}, "
        f"{record['precision']}, {record['device']}, {record['threads']} threads"
    )
    shares = ", ".join(f"{part} {share:.1%}" for part, share in record["share"].items())
    _say(
        f"{record['images_per_second']:,.0f} images/s, {record['step_ms']:.1f} ms a step: {shares}"
    )
    if out is not None:
        _append(out, record)


def _append(path: Path, record: dict[str, Any]) -> None:
    """Append what was found to a file of records, with what was typed."""
    from ngs.train.records import append_record

    try:
        append_record(path, {"command": _command(), **record})
    except OSError as error:
        _stop(1, f"the record cannot be kept: {error}")
    _say(f"record: {path}")


def _numbers(name: str, text: str, kind: Callable[[str], Number]) -> list[Number]:
    """Return a list of numbers that was given with commas between them."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise InputError(f"{name} must be {what} with commas between them, got {text!r}") from None


def _command() -> str:
    """Return what was typed, as it can be typed again."""
    return shlex.join(["ngs", *sys.argv[1:]])


def _say(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


def _stop(code: int, line: str) -> NoReturn:
    rank = os.environ.get("RANK", "0") if "TORCHELASTIC_RUN_ID" in os.environ else "0"
    name = "ngs" if rank == "0" else f"ngs (process {rank})"
    click.echo(f"{name}: {line}", err=True)
    sys.exit(code)


@contextmanager
def _asked_to_stop(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Hand out a function that says whether Ctrl-C or SIGTERM came; a second Ctrl-C interrupts.

    Args:
        patient: not to be interrupted by the second: torchrun passes on what the terminal has sent
            already.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came and patient:
            return
        if came:
            raise KeyboardInterrupt
        came.append(number)
        click.echo("\nstopping after this step (Ctrl-C again: at once)", err=True)

    kept = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _unused(path: Path) -> Path:
    """Return ``path``, or its first numbered sibling that no other run has taken."""
    siblings = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(p for p in itertools.chain([path], siblings) if not p.exists())


def _check_writable(folder: Path, option: str = "out") -> None:
    """Find out before the work, not after it, whether its result can be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{option}: cannot write in {folder} ({error.strerror}): name another place with "
            f"--{option}"
        ) from error
