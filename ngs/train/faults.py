"""Faults to put into a run in order to see what becomes of it, with a guard and without.

It rests on torch and on the run beside it.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from ngs.train.run import Run

NOISE = 100.0
"""Standard deviation of what a corrupted batch holds, where images have 1."""
TOO_HIGH, FOR_STEPS = 100.0, 50
"""What a learning rate is multiplied by, and for how long."""
OFF = 1000.0
"""How much too large or too small an initial layer is."""


def nan_gradient(run: Run, step: int) -> None:
    """Make one number of one gradient of step number ``step`` NaN."""
    parameter = next(p for p in run.model.parameters() if p.requires_grad)

    def spoil(grad: torch.Tensor) -> torch.Tensor:
        if run.step == step:
            grad = grad.clone(memory_format=torch.contiguous_format)
            grad.view(-1)[0] = torch.nan
        return grad

    parameter.register_hook(spoil)  # type: ignore[no-untyped-call]


def corrupted_batch(run: Run, step: int) -> None:
    """Replace the images of step number ``step`` by large noise."""
    draws = torch.Generator().manual_seed(step)

    def spoil(_: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        (images,) = inputs
        if run.step == step and run.model.training:
            noise = NOISE * torch.randn(images.shape, generator=draws)
            images = noise.to(images).contiguous(memory_format=torch.channels_last)
        return (images,)

    run.model.register_forward_pre_hook(spoil)


def lr_too_high(run: Run, step: int) -> None:
    """Multiply the learning rate by 100 for 50 steps, from number ``step`` on."""
    usual = run.lr
    # The schedule counts steps from 0.
    run.lr = lambda t: usual(t) * (TOO_HIGH if step <= t + 1 < step + FOR_STEPS else 1.0)


def layer_too_small(run: Run, step: int = 0) -> None:
    """Divide the initial weights of the middle weighted layer by 1,000."""
    _scale_middle(run.model, 1.0 / OFF)


def layer_too_large(run: Run, step: int = 0) -> None:
    """Multiply them by 1,000."""
    _scale_middle(run.model, OFF)


def labels_shuffled(run: Run, step: int) -> None:
    """Permute the labels of the training images, from the step after number ``step`` on."""
    labels = run.data.train.labels.clone()  # the data set may be used by others too
    run.data = replace(run.data, train=replace(run.data.train, labels=labels))
    draws = torch.Generator().manual_seed(step)

    def shuffle(_: nn.Module, inputs: object) -> None:
        if run.step == step and run.model.training:
            order = torch.randperm(len(labels), generator=draws)
            labels.copy_(labels[order.to(labels.device)])

    run.model.register_forward_pre_hook(shuffle)


def _scale_middle(model: nn.Module, factor: float) -> None:
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        layers[len(layers) // 2].weight.mul_(factor)


FAULTS: dict[str, Callable[[Run, int], None]] = {
    "NaN in a gradient": nan_gradient,
    "corrupted batch": corrupted_batch,
    "learning rate times 100 for 50 steps": lr_too_high,
    "layer 1,000 times too small": layer_too_small,
    "layer 1,000 times too large": layer_too_large,
    "labels shuffled": labels_shuffled,
}
"""By name; the argument is the number of the step at which it begins."""
