"""Claims about the data sets: the offline one is fixed to the bit, CIFAR-10 is found, checked and
fetched as promised. A made-up archive stands for CIFAR-10, so nothing here needs the network; the
claims about the real images run where NGS_DATA or data/ holds them.
"""

import contextlib
import hashlib
import io
import socket
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_cifar10 import (
    Files,
    alter,
    md5,
    pixels_of,
    take_for_official,
    truncate,
    unpack,
    work_where_no_data_are,
)

from ngs.errors import InputError
from ngs.train import data, offline
from ngs.train.vision import torchvision

REAL = next((f.resolve() for f in data.cifar10_folders() if (f / data.FOLDER).is_dir()), None)
real_only = pytest.mark.skipif(
    REAL is None,
    reason=f"real CIFAR-10: set NGS_DATA to a folder that holds {data.FOLDER}",
)

SHA256 = {
    "train images": "a3792cbed02ad4e5314c3e51d00bc86aadeae70e593dca5e44cd094e5ddea860",
    "train labels": "035e0f5f456c3e7086adaf898a979dd530d715d23fd26d325a0b3d537584258a",
    "test images": "f8048db2c55128936c1031f0be2d947a1816e3227873634cc88ebd7ff53ab4df",
    "test labels": "8eb1fa36fdf250c158e8d14b6d017074a405817e1e07e4dd933fba8dcd80d806",
}
"""Of the raw bytes. Whoever changes them has made another data set: old records do not count."""


# The offline data set ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, ...]:
    return offline.train_and_test()


def test_offline_data_are_the_same_bytes_everywhere(arrays: tuple[np.ndarray, ...]) -> None:
    found = (hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for a in arrays)
    assert dict(zip(SHA256, found, strict=True)) == SHA256


def test_offline_generation_leaves_numpys_global_generator_alone() -> None:
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    offline.generate(10, seed=5)
    assert np.random.random() == expected


def test_another_seed_gives_other_offline_images() -> None:
    assert not np.array_equal(offline.generate(20, seed=1)[0], offline.generate(20, seed=2)[0])


def test_offline_data_have_the_shapes_and_types_of_cifar10(arrays: tuple[np.ndarray, ...]) -> None:
    assert [(a.shape, a.dtype) for a in arrays] == [
        ((5000, 3, 32, 32), np.uint8),
        ((5000,), np.int64),
        ((1000, 3, 32, 32), np.uint8),
        ((1000,), np.int64),
    ]


def test_offline_classes_are_equally_frequent(arrays: tuple[np.ndarray, ...]) -> None:
    _, train_labels, _, test_labels = arrays
    train, test = np.bincount(train_labels), np.bincount(test_labels)
    assert (train + test).tolist() == [600] * 10
    assert test.min() >= 80  # the split is random, so about 100 each


def test_offline_train_and_test_share_no_image(arrays: tuple[np.ndarray, ...]) -> None:
    train, test = ({image.tobytes() for image in images} for images in arrays[::2])
    assert len(train) == 5000
    assert len(test) == 1000
    assert not train & test


@pytest.mark.parametrize("features", ["pixels", "colour"])
def test_offline_classes_cannot_be_told_apart_by_their_means(
    arrays: tuple[np.ndarray, ...], features: str
) -> None:
    # Nearest class mean, measured: 9.0 % on raw pixels, 9.7 % on mean colours; chance is 10 %.
    train, train_labels, test, test_labels = arrays
    if features == "colour":
        train, test = (images.mean((2, 3), keepdims=True) for images in (train, test))
    means = np.stack([train[train_labels == k].mean(0).ravel() for k in range(10)])
    points = test.reshape(len(test), -1).astype(float)
    nearest = (points @ means.T - 0.5 * (means**2).sum(1)).argmax(1)
    accuracy = (nearest == test_labels).mean()
    print(f"nearest class mean on {features}: {accuracy:.1%}")
    assert accuracy < 0.15


def test_offline_data_set_describes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "TRAIN", 30)
    monkeypatch.setattr(offline, "TEST", 10)
    found = data.load("offline")
    assert found.name == "offline"
    assert len(found.classes) == 10
    assert (len(found.train), len(found.validation), len(found.test)) == (30, 0, 10)
    assert (found.train.images.dtype, found.train.labels.dtype) == (torch.uint8, torch.int64)
    pixels = found.train.images.double() / 255.0
    assert found.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-12)
    spread = pixels.std((0, 2, 3), correction=0)
    assert found.std == pytest.approx(spread.tolist(), abs=1e-12)
    assert "generated" in found.source


# Splitting --------------------------------------------------------------------------------------


