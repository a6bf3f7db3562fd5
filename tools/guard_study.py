"""What faults do to a run, unguarded and guarded, and what the guard costs.

``python tools/guard_study.py faults`` trains a small network on reduced CIFAR-10 undisturbed, and
with every fault, without a guard and with one; runs that have a record are left out. ``... cost``
times steps with and without the guard, alternating in one process. Chapter 17 reads the records.
"""

import os
import shlex
import statistics
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from tqdm import tqdm

from ngs.records import read_records
from ngs.train.config import TrainConfig
from ngs.train.data import load
from ngs.train.faults import FAULTS
from ngs.train.loop import set_up
from ngs.train.policy import StoppedByGuardError
from ngs.train.records import append_record, provenance
from ngs.train.run import DivergenceError

BASE = TrainConfig(
    dataset="cifar10",
    model="small",
    epochs=8,
    train_images=10_000,
    validation=5_000,
    side=16,
    precision="float32",
)
TIMED = (("small", 16), ("convnet-narrow", 32), ("fast", 32))
"""Networks whose steps are timed, and the side of their images."""
AT_START = ("layer 1,000 times too small", "layer 1,000 times too large")
"""Faults that are looked at in the network without normalisation alone: it would undo them."""


@click.group()
def main() -> None:
    """Measure what the guard is worth, and what it costs."""


@main.command()
@click.option("--seeds", default="0,1,2", help="With commas.")
@click.option("--dataset", default="cifar10", help="cifar10 or offline.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of records.")
def faults(seeds: str, dataset: str, out: Path) -> None:
    """Train with every fault, without and with a guard."""
    data = load(dataset)
    for seed in map(int, seeds.split(",")):
        for batch_norm in (True, False):
            lr = 0.1 if batch_norm else 0.05  # what these networks train well with
            base = replace(BASE, dataset=dataset, seed=seed, batch_norm=batch_norm, lr=lr)
            for fault in ("none", *FAULTS):
                if fault in AT_START and batch_norm:
                    continue
                for guard in ("off", "act"):
                    _one(replace(base, guard=guard), fault, data, out)


def _one(config: TrainConfig, fault: str, data: Any, out: Path) -> None:
    done = [(r["fault"], r["config"]) for r in read_records(out)] if out.is_file() else []
    if (fault, asdict(config)) in done:
        return
    run = set_up(config, data=data)
    if fault != "none":
        FAULTS[fault](run, run.total_steps // 2)
    record: dict[str, Any] = {"fault": fault, "config": asdict(config)}
    begin = time.perf_counter()
    try:
        with tqdm(disable=True) as bar:
            while len(run.rows) < config.epochs:
                run.epoch(bar)
        record["test"] = {"accuracy": run.finish()["accuracy"]}
    except (DivergenceError, StoppedByGuardError) as error:
        record["failed"] = str(error)
    record["step"], record["steps_per_epoch"] = run.step, run.steps_per_epoch
    record["epochs"] = run.rows
    if run.guard is not None:
        record["guard"] = [asdict(event) | {"batch": event.batch[:5]} for event in run.guard.events]
    record["wall_seconds"] = round(time.perf_counter() - begin, 2)
    result = record.get("failed") or f"{record['test']['accuracy']:.2%}"
    click.echo(f"{fault}, guard {config.guard}, seed {config.seed}: {result}")
    command = shlex.join(["python", "tools/guard_study.py", *sys.argv[1:]])
    append_record(out, {"command": command, "kind": "fault", **provenance(run.device), **record})


@main.command()
@click.option("--blocks", default=8, help="Blocks of 25 steps of each that are timed.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of records.")
def cost(blocks: int, out: Path) -> None:
    """Time steps with and without the guard."""
    rows = []
    for model, side in TIMED:
        config = replace(
            BASE,
            dataset="offline",
            validation=0,
            train_images=0,
            model=model,
            side=side,
            device="cpu",
        )
        runs = {guard: set_up(replace(config, guard=guard)) for guard in ("off", "act")}
        sources = {guard: run.endless() for guard, run in runs.items()}
        spent: dict[str, list[float]] = {guard: [] for guard in runs}
        for number in range(25 * (blocks + 1)):
            for guard in sorted(runs, reverse=bool(number % 2)):
                batch = next(sources[guard])
                begin = time.perf_counter()
                runs[guard].train_step(*batch)
                if number >= 25:  # the first ones find their memory
                    spent[guard].append(time.perf_counter() - begin)
        # What is dear comes in one step of 25, so the mean of such a block counts.
        middle = {
            guard: statistics.median(statistics.fmean(t[i : i + 25]) for i in range(0, len(t), 25))
            for guard, t in spent.items()
        }
        rows.append(
            {
                "model": model,
                "side": side,
                "without_ms": round(1e3 * middle["off"], 3),
                "with_ms": round(1e3 * middle["act"], 3),
                "share": round(middle["act"] / middle["off"] - 1.0, 5),
            }
        )
        click.echo(f"{model:<16}{rows[-1]['without_ms']:>9.2f} ms{rows[-1]['share']:>8.2%}")
    command = shlex.join(["python", "tools/guard_study.py", *sys.argv[1:]])
    record = {"command": command, "kind": "guard-cost", **provenance(torch.device("cpu"))}
    append_record(
        out, {**record, "batch_size": BASE.batch_size, "steps": 25 * blocks, "rows": rows}
    )


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    main()
