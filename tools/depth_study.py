"""Which deep networks learn at all: depth, size of the weights, remedies, optimizers.

``python tools/depth_study.py --out FILE`` trains deep networks of `ngs.train.deep` on
scikit-learn's digits for 150 steps, with three seeds, at learning rates over ten orders of
magnitude. A record holds the final loss for every rate and seed. Chapter 17 reads them.
"""

import math
import shlex
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from ngs.optim.torch import NGS
from ngs.records import read_records
from ngs.train.deep import DeepLayer, deep_network
from ngs.train.records import append_record, provenance

STEPS, LAST, BATCH = 150, 30, 100
"""Steps of a run, those that its loss is the mean of, and digits a step."""
SEEDS = (0, 1, 2)
RATES = tuple(10.0 ** (power / 2) for power in range(-14, 7))
"""From 1e-7 to 1e3, in steps of the square root of 10."""
SIZES = (1 / 3, 1.0, 2.0, 4.0)
DEPTHS = (5, 10, 20, 30, 40)
REMEDIES: dict[str, dict[str, Any]] = {
    "Leaky ReLU, 0.01": {"activation": nn.LeakyReLU(0.01)},
    "dropout, 0.2": {"dropout": 0.2},
    "dropout, 0.5": {"dropout": 0.5},
    "batch normalisation": {"norm": True},
    "residual": {"residual": True},
    "residual, branch over depth": {"residual": True, "branch": 1 / 30},
    "residual, normalised": {"residual": True, "norm": True},
}
OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]] = {
    "NGS": lambda params, lr: NGS(params, lr, 0.9),
    "NGS, clipped to norm 1": lambda params, lr: NGS(params, lr, 0.9, max_norm=1.0),
    "no momentum": lambda params, lr: torch.optim.SGD(params, lr),
    "heavy ball": lambda params, lr: torch.optim.SGD(params, lr, 0.9),
    "Adam": lambda params, lr: torch.optim.Adam(params, lr),
}


def settings() -> Iterator[tuple[str, str, float, int]]:
    """Yield remedy, optimizer, c and depth of everything that is trained."""
    for c in SIZES:
        for depth in DEPTHS:
            yield "none", "NGS", c, depth
    for c in (1.0, 4.0):
        for remedy in REMEDIES:
            yield remedy, "NGS", c, 30
    for c in (1.0, 2.0, 4.0):
        for optimizer in OPTIMIZERS:
            if optimizer != "NGS":
                yield "none", optimizer, c, 30


def final_loss(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> float | None:
    """Return the mean loss of the last steps; ``None`` for a run that diverges."""
    pixels, numerals = load_digits(return_X_y=True)
    x = torch.tensor((pixels - pixels.mean()) / pixels.std(), dtype=torch.float32)
    y, order, losses = torch.tensor(numerals), torch.Generator().manual_seed(seed), []
    while True:
        for picked in torch.randperm(len(x), generator=order).split(BATCH)[:-1]:
            optimizer.zero_grad()
            loss = cross_entropy(network(x[picked]), y[picked])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                return None
            if len(losses) == STEPS:
                return statistics.fmean(losses[-LAST:])


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of records.")
def main(out: Path) -> None:
    """Train everything that has no record yet."""
    torch.set_num_threads(1)
    command = shlex.join(["python", "tools/depth_study.py", *sys.argv[1:]])
    for remedy, optimizer, c, depth in settings():
        setting = {"remedy": remedy, "optimizer": optimizer, "c": c, "depth": depth}
        done = read_records(out) if out.is_file() else []
        if any(setting.items() <= record.items() for record in done):
            continue
        losses: dict[str, list[float | None]] = {}
        for lr in RATES:
            losses[f"{lr:.3g}"] = []
            for seed in SEEDS:
                layer = partial(DeepLayer, c, **REMEDIES.get(remedy, {}))
                network = deep_network(depth, layer, seed)
                method = OPTIMIZERS[optimizer](network.parameters(), lr)
                loss = final_loss(network, method, seed)
                losses[f"{lr:.3g}"].append(None if loss is None else round(loss, 5))
        whole = [statistics.fmean(x) for x in losses.values() if None not in x]  # type: ignore[type-var]
        click.echo(f"{setting}: {min(whole, default=math.inf):.3f}")
        record = {"command": command, "kind": "depth", **provenance(torch.device("cpu")), **setting}
        append_record(out, {**record, "steps": STEPS, "batch_size": BATCH, "losses": losses})


if __name__ == "__main__":
    main()
