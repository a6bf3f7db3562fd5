"""Claims about runs of several processes: they follow the run of one, agree, and survive a loss."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from ngs.errors import InputError
from ngs.train.checkpoint import checkpoint_path, read_checkpoint
from ngs.train.config import TrainConfig
from ngs.train.loop import Stopped, train
from ngs.train.processes import Processes, is_lost, join

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()),
    reason="several processes: this torch is built without torch.distributed or gloo",
)

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 240
BASE: dict[str, Any] = {
    "model": "small",
    "batch_norm": False,
    "side": 8,
    "epochs": 2,
    "batch_size": 50,
    "train_images": 310,  # seven batches of 44 and 45: the parts of two processes differ in length
    "lr": 0.2,
    "precision": "float64",
    "device": "cpu",
}
SAME = {
    "ngs": {},
    "ngs-factor": {"optimizer": "ngs-factor"},
    "clipped": {"max_norm": 0.5},
    "one-cycle": {"schedule": "onecycle", "lr": 0.1},
    "in parts": {"accumulate": 2},
    "rates by stage": {"stage_decay": 2.0},
    "sgd-nesterov": {"optimizer": "sgd-nesterov", "max_norm": 0.5},
    # Its class token and positions belong to no stage: after a validation fully_shard still has
    # them as they were gathered, at the iterate.
    "transformer": {
        **{"model": "vit", "side": 32, "train_images": 24, "batch_size": 12, "epochs": 2},
        **{"validation": 8, "momentum": 0.8},
    },
    "held out": {"validation": 45, "views": "mirror", "label_smoothing": 0.1, "cutout": 8},
}
"""Settings under which several processes must do what one does, with either engine."""
SAME_DDP = {
    "adam": {"optimizer": "adam", "lr": 0.002},
    "mean of the weights": {"average": 0.9},
    "look back": {"average": 0.9, "lookahead": 3},
    "freed one by one": {"train_last": 1, "unfreeze_every": 1, "epochs": 4, "stage_decay": 2.0},
    "whole gradient": {"optimizer": "gradient-descent"},
}
JOBS = [
    {"name": f"{engine} {name}", "engine": engine, "settings": {**BASE, **changes}}
    for engine, cases in (("ddp", {**SAME, **SAME_DDP}), ("fsdp", SAME))
    for name, changes in cases.items()
]
NORMALISED = {"batch_norm": True, "epochs": 1}
JOBS += [
    {"name": f"{engine} normalised", "engine": engine, "settings": {**BASE, **NORMALISED}}
    for engine in ("ddp", "fsdp")
]
REFUSED = {
    "ddp guard": ({"guard": "watch"}, "guard watch is for runs of one process: leave it off"),
    "ddp compile": ({"compile": True}, "compile is for runs of one process"),
    "ddp one image": ({"batch_size": 1}, "batch-size must be at least the 2 processes, got 1"),
    "fsdp adam": ({"optimizer": "adam"}, "fsdp needs one of ngs, .*got adam: take it, or --para"),
    "fsdp frozen": ({"train_last": 1}, "train-last does not go with fsdp: give ddp"),
    "fsdp average": ({"average": 0.9}, "average does not go with fsdp: give ddp"),
}
JOBS += [
    {"name": name, "engine": name.split()[0], "settings": {**BASE, **changes}}
    for name, (changes, _) in REFUSED.items()
]


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def torchrun(*arguments: str, restarts: int = 0) -> list[str]:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*run, "--max-restarts", str(restarts), *arguments]


def together(jobs: list[dict[str, Any]], out: Path) -> dict[str, Any]:
    """Run jobs in two processes; return what each left."""
    (out / "jobs.json").write_text(json.dumps(jobs))
    script = str(Path(__file__).with_name("process_runs.py"))
    done = subprocess.run(
        torchrun(script, str(out / "jobs.json"), str(out)),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        name: found
        for engine in ("ddp", "fsdp")
        for name, found in json.loads((out / f"{engine}.json").read_text()).items()
    }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What two processes made of all jobs."""
    out = tmp_path_factory.mktemp("pair")
    return together(JOBS, out), out


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return found


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[key] - other[key]).abs().max()) for key in one)


RUNS: dict[str, tuple[dict[str, torch.Tensor], dict[str, Any]]] = {}


