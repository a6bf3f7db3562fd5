"""A made-up CIFAR-10 of 20 training and 10 test images, in the format of the official archive.

It lets the tests damage, serve and load "the official files" with no network and no real data.
"""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from ngs.train import data
from ngs.train.vision import torchvision

Files = dict[str, bytes]


def md5(content: bytes) -> str:
    """Return the checksum in the form that torchvision lists."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def truncate(content: bytes) -> bytes:
    """Return the first half."""
    return content[: len(content) // 2]


def alter(content: bytes) -> bytes:
    """Return the content with one bit turned over near its end."""
    return content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]


def take_for_official(monkeypatch: pytest.MonkeyPatch) -> Files:
    """Make torchvision expect the made-up files; return them. Their pixels are noise."""
    noise = np.random.default_rng(0)
    files = {}
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        pixels = noise.integers(0, 256, (10, 3072), dtype=np.uint8)
        files[name] = pickle.dumps({"data": pixels, "labels": list(range(10))}, protocol=2)
    names = ["airplane", "automobile", *(f"class {k}" for k in range(2, 10))]
    files["batches.meta"] = pickle.dumps({"label_names": names}, protocol=2)
    reader = torchvision().datasets.CIFAR10
    listed = [[name, md5(content)] for name, content in files.items()]
    monkeypatch.setattr(reader, "train_list", listed[:2])
    monkeypatch.setattr(reader, "test_list", listed[2:3])
    meta = {"filename": listed[3][0], "key": "label_names", "md5": listed[3][1]}
    monkeypatch.setattr(reader, "meta", meta)
    return files


def pixels_of(file: bytes) -> np.ndarray:
    """Return the images ``(10, 3, 32, 32)``: the format stores red, green, blue, row by row."""
    pixels: np.ndarray = pickle.loads(file)["data"]
    return pixels.reshape(10, 3, 32, 32)


def work_where_no_data_are(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Change to an empty folder, as if installed elsewhere, with no NGS_DATA."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("NGS_DATA", raising=False)
    monkeypatch.setattr(data, "__file__", str(folder / "site" / "ngs" / "train" / "data.py"))


def unpack(files: Files, root: Path) -> Path:
    """Write the files as the archive unpacks them below ``root``; return their folder."""
    folder = root / data.FOLDER
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
