"""Claims about the guard: it changes nothing where nothing is wrong, and it names, mends or stops.

The oracle of a run with a fault is the same run without it.
"""

import copy
import functools
import io
import math
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from tqdm import tqdm

from ngs.cli import ngs
from ngs.errors import InputError
from ngs.optim.torch import NGS
from ngs.records import read_records
from ngs.train import loop, models
from ngs.train.augment import normalize
from ngs.train.config import TrainConfig
from ngs.train.data import Dataset, load
from ngs.train.faults import FAULTS
from ngs.train.guard import Guard
from ngs.train.policy import ACT, ACTIONS, POLICIES, WATCH, Event, Limits, Policy
from ngs.train.policy import StoppedByGuardError as StoppedByGuard
from ngs.train.probes import dead_share
from ngs.train.run import DivergenceError

QUICK = TrainConfig(
    model="small", epochs=6, batch_size=64, train_images=3_000, side=16, precision="float32",
    device="cpu",
)  # fmt: skip
"""Six epochs of 47 steps."""
STEPS = 282


@pytest.fixture(scope="module")
def offline() -> Dataset:
    return load("offline")


def weights(model: nn.Module) -> bytes:
    return b"".join(value.numpy().tobytes() for value in model.state_dict().values())


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def lasting(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What does not depend on how long things took."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def run_with(
    fault: str | None, data: Dataset, at: int = STEPS // 2, **changes: Any
) -> tuple[loop.Run, float]:
    """Train with a fault; return the run and its test accuracy."""
    run = loop.set_up(replace(QUICK, **changes), data=data)
    if run.guard is not None:
        run.guard.tell = lambda event: None
    if fault is not None:
        FAULTS[fault](run, at)
    with tqdm(disable=True) as bar:
        while len(run.rows) < run.config.epochs:
            run.epoch(bar)
    return run, run.finish()["accuracy"]


@functools.cache
def undisturbed(batch_norm: bool) -> float:
    return run_with(None, load("offline"), batch_norm=batch_norm)[1]


class Task:
    """A small regression that any optimizer learns, with a batch for each step."""

    def __init__(self, make: Callable[[Any], torch.optim.Optimizer], **guarded: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1)
        )
        self.optimizer = make(self.model.parameters())
        self.told: list[Event] = []
        self.guard = Guard(self.model, self.optimizer, tell=self.told.append, **guarded)
        self.draws = torch.Generator().manual_seed(1)
        self.truth = torch.randn(8, 1, generator=self.draws)

    def step(self, spoil: float = 0.0, batch: Any = ()) -> bool:
        x = torch.randn(32, 8, generator=self.draws)
        y = x @ self.truth + 0.1 * torch.randn(32, 1, generator=self.draws) + spoil
        self.optimizer.zero_grad()
        loss = (self.model(x) - y).square().mean()
        loss.backward()
        return self.guard.step(loss, batch)


MAKERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "NGS": lambda p: NGS(p, 0.01, 0.9),
    "SGD": lambda p: torch.optim.SGD(p, 0.01, 0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, 0.01),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.01),
}


# Nothing is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch_norm": False},
        {"optimizer": "adam", "lr": 0.002},
        {"optimizer": "ngs-factor"},
        {"average": 0.9, "lookahead": 5},
        {"accumulate": 2, "max_norm": 1.0},
        {
            "model": "fast",
            "lr": 0.5,
            "bias_scale": 16.0,
            "whitening_epochs": 1,
            "average": 0.9,
            "lookahead": 2,
            "train_images": 600,
        },
    ],
)
def test_an_undisturbed_run_is_the_same_to_the_bit_and_has_no_events(
    changes: dict[str, Any], offline: Dataset
) -> None:
    free, _ = run_with(None, offline, **changes, epochs=3)
    guarded, _ = run_with(None, offline, **changes, epochs=3, guard="act")
    assert guarded.guard is not None
    assert guarded.guard.events == []
    assert weights(guarded.model) == weights(free.model)
    assert same(guarded.optimizer.state_dict(), free.optimizer.state_dict())
    assert lasting(guarded.rows) == lasting(free.rows)
    assert guarded.guard.report() == f"no anomaly in {guarded.step} steps"


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_no_network_of_ours_is_odd_at_the_start(
    name: str, batch_norm: bool, offline: Dataset
) -> None:
    if name in models.NORMALISED and not batch_norm:
        pytest.skip(f"{name} needs batch normalisation")
    torch.manual_seed(0)
    model = models.build(name, batch_norm=batch_norm)
    before, images = weights(model), torch.randn(16, 3, 32, 32)
    guard = Guard(model, torch.optim.SGD(model.parameters(), 0.1))
    assert guard.check_start(images) == []
    assert weights(model) == before


