"""What each part of the fast recipe is worth: the recipe, and the recipe with one part taken out.

``python tools/fast_variants.py accuracy`` trains every variant with several seeds, resumable, in
half the preset's epochs with 5,000 images held out. ``... published`` runs airbench94 with torch's
own layers at plain settings and torch's Nesterov SGD, as it was published (Jordan 2024, arXiv
2404.00498). Two things differ from Jordan's script: weights are float32 under autocast instead of
half-precision, and no images are dropped, so that 10 epochs have 490 steps instead of 476 in 9.9.
``... levers`` times a step with each of the things that make it shorter. Chapter 16 reads the
records.
"""

import shlex
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ngs.optim.torch import NGS
from ngs.records import read_records
from ngs.train import models
from ngs.train.config import PRESETS, TrainConfig
from ngs.train.data import load
from ngs.train.loop import pick_device, train
from ngs.train.memory import keep_freed_memory
from ngs.train.records import append_record, provenance
from ngs.train.run import DivergenceError


class PlainLayers(models.FastNet):
    """The network with torch's own layers: nothing is left out, nothing laid out by hand."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for layer in self.features:
            if isinstance(layer, models.ConvBeforePool):
                plain = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1, bias=False)
                plain.load_state_dict(layer.state_dict())
                layers.append(plain)
            elif isinstance(layer, models.PixelGELU):
                layers.append(nn.GELU())
            elif isinstance(layer, nn.AdaptiveMaxPool2d):
                layers.append(nn.MaxPool2d(3))
            else:
                layers.append(layer)
        self.features = nn.Sequential(*layers)


class RandomFilters(models.FastNet):
    """The network whose first layer keeps torch's initial filters, and learns them."""

    def prepare(self, images: torch.Tensor, eps: float = 5e-4) -> None:
        """Find no filters; those that are there may train."""
        self.whiten.weight.requires_grad_(True)


class Bare(RandomFilters):
    """Both: the first layer random and trained, all convolutions from torch's default."""

    def __init__(self) -> None:
        super().__init__()
        _restart(self)


class DefaultStart(models.FastNet):
    """The network whose convolutions start from torch's default instead of passing on."""

    def __init__(self) -> None:
        super().__init__()
        _restart(self)


def _restart(network: models.FastNet) -> None:
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()


PLAIN = {
    "whitening_epochs": 0,
    "bias_scale": 1.0,
    "label_smoothing": 0.0,
    "flip": "random",
    "lookahead": 0,
    "average": 0.0,
    "schedule": "cosine",
    "epochs": 5,
    "low_share": 0.0,
    "low_side": 0,
}
"""All settings of the recipe that a variant takes back, at once."""
RECIPE = replace(TrainConfig(**PRESETS["fast"]), epochs=6, validation=5000)
VARIANTS: dict[str, tuple[dict[str, Any], Callable[[], nn.Module]]] = {
    "the recipe": ({}, models.FastNet),
    "first layer random, trained": ({"whitening_epochs": 0}, RandomFilters),
    "convolutions from torch's default": ({}, DefaultStart),
    "biases at the common rate": ({"bias_scale": 1.0}, models.FastNet),
    "no label smoothing": ({"label_smoothing": 0.0}, models.FastNet),
    "flips at random": ({"flip": "random"}, models.FastNet),
    "no Lookahead": ({"lookahead": 0, "average": 0.0}, models.FastNet),
    "cosine schedule": ({"schedule": "cosine"}, models.FastNet),
    "five epochs of 32 pixels": ({"epochs": 5, "low_share": 0.0, "low_side": 0}, models.FastNet),
    "none of the eight": (PLAIN, Bare),
    "torch's Nesterov form": ({"optimizer": "sgd-nesterov"}, models.FastNet),
    "heavy ball": ({"optimizer": "sgd"}, models.FastNet),
}
"""Name: what is set otherwise, and the network."""


@click.group()
def main() -> None:
    """Measure the parts of the fast recipe."""


