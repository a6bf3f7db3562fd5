"""Claims about runs that stop and go on: same weights to the bit, whole files, one clear line.

The oracle of a run that was stopped is the same run that never was.
"""

import functools
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from ngs import cli
from ngs.errors import InputError
from ngs.records import read_records
from ngs.train import checkpoint, loop
from ngs.train.checkpoint import alone, checkpoint_path, read_checkpoint, write_checkpoint
from ngs.train.config import TrainConfig
from ngs.train.data import Dataset, load

QUICK = TrainConfig(
    model="small", epochs=3, batch_size=32, validation=20, train_images=150, side=8,
    precision="float32", device="cpu",
)  # fmt: skip
"""Three epochs of five steps, the last of them smaller."""
STEPS = 15


@pytest.fixture(scope="module")
def offline() -> Dataset:
    data = load("offline")
    return replace(data, test=type(data.test)(data.test.images[:50], data.test.labels[:50]))


def weights(model: torch.nn.Module) -> bytes:
    return b"".join(value.numpy().tobytes() for value in model.state_dict().values())


def lasting(record: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on how long things took."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in record["epochs"]]
    return {"epochs": rows, "test": record["test"]}


def in_parts(config: TrainConfig, data: Dataset, path: Path, lengths: Iterator[int]) -> Any:
    """Train, stopping after so many steps each time, until the run is done."""
    for left in itertools.islice(lengths, STEPS + 1):
        count = itertools.count(1)
        try:
            return loop.train(
                config, data=data, checkpoint=path, stop=lambda c=count, n=left: next(c) >= n
            )
        except loop.Stopped:
            assert path.is_file()
    raise AssertionError("the run does not come to its end")


SETTINGS = {
    "ngs": {},
    "momentum scheduled": {"schedule": "onecycle"},
    "factor": {"optimizer": "ngs-factor", "factor_every": 2},
    "rescaled": {"optimizer": "ngs-factor-rescaled", "batch_norm": False},
    "sgd": {"optimizer": "sgd-nesterov", "schedule": "onecycle", "augment": False},
    "average": {"average": 0.8, "flip": "alternating", "cutout": 8, "accumulate": 2},
    "lookahead": {"average": 0.9, "lookahead": 4, "low_share": 0.7, "low_side": 4},
    "fast": {
        "model": "fast",
        "side": 16,
        "whitening_epochs": 1,
        "bias_scale": 4.0,
        "average": 0.9,
        "lookahead": 2,
        "flip": "alternating",
    },
    "hypergradient": {"optimizer": "hypergradient", "lr": 0.001},
    "guarded": {"guard": "act", "average": 0.9, "lookahead": 3},
}


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_run_in_parts_is_the_run_in_one_to_the_bit(
    changes: dict[str, Any], offline: Dataset, tmp_path: Path
) -> None:
    config = replace(QUICK, **changes)
    whole, record = loop.train(config, data=offline)
    path = tmp_path / "run.ckpt"
    parts, joined = in_parts(config, offline, path, itertools.cycle([3, 5, 1, 2]))
    assert weights(parts) == weights(whole)
    assert lasting(joined) == lasting(record)
    assert (record["parts"], joined["parts"]) == (1, 6)


@pytest.mark.parametrize("at", [1, 4, 5, 6, STEPS])
def test_a_run_may_stop_after_any_step_the_last_of_an_epoch_and_of_all_too(
    at: int, offline: Dataset, tmp_path: Path
) -> None:
    whole, record = loop.train(QUICK, data=offline)
    parts, joined = in_parts(QUICK, offline, tmp_path / "run.ckpt", iter([at, STEPS + 1]))
    assert weights(parts) == weights(whole)
    assert lasting(joined) == lasting(record)


def test_the_parts_of_a_run_add_up_their_times_and_keep_its_name(
    offline: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = loop.Run.train_step

    def slow(self: loop.Run, *batch: torch.Tensor) -> Any:
        time.sleep(0.02)
        return step(self, *batch)

    monkeypatch.setattr(loop.Run, "train_step", slow)
    path, names = tmp_path / "run.ckpt", []
    with pytest.raises(loop.Stopped):
        loop.train(QUICK, data=offline, checkpoint=path, stop=lambda: True)
    names.append(read_checkpoint(path, QUICK)["run"])
    _, record = in_parts(QUICK, offline, path, iter([7, 100]))
    assert record["run"] == names[0]
    assert record["parts"] == 3
    assert record["wall_seconds"] > STEPS * 0.02
    assert record["seconds"]["train"] > STEPS * 0.02
    assert sum(row["seconds"] for row in record["epochs"]) > STEPS * 0.02


def test_the_state_of_torchs_random_numbers_goes_on_too(
    offline: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = loop.Run.train_step

    def noisy(self: loop.Run, images: torch.Tensor, labels: torch.Tensor) -> Any:
        return step(self, images + 0.1 * torch.randn(()), labels)  # as dropout would draw

    monkeypatch.setattr(loop.Run, "train_step", noisy)
    whole, _ = loop.train(QUICK, data=offline)
    parts, _ = in_parts(QUICK, offline, tmp_path / "run.ckpt", itertools.repeat(4))
    assert weights(parts) == weights(whole)


def test_the_scale_of_the_loss_in_float16_goes_on_too(
    offline: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It doubles at every step, until a gradient overflows: then that step is skipped.
    scaler = functools.partial(torch.amp.GradScaler, growth_interval=1)
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    config = replace(QUICK, precision="float16")
    whole, _ = loop.train(config, data=offline)
    parts, _ = in_parts(config, offline, tmp_path / "run.ckpt", itertools.repeat(4))
    assert weights(parts) == weights(whole)


def test_a_run_is_saved_when_the_time_has_come(
    offline: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []

    def note(path: Path, config: TrainConfig, content: dict[str, Any]) -> None:
        saved.append(content["state"]["step"])

    monkeypatch.setattr(loop, "write_checkpoint", note)
    path = tmp_path / "run.ckpt"
    loop.train(QUICK, data=offline, checkpoint=path, save_every=1e9)
    assert saved == []
    loop.train(QUICK, data=offline, checkpoint=path, save_every=0.0)
    assert saved == list(range(1, STEPS + 1))
    saved.clear()
    loop.train(QUICK, data=offline, save_every=0.0)
    assert saved == []


# Files that cannot be used ----------------------------------------------------------------------


@pytest.fixture
def stopped(offline: Dataset, tmp_path: Path) -> Path:
    """The checkpoint of a run that was stopped after four steps."""
    path = tmp_path / "run.ckpt"
    count = itertools.count(1)
    with pytest.raises(loop.Stopped):
        loop.train(QUICK, data=offline, checkpoint=path, stop=lambda: next(count) == 4)
    return path


WEIGHTS = bytes(range(64))
"""Stands for some weights in the file."""


def turned(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "another file": lambda content: b"weights, perhaps" * 100,
    "a bit of a weight turned": lambda content: content.replace(WEIGHTS, turned(WEIGHTS)),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_checkpoint_is_refused_with_its_name_and_the_remedy_and_stays(
    damage: Callable[[bytes], bytes], stopped: Path, offline: Dataset
) -> None:
    content = torch.load(stopped, weights_only=True)
    content["weights"] = torch.frombuffer(bytearray(WEIGHTS), dtype=torch.uint8)
    torch.save(content, stopped)
    assert stopped.read_bytes().count(WEIGHTS) == 1
    stopped.write_bytes(damage(stopped.read_bytes()))
    before = stopped.read_bytes()
    with pytest.raises(InputError, match="damaged") as caught:
        loop.train(QUICK, data=offline, checkpoint=stopped)
    assert str(stopped) in str(caught.value)
    assert "delete it to start anew, or give another --out" in str(caught.value)
    assert stopped.read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused_with_what_differs(
    stopped: Path, offline: Dataset
) -> None:
    other = replace(QUICK, model="convnet-narrow", side=32, batch_size=30)
    with pytest.raises(InputError) as caught:
        loop.train(other, data=offline, checkpoint=stopped)
    for part in ("model small and not convnet-narrow", "side 8 and not 32", "batch-size 32 and"):
        assert part in str(caught.value)
    assert str(caught.value).count(" and not ") == 3


def test_a_checkpoint_made_with_other_data_is_refused(stopped: Path, offline: Dataset) -> None:
    images = offline.train.images.clone()
    images += 1
    other = replace(offline, train=type(offline.train)(images, offline.train.labels))
    with pytest.raises(InputError, match="made with other data"):
        loop.train(QUICK, data=other, checkpoint=stopped)


def test_a_checkpoint_of_another_layout_is_refused(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "VERSION", 3)
    with pytest.raises(InputError, match="version 2 of the layout, this ngs reads 3"):
        read_checkpoint(stopped, QUICK)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("evil",))


def test_a_checkpoint_that_holds_code_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"version": 1, "config": Evil()}, "run.ckpt")
    with pytest.raises(InputError, match="damaged"):
        read_checkpoint(Path("run.ckpt"), QUICK)
    assert not Path("evil").exists()


@pytest.mark.parametrize("victim", [(os, "fsync"), (Path, "replace")], ids=["write", "replace"])
def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_run(
    victim: tuple[Any, str], stopped: Path, offline: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> NoReturn:
        raise OSError(28, "No space left on device")

    before, said = stopped.read_bytes(), list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(*victim, full)
        model, _ = loop.train(
            QUICK, data=offline, checkpoint=stopped, save_every=0.0, say=said.append
        )
    assert any("No space left on device; the run goes on without" in line for line in said)
    assert stopped.read_bytes() == before
    assert [p.name for p in stopped.parent.iterdir()] == [stopped.name]
    assert weights(model) == weights(loop.train(QUICK, data=offline)[0])


# The command ------------------------------------------------------------------------------------

TYPED = [
    "train", "--model", "small", "--side", "8", "--train-images", "300", "--batch-size", "20",
    "--epochs", "30", "--validation", "20", "--precision", "float32", "--device", "cpu",
]  # fmt: skip
IN_A_PROCESS = [
    sys.executable, "-c", "import torch; torch.set_num_threads(1); from ngs.cli import main; main()"
]  # fmt: skip


def started(out: Path, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*IN_A_PROCESS, *TYPED, "--out", str(out), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(out: Path, *more: str) -> str:
    """Run the command to its end and return what it printed."""
    process = started(out, *more)
    printed, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, ""), err
    return printed


def saved_weights(out: Path) -> dict[str, torch.Tensor]:
    """The weights of the one run that a folder has, and nothing besides its record."""
    (record,) = read_records(out / "records.jsonl")
    assert sorted(p.name for p in out.iterdir()) == sorted(["records.jsonl", record["weights"]])
    found: dict[str, torch.Tensor] = torch.load(out / record["weights"], weights_only=True)
    return found


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("undisturbed")
    finished(out)
    return saved_weights(out)


def killed(out: Path, wait: Callable[[], bool]) -> bool:
    """Start the command and kill it when ``wait`` says so; return whether it was still running."""
    process = started(out, "--save-every", "0")
    try:
        while process.poll() is None and not wait():
            time.sleep(0.002)
        running = process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return running


def unfinished(out: Path) -> list[Path]:
    return list(out.glob("unfinished-*.ckpt"))


def test_a_run_that_is_killed_three_times_ends_with_the_weights_of_one_that_was_not(
    undisturbed: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    def in_mid_epoch() -> bool:
        return bool(unfinished(tmp_path))

    def in_mid_write() -> bool:
        return bool(list(tmp_path.glob("*.part")))

    begin = time.monotonic()

    def later() -> bool:
        return time.monotonic() > begin + 1.0 and in_mid_epoch()

    for moment in (in_mid_epoch, in_mid_write, later):
        begin = time.monotonic()
        assert killed(tmp_path, moment)
        for path in unfinished(tmp_path):  # whatever the moment, it can be read
            assert torch.load(path, weights_only=True)["state"]["step"] >= 1
    assert "going on from" in finished(tmp_path)
    assert equal(saved_weights(tmp_path), undisturbed)


@pytest.mark.soak
def test_a_run_that_is_killed_twenty_times_ends_with_the_same_weights(
    undisturbed: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        end = time.monotonic() + 3.0 + 2.0 * float(torch.rand((), generator=draw))
        killed(tmp_path, lambda end=end: time.monotonic() > end)
        for path in unfinished(tmp_path):
            assert torch.load(path, weights_only=True)["state"]["step"] >= 1
    if not (tmp_path / "records.jsonl").exists():
        finished(tmp_path)
    record, *_ = read_records(tmp_path / "records.jsonl")
    assert equal(torch.load(tmp_path / record["weights"], weights_only=True), undisturbed)


def test_a_second_run_of_the_same_settings_waits_or_goes_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = started(tmp_path, "--epochs", "10000")
    try:
        while process.stdout is not None and not process.stdout.readline().startswith("device:"):
            pass
        with pytest.raises(SystemExit) as caught:
            cli.main([*TYPED, "--epochs", "10000", "--out", str(tmp_path)])
    finally:
        process.kill()
        process.communicate()
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"another run of these settings is under way in {tmp_path}" in err
    assert "another --out" in err


def test_runs_of_other_settings_in_one_folder_do_not_meet(tmp_path: Path) -> None:
    paths = {
        checkpoint_path(tmp_path, config)
        for config in (QUICK, replace(QUICK, seed=1), replace(QUICK, lr=0.1), TrainConfig())
    }
    assert len(paths) == 4
    with alone(paths.pop()), alone(paths.pop()):
        pass


def test_a_run_does_not_go_on_in_another_precision(
    tmp_path: Path, offline: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.ckpt"
    automatic = replace(QUICK, precision="auto")
    monkeypatch.setattr(loop, "bfloat16_units", lambda: ["BF16"])
    with pytest.raises(loop.Stopped):
        loop.train(automatic, data=offline, checkpoint=path, stop=lambda: True)
    kept = path.read_bytes()
    monkeypatch.setattr(loop, "bfloat16_units", list)
    with pytest.raises(InputError) as caught:
        loop.train(automatic, data=offline, checkpoint=path)
    assert "was made in bfloat16, and this machine would go on in float32" in str(caught.value)
    assert path.read_bytes() == kept


def test_a_user_without_a_name_can_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> NoReturn:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nobody)
    with alone(tmp_path / "a.ckpt"):
        pass


def test_a_lock_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with alone(tmp_path / "a.ckpt"):
        assert len(list(tmp_path.iterdir())) == 1
        with pytest.raises(InputError, match="another run"), alone(tmp_path / "a.ckpt"):
            pass
        assert len(list(tmp_path.iterdir())) == 1  # the second has not removed the first one's
    assert list(tmp_path.iterdir()) == []


INSIDE = """
import os, sys, time
from pathlib import Path
from ngs.errors import InputError
from ngs.train.checkpoint import alone

marker, entered, until = Path(sys.argv[1]) / "inside", 0, time.monotonic() + 4.0
while time.monotonic() < until:
    try:
        with alone(Path(sys.argv[1]) / "a.ckpt"):
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))  # fails where another is inside
            entered += 1
            marker.unlink()
    except InputError:
        pass
print(entered)
"""


def test_no_two_processes_are_ever_inside_though_the_lock_comes_and_goes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INSIDE, str(tmp_path)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    results = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    assert [(err, code) for _, err, code in results] == [("", 0)] * 3
    assert sum(int(out) for out, _, _ in results) > 100


def test_fresh_starts_anew(
    tmp_path: Path, offline: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = TrainConfig(
        model="small", side=8, train_images=300, batch_size=20, epochs=30, validation=20,
        precision="float32", device="cpu",
    )  # fmt: skip
    path = checkpoint_path(tmp_path, typed)
    write_checkpoint(path, typed, {"state": "no state at all"})
    printed = finished(tmp_path, "--fresh")
    assert "going on" not in printed
    assert unfinished(tmp_path) == []


def test_a_run_that_was_killed_after_its_record_is_not_recorded_twice(tmp_path: Path) -> None:
    finished(tmp_path)
    (record,) = read_records(tmp_path / "records.jsonl")
    kept = cli._keep(torch.nn.Linear(1, 1), record, tmp_path / "records.jsonl")
    assert kept == tmp_path / record["weights"]
    assert len(read_records(tmp_path / "records.jsonl")) == 1