def test_looking_at_the_start_draws_no_random_numbers() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4))
    images, before = torch.randn(8, 4), torch.get_rng_state()
    Guard(model, torch.optim.SGD(model.parameters(), 0.1)).check_start(images)
    assert torch.equal(torch.get_rng_state(), before)


# Faults -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", [True, False])
def test_nan_in_a_gradient_costs_one_step(batch_norm: bool, offline: Dataset) -> None:
    run, accuracy = run_with("NaN in a gradient", offline, guard="act", batch_norm=batch_norm)
    assert run.guard is not None
    (event,) = run.guard.events
    assert (event.kind, event.step, event.action) == ("nonfinite", STEPS // 2, "skip")
    assert event.where == "features.0.weight"
    assert accuracy > undisturbed(batch_norm) - 0.05


def test_the_images_of_an_anomalous_batch_are_named(offline: Dataset) -> None:
    run = loop.set_up(replace(QUICK, guard="act", augment=False), data=offline)
    assert run.guard is not None
    run.guard.tell = lambda event: None
    spoiled, steps = 1234, run.steps_per_epoch
    picture = normalize(run.data.train.images[[spoiled]], run.data.mean, run.data.std)

    def spoil(_: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        hit = ((inputs[0] - picture).abs().amax((1, 2, 3)) < 1e-4)[:, None, None, None]
        return (inputs[0].masked_fill(hit, torch.inf),)

    run.model.register_forward_pre_hook(spoil)
    with tqdm(disable=True) as bar:
        row = run.epoch(bar)
    (event,) = run.guard.events
    assert event.kind == "nonfinite"
    assert len(event.batch) == row["left_out"] in (63, 64)
    assert run.data.train.numbers is not None
    assert int(run.data.train.numbers[spoiled]) in event.batch
    assert run.guard.steps == steps


def test_a_corrupted_batch_costs_one_step_and_leaves_the_averages_alone(offline: Dataset) -> None:
    run, accuracy = run_with("corrupted batch", offline, guard="act", batch_norm=False)
    assert run.guard is not None
    assert kinds(run.guard.events) == ["loss"]
    assert run.guard.events[0].action == "skip"
    assert len(run.guard.events[0].batch) in (63, 64)
    assert accuracy > undisturbed(False) - 0.05


def test_without_the_guard_a_corrupted_batch_ruins_the_run(offline: Dataset) -> None:
    with pytest.raises(DivergenceError):
        run_with("corrupted batch", offline, batch_norm=False)


def test_a_learning_rate_far_too_high_is_held_down_and_let_go(offline: Dataset) -> None:
    fault = "learning rate times 100 for 50 steps"
    run, accuracy = run_with(fault, offline, at=60, guard="act", epochs=8)
    assert run.guard is not None
    assert "weights" in kinds(run.guard.events)
    assert "data" not in kinds(run.guard.events)
    assert all(60 < event.step < 110 for event in run.guard.events)
    assert not run.guard.recovery.held_down
    assert accuracy > undisturbed(True) - 0.05


@pytest.mark.parametrize("fault", ["layer 1,000 times too small", "layer 1,000 times too large"])
def test_a_layer_off_at_the_start_is_found_before_the_first_step(
    fault: str, offline: Dataset
) -> None:
    run, accuracy = run_with(fault, offline, guard="act", batch_norm=False)
    assert run.guard is not None
    (event,) = run.guard.events
    assert (event.kind, event.step, event.action) == ("start", 0, "repair")
    assert event.where == "features.8"
    assert accuracy > undisturbed(False) - 0.05


def test_shuffled_labels_stop_the_run_within_an_epoch(offline: Dataset) -> None:
    with pytest.raises(StoppedByGuard) as caught:
        run_with("labels shuffled", offline, guard="act")
    assert kinds(caught.value.events)[-1] == "data"
    assert STEPS // 2 < caught.value.events[-1].step <= STEPS // 2 + 47
    assert "inputs or labels" in str(caught.value)


def test_watching_changes_nothing_whatever_happens(offline: Dataset) -> None:
    free, _ = run_with("labels shuffled", offline)
    watched, _ = run_with("labels shuffled", offline, guard="watch")
    assert weights(watched.model) == weights(free.model)
    assert watched.guard is not None
    assert {"loss", "weights"} <= set(kinds(watched.guard.events))
    assert {event.action for event in watched.guard.events} == {"warn"}
    assert len(watched.guard.events) < 10


# In any loop ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_any_optimizer_goes_back_to_the_last_good_copy(
    make: Callable[[Any], torch.optim.Optimizer],
) -> None:
    task = Task(make, limits=Limits(every=10))
    copies = {}
    for number in range(1, 61):
        assert task.step()
        copies[number] = weights(task.model), copy.deepcopy(task.optimizer.state_dict())
    for _ in range(2):
        assert not task.step(spoil=100.0)
    assert weights(task.model) == copies[60][0]
    rates = [group["lr"] for group in task.optimizer.param_groups]
    assert not task.step(spoil=100.0)
    assert kinds(task.told) == ["loss", "loss", "loss", "weights"]
    assert weights(task.model) == copies[50][0]
    assert same(task.optimizer.state_dict()["state"], copies[50][1]["state"])
    assert [group["lr"] for group in task.optimizer.param_groups] == rates
    assert task.guard.recovery.ceilings == pytest.approx([0.1 * rate for rate in rates])
    for _ in range(3):
        assert task.step()
    for _ in range(3):  # and to the same copy again, which those steps must not have touched
        assert not task.step(spoil=100.0)
    assert weights(task.model) == copies[50][0]
    assert same(task.optimizer.state_dict()["state"], copies[50][1]["state"])


def test_a_lowered_rate_counts_inside_the_step_alone() -> None:
    task = Task(lambda p: torch.optim.SGD(p, 0.01), limits=Limits(every=10, quiet_steps=5))
    seen = []
    step = task.optimizer.step
    task.optimizer.step = lambda: (seen.append(task.optimizer.param_groups[0]["lr"]), step())[1]  # type: ignore[method-assign]
    for _ in range(30):
        task.step()
    for _ in range(3):
        task.step(spoil=100.0)
    seen.clear()
    for _ in range(7):
        task.step()
        assert task.optimizer.param_groups[0]["lr"] == 0.01
    assert seen == pytest.approx([0.001] * 5 + [0.01] * 2)


def test_what_goes_back_includes_the_other_parts() -> None:
    class Part:
        value = 0

        def state_dict(self) -> dict[str, Any]:
            return {"value": self.value}

        def load_state_dict(self, state: dict[str, Any], /) -> None:
            self.value = state["value"]

    part = Part()
    task = Task(MAKERS["NGS"], limits=Limits(every=10), parts=[part])
    for number in range(1, 31):
        part.value = number
        task.step()
    for _ in range(3):
        task.step(spoil=100.0)
    assert part.value == 20


def test_data_that_have_changed_are_told_from_weights_that_are_damaged() -> None:
    task = Task(MAKERS["NGS"], limits=Limits(every=10))
    for _ in range(40):
        task.step()
    for _ in range(5):
        task.step(spoil=100.0)
    with pytest.raises(StoppedByGuard, match="inputs or labels have changed"):
        task.step(spoil=100.0)
    assert kinds(task.told) == ["loss"] * 3 + ["weights"] + ["loss"] * 3 + ["data"]


def test_where_the_policy_goes_on_with_other_data_they_become_usual() -> None:
    task = Task(MAKERS["NGS"], policy=Policy(data="warn"), limits=Limits(every=10))
    for _ in range(40):
        task.step()
    taken = [task.step(spoil=100.0) for _ in range(30)]
    assert taken[:5] == [False] * 5
    assert all(taken[6:])


def test_a_spike_of_the_gradient_is_clipped_to_the_median_norm() -> None:
    task = Task(lambda p: torch.optim.SGD(p, 0.01))
    norms: list[float] = []
    for _ in range(40):
        task.step()
        norms.append(float(torch.stack([p.grad.norm() for p in task.model.parameters()]).norm()))  # type: ignore[union-attr]
    parameters = list(task.model.parameters())
    for p in parameters:
        p.grad = 1e4 * torch.ones_like(p)
    assert task.guard.step(task.guard.usual.losses.median)
    assert kinds(task.told) == ["gradient"]
    clipped = float(torch.stack([p.grad.norm() for p in parameters]).norm())  # type: ignore[union-attr]
    assert clipped == pytest.approx(sorted(norms)[len(norms) // 2], rel=0.1)


def test_a_policy_that_stops_says_where() -> None:
    task = Task(MAKERS["SGD"], policy=Policy(loss="stop"))
    for _ in range(30):
        task.step()
    with pytest.raises(StoppedByGuard, match=r"step 31: the loss is .*inputs 7, 8") as caught:
        task.step(spoil=100.0, batch=[7, 8])
    assert caught.value.events == task.guard.events


def test_a_run_that_goes_back_again_and_again_is_stopped() -> None:
    task = Task(MAKERS["SGD"], limits=Limits(every=10, rollbacks=2))
    for spoiled in (3, 3, 2):
        for _ in range(25):
            task.step()
        for _ in range(spoiled):
            task.step(spoil=1000.0)
    with pytest.raises(StoppedByGuard, match="going back to good weights 2 times in vain"):
        task.step(spoil=1000.0)


def test_dead_units_are_reported_by_layer() -> None:
    task = Task(MAKERS["SGD"], limits=Limits(every=5))
    with torch.no_grad():
        task.model[1].bias[:12] = -100.0  # type: ignore[index]
    for _ in range(20):
        task.step()
    (event,) = [event for event in task.told if event.kind == "dead"]
    assert (event.where, event.value) == ("2", pytest.approx(0.75))
    assert task.guard.events[0].count == 4


@pytest.mark.parametrize(("scale", "kind"), [(1e-6, "vanishing"), (1e6, "exploding")])
def test_a_layer_whose_gradient_is_out_of_all_proportion_is_reported(
    scale: float, kind: str
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)])
    told: list[Event] = []
    guard = Guard(
        model, torch.optim.SGD(model.parameters(), 0.0), limits=Limits(every=1), tell=told.append
    )
    for _ in range(3):
        model.zero_grad()
        loss = model(torch.randn(8, 4)).square().mean()
        loss.backward()
        model[2].weight.grad *= scale
        guard.step(loss)
    assert (kind, "2.weight") in [(event.kind, event.where) for event in told]


def test_a_loss_that_does_not_fall_is_reported() -> None:
    task = Task(lambda p: torch.optim.SGD(p, 0.0), limits=Limits(every=5, plateau_steps=50))
    for _ in range(120):
        task.step()
    assert "plateau" in kinds(task.told)


def test_a_guard_goes_on_from_any_step_as_if_it_had_never_stopped() -> None:
    spoils = dict.fromkeys((33, *range(41, 45), *range(140, 146)), 100.0)
    spoils |= dict.fromkeys((100, 106, 112, 118, 124), 2.0)

    def fresh() -> Task:
        limits = Limits(every=10, quiet_steps=15, window=50)
        return Task(MAKERS["NGS"], policy=Policy(data="warn"), limits=limits)

    def run(cuts: bool) -> tuple[Any, bytes, list[bool]]:
        task, taken = fresh(), []
        for number in range(1, 161):
            taken.append(task.step(spoil=spoils.get(number, 0.0)))
            if cuts:
                file = io.BytesIO()
                torch.save([p.state_dict() for p in (task.model, task.optimizer, task.guard)], file)
                file.seek(0)
                other = fresh()
                parts = (other.model, other.optimizer, other.guard)
                for part, state in zip(parts, torch.load(file, weights_only=True), strict=True):
                    part.load_state_dict(state)
                other.draws = task.draws
                task.guard.close()
                task = other
        return task.guard.state_dict(), weights(task.model), taken

    (whole, its_weights, taken), (parts, their_weights, also_taken) = run(False), run(True)
    assert {"loss", "weights", "data"} <= {event["kind"] for event in whole["events"]}
    assert [taken[number - 1] for number in (106, 112, 118, 124)] == [False, False, True, True]
    assert also_taken == taken
    assert their_weights == its_weights
    assert same(parts, whole)


# What users do ----------------------------------------------------------------------------------


def test_layers_that_start_at_zero_are_left_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    nn.init.zeros_(model[4].weight)
    guard = Guard(model, torch.optim.SGD(model.parameters(), 0.1))
    assert guard.check_start(torch.randn(8, 4)) == []
    assert not model[4].weight.any()


def test_a_weight_that_is_computed_or_shared_is_reported_and_not_scaled() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 4, bias=False) for _ in range(6)]
    layers[5].weight = layers[4].weight
    with torch.no_grad():
        layers[1].weight *= 1e4
        layers[4].weight *= 1e4
    model = nn.Sequential(*layers)
    nn.utils.parametrizations.weight_norm(model[1])
    before, told = weights(model), []
    guard = Guard(model, torch.optim.SGD(model.parameters(), 0.1), tell=told.append)
    guard.check_start(torch.randn(8, 4))
    assert {event.where for event in told} == {"1", "4", "5"}
    assert {event.action for event in told} == {"warn"}
    assert weights(model) == before


