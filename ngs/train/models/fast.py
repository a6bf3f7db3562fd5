"""The network of the fast recipe, and the parameter groups that it trains in.

It rests on torch.nn.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ngs.errors import InputError


class ConvBeforePool(nn.Conv2d):
    """A 3x3 convolution with padding 1 that leaves out what 2x2 max pooling would drop.

    Of a map with an odd side such a pooling drops the last row and column: 6 % of the work at 31
    pixels, 13 % at 15, 27 % at 7. What is left is the same to the bit of the sums' rounding.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(n, c, h, w)`` to ``(n, out, h - h % 2, w - w % 2)``."""
        h, w = x.shape[-2:]
        if not h % 2 and not w % 2:
            return super().forward(x)
        padded = functional.pad(x, (1, 1 - w % 2, 1, 1 - h % 2))
        return functional.conv2d(padded, self.weight, self.bias)


class PixelGELU(nn.Module):
    """GELU on a ``channels_last`` map, pixel by pixel as it lies in memory.

    torch's own takes half again as long in bfloat16 on a CPU where it is told of the layout.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(n, c, h, w)`` to the same shape."""
        return functional.gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FastNet(nn.Module):
    """The network of airbench94, which learns CIFAR-10 to 94 % in ten epochs.

    Jordan (2024), arXiv 2404.00498, and its code. A frozen 2x2 convolution whitens the
    image (see :meth:`prepare`; until then its filters are random). Three groups follow, each
    convolution, 2x2 max pooling, batch normalisation, GELU, convolution, batch normalisation,
    GELU: the maps are 31, 15, 7 and 3 pixels wide. Then the largest of the last map, a linear
    layer without bias, and a fixed scale. Convolutions start by passing their input through, in
    as many channels as it has; the others start from torch's default.

    It computes what airbench94 computes, with fewer operations: a convolution before a pooling
    leaves out the row and column that the pooling would drop (:class:`ConvBeforePool`).

    Args:
        widths: channels of the groups; none may be less than the one before, the first 24.
        classes: number of outputs.
    """

    FILTERS = 2 * 3 * 2 * 2
    """The 12 whitening filters of a 2x2 patch of three colours, and their negatives."""
    SAMPLE = 5000
    """Training images that the filters are found from."""
    SCALE = 1.0 / 9.0
    """Of the scores."""

    def __init__(self, widths: tuple[int, ...] = (64, 256, 256), classes: int = 10) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, self.FILTERS, 2)
        self.whiten.weight.requires_grad_(False)
        nn.init.zeros_(self.whiten.bias)  # type: ignore[arg-type]
        layers: list[nn.Module] = [PixelGELU()]
        channels = self.FILTERS
        for out in widths:
            first = _passing(ConvBeforePool(channels, out, 3, padding=1, bias=False))
            second = _passing(nn.Conv2d(out, out, 3, padding=1, bias=False))
            layers += [first, nn.MaxPool2d(2), _bias_norm(out), PixelGELU()]
            layers += [second, _bias_norm(out), PixelGELU()]
            channels = out
        self.features = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(channels, classes, bias=False)

    @torch.no_grad()
    def prepare(self, images: torch.Tensor, eps: float = 5e-4) -> None:
        """Set the frozen filters so that they whiten the 2x2 patches of these images.

        With the eigenvectors q_i and eigenvalues s_i of the patches' covariance, the filters are
        q_i / sqrt(s_i + eps), from the largest eigenvalue down, and then their negatives, for
        GELU passes one sign only. Call it once, before training.

        Args:
            images: normalised training images ``(n, 3, h, w)``; the paper's code takes 5,000.
            eps: keeps directions in which patches hardly vary from being blown up.
        """
        size = self.FILTERS // 2
        covariance, count = torch.zeros(size, size, dtype=torch.float64), 0
        for part in torch.split(images, 500):
            # On the CPU: every device gets the same filters, and some have no float64.
            patches = functional.unfold(part.cpu().double(), 2).transpose(1, 2).flatten(0, 1)
            covariance += patches.T @ patches  # about 0, the mean of normalised images
            count += len(patches)
        values, vectors = torch.linalg.eigh(covariance / count)
        # An eigenvector's sign is arbitrary. Under these weights no plain edge or colour contrast
        # sums to 0, so rounding does not decide it.
        signs = (2.0 ** torch.arange(size, dtype=torch.float64) @ vectors).sign()
        filters = (vectors * signs / (values + eps).sqrt()).T.flip(0)
        filters = torch.cat((filters, -filters)).view_as(self.whiten.weight)
        self.whiten.weight.copy_(filters)

    def freeze(self) -> None:
        """Leave the whitening layer's bias as it is from now on; nothing then trains before conv 1.

        The backward pass stops there, which saves a thirteenth of a step.
        """
        self.whiten.bias.requires_grad_(False)  # type: ignore[union-attr]
        self.whiten.bias.grad = None  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images ``(n, 3, h, w)``, h and w 16 up, to scores ``(n, classes)``."""
        scores: torch.Tensor = self.classifier(self.features(self.whiten(x)))
        return scores * self.SCALE


def _passing(layer: nn.Conv2d) -> nn.Conv2d:
    """Let the first channels of a convolution be those of its input, and return it."""
    # Not Conv3x3: with 256 channels, oneDNN's convolution is the quicker of the two at 3x3.
    nn.init.dirac_(layer.weight[: layer.in_channels])
    return layer


def _bias_norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch normalisation that trains its bias alone; its averages forget quickly."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)  # the paper's 0.6 is what is kept
    norm.weight.requires_grad_(False)
    return norm


def bias_groups(
    model: nn.Module, lr: float, weight_decay: float, bias_scale: float = 64.0
) -> list[dict[str, Any]]:
    """Return two parameter groups for torch's optimizers: biases of batch normalisation, the rest.

    The biases train at ``bias_scale`` times the learning rate (Jordan 2024 takes 64, after Page
    2018). Their decay is divided by it, so a step shrinks them as much as all others. Parameters
    that do not train are in neither group.

    Args:
        model: has batch normalisations that train a bias.
        lr: learning rate of the rest.
        weight_decay: of the rest, as torch's ``SGD`` takes it: added to the gradient.
        bias_scale: larger than 0.

    Raises:
        InputError: ``bias_scale`` is out of range, or there is no such bias.
    """
    if not 0.0 < bias_scale < math.inf:
        raise InputError(f"bias_scale must be larger than 0 and finite, got {bias_scale}")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    biases = [m.bias for m in norms if m.bias is not None and m.bias.requires_grad]
    if not biases:
        raise InputError("the network trains no bias of a batch normalisation: use one group")
    known = {id(p) for p in biases}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    return [
        {"params": biases, "lr": lr * bias_scale, "weight_decay": weight_decay / bias_scale},
        {"params": rest, "lr": lr, "weight_decay": weight_decay},
    ]
