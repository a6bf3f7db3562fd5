"""Records as files: one JSON object a line; among them those that the book reads, by name.

It rests on the standard library. What appends records, and says where they come from, is
ngs/train/records.py.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ngs.errors import InputError

try:
    import fcntl
except ImportError:  # Windows, where no two processes share a file of records
    fcntl = None  # type: ignore[assignment]

Record = dict[str, Any]
"""One line of a file of records, as an object."""


def recorded(name: str) -> list[Record]:
    """Return the records of a study of the book, oldest first, wherever ``ngs`` is installed.

    Args:
        name: of the study, as the book's appendix of results has it: ``"comparison"`` for
            ``results/comparison.jsonl``.

    Raises:
        InputError: there is no such study.

    Example:
        >>> counts = recorded("cifar10_data")[-1]["images"]
        >>> set(counts["train"]), set(counts["test"])
        ({5000}, {1000})
    """
    found = {path.stem: path for path in _folder().glob("*.jsonl")}
    if name not in found:
        there = ", ".join(sorted(found)) or "none, so install ngs anew"
        raise InputError(f"no study is called {name!r}; those that there are: {there}")
    return read_records(found[name])


def _folder() -> Path:
    """Return where the book's records lie: in the package, or in the checkout it runs from."""
    here = Path(__file__).resolve().parent
    packed = here / "results"
    return packed if packed.is_dir() else here.parent / "results"


def read_records(path: Path) -> list[Record]:
    """Return the records of a file, oldest first.

    Raises:
        InputError: the file does not exist, or one of its lines is not a JSON object.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file of records")
    records = []
    with path.open("rb") as file, held(file.fileno(), alone=False):
        lines = file.read().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number}, is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise InputError(f"{path}, line {number}, is not a JSON object")
        records.append(record)
    return records


@contextmanager
def held(descriptor: int, *, alone: bool) -> Iterator[None]:
    """Keep a file from being appended to inside the block, and, if ``alone``, from being read.

    Some file systems would else show a reader half of a line; and where a disk is full, taking one
    back could cut off another process's.
    """
    if fcntl is not None:
        with suppress(OSError):  # some network drives know no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    yield  # closing the file lets go
