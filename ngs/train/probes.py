"""What a network tells about itself: gradients and updates by layer, dead units, gain by layer.

It rests on torch alone.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose gain is measured."""
RECTIFIERS = (nn.ReLU, nn.ReLU6)
"""Activations whose units can be dead: 0 for every input."""


def norms(tensors: Sequence[torch.Tensor]) -> list[float]:
    """Return the Euclidean norm of each tensor, with one wait for the device."""
    if not tensors:
        return []
    found = torch._foreach_norm([t.detach() for t in tensors])
    return [float(x) for x in torch.stack([x.float() for x in found]).tolist()]


def total(parts: Sequence[float]) -> float:
    """Return the norm of a vector from the norms of its parts."""
    return math.sqrt(sum(x * x for x in parts))


@contextmanager
def watched(
    model: nn.Module,
    kinds: tuple[type[nn.Module], ...],
    read: Callable[[torch.Tensor, torch.Tensor], float],
) -> Iterator[dict[str, float]]:
    """Read inside the block what layers of some kinds are handed and what they return.

    Args:
        model: whose layers.
        kinds: which of them.
        read: is called with the first input and the output, and returns what is collected.

    Yields:
        What was read last, by the layer's name.
    """
    found: dict[str, float] = {}
    handles = []
    for name, layer in model.named_modules():
        if isinstance(layer, kinds):

            def after(
                _: nn.Module,
                inputs: tuple[torch.Tensor, ...],
                output: torch.Tensor,
                name: str = name,
            ) -> None:
                found[name] = read(inputs[0], output)

            handles.append(layer.register_forward_hook(after))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def dead_share(_: torch.Tensor, output: torch.Tensor) -> float:
    """Return the share of units (channels) whose output is 0 for all inputs and places.

    Args:
        output: ``(n, units, ...)``.
    """
    units = output.detach().transpose(0, 1).flatten(1)
    return float((units == 0).all(dim=1).float().mean())


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
    the averages of batch normalisation, and torch's random numbers, are put back.

    Args:
        model: any network.
        inputs: a batch of at least 2.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    was_training = model.training
    model.train()
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), watched(model, WEIGHTED, gain) as found:
            model(inputs)
    finally:
        model.train(was_training)
        for buffer, kept in buffers:
            buffer.copy_(kept)
    return found


def odd_gains(found: dict[str, float], factor: float = 30.0) -> dict[str, float]:
    """Return the layers whose gain is more than ``factor`` off the median of all, and how far.

    What is returned is gain over median; NaN, where no difference between inputs arrives at all, is
    the fault of an earlier layer and is left out.
    """
    known = sorted(x for x in found.values() if math.isfinite(x) and x > 0.0)
    if not known:
        return {}
    middle = known[len(known) // 2]
    return {
        name: gain / middle
        for name, gain in found.items()
        if not math.isnan(gain) and not 1.0 / factor < gain / middle < factor
    }