def test_a_rare_kind_of_batch_is_soon_usual() -> None:
    task = Task(MAKERS["SGD"])
    taken = [task.step(spoil=2.0 if number % 12 == 11 else 0.0) for number in range(240)]
    rare = taken[11::12]
    assert 0 < rare.count(False) <= 4
    assert "weights" not in kinds(task.told)


def test_frequent_spikes_do_not_hide_a_row_of_them() -> None:
    task = Task(MAKERS["SGD"], limits=Limits(every=10))
    for number in range(120):
        task.step(spoil=2.0 if number % 12 == 11 else 0.0)
    assert not any(task.step(spoil=100.0) for _ in range(3))
    assert kinds(task.told)[-1] == "weights"


def test_a_kind_of_batch_that_comes_twice_in_a_row_is_not_rare() -> None:
    task = Task(MAKERS["SGD"], limits=Limits(every=10))
    for number in range(120):
        task.step(spoil=2.0 if number % 12 == 11 else 0.0)
    for _ in range(8):
        task.step()
    assert [task.step(spoil=2.0) for _ in range(4)] == [True, False, False, False]
    assert kinds(task.told)[-1] == "weights"


def test_rare_batches_do_not_hide_data_that_have_changed() -> None:
    task = Task(MAKERS["SGD"], limits=Limits(every=10))
    for number in range(90):
        task.step(spoil=2.0 if number in (50, 60, 70) else 0.0)
    for _ in range(3):
        task.step(spoil=math.nan)
    assert [task.step(spoil=2.0) for _ in range(2)] == [False, False]
    with pytest.raises(StoppedByGuard, match="inputs or labels have changed"):
        task.step(spoil=2.0)


