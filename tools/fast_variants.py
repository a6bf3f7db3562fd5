"""What each part of the fast recipe is worth: the recipe, and the recipe with one part taken out.

``python tools/fast_variants.py accuracy`` trains every variant with several seeds, resumable, on 5
epochs with 5,000 images held out. ``python tools/fast_variants.py published`` runs airbench94 with
torch's own layers at plain settings and torch's Nesterov SGD, as it was published (Jordan 2024,
arXiv 2404.00498). Two things differ from Jordan's script: weights are float32 under autocast
instead of half-precision, and the last batch of an epoch, of 848 images, is not dropped: 490 steps
in 10 epochs instead of 476 in 9.9. Chapter 16 reads the records.
"""

import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from ngs.train import models
from ngs.train.config import PRESETS, TrainConfig
from ngs.train.data import load
from ngs.train.loop import train
from ngs.train.records import append_record, read_records


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


class DefaultStart(models.FastNet):
    """The network whose convolutions start from torch's default instead of passing on."""

    def __init__(self) -> None:
        super().__init__()
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()


RECIPE = replace(TrainConfig(**PRESETS["fast"]), epochs=5, validation=5000)
VARIANTS: dict[str, tuple[dict[str, Any], Callable[[], nn.Module]]] = {
    "the recipe": ({}, models.FastNet),
    "first layer random, trained": ({"whitening_epochs": 0}, RandomFilters),
    "convolutions from torch's default": ({}, DefaultStart),
    "biases at the common rate": ({"bias_scale": 1.0}, models.FastNet),
    "no label smoothing": ({"label_smoothing": 0.0}, models.FastNet),
    "flips at random": ({"flip": "random"}, models.FastNet),
    "no Lookahead": ({"lookahead": 0, "average": 0.0}, models.FastNet),
    "cosine schedule": ({"schedule": "cosine"}, models.FastNet),
    "torch's Nesterov form": ({"optimizer": "sgd-nesterov"}, models.FastNet),
    "heavy ball": ({"optimizer": "sgd"}, models.FastNet),
}
"""Name: what is set otherwise, and the network."""


@click.group()
def main() -> None:
    """Measure the parts of the fast recipe."""


@main.command()
@click.option("--seeds", default="0,1,2", help="With commas.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of records.")
def accuracy(seeds: str, out: Path) -> None:
    """Train every variant that has no record yet, seeds outermost."""
    data = load("cifar10")
    for seed in map(int, seeds.split(",")):
        for name, (changes, network) in VARIANTS.items():
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
        low_epochs=0,
        low_side=0,
        seed=seed,
    )
    _run(config, PlainLayers, out, variant="published")


def _run(
    config: TrainConfig, network: Callable[[], nn.Module], out: Path, variant: str, **more: Any
) -> None:
    models.MODELS["fast"] = lambda batch_norm: network()
    click.echo(f"{variant}, seed {config.seed}")
    _, record = train(config, say=click.echo, **more)
    command = shlex.join(["python", "tools/fast_variants.py", *sys.argv[1:]])
    append_record(out, {"command": command, "variant": variant, **record})


if __name__ == "__main__":
    main()
