"""Claims about the command ``ngs``: what it prints, writes and returns, and that whatever cannot be
used ends with one line on standard error, exit code 2 and nothing written or lost.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest
import torch
from made_up_cifar10 import take_for_official, truncate, unpack, work_where_no_data_are
from terminal import started

import ngs
from ngs import cli, options
from ngs.records import read_records
from ngs.train import data, loop, models, offline
from ngs.train.config import OPTIMIZERS, PRESETS, SCHEDULES, TrainConfig
from ngs.train.run import DivergenceError
from ngs.train.vision import torchvision

IN_A_PROCESS = [sys.executable, "-c", "from ngs.cli import main; main()"]
EARLIER = b'{"kind": "train", "from": "an earlier run"}\n'


@dataclass
class Result:
    code: int
    out: str
    err: str


Call = Callable[..., Result]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command inside this process, as if typed."""

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["ngs", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return Result(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """120 training and 40 test images, and a network of width 4: a run takes a moment."""
    images, labels = offline.generate(160, seed=3)
    parts = (images[:120], labels[:120], images[120:], labels[120:])
    monkeypatch.setattr(offline, "train_and_test", lambda: parts)
    monkeypatch.setitem(models.MODELS, "convnet-narrow", lambda norm: models.ConvNet(4, norm))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder of results that holds an earlier record and earlier weights."""
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "records.jsonl").write_bytes(EARLIER)
    (folder / "earlier.pt").write_bytes(b"weights")
    return folder


def is_untouched(folder: Path) -> bool:
    found = {p.name: p.read_bytes() for p in folder.iterdir()}
    return found == {"records.jsonl": EARLIER, "earlier.pt": b"weights"}


def is_one_line(text: str) -> bool:
    return text.startswith("ngs: ") and text.endswith("\n") and text.count("\n") == 1


QUICK = ("--epochs", "1", "--batch-size", "40", "--device", "cpu", "--precision", "float32")


# What cannot be used ----------------------------------------------------------------------------

REFUSED = {
    "unknown command": (["trian"], ["trian", "ngs --help"]),
    "unknown option": (["train", "--rate", "1"], ["--rate", "ngs train --help"]),
    "option without its value": (["train", "--lr"], ["--lr", "requires an argument"]),
    "superfluous argument": (["train", "now"], ["now", "ngs train --help"]),
    "unknown model": (["train", "--model", "resnet"], ["model", "convnet-narrow", "'resnet'"]),
    "unknown data set": (["train", "--dataset", "mnist"], ["dataset", "offline", "'mnist'"]),
    "unknown optimizer": (["train", "--optimizer", "lion"], ["optimizer", "sgd", "'lion'"]),
    "unknown device": (["train", "--device", "tpu"], ["device", "cpu", "'tpu'"]),
    "negative lr": (["train", "--lr", "-0.1"], ["lr", "above 0", "-0.1"]),
    "lr not a number": (["train", "--lr", "fast"], ["--lr", "'fast'"]),
    "lr is nan": (["train", "--lr", "nan"], ["lr", "finite", "nan"]),
    "momentum 1": (["train", "--momentum", "1.0"], ["momentum", "[0, 1)", "1.0"]),
    "negative weight decay": (["train", "--weight-decay", "-1"], ["weight-decay", "-1.0"]),
    "no epochs": (["train", "--epochs", "0"], ["epochs", "1 or more", "got 0"]),
    "half an epoch": (["train", "--epochs", "0.5"], ["--epochs", "'0.5'"]),
    "empty batch": (["train", "--batch-size", "0"], ["batch-size", "1 or more", "got 0"]),
    "batch larger than the data": (
        ["train", "--batch-size", "121"],
        ["batch-size", "at most the 120 training images", "got 121"],
    ),
    "more training images than there are": (
        ["train", "--train-images", "21", "--validation", "100"],
        ["train-images", "at most the 20 training images", "not held out", "got 21"],
    ),
    "images too small for the network": (
        ["train", "--side", "16"],
        ["side", "32 for model convnet-narrow", "got 16", "small"],
    ),
    "too few steps for a cycle": (
        ["train", "--epochs", "1", "--batch-size", "40", "--schedule", "onecycle"],
        ["onecycle", "4 steps or more", "got 3", "epochs", "batch-size"],
    ),
    "nothing left to train on": (
        ["train", "--validation", "120"],
        ["validation", "0 .. 119", "got 120"],
    ),
    "seed too large": (["train", "--seed", str(2**64)], ["seed", "2**64 - 1", str(2**64)]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_ends_in_one_line_and_code_2(
    name: str, call: Call, few: None, out: Path
) -> None:
    typed, parts = REFUSED[name]
    if typed[0] == "train":
        typed = [typed[0], "--out", str(out), *typed[1:]]
    result = call(*typed)
    assert result.code == 2
    assert is_one_line(result.err)
    assert result.out == ""
    for part in parts:
        assert part in result.err
    assert is_untouched(out)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(
    name: str, call: Call, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    result = call("train", "--device", name, "--out", str(out))
    assert result.code == 2
    assert result.err == f"ngs: device {name} is not available here; available: auto, cpu\n"
    assert result.out == ""
    assert is_untouched(out)


@pytest.mark.parametrize("command", ["data", "train"])
@pytest.mark.parametrize("below", ["", "sub/folder"])
def test_an_out_folder_that_cannot_be_written_is_refused_before_the_work(
    command: str, below: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError("the work began")

    monkeypatch.setattr(loop, "load", loaded)
    monkeypatch.setattr(data, "load", loaded)
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    result = call(command, "--out", str(file / below))
    assert result.code == 2
    assert is_one_line(result.err)
    for part in ("cannot write", str(file / below), "--out"):
        assert part in result.err
    assert result.out == ""
    assert file.read_bytes() == b"mine"


@pytest.mark.parametrize("command", ["data", "train"])
def test_a_truncated_cifar10_is_refused(
    command: str, call: Call, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work_where_no_data_are(monkeypatch, tmp_path / "work")
    files = take_for_official(monkeypatch)
    victim = unpack(files, tmp_path / "cifar") / "data_batch_2"
    victim.write_bytes(truncate(files["data_batch_2"]))
    monkeypatch.setenv("NGS_DATA", str(tmp_path / "cifar"))
    result = call(command, "--dataset", "cifar10", "--out", str(out))
    assert result.code == 2
    assert is_one_line(result.err)
    assert f"{victim} is damaged" in result.err
    assert "delete the folder" in result.err
    assert result.out == ""
    assert is_untouched(out)
    assert victim.read_bytes() == truncate(files["data_batch_2"])


@pytest.mark.parametrize("command", ["data", "train"])
@pytest.mark.parametrize("leave", ["--download", "--no-download"])
def test_cifar10_without_data_and_network_names_the_offline_data_set(
    command: str,
    leave: str,
    call: Call,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def no_network(*args: Any, **kwargs: Any) -> NoReturn:
        raise urllib.error.URLError("Temporary failure in name resolution")

    work_where_no_data_are(monkeypatch, tmp_path / "work")
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("NGS_DATA", str(tmp_path / "mine"))
    utils = torchvision().datasets.utils
    monkeypatch.setattr(utils, "download_and_extract_archive", no_network)
    result = call(command, "--dataset", "cifar10", leave, "--out", str(out))
    assert result.code == 2
    assert is_one_line(result.err)
    why = "name resolution" if leave == "--download" else "not allowed"
    for part in (str(tmp_path / "mine"), why, "NGS_DATA", "--dataset offline"):
        assert part in result.err
    assert result.out == ""
    assert is_untouched(out)
    assert list(Path().iterdir()) == list((tmp_path / "mine").iterdir()) == []


def test_a_missing_torch_is_named_with_the_way_to_install_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from ngs.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "--out", tmp_path / "runs"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert is_one_line(done.stderr)
    assert "pip install 'ngs[" in done.stderr
    assert list(tmp_path.iterdir()) == []


# What fails on the way --------------------------------------------------------------------------


def test_divergence_ends_in_one_line_and_code_1_without_weights(
    call: Call, few: None, out: Path
) -> None:
    result = call(
        "train", *QUICK, "--lr", "1e6", "--no-batch-norm", "--schedule", "constant",
        "--out", str(out),
    )  # fmt: skip
    assert result.code == 1
    assert is_one_line(result.err)
    assert "epoch 1" in result.err
    assert "--lr" in result.err
    assert "test accuracy" not in result.out
    assert is_untouched(out)


def test_divergence_in_the_last_step_is_no_result_either(call: Call, few: None, out: Path) -> None:
    result = call(
        "train", *QUICK, "--batch-size", "120", "--lr", "1e30", "--no-batch-norm",
        "--out", str(out),
    )  # fmt: skip
    assert result.code == 1
    assert is_one_line(result.err)
    assert "--lr" in result.err
    assert is_untouched(out)


def test_ctrl_c_ends_in_one_line_and_code_130(
    call: Call, few: None, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def interrupted(self: loop.Run, *batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return torch.ones(()), torch.ones((), dtype=torch.int64)

    monkeypatch.setattr(loop.Run, "train_step", interrupted)
    result = call("train", *QUICK, "--out", str(out))
    assert result.code == 130
    # A blank line first: on a terminal it ends the line on which ^C was echoed.
    assert result.err.lstrip("\n") == "ngs: interrupted; nothing was recorded\n"
    assert is_untouched(out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_mid_run_saves_and_says_how_to_go_on(number: int, out: Path) -> None:
    few = "from ngs.train import offline; offline.TRAIN, offline.TEST = 200, 50; "
    typed = ["train", "--epochs", "1000", "--device", "cpu", "--out", str(out)]
    process = started(few + IN_A_PROCESS[-1], *typed)
    try:
        assert process.stdout is not None
        assert any(line.startswith("device:") for line in process.stdout)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    (checkpoint,) = out.glob("unfinished-*.ckpt")
    assert len(list(out.iterdir())) == 3  # beside the earlier record and weights
    assert err.splitlines()[-1] == f"ngs: stopped; the same command goes on from {checkpoint}"


@pytest.mark.parametrize("victim", [(os, "fsync"), (Path, "replace")], ids=["write", "replace"])
def test_a_full_disk_ends_in_one_line_and_code_1(
    victim: tuple[Any, str], call: Call, few: None, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*victim, full)
    result = call("train", *QUICK, "--out", str(out))
    assert result.code == 1
    assert is_one_line(result.err)
    assert "No space left on device" in result.err
    assert is_untouched(out)


# What works -------------------------------------------------------------------------------------

OPTIONS = [f"--{field.name.replace('_', '-')}" for field in fields(TrainConfig)]


def test_ngs_alone_lists_its_commands(call: Call) -> None:
    result = call()
    assert result.err == ""
    for part in ("Usage: ngs", "data", "train", "--help", "--version"):
        assert part in result.out


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_ngs_lists_its_commands(flag: str, call: Call) -> None:
    result = call(flag)
    assert (result.code, result.err) == (0, "")
    for name in cli.ngs.commands:
        assert f"\n  {name} " in result.out


def test_version_is_that_of_the_package(call: Call) -> None:
    result = call("--version")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"ngs, version {ngs.__version__}\n"


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("data", ["--dataset", "--download", "--no-download", "--out", "--help"]),
        ("train", [*OPTIONS, "--no-augment", "--no-batch-norm", "--no-download", "--out"]),
    ],
)
def test_help_names_every_option_and_describes_it(
    command: str, options: list[str], call: Call
) -> None:
    result = call(command, "--help")
    assert (result.code, result.err) == (0, "")
    words = result.out.replace("/", " ").replace(",", " ").split()
    for option in options:
        assert option in words
    for parameter in cli.ngs.commands[command].params:
        assert isinstance(parameter, click.Option)
        assert parameter.help, parameter.name
        assert set(parameter.opts) <= set(words)


@pytest.mark.parametrize(
    ("option", "names"),
    [("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("model", models.MODELS)],
)
def test_help_of_train_names_everything_that_can_be_chosen(
    option: str, names: tuple[str, ...]
) -> None:
    (found,) = [p for p in cli.train.params if p.name == option]
    words = found.help.replace(",", " ").replace(".", " ").replace(":", " ").split()
    assert set(names) <= set(words)


def test_every_setting_of_a_run_can_be_typed_and_has_one_default() -> None:
    settings = {p.name: p.default for p in cli.train.params}
    for field in fields(TrainConfig):
        assert settings[field.name] == field.default


def test_help_of_train_gives_an_example_that_can_be_typed(call: Call) -> None:
    lines = [line.strip() for line in call("train", "--help").out.splitlines()]
    examples = [shlex.split(line) for line in lines if " train --" in line]
    assert [words[0] for words in examples] == ["ngs", "torchrun"]
    for words in examples:
        context = cli.train.make_context("train", words[words.index("train") + 1 :])
        for name in ("download", "out", "save_every", "fresh", "report", "tensorboard", "parallel"):
            context.params.pop(name)
        assert TrainConfig(**context.params).dataset == "cifar10"


def test_help_loads_no_torch() -> None:
    code = (
        "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules));"
        "from ngs.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.endswith("\nFalse\n")


def test_data_says_what_the_offline_set_holds(call: Call, few: None) -> None:
    result = call("data")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].startswith("offline: generated by ngs")
    assert lines[1].split() == ["training", "images", "120"]
    assert lines[2].split() == ["test", "images", "40"]
    assert len(lines[3].split()) == len(lines[4].split()) == 6
    assert all(name in lines[5] for name in offline.CLASSES)


def test_data_writes_nothing_unless_asked(
    call: Call, few: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    call("data")
    assert list(tmp_path.iterdir()) == []


def test_data_finds_cifar10_and_records_what_it_holds(
    call: Call, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work_where_no_data_are(monkeypatch, tmp_path / "work")
    unpack(take_for_official(monkeypatch), tmp_path / "cifar")
    monkeypatch.setenv("NGS_DATA", str(tmp_path / "cifar"))
    typed = ["data", "--dataset", "cifar10", "--no-download", "--out", str(out)]
    result = call(*typed)
    assert (result.code, result.err) == (0, "")
    assert str(tmp_path / "cifar") in result.out
    assert "airplane 2, automobile 2" in result.out
    earlier, record = read_records(out / "records.jsonl")
    assert earlier == json.loads(EARLIER)
    assert (record["kind"], record["dataset"]) == ("data", "cifar10")
    assert shlex.split(record["command"]) == ["ngs", *typed]
    assert record["images"] == {"train": [2] * 10, "test": [1] * 10}
    assert record["classes"][:2] == ["airplane", "automobile"]
    found = data.load("cifar10", download=False)
    assert record["mean"] == pytest.approx(found.mean, abs=1e-6)
    assert record["std"] == pytest.approx(found.std, abs=1e-6)


def test_cifar10_is_trained_on_under_its_own_name(
    call: Call, few: None, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work_where_no_data_are(monkeypatch, tmp_path / "work")
    unpack(take_for_official(monkeypatch), Path("data"))
    result = call("train", *QUICK, "--batch-size", "10", "--dataset", "cifar10", "--out", str(out))
    assert (result.code, result.err) == (0, "")
    _, record = read_records(out / "records.jsonl")
    assert record["config"]["dataset"] == "cifar10"
    assert record["weights"].startswith("cifar10-")
    assert record["images"] == {"train": 20, "validation": 0, "test": 10}
    assert "10 images of cifar10" in result.out


def test_every_typed_setting_reaches_the_run(
    call: Call, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run(config: TrainConfig, *, download: bool, **more: Any) -> NoReturn:
        seen.append((config, download, more["save_every"]))
        raise DivergenceError("stopped here")

    monkeypatch.setattr(loop, "train", run)
    call(
        "train", "--dataset", "cifar10", "--model", "small", "--epochs", "3",
        "--batch-size", "7", "--optimizer", "sgd", "--lr", "0.3", "--momentum", "0.8",
        "--weight-decay", "0.01", "--schedule", "constant", "--factor-every", "9",
        "--no-batch-norm", "--no-augment", "--shift", "3", "--flip", "alternating",
        "--cutout", "8", "--label-smoothing", "0.2", "--accumulate", "4", "--max-norm", "2",
        "--average", "0.6", "--lookahead", "6", "--target", "0.9", "--compile",
        "--low-share", "0.5", "--low-side", "12", "--views", "mirror",
        "--guard", "watch",
        "--validation", "11", "--train-images", "13", "--side", "16", "--seed", "5",
        "--device", "cpu", "--precision", "bfloat16", "--no-download", "--save-every", "7",
        "--out", str(out),
    )  # fmt: skip
    typed = TrainConfig(
        dataset="cifar10", model="small", epochs=3, batch_size=7, optimizer="sgd", lr=0.3,
        momentum=0.8, weight_decay=0.01, schedule="constant", factor_every=9, batch_norm=False,
        augment=False, shift=3, flip="alternating", cutout=8, label_smoothing=0.2, accumulate=4,
        max_norm=2.0, average=0.6, lookahead=6, target=0.9, compile=True, low_share=0.5,
        low_side=12, views="mirror", guard="watch", validation=11, train_images=13, side=16, seed=5,
        device="cpu",
        precision="bfloat16",
    )  # fmt: skip
    assert seen == [(typed, False, 7.0)]
    call(
        "train", "--model", "fast", "--bias-scale", "3", "--whitening-epochs", "4", "--classes",
        "3,5", "--init", "w.pt", "--new-head", "--train-last", "2", "--unfreeze-every", "3",
        "--out", str(out),
    )  # fmt: skip
    other = TrainConfig(
        model="fast", bias_scale=3.0, whitening_epochs=4, classes="3,5", init="w.pt", new_head=True,
        train_last=2, unfreeze_every=3,
    )  # fmt: skip
    assert seen[1] == (other, True, 60.0)
    call("train", "--stage-decay", "2.6", "--out", str(out))
    assert seen[2] == (TrainConfig(stage_decay=2.6), True, 60.0)
    for field in fields(TrainConfig):
        given = {getattr(config, field.name) for config, _, _ in seen}
        assert given - {field.default}, "the test types another value"


def test_a_preset_sets_the_defaults_and_options_change_parts_of_it(
    call: Call, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run(config: TrainConfig, **more: Any) -> NoReturn:
        seen.append(config)
        raise DivergenceError("stopped here")

    monkeypatch.setattr(loop, "train", run)
    call("train", "--preset", "fast", "--out", str(out))
    call("train", "--epochs", "2", "--preset", "fast", "--momentum", "0.9", "--out", str(out))
    whole = TrainConfig(**PRESETS["fast"])
    assert seen == [whole, replace(whole, epochs=2, momentum=0.9)]
    assert (whole.dataset, whole.model, whole.optimizer) == ("cifar10", "fast", "ngs")


def test_a_preset_that_is_not_there_is_refused(call: Call, out: Path) -> None:
    found = call("train", "--preset", "quick", "--out", str(out))
    assert (found.code, found.err) == (2, "ngs: preset must be one of fast, got 'quick'\n")


def test_two_runs_in_one_second_keep_both_weights(
    call: Call, few: None, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provenance = loop.provenance
    same = {"date": "2026-01-02T03:04:05+00:00"}
    monkeypatch.setattr(loop, "provenance", lambda device: {**provenance(device), **same})
    for seed in ("0", "1", "2"):
        assert call("train", *QUICK, "--seed", seed, "--out", str(out)).code == 0
    earlier, *found = read_records(out / "records.jsonl")
    assert earlier == json.loads(EARLIER)
    names = [record["weights"] for record in found]
    stem = "offline-convnet-narrow-20260102T030405"
    assert names == [f"{stem}.pt", f"{stem}-2.pt", f"{stem}-3.pt"]
    first = [next(iter(torch.load(out / n, weights_only=True).values())) for n in names]
    assert not torch.equal(first[0], first[1])
    assert (out / "records.jsonl").read_bytes().startswith(EARLIER)


def test_the_saved_weights_are_those_that_were_tested(
    call: Call, few: None, tmp_path: Path
) -> None:
    result = call("train", *QUICK, "--out", str(tmp_path / "new" / "runs"))
    assert (result.code, result.err) == (0, "")
    (record,) = read_records(tmp_path / "new" / "runs" / "records.jsonl")
    network = models.build("convnet-narrow")
    path = tmp_path / "new" / "runs" / record["weights"]
    network.load_state_dict(torch.load(path, weights_only=True))
    config = TrainConfig(**record["config"])
    run = loop.Run(
        config, data.load("offline"), network, torch.device("cpu"), torch.float32, loop.Clock()
    )
    assert run.finish() == record["test"]
    assert f"test accuracy {record['test']['accuracy']:.2%} on 40 images of offline" in result.out


def test_a_real_run_in_its_own_process_records_what_was_typed(tmp_path: Path) -> None:
    typed = [
        "train", "--epochs", "1", "--batch-size", "500", "--validation", "4500", "--seed", "3",
        "--device", "cpu", "--precision", "float32", "--out", "my runs",
    ]  # fmt: skip
    done = subprocess.run([*IN_A_PROCESS, *typed], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (record,) = read_records(tmp_path / "my runs" / "records.jsonl")
    assert shlex.split(record["command"]) == ["ngs", *typed]
    assert record["config"]["seed"] == 3
    assert record["images"] == {"train": 500, "validation": 4500, "test": 1000}
    files = sorted(p.name for p in (tmp_path / "my runs").iterdir())
    assert files == sorted(["records.jsonl", record["weights"]])
    assert record["weights"].startswith("offline-convnet-narrow-")
    assert "1,000 images of offline" in done.stdout


def test_a_full_disk_ends_the_data_command_in_one_line(tmp_path, monkeypatch, capsys):
    def full(path, record):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("ngs.train.records.append_record", full)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["data", "--out", str(tmp_path)])
    error = capsys.readouterr().err
    assert stopped.value.code == 1
    assert "No space left" in error
    assert error.count("\n") == 1


def test_the_options_are_the_settings_with_their_defaults() -> None:
    declared = {
        flag.split("/")[0].replace("-", "_"): default
        for flag, (default, _) in options.SETTINGS.items()
    }
    assert declared == {field.name: field.default for field in fields(TrainConfig)}


@pytest.mark.parametrize(
    ("command", "without"),
    [
        ("train", set()),
        ("compare", {"optimizer", "lr", "seed"}),
        ("range", {"lr", "epochs", "schedule", "target", "views", "factor_every", "guard"}),
        ("bench train", {"epochs", "target", "views", "seed", "guard"}),
    ],
)
def test_every_command_that_trains_has_the_settings(command: str, without: set[str]) -> None:
    found: click.Command = cli.ngs
    for name in command.split():
        assert isinstance(found, click.Group)
        found = found.commands[name]
    names = {parameter.name for parameter in found.params}
    assert {field.name for field in fields(TrainConfig)} - names == without


def test_settings_of_a_comparison_reach_its_runs(
    call: Call, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainConfig] = []

    def run(config: TrainConfig, **more: Any) -> NoReturn:
        seen.append(config)
        raise DivergenceError("stopped here")

    monkeypatch.setattr("ngs.train.compare.train", run)
    call(
        "compare", "--optimizers", "ngs", "--lrs", "0.2", "--seeds", "3", "--no-augment",
        "--label-smoothing", "0.1", "--cutout", "4", "--out", str(out / "c.jsonl"),
    )  # fmt: skip
    typed = {"model": "small", "epochs": 6, "augment": False, "label_smoothing": 0.1, "cutout": 4}
    assert seen == [TrainConfig(lr=0.2, seed=3, **typed)]


def test_a_signal_that_torchrun_passes_on_once_more_does_not_interrupt() -> None:
    with cli._asked_to_stop(patient=True) as stop:
        assert not stop()
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert stop()
    with cli._asked_to_stop():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
