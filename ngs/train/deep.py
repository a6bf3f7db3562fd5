"""Deep fully connected networks, to see what becomes of signals and gradients on a long way.

It rests on torch alone. Chapter 17 uses them.
"""

import math
from collections.abc import Callable

import torch
from torch import nn

WIDTH = 64
"""Units of a layer, and pixels of a digit."""
CLASSES = 10
"""Digits."""


class DeepLayer(nn.Module):
    r"""Linear map, normalisation, activation and dropout, and perhaps its input added.

    The weights are normal with mean 0 and variance :math:`c/n`, n being the width.

    Args:
        c: size of the weights; 2 keeps the mean square of a signal through a ReLU (He et al. 2015).
        activation: ``nn.ReLU`` if none is given.
        norm: whether batch normalisation stands between the linear map and the activation.
        dropout: share of the units that are set to 0 in training.
        residual: whether the input is added.
        branch: what the rest is multiplied by before that.
        bias: whether the linear map has biases; they start as torch starts them.
    """

    def __init__(
        self,
        c: float,
        activation: nn.Module | None = None,
        *,
        norm: bool = False,
        dropout: float = 0.0,
        residual: bool = False,
        branch: float = 1.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH, bias=bias)
        nn.init.normal_(self.linear.weight, std=math.sqrt(c / WIDTH))
        self.norm = nn.BatchNorm1d(WIDTH) if norm else nn.Identity()
        self.activation, self.dropout = activation or nn.ReLU(), nn.Dropout(dropout)
        self.residual, self.branch = residual, branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(n, WIDTH)`` to the same shape."""
        y: torch.Tensor = self.dropout(self.activation(self.norm(self.linear(x))))
        return x + self.branch * y if self.residual else y


def deep_network(depth: int, layer: Callable[[], DeepLayer], seed: int = 0) -> nn.Sequential:
    """Return ``depth`` layers and a linear map to ten scores, whose weights have c = 1.

    Args:
        depth: number of layers.
        layer: makes one of them.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    last = nn.Linear(WIDTH, CLASSES, bias=False)
    nn.init.normal_(last.weight, std=math.sqrt(1.0 / WIDTH))
    return nn.Sequential(*[layer() for _ in range(depth)], last)
