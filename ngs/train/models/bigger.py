"""Networks of torchvision, as they are and made fit for images of 32 pixels.

It rests on torch.nn, and on torchvision when one is built.
"""

from typing import Any

from torch import nn

from ngs.errors import InputError
from ngs.train.vision import torchvision

PREFIX = "torchvision-"
"""What stands before a name of torchvision's own, ``torchvision-resnet50`` say."""


def resnet18() -> nn.Module:
    """Return the ResNet of 18 layers with a stem for small images.

    He et al. (2016). The first layer is a 3x3 convolution of stride 1 and no pooling follows, so
    that an image of 32 pixels is 32 pixels wide in the first of the four groups and 4 in the last;
    torchvision's own stem, made for 224 pixels, would leave 1.
    """
    network: nn.Module = torchvision().models.resnet18(weights=None, num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return network


def vit() -> nn.Module:
    """Return a small Vision Transformer for images of 32 pixels.

    Dosovitskiy et al. (2021): 64 patches of 4x4 pixels, six layers of width 192 with three heads
    of attention and 768 hidden units.
    """
    network: nn.Module = torchvision().models.VisionTransformer(
        image_size=32,
        patch_size=4,
        num_layers=6,
        num_heads=3,
        hidden_dim=192,
        mlp_dim=768,
        num_classes=10,
    )
    return network


def names() -> list[str]:
    """Return torchvision's own names of its networks for classification."""
    models = torchvision().models
    found: list[str] = models.list_models(module=models)
    return found


def check_name(name: str) -> None:
    """Raise InputError unless torchvision has the network that a name with :data:`PREFIX` names."""
    own = name.removeprefix(PREFIX)
    if own not in names():
        near = [other for other in names() if other[:4] == own[:4]] or ["resnet50", "vit_b_16"]
        raise InputError(
            f"model must name a network of torchvision after {PREFIX}, one of "
            f"{', '.join(near[:8])}, ..., got {name!r}"
        )


def from_torchvision(name: str, classes: int, side: int) -> nn.Module:
    """Return a network of torchvision, freshly initialised.

    Args:
        name: with :data:`PREFIX`.
        classes: number of outputs.
        side: of the images, for those networks that are built for one size.

    Raises:
        InputError: it cannot be built for images of that side.
    """
    own = name.removeprefix(PREFIX)
    options: dict[str, Any] = {"num_classes": classes}
    if own.startswith("vit_"):
        options["image_size"] = side
    if own in ("googlenet", "inception_v3"):  # their second outputs are for a loss of their own
        options.update(aux_logits=False, init_weights=True)
    try:
        network: nn.Module = torchvision().models.get_model(own, weights=None, **options)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(
            f"model {name} cannot be built for images of {side} pixels ({_line(error)}): give "
            "another --side, 224 say"
        ) from error
    return network


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:120]
