"""Claims about a training run: its record, its determinism, what it reads, how it fails, and that
records and weights survive faults. A few small offline images and a network of width 4 do for that.
"""

import dataclasses
import io
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from few_images import few_images
from torch import nn

from ngs.errors import InputError
from ngs.optim.torch import NGS
from ngs.records import read_records
from ngs.train import data, loop, memory, models, records
from ngs.train.augment import Augmentation, alternate, batches, normalize, scaled
from ngs.train.board import Board, scalars
from ngs.train.config import TrainConfig
from ngs.train.optimizers import build_optimizer, learning_rates
from ngs.train.run import DivergenceError

TRAIN, TEST = 120, 40

RECORD = {
    "kind",  # "train"
    "config",  # every field of TrainConfig, as given
    "date",  # UTC, ISO 8601, to the second, of the start
    "commit",  # of the checkout; None when there is none
    "modified",  # whether ngs/ differed from that commit
    "device",  # kind and name of the processor
    "threads",  # of torch on the CPU
    "versions",  # python, ngs, torch, torchvision, numpy
    "system",  # operating system and architecture
    "precision",  # of the arithmetic: float32 or bfloat16
    "parameters",  # number of trained numbers
    "multiply_adds",  # of a forward pass, an image
    "memory",  # bytes of a step by what they hold
    "images",  # of each split
    "run",  # names it: a run that goes on from a checkpoint keeps its name
    "parts",  # how many processes it took, 1 unless it was stopped
    "epochs",  # one row an epoch
    "test",  # loss, accuracy and confusion matrix, measured once
    "seconds",  # wall time by part: load, data, train, evaluate
    "wall_seconds",  # of training and test, without loading
    "cpu_seconds",  # the same, of the processor
}
ROW = {"epoch", "lr", "train_loss", "train_accuracy", "seconds"}  # and "validation" when held out

SMALL = {
    "model": "tiny",
    "epochs": 2,
    "batch_size": 32,
    "lr": 0.02,
    "device": "cpu",
    "precision": "float32",
}


@pytest.fixture(scope="module")
def small() -> data.Dataset:
    return few_images(TRAIN, TEST)


@pytest.fixture(autouse=True)
def few_images_and_a_tiny_network(small: data.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "load", lambda name, download=True: small)
    monkeypatch.setitem(models.MODELS, "tiny", lambda batch_norm: models.ConvNet(4, batch_norm))


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{**SMALL, **changes})


def losses(record: records.Record) -> list[float]:
    return [row["train_loss"] for row in record["epochs"]] + [record["test"]["loss"]]


# The record -------------------------------------------------------------------------------------


def test_record_holds_every_field_that_judging_and_repeating_a_run_takes() -> None:
    _, record = loop.train(config(validation=20))
    assert set(record) == RECORD
    assert record["kind"] == "train"
    assert record["config"] == dataclasses.asdict(config(validation=20))
    assert TrainConfig(**record["config"]) == config(validation=20)
    assert record["images"] == {"train": TRAIN - 20, "validation": 20, "test": TEST}
    assert record["precision"] == "float32"
    assert record["device"].startswith("cpu: ")
    assert set(record["versions"]) == {"python", "ngs", "torch", "torchvision", "numpy"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["date"])
    assert record["parameters"] == models.parameter_count(models.ConvNet(4))
    assert [row["epoch"] for row in record["epochs"]] == [1, 2]
    for row in record["epochs"]:
        assert set(row) == ROW | {"validation"}
        assert set(row["validation"]) == {"loss", "accuracy"}
    assert set(record["test"]) == {"loss", "accuracy", "confusion", "worst"}
    assert set(record["seconds"]) == {"load", "data", "train", "evaluate"}
    assert record["wall_seconds"] > 0
    assert record["cpu_seconds"] > 0
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_record_has_no_validation_where_nothing_was_held_out() -> None:
    _, record = loop.train(config(epochs=1))
    assert set(record["epochs"][0]) == ROW
    assert record["images"]["validation"] == 0


def test_record_names_the_commit_of_the_checkout_and_whether_ngs_was_changed() -> None:
    root = Path(records.__file__).parents[2]
    done = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
    found = records.provenance(torch.device("cpu"))
    assert found["commit"] == (done.stdout.strip() or None)
    assert (found["modified"] is None) == (found["commit"] is None)


@pytest.mark.parametrize("lacking", ["git", "checkout"])
def test_record_says_so_where_the_commit_cannot_be_known(
    lacking: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if lacking == "git":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:  # installed inside somebody else's repository: its commit says nothing about ngs
        git = ["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run([*git, "init", "--quiet"], check=True)
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "theirs"], check=True)
        monkeypatch.setattr(records, "__file__", str(tmp_path / "ngs" / "train" / "records.py"))
    found = records.provenance(torch.device("cpu"))
    assert (found["commit"], found["modified"]) == (None, None)


# Determinism ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    first_network, first = loop.train(config())
    again_network, again = loop.train(config())
    assert losses(again) == losses(first)
    assert again["test"] == first["test"]
    for one, other in zip(
        first_network.state_dict().values(), again_network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
    _, different = loop.train(config(seed=1))
    assert different["epochs"][0]["train_loss"] != first["epochs"][0]["train_loss"]


def test_the_seed_decides_initial_weights_data_order_and_augmentation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[tuple[torch.Tensor, ...]] = []

    def first_step(self: loop.Run, images: torch.Tensor, labels: torch.Tensor) -> None:
        begun.append((next(self.model.parameters()).detach().clone(), labels, images))
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Run, "train_step", first_step)
    for seed in (0, 0, 1):
        torch.manual_seed(99)  # whatever was drawn before
        with pytest.raises(KeyboardInterrupt):
            loop.train(config(seed=seed))
    for first, again, other in zip(*begun, strict=True):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_the_largest_allowed_seed_works() -> None:
    loop.train(config(epochs=1, seed=2**64 - 1))