def numbered(count: int) -> data.Dataset:
    """A data set whose images say which they are, in every pixel and in the label."""
    labels = torch.arange(count)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    empty = data.Split(images[:0], labels[:0])
    some = data.Split(images, labels)
    return data.Dataset("numbered", (), some, empty, some, (0.0,) * 3, (1.0,) * 3, "made up")


def test_hold_out_splits_without_overlap_or_loss() -> None:
    parts = numbered(100).hold_out(30)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (70, 30, 100)
    together = torch.cat([parts.train.labels, parts.validation.labels])
    assert sorted(together.tolist()) == list(range(100))
    for split in (parts.train, parts.validation):
        assert torch.equal(split.images[:, 0, 0, 0].long(), split.labels)
    assert parts.validation.labels.tolist() != list(range(30))  # a random choice, not the first


def test_hold_out_is_decided_by_its_seed_alone() -> None:
    torch.manual_seed(1)
    first = numbered(100).hold_out(30).validation.labels
    torch.manual_seed(2)
    assert torch.equal(numbered(100).hold_out(30).validation.labels, first)
    assert not torch.equal(numbered(100).hold_out(30, seed=1).validation.labels, first)


def test_holding_out_nothing_keeps_every_training_image() -> None:
    parts = numbered(100).hold_out(0)
    assert (len(parts.train), len(parts.validation)) == (100, 0)


@pytest.mark.parametrize("count", [-1, 100, 5000])
def test_hold_out_refuses_what_leaves_nothing_to_train_on(count: int) -> None:
    with pytest.raises(InputError, match=rf"0 \.\. 99 .*numbered, got {count}$"):
        numbered(100).hold_out(count)


def noise(train: int, validation: int, test: int) -> data.Dataset:
    """A data set of noise, its training labels counting from 0."""
    draws = torch.Generator().manual_seed(0)
    parts = [
        data.Split(
            torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=draws),
            torch.arange(n),
        )
        for n in (train, validation, test)
    ]
    return data.Dataset("noise", (), *parts, (0.5,) * 3, (0.2,) * 3, "made up")


def test_reduced_keeps_the_first_of_what_is_not_held_out_and_nothing_else_of_training() -> None:
    split = numbered(100).hold_out(30)
    found = split.reduced(train_images=20)
    assert torch.equal(found.train.labels, split.train.labels[:20])
    assert torch.equal(found.train.images, split.train.images[:20])
    assert torch.equal(found.validation.labels, split.validation.labels)
    assert torch.equal(found.test.labels, split.test.labels)
    assert torch.equal(found.reduced().train.labels, found.train.labels)


@pytest.mark.parametrize("side", [16, 8])
def test_reduced_images_are_the_rounded_means_of_their_blocks_with_their_labels(side: int) -> None:
    before = noise(12, 5, 7)
    found = before.reduced(side=side)
    block = 32 // side
    for name in ("train", "validation", "test"):
        images, whole = getattr(found, name).images, getattr(before, name).images
        assert images.shape == (len(whole), 3, side, side)
        assert images.dtype == torch.uint8
        blocks = whole.double().view(len(whole), 3, side, block, side, block)
        assert torch.equal(images, blocks.mean((3, 5)).round().to(torch.uint8))
        assert torch.equal(getattr(found, name).labels, getattr(before, name).labels)
    assert (found.mean, found.std, found.source) == (before.mean, before.std, before.source)


def test_many_images_are_reduced_piece_by_piece_in_their_order() -> None:
    labels = torch.arange(10_007)
    images = (labels % 256).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    found = data._shrunk(data.Split(images, labels), 1)
    assert torch.equal(found.images[:, 0, 0, 0].long(), labels % 256)
    assert torch.equal(found.labels, labels)


def test_reducing_to_the_same_side_changes_nothing() -> None:
    before = noise(4, 0, 3)
    found = before.reduced()
    assert torch.equal(found.train.images, before.train.images)
    assert len(noise(4, 0, 3).reduced(side=8).validation) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": 5}, "at most the 4 training images of noise .*not held out, got 5"),
        ({"train_images": -1}, "train-images must be 0 or more, got -1"),
        ({"side": 5}, "side must divide the images' width of 32, got 5"),
        ({"side": 64}, "side must divide the images' width of 32, got 64"),
        ({"side": 0}, "side must divide the images' width of 32, got 0"),
        ({"side": -8}, "side must divide the images' width of 32, got -8"),
    ],
)
def test_reduced_refuses_what_it_cannot_do(changes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        noise(4, 2, 3).reduced(**changes)
    assert len(noise(4, 2, 3).reduced(train_images=4).train) == 4


def test_unknown_data_set_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="offline, cifar10, tensors, got 'imagenet'"):
        data.load("imagenet")