@main.command()
@click.option("--seeds", default="0,1,2", help="With commas.")
@click.option(
    "--variant", "names", multiple=True, type=click.Choice(list(VARIANTS)), help="May be repeated."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of records.")
def accuracy(seeds: str, names: tuple[str, ...], out: Path) -> None:
    """Train every variant, or those named, that has no record yet, seeds outermost."""
    data = load("cifar10")
    for seed in map(int, seeds.split(",")):
        for name in names or VARIANTS:
            changes, network = VARIANTS[name]
            config = replace(RECIPE, seed=seed, **changes)
            done = [(r["variant"], r["config"]) for r in read_records(out)] if out.is_file() else []
            if (name, asdict(config)) in done:
                continue
            _run(config, network, out, data=data, variant=name)


@main.command()
@click.option("--seed", default=0, help="Of initial weights, data order and augmentation.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of records.")
def published(seed: int, out: Path) -> None:
    """Run the published recipe in full."""
    config = replace(
        TrainConfig(**PRESETS["fast"]),
        optimizer="sgd-nesterov",
        epochs=10,
        low_share=0.0,
        low_side=0,
        seed=seed,
    )
    _run(config, PlainLayers, out, variant="published")


class Trimmed(PlainLayers):
    """Torch's layers, but convolutions leave out what the pooling after them drops."""

    def __init__(self) -> None:
        super().__init__()
        for layer, after in pairwise(self.features):
            if isinstance(layer, nn.Conv2d) and isinstance(after, nn.MaxPool2d):
                layer.__class__ = models.ConvBeforePool  # the same parameters, another forward


class Frozen(models.FastNet):
    """The network of the recipe after its third epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.freeze()


LEVERS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "torch's layers, bfloat16": (PlainLayers, {}),
    "float32 instead": (PlainLayers, {"dtype": torch.float32}),
    "colour planes apart in memory": (PlainLayers, {"layout": torch.contiguous_format}),
    "compiled by torch.compile": (PlainLayers, {"compiled": True}),
    "no pixels that pooling drops": (Trimmed, {}),
    "also GELU pixel by pixel": (models.FastNet, {}),
    "also the first layer frozen": (Frozen, {}),
    "also images of 24 pixels": (Frozen, {"side": 24}),
    "also images of 20 pixels": (Frozen, {"side": 20}),
}
"""Name: the network, and what of :func:`_stepper`'s defaults is otherwise."""


@main.command()
@click.option("--rounds", default=7, help="Steps of each that are timed, after one that is not.")
@click.option("--batch-size", default=512, help="Images a step.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of records.")
def levers(rounds: int, batch_size: int, out: Path) -> None:
    """Time a training step with each lever, alternating in one process."""
    keep_freed_memory()
    steps = {name: _stepper(make(), batch_size, **how) for name, (make, how) in LEVERS.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if number:  # the first one compiles, or finds memory
                times[name].append(time.perf_counter() - begin)
    first = statistics.median(next(iter(times.values())))
    rows = [
        {"name": name, "median_ms": round(1e3 * middle, 2), "ratio": round(middle / first, 4)}
        for name, middle in ((name, statistics.median(spent)) for name, spent in times.items())
    ]
    for row in rows:
        click.echo(f"{row['name']:<32}{row['median_ms']:>9.1f} ms{row['ratio']:>7.2f}")
    command = shlex.join(["python", "tools/fast_variants.py", *sys.argv[1:]])
    record = {"command": command, "kind": "levers", **provenance(torch.device("cpu"))}
    append_record(out, {**record, "batch_size": batch_size, "rounds": rounds, "rows": rows})


def _stepper(
    network: nn.Module,
    batch_size: int,
    dtype: torch.dtype = torch.bfloat16,
    layout: torch.memory_format = torch.channels_last,
    compiled: bool = False,
    side: int = 32,
) -> Callable[[], None]:
    """Return a function that takes one training step of the recipe on made-up images."""
    network = network.to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = NGS(models.bias_groups(network, 1e-3, 1.33e-3), 1e-3, 0.85)
    images = torch.randn(batch_size, 3, side, side).contiguous(memory_format=layout)
    labels = torch.randint(0, 10, (batch_size,))
    forward = torch.compile(network) if compiled else network

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            scores = forward(images)
        loss = cross_entropy(scores.float(), labels, label_smoothing=0.2)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _run(
    config: TrainConfig, network: Callable[[], nn.Module], out: Path, variant: str, **more: Any
) -> None:
    models.MODELS["fast"] = lambda batch_norm: network()
    click.echo(f"{variant}, seed {config.seed}")
    try:
        _, record = train(config, say=click.echo, **more)
    except DivergenceError as error:
        record = {"kind": "train", "config": asdict(config), "failed": str(error)}
        record |= provenance(pick_device(config.device))
        click.echo(str(error))
    command = shlex.join(["python", "tools/fast_variants.py", *sys.argv[1:]])
    append_record(out, {"command": command, "variant": variant, **record})


if __name__ == "__main__":
    main()