def test_measuring_validation_does_not_change_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, measured = loop.train(config(validation=20))
    nothing = {"loss": 0.0, "accuracy": 0.0}
    monkeypatch.setattr(loop.Run, "evaluate", lambda self, split: nothing)
    _, unmeasured = loop.train(config(validation=20))
    for one, other in zip(measured["epochs"], unmeasured["epochs"], strict=True):
        assert one["train_loss"] == other["train_loss"]


# Training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["ngs", "sgd"])
def test_training_reduces_the_loss(optimizer: str) -> None:
    _, record = loop.train(config(optimizer=optimizer, epochs=12, augment=False))
    found = [row["train_loss"] for row in record["epochs"]]
    assert found[0] > 2.0  # ten classes by chance: log 10 = 2.3
    assert found[-1] < 0.75 * found[0]
    assert record["epochs"][-1]["train_accuracy"] > record["epochs"][0]["train_accuracy"] + 0.2


def test_a_run_takes_the_steps_of_the_obvious_loop(small: data.Dataset) -> None:
    settings = config(seed=4)
    trained, record = loop.train(settings)
    images_in_use = small.hold_out(0).train
    torch.manual_seed(4)
    network = models.build("tiny")
    optimizer = NGS(network.parameters(), settings.lr, settings.momentum, settings.weight_decay)
    schedule = learning_rates(settings, 8)  # 2 epochs of ceil(120 / 32) steps
    draws, step = torch.Generator().manual_seed(4), 0
    for row in record["epochs"]:
        total = 0.0
        for images, labels in batches(
            images_in_use, 32, small.mean, small.std, generator=draws, augment=Augmentation()
        ):
            optimizer.param_groups[0]["lr"] = schedule(step)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
            step += 1
        assert row["train_loss"] == pytest.approx(total / TRAIN, abs=1e-4)
    optimizer.to_iterate()
    for found, expected in zip(trained.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_every_option_that_should_change_the_training_does() -> None:
    plain = losses(loop.train(config())[1])
    for change in (
        {"lr": 0.03},
        {"momentum": 0.5},
        {"weight_decay": 0.1},
        {"schedule": "constant"},
        {"schedule": "onecycle"},
        {"schedule": "triangle"},
        {"average": 0.9, "lookahead": 2},
        {"model": "small"},
        {"optimizer": "sgd"},
        {"optimizer": "sgd-nesterov"},
        {"optimizer": "ngs-factor"},
        {"train_images": 100},
        {"batch_norm": False},
        {"augment": False},
        {"batch_size": 40},
        {"validation": 20},
        {"precision": "bfloat16"},
        {"shift": 1},
        {"flip": "none"},
        {"flip": "alternating"},
        {"cutout": 12},
        {"label_smoothing": 0.1},
        {"accumulate": 2},
        {"max_norm": 0.1},
    ):
        assert losses(loop.train(config(**change))[1]) != plain, change


def trained(record: records.Record) -> list[float]:
    return [row["train_loss"] for row in record["epochs"]]


def close(one: records.Record, other: records.Record) -> bool:
    return bool(np.allclose(trained(one), trained(other), rtol=1e-4))


def test_a_batch_in_parts_gives_the_gradient_of_the_whole_batch() -> None:
    plain = {"batch_norm": False, "lr": 0.3, "label_smoothing": 0.1}
    whole = loop.train(config(**plain))[1]
    for parts in (2, 3, 32, 1000):
        assert close(loop.train(config(**plain, accumulate=parts))[1], whole)


def test_clipping_is_the_same_in_ngs_and_outside_of_torchs_sgd() -> None:
    limited = {"max_norm": 0.3, "schedule": "constant", "lr": 0.2, "weight_decay": 0.0}
    ours = loop.train(config(**limited, optimizer="ngs"))[1]
    theirs = loop.train(config(**limited, optimizer="sgd-nesterov"))[1]
    assert close(ours, theirs)
    assert not close(ours, loop.train(config(**{**limited, "max_norm": 0.0}))[1])


def test_label_smoothing_is_in_the_loss_that_is_trained_and_not_in_what_is_measured() -> None:
    # One step from the same start: the loss before it is a mean over smoothed targets.
    one = {"epochs": 1, "batch_size": TRAIN, "augment": False, "lr": 1e-12}
    found = {
        share: loop.train(config(**one, label_smoothing=share))[1] for share in (0.0, 0.5, 0.9)
    }
    plain, half, most = (trained(record)[0] for record in found.values())
    assert half == pytest.approx(plain + (most - plain) * 5 / 9, abs=2e-5)
    assert plain != most
    assert len({record["test"]["loss"] for record in found.values()}) == 1


def test_the_average_is_that_of_the_iterates_and_is_what_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected: dict[str, torch.Tensor] = {}
    step = loop.Run.train_step

    def spy(self: loop.Run, *batch: torch.Tensor) -> Any:
        done = step(self, *batch)
        with self.optimizer.at_iterate():
            for name, value in self.model.named_parameters():
                mean = expected.get(name, value.detach())
                expected[name] = 0.7 * mean + 0.3 * value.detach()
        return done

    monkeypatch.setattr(loop.Run, "train_step", spy)
    settings = config(average=0.7, validation=20, lr=0.3)
    network, record = loop.train(settings)
    for name, value in network.named_parameters():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    plain = loop.train(config(validation=20, lr=0.3))[1]
    assert trained(record) == trained(plain)  # it is measured, not trained
    assert record["test"]["loss"] != plain["test"]["loss"]
    assert record["epochs"][0]["validation"] != plain["epochs"][0]["validation"]


def test_measuring_an_average_leaves_the_weights_of_torchs_optimizers_too() -> None:
    plain = {"validation": 20, "lr": 0.3, "optimizer": "sgd"}
    assert trained(loop.train(config(**plain, average=0.7))[1]) == trained(
        loop.train(config(**plain))[1]
    )


def test_with_lookahead_the_weights_go_back_to_their_mean_every_few_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow: dict[str, torch.Tensor] = {}
    optimize, counter = loop.Run.optimize, itertools.count(1)

    def spy(self: loop.Run) -> None:
        average, self.average = self.average, None
        optimize(self)  # the step alone
        self.average, step = average, next(counter)
        assert average is not None
        fast = {k: v.clone() for k, v in self.model.state_dict().items() if v.is_floating_point()}
        if step in (3, 6, 8):  # every third, and the last
            decay = 0.9**3 * (step / 8) ** 3
            for name, value in fast.items():
                slow[name] = decay * slow.get(name, value) + (1 - decay) * value
            fast.update(slow)
        average.after_step(step, self.optimizer)
        state = self.model.state_dict()
        for name, value in fast.items():
            torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6)

    monkeypatch.setattr(loop.Run, "optimize", spy)
    network, record = loop.train(config(average=0.9, lookahead=3, lr=0.3, validation=20))
    assert next(counter) == 9
    assert any("running_mean" in name for name in slow)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, slow[name], rtol=1e-5, atol=1e-6)
    assert math.isfinite(losses(record)[-1])