def test_a_learning_rate_of_zero_at_the_copy_holds_nothing_down() -> None:
    task = Task(lambda p: torch.optim.SGD(p, 0.01))
    schedule = torch.optim.lr_scheduler.LambdaLR(task.optimizer, lambda t: min(t / 50, 1.0))
    task.guard = Guard(task.model, task.optimizer, tell=task.told.append)
    assert task.optimizer.param_groups[0]["lr"] == 0.0
    for number in range(140):
        task.step(spoil=100.0 if 22 <= number < 25 else 0.0)
        schedule.step()
        assert task.optimizer.param_groups[0]["lr"] == pytest.approx(min((number + 1) / 5000, 0.01))
    assert "weights" in kinds(task.told)
    assert not task.guard.recovery.held_down
    before = weights(task.model)
    task.step()
    assert weights(task.model) != before


@pytest.mark.parametrize("kind", ["nonfinite", "loss"])
def test_a_step_that_is_not_finite_is_never_taken_where_only_the_weights_are_warned_of(
    kind: str,
) -> None:
    task = Task(MAKERS["SGD"], policy=Policy(weights="warn"))
    for _ in range(30):
        task.step()
    for _ in range(7):
        task.step(spoil=math.nan if kind == "nonfinite" else 100.0)
    assert all(bool(p.isfinite().all()) for p in task.model.parameters())
    assert "weights" in kinds(task.told)


