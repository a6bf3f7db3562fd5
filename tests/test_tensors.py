"""Claims about tensor files as a data set: what is taken, what is refused and how, and no code."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ngs import cli
from ngs.errors import InputError
from ngs.train.data import load
from ngs.train.tensors import FILES, read

IMAGES = torch.randint(
    0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
LABELS = torch.arange(20) % 10

FORMS: dict[str, Any] = {
    "a pair": (IMAGES, LABELS),
    "a list": [IMAGES, LABELS],
    "a dictionary": {"images": IMAGES, "labels": LABELS, "note": "more"},
    "torchvision's names": {"data": IMAGES, "targets": LABELS.to(torch.uint8)},
    "channels last": (IMAGES.permute(0, 2, 3, 1), LABELS),
    "from 0 to 1": (IMAGES.float() / 255, LABELS),
    "from 0 to 1, half": (IMAGES.double() / 255, LABELS.int()),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS.keys())
def test_whatever_the_form_images_and_labels_are_the_same(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    images, labels = read(tmp_path / "x.pth")
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert np.array_equal(images, IMAGES.numpy())
    assert np.array_equal(labels, LABELS.numpy())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both files, in the folder that NGS_DATA names."""
    monkeypatch.setenv("NGS_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    torch.save((IMAGES, LABELS), tmp_path / FILES[0])
    torch.save((IMAGES[:7], LABELS[:7]), tmp_path / FILES[1])
    return tmp_path


def test_the_two_files_are_a_data_set_with_its_own_statistics(folder: Path) -> None:
    found = load("tensors")
    assert (len(found.train), len(found.validation), len(found.test)) == (20, 0, 7)
    assert torch.equal(found.train.images, IMAGES)
    assert torch.equal(found.test.labels, LABELS[:7])
    pixels = IMAGES.double() / 255
    assert found.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert found.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())
    assert str(folder) in found.source
    assert len(found.classes) == 10


def test_one_can_train_on_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(
            ["train", "--dataset", "tensors", "--model", "small", "--side", "8", "--epochs", "1",
             "--batch-size", "10", "--device", "cpu", "--out", "runs"]
        )  # fmt: skip
    assert ended.value.code == 0
    assert "on 7 images of tensors" in capsys.readouterr().out


@pytest.mark.parametrize("missing", FILES)
def test_a_missing_file_is_named_with_where_it_was_looked_for(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(InputError) as caught:
        load("tensors")
    for part in (missing, str(folder), "NGS_DATA"):
        assert part in str(caught.value)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("evil",))


BAD: dict[str, tuple[Any, str]] = {
    "code": (Evil(), "holds more than tensors"),
    "one tensor": (IMAGES, "expected a pair of tensors"),
    "three": ((IMAGES, LABELS, LABELS), "expected a pair of tensors"),
    "no labels": ({"images": IMAGES}, "expected a pair of tensors"),
    "numbers": ((IMAGES, 3), "expected a pair of tensors"),
    "small": ((IMAGES[:, :, :8], LABELS), r"the shape \(n, 3, 32, 32\).*\(20, 3, 8, 32\)"),
    "grey": ((IMAGES[:, :1], LABELS), r"got \(20, 1, 32, 32\)"),
    "flat": ((IMAGES.flatten(1), LABELS), r"got \(20, 3072\)"),
    "none": ((IMAGES[:0], LABELS[:0]), r"got \(0, 3, 32, 32\)"),
    "too few labels": ((IMAGES, LABELS[:9]), r"labels must be 20 whole numbers.*shape \(9,\)"),
    "one-hot labels": ((IMAGES, torch.eye(10)[LABELS]), r"whole numbers.*float32"),
    "float labels": ((IMAGES, LABELS.float()), "whole numbers.*float32"),
    "label 10": ((IMAGES, LABELS + 1), r"labels must lie in 0 \.\. 9, got 1 \.\. 10"),
    "label -1": ((IMAGES, LABELS - 1), r"got -1 \.\. 8"),
    "normalised": ((IMAGES.float() / 128 - 1, LABELS), "not normalised, got float32 from -1"),
    "0 to 255 in floats": ((IMAGES.float(), LABELS), "not normalised, got float32 from 0 to 255"),
    "nan": ((IMAGES.float() * float("nan"), LABELS), "not normalised"),
    "int32": ((IMAGES.int(), LABELS), "not normalised, got int32"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "line"), BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_is_refused_in_one_line_that_names_the_file(
    content: Any, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, "x.pth")
    with pytest.raises(InputError, match=line) as caught:
        read(Path("x.pth"))
    assert "x.pth" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("evil").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no tensors at all" * 9])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "x.pth")