def test_before_the_first_look_back_the_network_itself_is_measured() -> None:
    few = {"average": 0.9, "lookahead": 100, "validation": 20, "lr": 0.3}
    with_mean, without = loop.train(config(**few))[1], loop.train(config(validation=20, lr=0.3))[1]
    first, expected = (record["epochs"][0]["validation"] for record in (with_mean, without))
    assert first["accuracy"] == pytest.approx(expected["accuracy"], abs=0.15)
    assert first["loss"] != pytest.approx(math.log(10), abs=1e-3)


def test_the_first_epochs_may_see_small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[tuple[int, bool]] = []
    scores = loop.Run.scores

    def spy(self: loop.Run, images: torch.Tensor) -> torch.Tensor:
        sides.append((images.shape[-1], self.model.training))
        return scores(self, images)

    monkeypatch.setattr(loop.Run, "scores", spy)
    loop.train(config(model="small", epochs=3, low_share=0.7, low_side=20, validation=20))
    assert [side for side, training in sides if training] == [20] * 8 + [32] * 4
    assert {side for side, training in sides if not training} == {32}


def test_scaling_down_takes_means_over_what_a_new_pixel_covers() -> None:
    images = torch.rand(2, 3, 32, 32)
    assert scaled(images, 24).shape == (2, 3, 24, 24)
    found = scaled(images, 16).mean((2, 3))
    torch.testing.assert_close(found, images.mean((2, 3)), rtol=0.02, atol=0.0)
    stripes = torch.ones(1, 1, 32, 32)
    stripes[..., ::2] = 0.0  # thinner than a new pixel: they blur instead of turning up elsewhere
    assert scaled(stripes, 16)[..., 2:-2].std() < 0.01


def test_clipping_sees_the_gradient_and_not_the_scaled_one_in_float16() -> None:
    limited = {"max_norm": 0.05, "lr": 0.5, "optimizer": "sgd"}
    half, full = (
        trained(loop.train(config(**limited, precision=name))[1]) for name in ("float16", "float32")
    )
    assert half == pytest.approx(full, rel=0.01)
    free = trained(loop.train(config(**{**limited, "max_norm": 0.0}))[1])
    assert full != pytest.approx(free, rel=0.01)


def test_training_stops_at_its_target_and_not_before(tmp_path: Path) -> None:
    free = loop.train(config(validation=20, epochs=5))[1]
    found = [row["validation"]["accuracy"] for row in free["epochs"]]
    best = sorted(found)[1]  # the least but one: some epoch after it is left out
    first = next(number for number, accuracy in enumerate(found) if accuracy >= best)
    assert first < 4
    path = tmp_path / "run.ckpt"
    _, record = loop.train(
        config(validation=20, epochs=5, target=best), checkpoint=path, save_every=0.0
    )
    assert len(record["epochs"]) == first + 1
    again = loop.train(config(validation=20, epochs=5, target=best), checkpoint=path)[1]
    assert len(again["epochs"]) == first + 1
    if best < 1.0:
        never = loop.train(config(validation=20, epochs=5, target=1.0))[1]
        assert len(never["epochs"]) == 5


def test_alternating_flips_mirror_an_image_every_other_epoch() -> None:
    first = torch.tensor([True, False, True])
    assert [alternate(first, epoch).tolist() for epoch in (1, 2, 3)] == [
        [True, False, True],
        [False, True, False],
        [True, False, True],
    ]


