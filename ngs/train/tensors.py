"""Images and labels from two tensor files, ``train_data.pth`` and ``test_data.pth``.

It rests on torch.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ngs.errors import InputError

FILES = ("train_data.pth", "test_data.pth")
CLASSES = 10
SIDE = 32
IMAGES, LABELS = ("images", "data"), ("labels", "targets")
"""Names under which a dictionary may hold the two tensors."""


def find(folders: Iterable[Path]) -> Path:
    """Return the first folder that has both files.

    Raises:
        InputError: none has.
    """
    folders = list(folders)
    for folder in folders:
        if all((folder / name).is_file() for name in FILES):
            return folder
    raise InputError(
        f"{' and '.join(FILES)} are not both in {', '.join(map(str, folders))}: set NGS_DATA to "
        "the folder that holds them"
    )


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 ``(n, 3, 32, 32)``, and labels, int64 ``(n,)``.

    The file holds what ``torch.save`` wrote of a pair ``(images, labels)`` or of a dictionary with
    ``images`` (or ``data``) and ``labels`` (or ``targets``). Images may be channels first or last,
    bytes or numbers from 0 to 1.

    Raises:
        InputError: the file is damaged, holds anything but tensors, or these do not fit.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch, zipfile and pickle raise for it
        raise InputError(
            f"{path} cannot be read: it is damaged, or holds more than tensors (save a pair "
            "(images, labels) with torch.save)"
        ) from error
    images, labels = _pair(path, content)
    if images.ndim == 4 and images.shape[-1] == 3 and images.shape[1] != 3:
        images = images.permute(0, 3, 1, 2)
    if tuple(images.shape[1:]) != (3, SIDE, SIDE) or not len(images):
        raise InputError(
            f"{path}: images must have the shape (n, 3, {SIDE}, {SIDE}) or (n, {SIDE}, {SIDE}, 3), "
            f"got {tuple(images.shape)}"
        )
    if tuple(labels.shape) != (len(images),) or labels.is_floating_point():
        raise InputError(
            f"{path}: labels must be {len(images):,} whole numbers, one an image, got "
            f"{str(labels.dtype).removeprefix('torch.')} of shape {tuple(labels.shape)}"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < CLASSES:
        raise InputError(
            f"{path}: labels must lie in 0 .. {CLASSES - 1}, got {int(labels.min())} .. "
            f"{int(labels.max())}"
        )
    return _bytes(path, images).numpy(), labels.to(torch.int64).numpy()


def _pair(path: Path, content: Any) -> tuple[torch.Tensor, torch.Tensor]:
    found: list[Any] = list(content) if isinstance(content, tuple | list) else []
    if isinstance(content, Mapping):
        found = [content[k] for names in (IMAGES, LABELS) for k in names if k in content]
    if len(found) != 2 or not all(isinstance(x, torch.Tensor) for x in found):
        raise InputError(
            f"{path}: expected a pair of tensors (images, labels), or a dictionary with "
            f"{IMAGES[0]} and {LABELS[0]}"
        )
    return found[0], found[1]


def _bytes(path: Path, images: torch.Tensor) -> torch.Tensor:
    if images.dtype == torch.uint8:
        return images
    low, high = float(images.min()), float(images.max())
    if not images.is_floating_point() or not 0.0 <= low <= high <= 1.0:
        raise InputError(
            f"{path}: images must be bytes or numbers from 0 to 1, not normalised, got "
            f"{str(images.dtype).removeprefix('torch.')} from {low:g} to {high:g}"
        )
    return (images * 255.0).round().to(torch.uint8)