def test_schedulers_may_step_inside_the_step() -> None:
    task = Task(lambda p: torch.optim.SGD(p, 0.1))
    schedule = torch.optim.lr_scheduler.ExponentialLR(task.optimizer, 0.9)
    task.model(torch.randn(4, 8)).sum().backward()
    task.guard.step(1.0, take=lambda: (task.optimizer.step(), schedule.step()))
    assert task.optimizer.param_groups[0]["lr"] == pytest.approx(0.09)


def test_a_schedule_that_builds_on_itself_does_not_go_back() -> None:
    task = Task(lambda p: torch.optim.SGD(p, 0.01))
    schedule = torch.optim.lr_scheduler.ExponentialLR(task.optimizer, 0.99)
    for number in range(60):
        task.step(spoil=100.0 if 42 <= number < 45 else 0.0)
        schedule.step()
    assert "weights" in kinds(task.told)
    assert task.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.99**60)


def test_a_scheduler_made_after_the_guard_survives_a_roll_back() -> None:
    task = Task(lambda p: torch.optim.SGD(p, 0.01))
    schedule = torch.optim.lr_scheduler.OneCycleLR(task.optimizer, 0.02, total_steps=60)
    for number in range(60):
        task.step(spoil=100.0 if 22 <= number < 25 else 0.0)
        if number < 59:
            schedule.step()
    assert "weights" in kinds(task.told)


