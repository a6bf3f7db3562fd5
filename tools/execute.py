"""Run notebooks from top to bottom in fresh kernels, store their outputs, and record what it took.

``python tools/execute.py book/*.ipynb``. A notebook that fails, or that somebody edited meanwhile,
keeps its old file; the others are still run. results/executions.jsonl has a line a notebook, the
latest; book/statistics.md shows them. It rests on nbclient.
"""

import json
import os
import resource
import signal
import sys
import time
from asyncio import get_running_loop
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import click
import nbformat
import torch
from jupyter_client.kernelspec import NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from nbformat import NotebookNode
from tqdm import tqdm

from ngs.records import Record, read_records
from ngs.train.records import provenance

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "results/executions.jsonl"
THREADS = 1
"""Of each kernel, as in `make test`: threads that wait for a core slow small tensors down tenfold,
and their number changes the last digits of a training, and so its pictures."""


class FailedError(Exception):
    """A notebook could not be run and stored; the message is one line that says why."""


def run(notebook: NotebookNode, folder: Path, advance: Callable[[], object]) -> None:
    """Run every cell in a fresh kernel whose folder this is, and put the outputs in their places.

    Args:
        notebook: changed in place.
        folder: where relative paths of its cells begin.
        advance: called after every code cell.

    Raises:
        FailedError: a cell raised, the kernel died, or there is none.
    """
    reached = 0
    metadata = deepcopy(notebook.metadata)

    def start(cell: NotebookNode, cell_index: int) -> None:
        nonlocal reached
        reached = sum(c.cell_type == "code" for c in notebook.cells[: cell_index + 1])
        # nbclient would take Ctrl-C for a kernel that died, and we would go on to the next one.
        get_running_loop().remove_signal_handler(signal.SIGINT)

    def end(cell: NotebookNode, cell_index: int, execute_reply: object) -> None:
        advance()

    client = NotebookClient(
        notebook,
        timeout=None,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],  # it warns of each start otherwise
        on_cell_start=start,
        on_cell_executed=end,
    )
    try:
        client.execute(env={**os.environ, "OMP_NUM_THREADS": str(THREADS)})
    except CellExecutionError as error:
        said = " ".join(f"{error.ename}: {error.evalue}".split())
        raise FailedError(f"cell [{reached}]: {said}") from error
    except DeadKernelError as error:
        raise FailedError(f"cell [{reached}]: the kernel died") from error
    except RuntimeError as error:
        raise FailedError("its kernel did not start") from error
    except NoSuchKernel as error:
        raise FailedError(f"there is no kernel {error.name!r} here") from error
    notebook.metadata = metadata  # the kernel wrote its version there; the record has it
    join = CoalesceStreamsPreprocessor().preprocess_cell
    for index, cell in enumerate(notebook.cells):
        join(cell, {}, index)


def replace(path: Path, text: str) -> None:
    """Write a file so that whoever reads it meets the old one or the new one, whole."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        if path.exists():
            part.chmod(path.stat().st_mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class Spent(NamedTuple):
    """What a run took, with the start of the kernel: by the clock, and of the cores.

    Other work on the machine makes the first longer, and not the second.
    """

    seconds: float
    cpu_seconds: float


def cpu_seconds() -> float:
    """Return what all kernels that have ended took of the cores, with processes of their own."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def execute(path: Path, advance: Callable[[], object]) -> Spent:
    """Run one notebook, store its outputs, and return what that took.

    Raises:
        FailedError: it could not be read, run or stored, or was edited meanwhile. Its file is as
            before.
    """
    try:
        before = path.read_bytes()
        notebook = nbformat.reads(before.decode("utf-8"), as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise FailedError(f"it is no notebook that can be read: {type(error).__name__}") from error
    start, start_cpu = time.perf_counter(), cpu_seconds()
    run(notebook, path.parent, advance)
    spent = Spent(time.perf_counter() - start, cpu_seconds() - start_cpu)
    if not path.is_file() or path.read_bytes() != before:
        raise FailedError("it was edited while it ran, so nothing was stored: run it again")
    try:
        replace(path, nbformat.writes(notebook) + "\n")
    except OSError as error:
        raise FailedError(f"it could not be stored: {error.strerror}") from error
    return spent


def named(path: Path) -> str:
    """Return how a record calls a notebook: by its place in the checkout."""
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def keep(file: Path, record: Record) -> None:
    """Put a record in the place of the notebook's former one; those of lost notebooks go."""
    kept = {one["notebook"]: one for one in (read_records(file) if file.is_file() else [])}
    kept[record["notebook"]] = record
    there = [name for name in sorted(kept) if (ROOT / name).is_file() or name == record["notebook"]]
    replace(file, "".join(json.dumps(kept[name]) + "\n" for name in there))


def cells(path: Path) -> int:
    """Return how many code cells a notebook has, as far as that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return sum(cell["cell_type"] == "code" for cell in found)
    except (OSError, ValueError, LookupError, TypeError):
        return 0  # execute() says what is wrong with it


@click.command()
@click.argument("notebooks", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--records",
    type=click.Path(path_type=Path, dir_okay=False),
    default=RECORDS,
    help="File of the records, a line a notebook.",
)
def main(notebooks: Sequence[Path], records: Path) -> None:
    """Run NOTEBOOKS from top to bottom, store their outputs, and record what it took."""
    failed = 0
    unrecorded = ""
    total = 0.0
    counts = [cells(path) for path in notebooks]
    with tqdm(total=sum(counts), unit="cell") as progress:
        for path, count in zip(notebooks, counts, strict=True):
            progress.set_description(path.stem)
            until = progress.n + count
            origin = provenance(torch.device("cpu"))  # of the moment at which it starts
            try:
                spent = execute(path, progress.update)
            except FailedError as error:
                failed += 1
                progress.write(f"execute: {path}: {error}", file=sys.stderr)
            else:
                total += spent.seconds
                if origin["commit"] is None:
                    unrecorded = "this is no git checkout"
                elif origin["modified"]:
                    unrecorded = "ngs/ has changes that are not committed"
                else:
                    took = {key: round(value, 1) for key, value in spent._asdict().items()}
                    name = named(path)
                    command = f"python tools/execute.py {name}"
                    who = {"kind": "execution", "command": command, "notebook": name}
                    keep(records, {**who, "cells": count, **took, **origin, "threads": THREADS})
            progress.update(until - progress.n)
    done = len(notebooks) - failed
    click.echo(f"execute: {done} of {len(notebooks)} notebooks run and stored, {total:.0f} seconds")
    if unrecorded:
        click.echo(f"execute: their seconds were not recorded, since {unrecorded}")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
