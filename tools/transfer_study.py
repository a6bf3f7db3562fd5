"""What pretrained weights are worth: learn five classes of CIFAR-10, then the other five.

``python tools/transfer_study.py source`` trains the networks to begin with, one a seed, and keeps
their weights in ``runs/transfer``. ``... target`` trains every arm on few and on more images of the
other classes: with every learning rate for the seeds that choose, then with the chosen rate for
the seeds that judge. Rates are chosen by the images held out, nothing by the test images. Both go
on where they were. Chapter 18 reads the records.
"""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import click

from ngs.records import Record
from ngs.train.compare import recorded
from ngs.train.config import TrainConfig
from ngs.train.data import Dataset, load
from ngs.train.loop import save_weights, train
from ngs.train.records import append_record
from ngs.train.run import DivergenceError

FOLDER = Path("runs/transfer")
BASE = TrainConfig(
    dataset="cifar10",
    model="small",
    side=16,
    batch_size=64,
    optimizer="ngs",
    validation=2500,
    precision="float32",
    device="cpu",
)
SOURCE = replace(BASE, classes="0,1,2,3,4", epochs=12, batch_size=128, lr=0.1)
"""The run whose weights are transferred: 22,500 images of five classes, twelve times."""
TARGET = replace(BASE, classes="5,6,7,8,9")
PASSES = 12 * 22_500
"""Images that pretraining has seen."""
SIZES = {500: 30, 5000: 6}
"""Training images of the other classes, and epochs on them: 15,000 and 30,000 images seen."""
FROM_SOURCE = {"init": "pretrained", "new_head": True}
ARMS: dict[str, dict[str, Any]] = {
    "from scratch": {},
    "from scratch, as long in all": {},
    "head only": {**FROM_SOURCE, "train_last": 1},
    "everything": {**FROM_SOURCE},
    "everything, rates by stage": {**FROM_SOURCE, "stage_decay": 2.6},
    "freed one by one": {**FROM_SOURCE, "train_last": 1, "stage_decay": 2.6},
}
"""Name: what is set otherwise. "As long in all" sees as many images as pretraining and transfer."""
LRS = (0.005, 0.0158, 0.05, 0.158, 0.5, 1.58, 5.0, 15.8)
LONG = 30
"""Epochs from which a record keeps every tenth of them: all 570 would fill megabytes."""
CHOOSING, JUDGING = (0, 1), (2, 3, 4, 5, 6)
"""Seeds that choose each arm's learning rate, and those that have the last word."""


def weights(seed: int) -> Path:
    """Return where the weights that a seed begins with are kept."""
    return FOLDER / f"source-{seed}.pt"


def settings(arm: str, images: int, lr: float, seed: int) -> TrainConfig:
    """Return the run of an arm."""
    changes = dict(ARMS[arm])
    epochs = SIZES[images]
    if arm == "from scratch, as long in all":
        epochs += PASSES // images
    if arm == "freed one by one":
        changes["unfreeze_every"] = epochs // 6  # the network has six stages
    if "init" in changes:
        changes["init"] = str(weights(seed))
    return replace(TARGET, train_images=images, epochs=epochs, lr=lr, seed=seed, **changes)


@click.group()
def main() -> None:
    """Measure what pretrained weights are worth."""


OUT = click.option("--out", type=click.Path(path_type=Path), required=True, help="File of records.")


@main.command()
@OUT
def source(out: Path) -> None:
    """Train the networks to begin with, those whose weights are not there yet."""
    data = load("cifar10")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed in (*CHOOSING, *JUDGING):
        if not weights(seed).is_file():
            network = _run("the source", replace(SOURCE, seed=seed), out, data)
            save_weights(network, weights(seed))


@main.command()
@OUT
def target(out: Path) -> None:
    """Train every arm that has no record yet."""
    data = load("cifar10")
    for images in SIZES:
        for arm in ARMS:
            runs = [settings(arm, images, lr, seed) for lr in LRS for seed in CHOOSING]
            for config in runs:
                _once(arm, config, out, data)
            lr = chosen(recorded(runs, out))
            for seed in JUDGING:
                _once(arm, settings(arm, images, lr, seed), out, data)


def chosen(records: list[Record]) -> float:
    """Return the learning rate of the best mean accuracy on the images held out."""
    rates: dict[float, list[float]] = {}
    for record in records:
        last = record["epochs"][-1]["validation"]["accuracy"] if "test" in record else 0.0
        rates.setdefault(record["config"]["lr"], []).append(last)
    return max(rates, key=lambda lr: fmean(rates[lr]))


def thinned(record: Record) -> Record:
    """Return a record of a long run with the first, every tenth and the last of its epochs."""
    rows = record["epochs"]
    if record["config"]["epochs"] < LONG:
        return record
    kept = [row for row in rows if row["epoch"] % 10 == 0 or row in (rows[0], rows[-1])]
    return {**record, "epochs": kept}


def _once(arm: str, config: TrainConfig, out: Path, data: Dataset) -> None:
    if not (out.is_file() and recorded([config], out)):
        _run(arm, config, out, data)


def _run(arm: str, config: TrainConfig, out: Path, data: Dataset) -> Any:
    """Train once, append the record, and return the network."""
    network = None
    try:
        network, record = train(config, data=data)
        accuracy = f"{record['test']['accuracy']:.2%}"
    except DivergenceError as error:
        record, accuracy = error.record, str(error)
    command = shlex.join(["python", "tools/transfer_study.py", *sys.argv[1:]])
    append_record(out, thinned({"command": command, "arm": arm, **record}))
    images = record["images"]["train"]
    click.echo(f"{arm}, {images} images, lr {config.lr:g}, seed {config.seed}: {accuracy}")
    return network


if __name__ == "__main__":
    main()