def test_groups_may_join() -> None:
    task = Task(lambda p: torch.optim.SGD(p, 0.01), limits=Limits(every=10))
    for _ in range(30):
        task.step()
    task.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))], "lr": 0.5})
    for _ in range(5):
        task.step()
    for _ in range(3):
        task.step(spoil=100.0)
    assert kinds(task.told)[-1] == "weights"
    assert len(task.guard.recovery.ceilings) == 2


def test_sparse_and_half_precision_gradients_have_norms() -> None:
    model = nn.ModuleList([nn.Embedding(10, 4, sparse=True), nn.Linear(4, 1).half()])
    guard = Guard(model, torch.optim.SGD(model.parameters(), 0.1))
    model[0](torch.tensor([1, 1, 2])).sum().backward()
    model[1].weight.grad = torch.full_like(model[1].weight, 60_000.0)
    assert guard.step(1.0)
    assert guard.events == []


def test_steps_that_a_gradient_scaler_leaves_out_are_no_anomalies() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    guard = Guard(model, optimizer, scaler=scaler)
    taken = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (model(1e3 * torch.ones(2, 4)) - 1e3).square().mean()
        scaler.scale(loss).backward()
        taken.append(guard.step(loss))
        optimizer.param_groups[0]["lr"] = 1e-8
    assert taken[:5] == [False] * 5
    assert taken[-1]
    assert "nonfinite" not in kinds(guard.events)


def test_lbfgs_is_refused_in_one_line() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(InputError, match="cannot watch LBFGS"):
        Guard(model, torch.optim.LBFGS(model.parameters()))


def test_a_network_can_be_pickled_whenever_training_ends() -> None:
    for steps in range(1, 12):
        task = Task(MAKERS["SGD"], limits=Limits(every=10))
        for _ in range(steps):
            task.step()
        hooked = any(m._forward_hooks for m in task.model.modules())
        assert hooked == ((steps + 1) % 10 == 0)  # the next step is one that is looked at closely
        pickle.loads(pickle.dumps(task.model))
        task.guard.close()
        assert not any(m._forward_hooks for m in task.model.modules())


def test_buffers_may_change_their_shape() -> None:
    task = Task(MAKERS["SGD"])
    task.model.register_buffer("cache", torch.zeros(2))
    task.step()
    task.model.cache = torch.ones(3)
    task.step()
    task.model.cache.fill_(7.0)
    assert not task.step(spoil=math.nan)
    assert task.model.cache.tolist() == [1.0] * 3


def test_the_units_of_a_transformer_are_its_last_axis() -> None:
    zero = torch.zeros(4, 6, 8)
    zero[..., :2] = 1.0
    assert dead_share(zero, zero) == pytest.approx(0.75)
    assert dead_share(zero, torch.zeros(3)) == 0.0