def test_a_run_with_alternating_flips_shows_each_image_both_ways_in_two_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[dict[int, bytes]] = [{}]

    def note(
        self: loop.Run, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        for image in images:
            key = min(image.numpy().tobytes(), image.flip(2).contiguous().numpy().tobytes())
            seen[-1][hash(key)] = image.contiguous().numpy().tobytes()
        self.step += 1
        if self.step % self.steps_per_epoch == 0:
            seen.append({})
        return torch.ones(()), torch.ones((), dtype=torch.int64)

    monkeypatch.setattr(loop.Run, "train_step", note)
    loop.train(config(flip="alternating", shift=0, epochs=3))
    one, two, three, _ = seen
    assert one.keys() == two.keys() == three.keys()
    assert len(one) == TRAIN
    assert all(one[key] != two[key] and one[key] == three[key] for key in one)
    both = sum(image == min(one[key], two[key]) for key, image in one.items())
    assert 0.3 * TRAIN < both < 0.7 * TRAIN  # drawn, not all alike


def test_float16_trains_with_a_scaled_loss_and_goes_on_to_the_bit(tmp_path: Path) -> None:
    half = config(precision="float16", lr=0.05, epochs=2)
    network, record = loop.train(half)
    assert record["precision"] == "float16"
    assert all(math.isfinite(loss) for loss in losses(record))
    path, count = tmp_path / "run.ckpt", itertools.count(1)
    with pytest.raises(loop.Stopped):
        loop.train(half, checkpoint=path, stop=lambda: next(count) == 3)
    parts, _ = loop.train(half, checkpoint=path)
    for one, other in zip(network.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here")
# torch hands its own folder to the C++ compiler without quotes.
@pytest.mark.skipif(" " in torch.__file__, reason="torch cannot compile from a path with blanks")
def test_a_compiled_network_trains_as_the_other_and_its_time_is_named() -> None:
    plain = loop.train(config(batch_norm=False))[1]
    compiled = loop.train(config(batch_norm=False, compile=True))[1]
    assert close(plain, compiled)
    assert "compile" in compiled["seconds"]
    assert "compile" not in plain["seconds"]


def test_where_torch_cannot_compile_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("a page\nmain.cpp:1: fatal error: no such compiler\nmore of it")

    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: compiled(network, backend=failing))
    with pytest.raises(InputError) as caught:
        loop.train(config(compile=True))
    message = str(caught.value)
    assert message.startswith("compile: torch cannot compile here (")
    assert "no such compiler" in message
    assert message.endswith("train with --no-compile")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"shift": -1}, "shift must lie in 0 .. 15 pixels, got -1"),
        ({"flip": "sometimes"}, "flip must be one of random, alternating, none, got 'sometimes'"),
        ({"cutout": 33}, "cutout must lie in 0 .. 32 pixels, got 33"),
        ({"label_smoothing": 1.0}, r"label-smoothing must lie in \[0, 1\), got 1.0"),
        ({"average": -0.1}, r"average must lie in \[0, 1\), got -0.1"),
        ({"accumulate": 0}, "accumulate must be 1 or more, got 0"),
        ({"max_norm": -1.0}, "max-norm must be finite and at least 0, got -1.0"),
        ({"target": 94.0}, r"target must lie in \[0, 1\], an accuracy, got 94.0"),
        ({"target": 0.9}, "target needs images to be held out: give --validation 5000, say"),
        ({"average": 0.9, "optimizer": "schedule-free"}, "average must be 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        config(**changes)


def test_the_config_decides_the_optimizer_and_hands_over_its_coefficients() -> None:
    network = models.ConvNet(4)
    count = len(list(network.parameters()))
    for name, kind in (
        ("ngs", NGS),
        ("ngs-factor", NGS),
        ("ngs-rescaled", NGS),
        ("ngs-factor-rescaled", NGS),
        ("sgd", torch.optim.SGD),
        ("sgd-nesterov", torch.optim.SGD),
    ):
        found = build_optimizer(
            config(optimizer=name, lr=0.3, momentum=0.7, weight_decay=0.01, factor_every=3),
            network,
            8,
        )
        assert type(found) is kind
        (group,) = found.param_groups
        assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.3, 0.7, 0.01)
        assert len(group["params"]) == count
        assert group.get("nesterov", False) is (name == "sgd-nesterov")
        if isinstance(found, NGS):
            assert (found.options.factor is not None) is ("factor" in name)
            assert found.options.factor_every == 3
            assert group["rescale_velocity"] is ("rescaled" in name)


def test_the_cosine_schedule_warms_up_for_15_percent_and_ends_near_zero() -> None:
    rates = [learning_rates(config(lr=0.5), 100)(t) for t in range(100)]
    assert max(rates) == pytest.approx(0.5)
    assert rates.index(max(rates)) in (14, 15)
    assert rates[0] < 0.1
    assert rates[-1] < 0.001
    assert rates[15:] == sorted(rates[15:], reverse=True)


def test_the_triangular_schedule_rises_straight_over_23_percent_and_falls_straight() -> None:
    schedule = learning_rates(config(lr=0.5, schedule="triangle"), 100)
    rates = np.array([schedule(t) for t in range(100)])
    up = 0.5 * (0.2 + 0.8 * np.arange(23) / 23)
    down = 0.5 * (1.0 - 0.93 * np.arange(77) / 77)
    assert rates == pytest.approx(np.concatenate((up, down)))


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_run_of_a_few_steps_can_have_the_triangular_schedule(steps: int) -> None:
    schedule = learning_rates(config(lr=0.5, schedule="triangle"), steps)
    assert all(0.0 < schedule(t) <= 0.5 for t in range(steps))


def test_the_constant_schedule_keeps_the_learning_rate() -> None:
    schedule = learning_rates(config(lr=0.5, schedule="constant"), 100)
    assert {schedule(t) for t in range(100)} == {0.5}


def test_the_learning_rate_follows_the_schedule_step_by_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = []
    step = NGS.step

    def spy(self: NGS, *args: Any) -> Any:
        used.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(NGS, "step", spy)
    _, record = loop.train(config())
    schedule = learning_rates(config(), 8)
    assert used == [schedule(t) for t in range(8)]  # 2 epochs of ceil(120 / 32) steps
    assert [row["lr"] for row in record["epochs"]] == [used[3], used[7]]


@pytest.mark.parametrize("side", [32, 16, 8])
def test_side_and_train_images_decide_what_the_network_sees(
    side: int, monkeypatch: pytest.MonkeyPatch, small: data.Dataset
) -> None:
    shapes: list[tuple[int, ...]] = []
    seen: list[torch.Tensor] = []
    scores = loop.Run.scores

    def spy(self: loop.Run, images: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(images.shape[1:]))
        if self.model.training:
            seen.append(images)
        return scores(self, images)

    monkeypatch.setattr(loop.Run, "scores", spy)
    settings = config(
        model="small", side=side, validation=20, train_images=50, epochs=1, augment=False
    )
    _, record = loop.train(settings)
    assert set(shapes) == {(3, side, side)}
    assert record["images"] == {"train": 50, "validation": 20, "test": TEST}
    assert (record["config"]["side"], record["config"]["train_images"]) == (side, 50)
    expected = small.hold_out(20).reduced(50, side).train.images
    expected = normalize(expected, small.mean, small.std)
    found = torch.cat(seen)
    order = [(found - image).abs().amax((1, 2, 3)).argmin().item() for image in expected]
    assert sorted(order) == list(range(50))  # each of them once, and no other


# Measuring --------------------------------------------------------------------------------------


