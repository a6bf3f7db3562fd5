"""Test-time augmentation: the mean score over several views of an image. It rests on torch."""

from collections.abc import Callable

import torch
from torch.nn import functional

from ngs.errors import InputError

VIEWS = ("none", "mirror", "mirror-shift")
"""Kinds: the image alone; it and its mirror image; these two, also shifted by a pixel."""


def score_views(
    score: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, kind: str
) -> torch.Tensor:
    """Return the mean score over the views of each image (Jordan 2024, arXiv 2404.00498).

    ``"mirror"`` weighs image and mirror image alike. ``"mirror-shift"`` gives half of the weight
    to this pair and a quarter each to the pairs shifted up and left, and down and right, by one
    pixel; what enters at an edge is the picture's mirror image. Six views cost six evaluations.

    Args:
        score: maps images to scores ``(n, classes)``, the network set to evaluation.
        images: normalised images ``(n, c, h, w)``.
        kind: one of :data:`VIEWS`.

    Raises:
        InputError: there is no such kind.
    """
    if kind not in VIEWS:
        raise InputError(f"views must be one of {', '.join(VIEWS)}, got {kind!r}")
    if kind == "none":
        return score(images)
    pair = _pair(score, images)
    if kind == "mirror":
        return pair
    h, w = images.shape[-2:]
    padded = functional.pad(images, (1, 1, 1, 1), mode="reflect")
    up_left, down_right = (_pair(score, padded[..., i : i + h, i : i + w]) for i in (2, 0))
    return 0.5 * pair + 0.25 * up_left + 0.25 * down_right


def _pair(score: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    return 0.5 * score(images) + 0.5 * score(images.flip(-1))
