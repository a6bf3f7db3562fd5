"""Every network by name, what it needs, and how it is built. It rests on the networks beside it."""

from collections.abc import Callable

from torch import nn

from ngs.errors import InputError
from ngs.train.models import bigger
from ngs.train.models.convnet import ConvNet, SmallNet
from ngs.train.models.fast import FastNet
from ngs.train.models.stages import replace_head

CLASSES = 10
"""Outputs of a network as :data:`MODELS` has it."""

MODELS: dict[str, Callable[[bool], nn.Module]] = {
    "convnet": lambda batch_norm: ConvNet(64, batch_norm),
    "convnet-narrow": lambda batch_norm: ConvNet(16, batch_norm),
    "small": lambda batch_norm: SmallNet(batch_norm=batch_norm),
    "fast": lambda batch_norm: FastNet(),
    "resnet18": lambda batch_norm: bigger.resnet18(),
    "vit": lambda batch_norm: bigger.vit(),
}
"""Every network by name; the argument says whether it normalises its batches.

Beside them, ``torchvision-`` and a name of torchvision's own: ``torchvision-resnet50``.
"""

NORMALISED = ("fast", "resnet18")
"""Networks that cannot do without batch normalisation."""
LEAST_SIDE = {"convnet": 32, "convnet-narrow": 32, "fast": 16, "vit": 32}
"""Smallest images for those networks that pool more often than 8x8 images allow."""
FIXED_SIDE = ("vit",)
"""Networks that take images of their least side alone."""


def check(name: str, batch_norm: bool) -> None:
    """Find out before anything is built whether :func:`build` can build it.

    Raises:
        InputError: no network has that name, or it cannot do without batch normalisation.
        ImportError: it is torchvision's, which is not installed.
    """
    theirs = name.startswith(bigger.PREFIX)
    if theirs:
        bigger.check_name(name)
    elif name not in MODELS:
        raise InputError(
            f"model must be one of {', '.join(MODELS)}, or {bigger.PREFIX} and a name of "
            f"torchvision's, got {name!r}"
        )
    if not batch_norm and (theirs or name in NORMALISED):
        raise InputError(
            f"model {name} needs batch normalisation: leave it on, or take another model"
        )


def build(
    name: str, *, batch_norm: bool = True, classes: int = CLASSES, side: int = 32
) -> nn.Module:
    """Return a freshly initialised network (torch's default initialisation if it says no other).

    Args:
        name: of :data:`MODELS`, or ``torchvision-`` and one of torchvision's.
        batch_norm: whether it normalises its batches.
        classes: number of outputs.
        side: width of the images, for networks of torchvision that are built for one.

    Raises:
        InputError: see :func:`check`; or torchvision cannot build it for that side.
        ImportError: it is torchvision's, which is not installed.
    """
    check(name, batch_norm)
    if name.startswith(bigger.PREFIX):
        return bigger.from_torchvision(name, classes, side)
    network = MODELS[name](batch_norm)
    if classes != CLASSES:
        replace_head(network, classes)
    return network


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable numbers."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