def make_run(small: data.Dataset, **changes: Any) -> loop.Run:
    cpu = torch.device("cpu")
    torch.manual_seed(0)
    return loop.Run(config(**changes), small, models.ConvNet(4), cpu, torch.float32, loop.Clock())


def test_evaluation_does_not_change_the_model(small: data.Dataset) -> None:
    run = make_run(small)
    run.train_step(normalize(small.train.images[:32], small.mean, small.std), torch.arange(32) % 10)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    assert any("running_mean" in name for name in before)
    first = run.evaluate(small.test)
    assert run.evaluate(small.test) == first
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(not p.requires_grad or p.is_leaf for p in run.model.parameters())


def test_training_changes_batch_norms_running_means(small: data.Dataset) -> None:
    run = make_run(small)
    run.evaluate(small.test)  # an evaluation before must not leave the network in its mode
    means = [b for name, b in run.model.named_buffers() if "running_mean" in name]
    before = [b.clone() for b in means]
    with loop.tqdm(disable=True) as bar:
        run.epoch(bar)
    assert all(not torch.equal(one, other) for one, other in zip(means, before, strict=True))


def test_accuracy_loss_and_confusion_are_those_of_a_slow_count(
    small: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of 40 images: the last batch is smaller.
    monkeypatch.setattr("ngs.train.run.EVALUATION_BATCH", 16)
    network, record = loop.train(config(epochs=3, augment=False))
    network.eval()
    confusion = [[0] * 10 for _ in range(10)]
    total, mistakes = 0.0, []
    with torch.no_grad():
        for number, label in enumerate(small.test.labels.tolist()):
            scores = network(normalize(small.test.images[number][None], small.mean, small.std))[0]
            answer = int(scores.argmax())
            confusion[label][answer] += 1
            probability = scores.softmax(0)
            loss = -math.log(float(probability[label]))
            total += loss
            if answer != label:
                mistakes.append((loss, number, label, answer, float(probability[answer])))
    test = record["test"]
    assert test["confusion"] == confusion
    assert sum(map(sum, test["confusion"])) == TEST
    assert test["accuracy"] == pytest.approx(sum(confusion[k][k] for k in range(10)) / TEST)
    assert test["loss"] == pytest.approx(total / TEST, abs=2e-5)
    mistakes.sort(reverse=True)
    expected = mistakes[:20]
    assert len(mistakes) > 20, "the list has to be cut"
    assert [row["image"] for row in test["worst"]] == [row[1] for row in expected]
    assert [row["class"] for row in test["worst"]] == [row[2] for row in expected]
    assert [row["answer"] for row in test["worst"]] == [row[3] for row in expected]
    assert [row["probability"] for row in test["worst"]] == pytest.approx(
        [row[4] for row in expected], abs=2e-4
    )
    by_row = [sum(row) for row in test["confusion"]]
    assert by_row == small.test.labels.bincount(minlength=10).tolist()


def test_training_loss_and_accuracy_are_means_over_images_not_over_batches(
    small: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss, right = {7: (1.0, 7), 6: (5.0, 0)}[len(labels)]  # 12 batches of 7, 6 of 6
        return torch.tensor(loss), torch.tensor(right)

    run = make_run(small, batch_size=7)
    monkeypatch.setattr(run, "train_step", step)
    with loop.tqdm(disable=True) as bar:
        row = run.epoch(bar)
    assert row["train_loss"] == pytest.approx((84 * 1.0 + 36 * 5.0) / 120)
    assert row["train_accuracy"] == pytest.approx(84 / 120)


def test_the_test_images_are_read_once_after_everything_else(
    small: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {TRAIN - 20: "train", 20: "validation", TEST: "test"}
    read: list[str] = []
    measured: list[str] = []
    read_batches, measure = batches, loop.Run._measure

    def spy_batches(split: data.Split, *args: Any, **kwargs: Any) -> Any:
        read.append(names[len(split)])
        return read_batches(split, *args, **kwargs)

    def spy_measure(self: loop.Run, split: data.Split, *more: Any) -> records.Record:
        measured.append(names[len(split)])
        return measure(self, split, *more)

    monkeypatch.setattr("ngs.train.run.batches", spy_batches)
    monkeypatch.setattr(loop.Run, "_measure", spy_measure)
    loop.train(config(validation=20))
    assert measured == ["validation", "validation", "test"]
    assert read == ["train", "validation", "train", "validation", "test"]


# Failing ----------------------------------------------------------------------------------------


def test_divergence_stops_the_run_and_names_the_epoch_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = []
    epoch = loop.Run.epoch

    def spy(self: loop.Run, *args: Any) -> records.Record:
        begun.append(len(self.rows) + 1)
        return epoch(self, *args)

    monkeypatch.setattr(loop.Run, "epoch", spy)
    with pytest.raises(DivergenceError, match=r"in epoch 1: lower --lr \(it was 1e\+06\)"):
        loop.train(config(lr=1e6, epochs=3, batch_norm=False, schedule="constant"))
    assert begun == [1]


@pytest.mark.parametrize("validation", [0, 20])
def test_divergence_in_the_very_last_step_is_not_taken_for_a_result(validation: int) -> None:
    # The only loss of the only step is that of the initial network: fine. The step is not.
    one_step = config(
        lr=1e30,
        epochs=1,
        batch_size=TRAIN - validation,
        validation=validation,
        batch_norm=False,
    )
    with pytest.raises(DivergenceError, match=r"after epoch 1: lower --lr"):
        loop.train(one_step)


def test_divergence_on_held_out_images_names_the_epoch_before(small: data.Dataset) -> None:
    run = make_run(small)
    with loop.tqdm(disable=True) as bar:
        run.epoch(bar)
        run.epoch(bar)
    with torch.no_grad():
        next(run.model.parameters()).fill_(math.nan)
    with pytest.raises(DivergenceError, match="is nan after epoch 2: lower --lr"):
        run.evaluate(small.test)


def test_a_batch_larger_than_the_training_images_is_refused() -> None:
    with pytest.raises(InputError, match=r"batch-size must be at most the 120 .*got 121"):
        loop.train(config(batch_size=121))
    with pytest.raises(InputError, match=r"batch-size must be at most the 100 .*got 120"):
        loop.train(config(batch_size=120, validation=20))
    loop.train(config(batch_size=120, epochs=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "mnist"}, "dataset must be one of offline, cifar10, tensors, got 'mnist'"),
        ({"model": "resnet"}, "model must be one of .*got 'resnet'"),
        ({"optimizer": "lion"}, "optimizer must be one of ngs, .*, sgd, .*got 'lion'"),
        (
            {"schedule": "step"},
            "schedule must be one of cosine, triangle, onecycle, constant, got 'step'",
        ),
        ({"device": "tpu"}, "device must be one of auto, cpu, cuda, mps, got 'tpu'"),
        ({"precision": "float8"}, "precision must be one of .*got 'float8'"),
        ({"lr": 0.0}, "lr must be finite and above 0, got 0.0"),
        ({"lr": math.nan}, "lr must be finite and above 0, got nan"),
        ({"lr": math.inf}, "lr must be finite and above 0, got inf"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, r"momentum must lie in \[0, 1\), got -0.1"),
        ({"momentum": math.nan}, r"momentum must lie in \[0, 1\), got nan"),
        ({"weight_decay": -1e-9}, "weight-decay must be finite and at least 0, got -1e-09"),
        ({"weight_decay": math.inf}, "weight-decay must be finite and at least 0, got inf"),
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"batch_size": 0}, "batch-size must be 1 or more, got 0"),
        ({"validation": -1}, "validation must be 0 or more, got -1"),
        ({"train_images": -1}, "train-images must be 0 or more, got -1"),
        ({"side": 12}, "side must be one of 8, 16, 32, 64, 96, 128, 224, got 12"),
        ({"model": "convnet", "side": 16}, "side must be 32 for model convnet, got 16: .*small.*"),
        ({"model": "convnet-narrow", "side": 8}, "side must be 32 for model .*narrow, got 8: .*"),
        ({"optimizer": "hypergradient", "momentum": 0.0}, r"momentum must lie in \(0, 1\) .*0.0"),
        ({"optimizer": "schedule-free", "momentum": 0.0}, r"momentum must lie in \(0, 1\) .*0.0"),
        ({"optimizer": "schedule-free", "schedule": "onecycle"}, "schedule onecycle .* constant"),
        ({"seed": -1}, r"seed must lie in 0 \.\. 2\*\*64 - 1, got -1"),
        ({"seed": 2**64}, r"seed must lie in 0 \.\. 2\*\*64 - 1, got 18446744073709551616"),
    ],
)
def test_a_setting_outside_its_range_is_refused_before_anything_is_loaded(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        config(**changes)


@pytest.mark.parametrize(("name", "module"), [("cuda", "cuda"), ("mps", "backends.mps")])
def test_a_device_that_is_not_there_is_refused_and_auto_takes_the_cpu(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"device {name} is not available.*: auto, cpu$"):
        loop.pick_device(name)
    assert loop.pick_device("auto") == torch.device("cpu")
    owner = torch.cuda if name == "cuda" else torch.backends.mps
    monkeypatch.setattr(owner, "is_available", lambda: True)
    assert loop.pick_device("auto") == torch.device(name)
    assert loop.pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "device", "units", "expected"),
    [
        ("auto", "cpu", ["AMX"], torch.bfloat16),
        ("auto", "cpu", ["BF16"], torch.bfloat16),
        ("auto", "cpu", [], torch.float32),
        ("auto", "cuda", ["Ampere"], torch.bfloat16),
        ("auto", "cuda", [], torch.float32),
        ("auto", "mps", ["AMX"], torch.float32),
        ("float32", "cuda", ["AMX"], torch.float32),
        ("bfloat16", "cpu", [], torch.bfloat16),
    ],
)
def test_auto_precision_is_what_is_fast_on_the_device(
    name: str, device: str, units: list[str], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "bfloat16_units", lambda: units)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **how: "Ampere" in units)
    assert loop.pick_dtype(name, torch.device(device)) is expected


