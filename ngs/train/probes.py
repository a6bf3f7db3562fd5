"""What a network tells about itself: gradients and updates by layer, dead units, gain by layer.

It rests on torch alone.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose gain is measured."""
RECTIFIERS = (nn.ReLU, nn.ReLU6)
"""Activations whose units can be dead: 0 for every input."""
FEW = 16
"""Inputs that show of most units that they live."""
MOST_INPUTS = 128
"""How many inputs of a batch the gains are measured with."""


class Finding(NamedTuple):
    """Something odd about a layer: a kind of anomaly, where, how much, and what is usual."""

    kind: str
    where: str
    value: float
    typical: float


@torch.no_grad()
def norms(tensors: Sequence[torch.Tensor]) -> list[float]:
    """Return the Euclidean norm of each tensor, with one wait for the device."""
    if not tensors:
        return []
    dense = [t.coalesce().values() if t.is_sparse else t for t in tensors]
    wide = [t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in dense]
    found = torch._foreach_norm(wide)
    if all(x.device.type == "cpu" for x in found):
        return [x.item() for x in found]
    return [float(x) for x in torch.stack([x.float().to(wide[0].device) for x in found]).tolist()]


def total(parts: Sequence[float]) -> float:
    """Return the norm of a vector from the norms of its parts."""
    return math.sqrt(sum(x * x for x in parts))


class _Reader:
    """A forward hook that can be pickled with its module, and sleeps outside of training."""

    def __init__(
        self, name: str, read: Callable[[torch.Tensor, torch.Tensor], float], into: dict[str, float]
    ) -> None:
        self.name, self.read, self.into = name, read, into

    def __call__(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        if module.training and isinstance(output, torch.Tensor):
            self.into[self.name] = self.read(inputs[0] if inputs else output, output)


@contextmanager
def watched(
    model: nn.Module,
    kinds: tuple[type[nn.Module], ...],
    read: Callable[[torch.Tensor, torch.Tensor], float],
) -> Iterator[dict[str, float]]:
    """Read inside the block what layers of some kinds are handed and what they return in training.

    Args:
        model: whose layers.
        kinds: which of them.
        read: is called with the first input and the output, and returns what is collected.

    Yields:
        What was read last, by the layer's name.
    """
    found: dict[str, float] = {}
    handles = [
        layer.register_forward_hook(_Reader(name, read, found))
        for name, layer in model.named_modules()
        if isinstance(layer, kinds)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def dead_share(_: torch.Tensor, output: torch.Tensor) -> float:
    """Return the share of units whose output is 0 for all inputs and places.

    Args:
        output: ``(n, units, ...)``; or ``(n, tokens, units)``, as in Transformers: of the two
            readings of three dimensions the one with more dead units counts.
    """
    if output.ndim < 2:
        return 0.0
    if output.ndim != 3:
        few = output.detach()[:FEW].amax(dim=(0, *range(2, output.ndim)))
        if bool((few > 0).all()):  # all units live on the first inputs: no need for the others
            return 0.0
    zero = output.detach() == 0
    axes = (1, 2) if output.ndim == 3 else (1,)
    shares = [zero.transpose(0, a).flatten(1).all(dim=1).float().mean() for a in axes]
    return max(float(share) for share in shares)


def spread(values: torch.Tensor) -> float:
    """Return how much values differ from input to input: the root of their mean variance.

    Args:
        values: ``(n, ...)``, n at least 2.
    """
    return float(values.detach().float().var(dim=0, correction=0).mean().sqrt())


def gain(inputs: torch.Tensor, output: torch.Tensor) -> float:
    """Return the spread of a layer's output over that of its input; NaN where that has none."""
    before = spread(inputs)
    return spread(output) / before if before > 0.0 else math.nan


@torch.no_grad()
def gains(model: nn.Module, inputs: torch.Tensor) -> dict[str, float]:
    """Return by layer what it multiplies the differences between inputs by.

    Biases, which add the same to all, have no part in a gain. The network is asked as it trains;
    its buffers and torch's random numbers are put back.

    Args:
        model: any network.
        inputs: a batch of at least 2; of a large one the first are enough.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    was_training = model.training
    model.train()
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), watched(model, WEIGHTED, gain) as found:
            model(inputs[:MOST_INPUTS])
    finally:
        model.train(was_training)
        for name, buffer in model.named_buffers():
            if name in buffers and buffer.shape == buffers[name].shape:
                buffer.copy_(buffers[name])
    return found


def odd_gains(found: dict[str, float], ratio: float) -> list[Finding]:
    """Return the layers whose gain is more than ``ratio`` off the median of all.

    A gain of 0 is left out, for layers that start at 0 do so on purpose; and one that is not
    finite, which is the fault of an earlier layer.

    Args:
        found: gain by layer.
        ratio: above 1.
    """
    known = {name: x for name, x in found.items() if 0.0 < x < math.inf}
    return _far_off(known, ratio, "start", "start")


def odd_gradients(relative: dict[str, float], ratio: float) -> list[Finding]:
    """Return the layers whose gradient is more than ``ratio`` off the median of all.

    Args:
        relative: norm of the gradient over that of the weights, by parameter; 0, which is that of
            a layer that takes no part, is left out.
        ratio: above 1.
    """
    known = {name: x for name, x in relative.items() if 0.0 < x < math.inf}
    return _far_off(known, ratio, "vanishing", "exploding")


def _far_off(values: dict[str, float], ratio: float, low: str, high: str) -> list[Finding]:
    if not values:
        return []
    middle = statistics.median_low(values.values())
    return [
        Finding(low if value < middle else high, name, value, middle)
        for name, value in values.items()
        if not middle / ratio < value < middle * ratio
    ]


def own_weight(model: nn.Module, name: str) -> nn.Parameter | None:
    """Return the weight of a layer that is its alone and can be scaled; else ``None``.

    A weight that is computed from others (``weight_norm``) or shared with another layer is none.
    """
    layer = model.get_submodule(name)
    weight = dict(layer.named_parameters(recurse=False)).get("weight")
    users = [p for _, p in model.named_parameters(remove_duplicate=False) if p is weight]
    return weight if weight is not None and weight.requires_grad and len(users) == 1 else None