def test_values_of_events_are_finite_or_none() -> None:
    task = Task(MAKERS["SGD"], policy=WATCH, limits=Limits(every=1))
    task.step(spoil=math.inf)
    assert all(e.value is None or math.isfinite(e.value) for e in task.told)
    assert "nonfinite" in kinds(task.told)


def test_what_is_no_number_is_no_reason_to_end() -> None:
    task = Task(MAKERS["SGD"])
    task.step(spoil=math.nan, batch=["cat.png", "dog.png"])
    assert task.told[0].batch == []


def test_the_end_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(StoppedByGuard("why", [Event("loss", 3, "stop", "so")])))
    assert (str(error), error.events[0].step) == ("why", 3)


def test_numbers_are_those_of_the_data_set(offline: Dataset) -> None:
    config = replace(QUICK, guard="act", validation=500, train_images=600, augment=False)
    run = loop.set_up(config, data=offline)
    assert run.guard is not None
    run.guard.tell = lambda event: None
    run.model.register_forward_pre_hook(
        lambda _, inputs: (inputs[0] * (math.nan if run.step == 3 else 1.0),)
    )
    with tqdm(disable=True) as bar:
        run.epoch(bar)
    (event,) = run.guard.events
    pictures = offline.reduced(0, 16).train.images[event.batch]
    mine = run.data.train.images[[run.data.train.numbers.tolist().index(n) for n in event.batch]]
    assert torch.equal(pictures, mine)
    assert max(event.batch) > 600


def test_an_epoch_of_one_step_that_is_left_out_is_an_epoch(offline: Dataset) -> None:
    changes = {"optimizer": "gradient-descent", "epochs": 4, "train_images": 200, "guard": "act"}
    run, _ = run_with("NaN in a gradient", offline, at=2, **changes)
    assert [row.get("left_out", 0) for row in run.rows] == [0, 200, 0, 0]
    assert run.step == 4


# Settings ---------------------------------------------------------------------------------------


def test_every_kind_has_a_place_in_the_policy() -> None:
    assert list(asdict(ACT)) == list(ACTIONS)
    assert set(asdict(WATCH).values()) == {"warn"}
    assert set(POLICIES) == {"watch", "act"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "clip"}, "the action for loss must be one of warn, skip, stop, got 'clip'"),
        ({"dead": "skip"}, "the action for dead must be one of warn, stop, got 'skip'"),
    ],
)
def test_a_policy_says_what_it_allows(settings: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Policy(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"z": 1.0}, "z must be finite and above 1, got 1.0"),
        ({"every": 0}, "every must be a whole number from 1 up, got 0"),
        ({"lower": 1.0}, r"lower must lie in \(0, 1\), got 1.0"),
        ({"least": 200}, "least must be at most the window of 100 steps, got 200"),
    ],
)
def test_limits_say_what_they_allow(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Limits(**settings)  # type: ignore[arg-type]


def test_float16_and_a_guard_do_not_go_together() -> None:
    with pytest.raises(InputError, match="guard act needs precision bfloat16 or float32"):
        TrainConfig(guard="act", precision="float16")


# On the command line ----------------------------------------------------------------------------


def test_a_run_that_the_guard_stops_ends_with_one_line_and_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up = loop.set_up

    def faulty(config: TrainConfig, **given: Any) -> loop.Run:
        run = set_up(config, **given)
        FAULTS["labels shuffled"](run, STEPS // 2)
        return run

    monkeypatch.setattr(loop, "set_up", faulty)
    words = (
        "train --model small --side 16 --train-images 3000 --batch-size 64 --epochs 6 --guard act"
    )
    done = CliRunner().invoke(ngs, [*words.split(), "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "the guard stopped the run: step" in done.output
    assert "Traceback" not in done.output
    (record,) = read_records(tmp_path / "records.jsonl")
    assert record["guard"][-1]["kind"] == "data"
    assert "inputs or labels" in record["failed"]
    assert "test" not in record
    stopped = torch.load(tmp_path / record["weights"], weights_only=True)
    assert all(bool(value.isfinite().all()) for value in stopped.values())
    assert not list(tmp_path.glob("*.ckpt"))
    table = CliRunner().invoke(ngs, ["results", str(tmp_path / "records.jsonl")])
    assert "stopped" in table.output