def test_parameters_stay_float32_when_the_arithmetic_is_bfloat16() -> None:
    network, record = loop.train(config(epochs=1, precision="bfloat16"))
    assert record["precision"] == "bfloat16"
    assert {p.dtype for p in network.parameters()} == {torch.float32}


# Weights and records on disk --------------------------------------------------------------------


def test_saved_weights_load_safely_and_exactly(tmp_path: Path) -> None:
    network, path = models.ConvNet(4), tmp_path / "w.pt"
    loop.save_weights(network, path)
    assert [p.name for p in tmp_path.iterdir()] == ["w.pt"]
    found = torch.load(path, weights_only=True)
    assert list(found) == list(network.state_dict())
    for name, value in network.state_dict().items():
        assert torch.equal(found[name], value)
    other = models.ConvNet(4)
    other.load_state_dict(found)


def fail_in_torch_save(monkeypatch: pytest.MonkeyPatch) -> type[BaseException]:
    def half(state: Any, file: Any) -> None:
        half_done = b"half of a file"
        if isinstance(file, io.IOBase):
            file.write(half_done)
        else:
            Path(file).write_bytes(half_done)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    return KeyboardInterrupt


def fail_in_the_write(monkeypatch: pytest.MonkeyPatch) -> type[BaseException]:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    return OSError