# A made-up CIFAR-10 -----------------------------------------------------------------------------


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Files:
    """The made-up files, taken for the official ones; no folder of this machine has any."""
    work_where_no_data_are(monkeypatch, tmp_path / "work")
    return take_for_official(monkeypatch)


def test_folders_are_searched_in_the_promised_order(monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = Path(__file__).resolve().parents[1] / "data"
    monkeypatch.setenv("NGS_DATA", "/elsewhere")
    assert data.cifar10_folders() == [Path("/elsewhere"), Path("data"), checkout]
    monkeypatch.setenv("NGS_DATA", "")
    assert data.cifar10_folders() == [Path("data"), checkout]
    monkeypatch.delenv("NGS_DATA")
    assert data.cifar10_folders() == [Path("data"), checkout]


def test_an_installed_package_searches_no_folder_of_its_own(files: Files) -> None:
    assert data.cifar10_folders() == [Path("data")]


def test_the_first_folder_that_has_cifar10_wins(
    files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NGS_DATA", str(tmp_path / "mine"))
    unpack(files, Path("data"))
    assert data.load("cifar10", download=False).source.endswith(" in data")
    unpack(files, tmp_path / "mine")
    assert data.load("cifar10", download=False).source.endswith(f" in {tmp_path / 'mine'}")


def test_cifar10_comes_as_the_files_have_it(files: Files) -> None:
    unpack(files, Path("data"))
    found = data.load("cifar10", download=False)
    assert found.name == "cifar10"
    assert found.classes[:2] == ("airplane", "automobile")
    first, second, test = (pixels_of(files[n]) for n in list(files)[:3])
    assert np.array_equal(found.train.images, np.concatenate([first, second]))
    assert np.array_equal(found.test.images, test)
    assert found.train.images.is_contiguous()
    assert found.train.labels.tolist() == list(range(10)) * 2
    assert found.test.labels.tolist() == list(range(10))


def damage_is_named(root: Path, name: str, expected: str) -> None:
    path = root / data.FOLDER / name
    with pytest.raises(InputError) as caught:
        data.load("cifar10", download=False)
    line = str(caught.value)
    assert "\n" not in line
    for part in (str(path), md5(path.read_bytes()), expected):
        assert part in line
    assert f"delete the folder {path.parent} and run 'ngs data --dataset cifar10'" in line


@pytest.mark.parametrize("damage", [truncate, alter])
@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_damaged_file_is_named_with_both_sums_and_the_remedy(
    files: Files, name: str, damage: Callable[[bytes], bytes]
) -> None:
    folder = unpack(files, Path("data"))
    (folder / name).write_bytes(damage(files[name]))
    damage_is_named(Path("data"), name, md5(files[name]))


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_missing_file_is_named_with_the_remedy(files: Files, name: str) -> None:
    folder = unpack(files, Path("data"))
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{folder / name} is missing: delete the folder"):
        data.load("cifar10")


def test_without_data_or_leave_to_download_the_error_says_where_it_looked(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGS_DATA", "/elsewhere")
    with pytest.raises(InputError) as caught:
        data.load("cifar10", download=False)
    for part in ("/elsewhere, data", "not allowed", "NGS_DATA", "--dataset offline"):
        assert part in str(caught.value)


# Downloading ------------------------------------------------------------------------------------


class Mirrors:
    """Two mirrors on this machine: what each answers, and which were asked for the archive."""

    def __init__(self, archive: bytes) -> None:
        self.archive = archive
        self.faults: dict[str, str] = {}
        self.asked: list[str] = []
        self.closing = threading.Event()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.split("/")[1]
        fault = self.faults.get(name)
        if name not in self.asked:  # torchvision asks twice, once to follow redirections
            self.asked.append(name)
        if fault == "silence":
            if not self.closing.wait(60.0):
                self.asked.append("nobody lost patience")
            return
        if fault == "no http":
            handler.wfile.write(b"what do you want?\r\n\r\n")
            return
        if fault == "not found":
            handler.send_error(404)
            return
        content = alter(self.archive) if fault == "another file" else self.archive
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(truncate(content) if fault == "half a file" else content)


@pytest.fixture
def mirrors(files: Files, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirrors]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{data.FOLDER}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    served = Mirrors(packed.getvalue())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    host = f"http://127.0.0.1:{server.server_port}"
    urls = tuple(f"{host}/{name}/{data.ARCHIVE}" for name in ("first", "second"))
    monkeypatch.setattr(data, "MIRRORS", urls)
    monkeypatch.setattr(data, "ARCHIVE_MD5", md5(served.archive))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield served
    served.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


FAULTS = ("not found", "another file", "half a file", "no http", "silence")


@pytest.fixture
def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the fault to inject. Patience is short only where silence must exhaust it."""
    found: str = request.param
    if found == "silence":
        monkeypatch.setattr(data, "PATIENCE", 2.0)
    return found


def test_download_asks_the_first_mirror_alone_when_it_answers(mirrors: Mirrors) -> None:
    found = data.load("cifar10")
    assert len(found.train) == 20
    assert mirrors.asked == ["first"]
    assert found.source.endswith(" in data")


def test_download_goes_to_the_folder_that_ngs_data_names(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NGS_DATA", str(tmp_path / "new" / "mine"))
    data.load("cifar10")
    assert (tmp_path / "new" / "mine" / data.FOLDER).is_dir()
    assert not Path("data").exists()


def test_what_was_downloaded_is_not_fetched_again(mirrors: Mirrors) -> None:
    data.load("cifar10")
    mirrors.asked.clear()
    assert len(data.load("cifar10").train) == 20
    assert mirrors.asked == []


def test_nothing_is_asked_of_any_mirror_without_leave(mirrors: Mirrors) -> None:
    with pytest.raises(InputError):
        data.load("cifar10", download=False)
    assert mirrors.asked == []


@pytest.mark.parametrize("fault", FAULTS, indirect=True)
def test_download_falls_back_to_the_second_mirror(mirrors: Mirrors, fault: str) -> None:
    mirrors.faults = {"first": fault}
    assert len(data.load("cifar10").train) == 20
    assert mirrors.asked == ["first", "second"]


@pytest.mark.parametrize("fault", FAULTS, indirect=True)
@pytest.mark.parametrize("target", [None, "new/mine"])
def test_when_every_mirror_fails_one_line_says_so_and_nothing_is_left(
    mirrors: Mirrors,
    fault: str,
    target: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if target:
        monkeypatch.setenv("NGS_DATA", str(tmp_path / target))
    before = sorted(tmp_path.rglob("*"))
    mirrors.faults = {"first": fault, "second": fault}
    with pytest.raises(InputError) as caught:
        data.load("cifar10")
    assert mirrors.asked == ["first", "second"]
    line = str(caught.value)
    assert "\n" not in line
    assert "--dataset offline" in line
    assert line.count("127.0.0.1") == 2  # what each of the two mirrors did
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_download_leaves_nothing(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(url: str, root: str, **kwargs: str) -> None:
        (Path(root) / data.ARCHIVE).write_bytes(mirrors.archive[:100])
        raise KeyboardInterrupt

    utils = torchvision().datasets.utils
    monkeypatch.setattr(utils, "download_and_extract_archive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.load("cifar10")
    assert list(Path().iterdir()) == []


def test_a_failed_download_takes_nothing_that_was_there(mirrors: Mirrors) -> None:
    Path("data").mkdir()
    Path("data/notes.txt").write_text("mine")
    mirrors.faults = {"first": "another file", "second": "not found"}
    with pytest.raises(InputError):
        data.load("cifar10")
    assert [p.name for p in Path("data").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("fault", [None, "not found"])
def test_downloading_leaves_the_patience_of_other_sockets_as_it_was(
    mirrors: Mirrors, fault: str | None
) -> None:
    if fault:
        mirrors.faults = {"first": fault, "second": fault}
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(7.0)
    try:
        with pytest.raises(InputError) if fault else contextlib.nullcontext():
            data.load("cifar10")
        assert socket.getdefaulttimeout() == 7.0
    finally:
        socket.setdefaulttimeout(before)


def test_a_missing_torchvision_is_named_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"pip install 'ngs\[train\]'"):
        torchvision.__wrapped__()  # behind its cache


# The real CIFAR-10 ------------------------------------------------------------------------------


@real_only
def test_real_cifar10_is_what_its_description_says() -> None:
    found = data.load("cifar10", download=False)
    assert (len(found.train), len(found.test)) == (50_000, 10_000)
    assert found.train.images.shape[1:] == (3, 32, 32)
    assert found.train.labels.bincount().tolist() == [5000] * 10
    assert found.test.labels.bincount().tolist() == [1000] * 10
    assert [round(m, 4) for m in found.mean] == [0.4914, 0.4822, 0.4465]
    assert [round(s, 4) for s in found.std] == [0.2470, 0.2435, 0.2616]


@real_only
@pytest.mark.parametrize("damage", [truncate, alter])
def test_damage_to_the_real_cifar10_is_named(
    damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / data.FOLDER
    folder.mkdir()
    assert REAL is not None
    for path in (REAL / data.FOLDER).iterdir():
        (folder / path.name).symlink_to(path)
    victim = folder / "data_batch_2"
    content = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(damage(content))
    monkeypatch.setenv("NGS_DATA", str(tmp_path))
    damage_is_named(tmp_path, "data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec")