def alone(**changes: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the weights and the record of a run of one process; each is made once."""
    key = json.dumps(changes, sort_keys=True)
    if key not in RUNS:
        network, record = train(TrainConfig(**{**BASE, **changes}))
        RUNS[key] = network.state_dict(), record
    return RUNS[key]


CASES = [
    (engine, name, changes)
    for engine, cases in (("ddp", {**SAME, **SAME_DDP}), ("fsdp", SAME))
    for name, changes in cases.items()
]


@pytest.mark.parametrize(("engine", "name", "changes"), CASES, ids=lambda value: str(value)[:20])
def test_two_processes_follow_the_run_of_one(
    pair: tuple[dict[str, Any], Path], engine: str, name: str, changes: dict[str, Any]
) -> None:
    records, out = pair
    expected, record = alone(**changes)
    found = weights(out / f"{engine} {name}-0.pt")
    assert furthest(found, expected) < 1e-6  # what is promised; it is rounding
    assert furthest(found, expected) < 1e-10
    assert furthest(found, weights(out / f"{engine} {name}-1.pt")) == 0.0
    other = records[f"{engine} {name}"]
    assert other["processes"] == {"count": 2, "engine": engine, "backend": "gloo"}
    for row, wanted in zip(other["epochs"], record["epochs"], strict=True):
        for key in ("lr", "train_loss", "train_accuracy"):
            assert row[key] == pytest.approx(wanted[key], abs=2e-5)
        assert row.get("validation") == pytest.approx(wanted.get("validation"), abs=2e-5)
    assert other["test"]["confusion"] == record["test"]["confusion"]
    assert other["test"]["loss"] == pytest.approx(record["test"]["loss"], abs=2e-5)
    assert other["test"].get("views_accuracy") == record["test"].get("views_accuracy")
    assert [w["image"] for w in other["test"]["worst"]] == [
        w["image"] for w in record["test"]["worst"]
    ]
    assert asdict(TrainConfig(**{**BASE, **changes})) == other["config"]


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_with_batch_normalisation_the_processes_agree_and_keep_the_firsts_running_means(
    pair: tuple[dict[str, Any], Path], engine: str
) -> None:
    # Each normalises its own part of a batch, so this is another run than that of one process.
    _, out = pair
    first, second = (weights(out / f"{engine} normalised-{rank}.pt") for rank in (0, 1))
    assert any("running" in key for key in first)
    assert furthest(first, second) == 0.0
    expected, _ = alone(**NORMALISED)
    assert 1e-6 < furthest(first, expected) < 0.5


def test_a_process_of_fsdp_needs_half_the_memory_for_the_parameters(
    pair: tuple[dict[str, Any], Path],
) -> None:
    records, _ = pair
    both, half = (records[f"{engine} ngs"]["memory"] for engine in ("ddp", "fsdp"))
    for part in ("weights", "gradients", "optimizer"):
        assert half[part] == both[part] // 2
    assert half["activations"] == both["activations"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_several_processes_cannot_do_is_refused_in_one_line(
    pair: tuple[dict[str, Any], Path], name: str
) -> None:
    records, _ = pair
    assert re.search(REFUSED[name][1], records[name]["refused"]), records[name]
    assert "\n" not in records[name]["refused"]


# Checkpoints ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_a_checkpoint_goes_from_two_processes_to_one_and_back(engine: str, tmp_path: Path) -> None:
    settings = {**BASE, "optimizer": "ngs-factor", "epochs": 3}
    path = tmp_path / "c.ckpt"
    job = {"name": "part", "engine": engine, "settings": settings, "checkpoint": str(path)}
    # Only the first process asks to stop: the other must stop at the same step.
    stopped = together([{**job, "stop_after": 4}], tmp_path)
    assert stopped["part"] == {"stopped": True}
    assert read_checkpoint(path, TrainConfig(**settings))["state"]["step"] == 4
    asks = iter([False] * 6 + [True])
    with pytest.raises(Stopped):
        train(TrainConfig(**settings), checkpoint=path, stop=lambda: next(asks))
    assert read_checkpoint(path, TrainConfig(**settings))["state"]["step"] == 11
    found = together([job], tmp_path)["part"]
    expected, record = alone(**settings)
    assert found["parts"] == 3
    assert furthest(weights(tmp_path / "part-0.pt"), expected) < 1e-10
    for row, wanted in zip(found["epochs"], record["epochs"], strict=True):
        assert row["train_loss"] == pytest.approx(wanted["train_loss"], abs=2e-5)
        assert row["train_accuracy"] == wanted["train_accuracy"]


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_two_processes_go_on_after_the_last_step_of_an_epoch(engine: str, tmp_path: Path) -> None:
    # The sums of the epoch are then with the first process alone.
    path = tmp_path / "c.ckpt"
    job = {"name": "part", "engine": engine, "settings": BASE, "checkpoint": str(path)}
    assert together([{**job, "stop_after": 7}], tmp_path)["part"] == {"stopped": True}
    assert read_checkpoint(path, TrainConfig(**BASE))["state"]["step"] == 7
    found = together([job], tmp_path)["part"]
    expected, record = alone()
    assert furthest(weights(tmp_path / "part-0.pt"), expected) < 1e-10
    assert [row["train_accuracy"] for row in found["epochs"]] == [
        row["train_accuracy"] for row in record["epochs"]
    ]


# Accidents --------------------------------------------------------------------------------------

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").is_file(), reason="finding the processes of torchrun: no /proc"
)
LONG = {**BASE, "epochs": 40, "optimizer": "ngs-factor"}


def command(out: Path, restarts: int = 0) -> list[str]:
    words = []
    for name, value in LONG.items():
        option = name.replace("_", "-")
        words += ["--no-" + option] if value is False else ["--" + option, str(value)]
    module = ("-m", "ngs", "train", "--save-every", "0", "--out", str(out), *words)
    return torchrun(*module, restarts=restarts)


def child(parent: int, rank: int) -> int | None:
    """Return the process of a rank that torchrun has started."""
    for folder in Path("/proc").iterdir():
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            variables = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError, IndexError):
            continue
        if int(status[1]) == parent and f"RANK={rank}".encode() in variables:
            return int(folder.name)
    return None


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
    return found


def kill_once(process: "subprocess.Popen[str]", rank: int, out: Path) -> Path:
    """Kill the process of a rank in the middle of a run; return the checkpoint."""
    checkpoint = checkpoint_path(out, TrainConfig(**LONG))
    wait_for(checkpoint.is_file)
    time.sleep(0.3)
    os.kill(wait_for(lambda: child(process.pid, rank)), 9)
    return checkpoint


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@needs_proc
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_with_one_clear_line_and_a_whole_checkpoint(
    rank: int, tmp_path: Path
) -> None:
    process = start(command(tmp_path))
    checkpoint = kill_once(process, rank, tmp_path)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    name = "ngs" if rank else "ngs (process 1)"
    lines = [line for line in output.splitlines() if line.startswith(("ngs: ", "ngs ("))]
    assert lines == [
        f"{name}: another process of this run has ended; the same command goes on from {checkpoint}"
    ], output
    state = read_checkpoint(checkpoint, TrainConfig(**LONG))["state"]
    assert 0 < state["step"] < 280
    network, record = train(TrainConfig(**LONG), checkpoint=checkpoint)
    expected, _ = alone(**LONG)
    assert record["parts"] == 2
    assert furthest(network.state_dict(), expected) < 1e-6


@needs_proc
def test_torchrun_starts_a_broken_run_again_and_it_goes_on(tmp_path: Path) -> None:
    process = start([*command(tmp_path, restarts=1), "--fresh"])
    kill_once(process, 1, tmp_path)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output[-3000:]
    assert "going on from" in output
    (line,) = (tmp_path / "records.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["parts"] == 2
    assert len(record["epochs"]) == 40
    expected, _ = alone(**LONG)
    assert furthest(weights(tmp_path / record["weights"]), expected) < 1e-6
    assert not checkpoint_path(tmp_path, TrainConfig(**LONG)).is_file()


# In one process ---------------------------------------------------------------------------------


def test_outside_of_torchrun_there_is_one_process() -> None:
    with join("fsdp") as processes:
        assert processes == Processes(engine="fsdp")
        assert processes.main
        assert not processes.together
        assert not processes.sharded
        assert processes.any(True, False) == (True, False)
        assert processes.part(torch.arange(3)).tolist() == [0, 1, 2]
        assert processes.total(torch.tensor(3.0)) == 3.0
    with pytest.raises(InputError, match="parallel must be one of ddp, fsdp, got 'tp'"), join("tp"):
        pass


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ngs.train.processes.started", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    message = "more processes than the 1 CUDA devices .*--nproc-per-node 1, or --device cpu"
    with pytest.raises(InputError, match=message), join("ddp"):
        pass


def test_every_process_but_the_first_draws_numbers_of_its_own() -> None:
    drawn = []
    for rank in (0, 1, 2):
        torch.manual_seed(5)
        Processes(rank=rank, count=3).vary(5, 0)
        drawn.append(torch.rand(3).tolist())
    torch.manual_seed(5)
    assert drawn[0] == torch.rand(3).tolist()
    assert len(set(map(tuple, drawn))) == 3


def test_only_what_tells_of_a_lost_process_counts_as_one() -> None:
    assert is_lost(RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:1234"))
    assert is_lost(distributed.DistBackendError("NCCL communicator was aborted"))
    assert not is_lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"))


class Elsewhere(Processes):
    """One of several processes, of which another has found something."""

    def any(self, *flags: bool) -> tuple[bool, ...]:
        return tuple(True for _ in flags)


def test_a_checkpoint_on_another_machine_alone_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give an --out that all machines share"):
        train(
            TrainConfig(**BASE),
            checkpoint=tmp_path / "c.ckpt",
            processes=Elsewhere(count=1, rank=1),
        )