def fail_in_the_replacement(monkeypatch: pytest.MonkeyPatch) -> type[BaseException]:
    def refuse(*args: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    return OSError


@pytest.mark.parametrize("fault", [fail_in_torch_save, fail_in_the_write, fail_in_the_replacement])
def test_a_fault_while_saving_leaves_the_old_weights_whole_and_no_part_beside_them(
    fault: Callable[[pytest.MonkeyPatch], type[BaseException]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = tmp_path / "w.pt"
    loop.save_weights(models.ConvNet(4), path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        error = fault(patch)
        with pytest.raises(error):
            loop.save_weights(models.ConvNet(4, batch_norm=False), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w.pt"]


def test_weights_that_cannot_be_written_raise_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        loop.save_weights(models.ConvNet(4), tmp_path / "nowhere" / "w.pt")


def test_records_come_back_as_they_were_appended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "records.jsonl"
    written = [{"a": 1.5, "text": "line\u2028separator, \x85 and ü"}, {"b": [None, True]}]
    for record in written:
        records.append_record(path, record)
    assert read_records(path) == written
    assert path.read_bytes().count(b"\n") == 2


def test_records_appended_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"

    def append(writer: int) -> None:
        for number in range(20):
            records.append_record(path, {"writer": writer, "number": number, "long": "x" * 20_000})

    threads = [threading.Thread(target=append, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {(r["writer"], r["number"]) for r in read_records(path)}
    assert found == {(k, n) for k in range(4) for n in range(20)}


def test_a_record_that_json_cannot_hold_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    records.append_record(path, {"a": 1})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        records.append_record(path, {"loss": math.nan})
    assert path.read_bytes() == before


def test_a_disk_that_fills_in_mid_record_is_reported_and_leaves_no_half_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "records.jsonl"
    records.append_record(path, {"a": 1})
    before = path.read_bytes()
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, content: write(fd, content[:5]))
        with pytest.raises(OSError, match="No space left on device"):
            records.append_record(path, {"b": 2})
    assert path.read_bytes() == before
    records.append_record(path, {"c": 3})
    assert read_records(path) == [{"a": 1}, {"c": 3}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": 1', "line 2, is not JSON"),
        (b"", "line 2, is not JSON"),
        (b"\xff\xfe", "line 2, is not JSON"),
        (b"[1, 2]", "line 2, is not a JSON object"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_number(
    line: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    with pytest.raises(InputError, match=f"{re.escape(str(path))}, {message}"):
        read_records(path)


def test_a_file_of_records_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl is not a file of records"):
        read_records(tmp_path / "none.jsonl")


# Memory and news --------------------------------------------------------------------------------

COMPARE = """
import sys
from ngs.train import data, loop, memory, models, offline
from ngs.train.board import Board, scalars
from ngs.train.config import TrainConfig

images, labels = offline.generate(100, seed=3)
few = data._dataset("offline", offline.CLASSES, images, labels, images, labels, source="few")
loop.load = lambda name, download=True: few
models.MODELS["tiny"] = lambda batch_norm: models.ConvNet(4, batch_norm)
config = TrainConfig(model="tiny", epochs=2, batch_size=32, device="cpu", precision="float32")

answers = []
loop.keep_freed_memory = lambda: None
before = loop.train(config)[1]
loop.keep_freed_memory = lambda: answers.append(memory.keep_freed_memory())
after = loop.train(config)[1]
assert type(answers[0]) is bool, answers
assert answers[0] == sys.platform.startswith("linux"), answers
assert before["test"] == after["test"]
for one, other in zip(before["epochs"], after["epochs"]):
    assert one["train_loss"] == other["train_loss"]
"""


def test_keeping_freed_memory_changes_no_result() -> None:
    done = subprocess.run([sys.executable, "-c", COMPARE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["another system", "another C library"])
def test_keeping_freed_memory_does_nothing_where_glibc_is_not(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Musl:
        def __init__(self, name: None) -> None:
            assert kind == "another C library", "looked into the C library of another system"

    monkeypatch.setattr(memory.ctypes, "CDLL", Musl)
    monkeypatch.setattr(memory.sys, "platform", "linux" if "library" in kind else "darwin")
    assert memory.keep_freed_memory() is False


def test_a_run_on_the_cpu_asks_for_freed_memory_to_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr(loop, "keep_freed_memory", lambda: asked.append(1))
    loop.train(config(epochs=1))
    assert asked == [1]


def test_a_run_says_what_it_does_and_every_epoch(capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    loop.train(config(validation=20), say=lines.append)
    assert [line.split(":")[0].split()[0] for line in lines] == [
        "data", "model", "cost", "device", "epoch", "epoch",
    ]  # fmt: skip
    assert "validation accuracy" in lines[-1]
    assert capfd.readouterr() == ("", "")  # the library prints nothing by itself


def test_the_progress_bar_shows_on_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("ngs.train.run.SHOW_EVERY", 0.0)  # a tiny run is over before it is due
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr(sys, "stderr", stream)
        loop.train(config(epochs=1))
        assert ("images/s" in stream.getvalue()) is stream.isatty()
        if not stream.isatty():
            assert stream.getvalue() == ""


def test_the_clock_adds_up_by_part_also_when_the_part_fails() -> None:
    clock = loop.Clock()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), clock.part("work"):
            _ = 1 / 0
    with clock.part("rest"):
        pass
    assert set(clock.seconds) == {"work", "rest"}
    assert all(seconds >= 0.0 for seconds in clock.seconds.values())


def test_the_network_that_comes_back_is_the_trained_one() -> None:
    network, _ = loop.train(config(epochs=1))
    torch.manual_seed(config().seed)
    fresh = models.build("tiny")
    assert isinstance(network, nn.Module)
    changed = [
        not torch.equal(one, other)
        for one, other in zip(network.parameters(), fresh.parameters(), strict=True)
    ]
    assert all(changed)


# TensorBoard --------------------------------------------------------------------------------------


def test_the_rows_of_a_run_are_what_tensorboard_shows(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Board(tmp_path) as board:
        _, record = loop.train(config(validation=20, optimizer="ngs-factor"), watch=board)
    shown = EventAccumulator(str(tmp_path))
    shown.Reload()
    assert sorted(shown.Tags()["scalars"]) == [
        "accuracy/train", "accuracy/validation", "learning rate/given", "learning rate/learned",
        "loss/train", "loss/validation", "seconds",
    ]  # fmt: skip
    for name, kind in (("loss/train", "train_loss"), ("learning rate/learned", "learned_lr")):
        found = [(event.step, event.value) for event in shown.Scalars(name)]
        expected = [(row["epoch"], pytest.approx(row[kind])) for row in record["epochs"]]
        assert found == expected
    last = record["epochs"][-1]["validation"]["accuracy"]
    assert shown.Scalars("accuracy/validation")[-1].value == pytest.approx(last)


def test_refused_steps_are_shown_too() -> None:
    row = {"epoch": 1, "lr": 0.1, "train_loss": 1.0, "train_accuracy": 0.5, "seconds": 2.0}
    assert "refused steps" not in scalars(row)
    assert scalars({**row, "refused": 3})["refused steps"] == 3


def test_without_the_package_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'ngs\[tensorboard\]'"):
        Board(tmp_path)


# Gradient descent, the fast network ---------------------------------------------------------------


def test_gradient_descent_takes_one_step_an_epoch_with_the_gradient_of_all_images() -> None:
    plain = {"batch_norm": False, "augment": False, "lr": 0.3, "epochs": 3, "schedule": "constant"}
    found = loop.train(config(optimizer="gradient-descent", batch_size=32, **plain))[1]
    whole = loop.train(config(optimizer="sgd", momentum=0.0, batch_size=TRAIN, **plain))[1]
    assert close(found, whole)
    parts = loop.train(config(optimizer="gradient-descent", batch_size=7, **plain))[1]
    assert close(found, parts)


def test_the_fast_network_is_prepared_with_the_training_images_and_its_filters_stay(
    small: data.Dataset,
) -> None:
    fast = config(model="fast", epochs=1, batch_size=60, optimizer="ngs", bias_scale=4.0)
    network, record = loop.train(fast)
    expected = models.build("fast")
    assert isinstance(expected, models.FastNet)
    expected.prepare(normalize(small.train.images, small.mean, small.std))
    assert isinstance(network, models.FastNet)
    assert torch.equal(network.whiten.weight, expected.whiten.weight)
    assert math.isfinite(trained(record)[0])


def test_the_whitening_bias_stays_after_its_epochs_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    optimize = loop.Run.optimize

    def spy(self: loop.Run) -> None:
        optimize(self)
        network = self.model
        assert isinstance(network, models.FastNet)
        assert network.whiten.bias is not None
        seen.append((network.whiten.bias.detach().clone(), network.classifier.weight.clone()))

    monkeypatch.setattr(loop.Run, "optimize", spy)
    fast = config(model="fast", epochs=4, batch_size=60, whitening_epochs=2, weight_decay=0.1)
    network, _ = loop.train(fast)
    biases, others = zip(*seen, strict=True)
    assert torch.equal(network.whiten.bias, biases[-1])  # also at the iterate
    half = len(seen) // 2
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(biases[:half]))
    assert all(torch.equal(biases[half - 1], later) for later in biases[half:])
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(others))


def test_the_biases_of_batch_normalisation_may_have_a_learning_rate_of_their_own(
    small: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[tuple[float, ...]] = []
    step = NGS.step

    def spy(self: NGS, *args: Any) -> Any:
        rates.append(tuple(group["lr"] for group in self.param_groups))
        return step(self, *args)

    monkeypatch.setattr(NGS, "step", spy)
    settings = config(bias_scale=8.0, weight_decay=0.02)
    _, record = loop.train(settings)
    schedule = learning_rates(settings, 8)
    assert rates == [pytest.approx((8.0 * schedule(t), schedule(t))) for t in range(8)]
    assert [row["lr"] for row in record["epochs"]] == pytest.approx([schedule(3), schedule(7)])
    network = models.build("tiny")
    groups = build_optimizer(settings, network, 8).param_groups
    assert [group["weight_decay"] for group in groups] == [0.02 / 8.0, 0.02]


def test_test_time_views_are_reported_beside_the_plain_accuracy(small: data.Dataset) -> None:
    network, record = loop.train(config(views="mirror", epochs=3))
    plain = loop.train(config(epochs=3))[1]
    assert {**record["test"], "views_accuracy": None} == {**plain["test"], "views_accuracy": None}
    images = normalize(small.test.images, small.mean, small.std)
    network.eval()
    with torch.no_grad():
        both = network(images) + network(images.flip(3))
    expected = (both.argmax(1) == small.test.labels).double().mean().item()
    assert record["test"]["views_accuracy"] == pytest.approx(expected)
    assert "views_accuracy" not in plain["test"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"views": "all"}, "views must be one of none, mirror, mirror-shift, got 'all'"),
        ({"bias_scale": 0.0}, "bias-scale must be finite and above 0, got 0.0"),
        ({"bias_scale": 2.0, "optimizer": "adam"}, "bias-scale needs .* got 2 with adam"),
        ({"model": "fast", "batch_norm": False}, "model fast needs batch normalisation"),
        ({"lookahead": 5}, "lookahead .* give its decay, --average 0.95 say, with lookahead 5"),
        ({"lookahead": -1, "average": 0.9}, "lookahead must be 0 or more, got -1"),
        ({"whitening_epochs": 3}, "whitening-epochs is for model fast, .* got 3 with tiny"),
        ({"low_share": 0.5}, "low-share and low-side belong together: .* got 0.5 and 0"),
        ({"low_side": 24}, "low-share and low-side belong together: .* got 0 and 24"),
        ({"low_share": 0.5, "low_side": 32}, r"low-side must lie in 4 \.\. 31 for model tiny"),
        ({"low_share": 0.5, "low_side": 3}, r"low-side must lie in 4 \.\. 31 .* got 3"),
        (
            {"model": "convnet", "low_share": 0.5, "low_side": 24},
            "takes images of 32 pixels or more",
        ),
        ({"low_share": 1.5, "low_side": 16}, r"low-share must lie in \[0, 1\], got 1.5"),
    ],
)
def test_settings_of_the_fast_recipe_that_cannot_be_are_refused(
    changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(InputError, match=line):
        config(**changes)


def test_biases_of_their_own_need_batch_normalisation() -> None:
    with pytest.raises(InputError, match="bias-scale is for the biases of batch normalisation"):
        config(bias_scale=2.0, batch_norm=False)
