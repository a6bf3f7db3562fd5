"""Checkpoints: what a run needs to go on as if it had never stopped, written whole or not at all.

It rests on torch and on the settings beside it.
"""

import getpass
import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ngs.errors import InputError
from ngs.train.config import TrainConfig
from ngs.train.data import Dataset

Content = dict[str, Any]

VERSION = 2
"""Of the layout of a checkpoint; one of another version is refused."""


def checkpoint_path(folder: Path, config: TrainConfig) -> Path:
    """Return where a run with these settings keeps its checkpoint.

    The name has a digest of the settings in it, so that runs of other settings in the same folder
    do not meet.
    """
    settings = json.dumps(asdict(config), sort_keys=True).encode()
    digest = hashlib.sha256(settings).hexdigest()[:8]
    return folder / f"unfinished-{config.dataset}-{config.model}-{config.optimizer}-{digest}.ckpt"


def part_of(path: Path) -> Path:
    """Return where a file is written before it takes the place of the one before."""
    return path.with_name(f"{path.name}.part")


def write_whole(path: Path, content: memoryview | bytes) -> None:
    """Write a file so that ``path`` is the old one or the new one at every moment, never a part.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    part = part_of(path)
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or a crash could leave the new name with no content
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def packed(content: Any) -> memoryview:
    """Return what ``torch.save`` would write; its own writer reports a full disk as no OSError."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getbuffer()


def unpacked(path: Path) -> Any:
    """Return what ``torch.save`` has written, if it is whole and holds no code.

    Whatever torch, zipfile and pickle raise for a file that is neither goes through.
    """
    with zipfile.ZipFile(path) as archive:  # torch itself does not look at the checksums
        if archive.testzip() is not None:
            raise zipfile.BadZipFile
    return torch.load(path, map_location="cpu", weights_only=True)


def write_checkpoint(path: Path, config: TrainConfig, content: Content) -> None:
    """Write a checkpoint in place of the one before.

    Raises:
        OSError: it cannot be written; the one before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, packed({"version": VERSION, "config": asdict(config), **content}))


def read_checkpoint(path: Path, config: TrainConfig) -> Content:
    """Return the content of a checkpoint of these settings.

    Raises:
        InputError: the file is damaged, of another version of ngs, or of other settings.
    """
    remedy = "delete it to start anew, or give another --out"
    try:
        content = unpacked(path)
        version, saved = content["version"], content["config"]
    except Exception as error:  # whatever torch, zipfile and pickle raise for a damaged file
        raise InputError(f"checkpoint {path} is damaged and cannot be read: {remedy}") from error
    if version != VERSION:
        raise InputError(
            f"checkpoint {path} has version {version} of the layout, this ngs reads {VERSION}: "
            f"{remedy}"
        )
    asked = asdict(config)
    other = [
        f"{name.replace('_', '-')} {saved.get(name)} and not {value}"
        for name, value in asked.items()
        if saved.get(name) != value
    ]
    if other:
        raise InputError(
            f"checkpoint {path} belongs to a run of other settings ({', '.join(other)}): {remedy}"
        )
    found: Content = content
    return found


def fingerprint(data: Dataset) -> str:
    """Return a digest of all images and labels."""
    digest = hashlib.sha256()
    for split in (data.train, data.validation, data.test):
        digest.update(repr(tuple(split.images.shape)).encode())
        digest.update(split.labels.cpu().numpy().tobytes())
        digest.update(split.images.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep others out while inside the block: processes of this user on this machine.

    They are those that ask the same of the same ``path`` and have the same folder for temporary
    files.

    Raises:
        InputError: another process is inside.
    """
    # In the folder for temporary files: what a killed run leaves there is nobody's litter.
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    lock = FileLock(Path(tempfile.gettempdir()) / f"ngs-{user}-{name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(
            f"another run of these settings is under way in {path.parent}: wait for it, or give "
            "another --out"
        ) from error
    try:
        yield
    finally:
        # While it is held: filelock lets no one have a lock whose file is gone, but starts over.
        with suppress(OSError):  # Windows removes no open file
            Path(lock.lock_file).unlink()
        lock.release()
