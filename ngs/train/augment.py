"""From uint8 images to normalised, randomly shifted and mirrored batches, where they train.

Everything is vectorised over the batch; the random draws come from one seeded generator on the CPU,
so a run sees the same pictures on every device. It rests on torch.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional

from ngs.errors import InputError
from ngs.train.data import Split

PAD = 4
"""Largest shift in pixels of a 32x32 image, the usual one for CIFAR-10; others in proportion."""
FLIPS = ("random", "alternating", "none")


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image.

    Attributes:
        shift: largest shift up, down, left or right, in pixels of a 32x32 image; what enters at the
            edge is the picture's mirror image. 0 to 15.
        flip: ``"random"`` mirrors each image half of the time; ``"alternating"`` draws that for the
            first epoch and then mirrors each image every other time (Jordan 2024); ``"none"``.
        cutout: side of a square that is set to the mean colour, in pixels of a 32x32 image, its
            centre anywhere (DeVries and Taylor 2017); 0 for none, at most 32.

    Raises:
        InputError: a value lies outside its range.
    """

    shift: int = PAD
    flip: str = "random"
    cutout: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.shift <= 15:
            raise InputError(f"shift must lie in 0 .. 15 pixels, got {self.shift}")
        if self.flip not in FLIPS:
            raise InputError(f"flip must be one of {', '.join(FLIPS)}, got {self.flip!r}")
        if not 0 <= self.cutout <= 32:
            raise InputError(f"cutout must lie in 0 .. 32 pixels, got {self.cutout}")


class Draws(NamedTuple):
    """What was drawn for each of n images.

    Attributes:
        down: pixels by which its window lies lower, ``(n, 1)``.
        right: pixels by which it lies further right, ``(n, 1)``.
        mirrored: whether it is mirrored, ``(n, 1)``.
        hole: row and column of the centre of the cut-out square, ``(n, 2)``, or ``None``.
    """

    down: torch.Tensor
    right: torch.Tensor
    mirrored: torch.Tensor
    hole: torch.Tensor | None = None


def normalize(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Return float32 images of mean 0 and standard deviation 1 by channel.

    Args:
        images: uint8 tensor ``(n, 3, h, w)``.
        mean: of the training pixels by channel, in units of 0 .. 1.
        std: likewise.
    """
    shape = (1, -1, 1, 1)
    m = torch.tensor(mean, device=images.device).view(shape)
    s = torch.tensor(std, device=images.device).view(shape)
    return images.float().div_(255.0).sub_(m).div_(s)


def draw(n: int, augmentation: Augmentation, side: int, generator: torch.Generator) -> Draws:
    """Draw what happens to ``n`` images.

    Args:
        n: how many.
        augmentation: what may happen.
        side: their width in pixels; shifts and squares are in proportion to it.
        generator: on the CPU.
    """
    pad = augmentation.shift * side // 32
    down = torch.randint(0, 2 * pad + 1, (n, 1), generator=generator) - pad
    right = torch.randint(0, 2 * pad + 1, (n, 1), generator=generator) - pad
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    if augmentation.flip == "none":
        mirrored = torch.zeros_like(mirrored)
    hole = torch.randint(0, side, (n, 2), generator=generator) if augmentation.cutout else None
    return Draws(down, right, mirrored, hole)


def window(images: torch.Tensor, draws: Draws, which: torch.Tensor | None = None) -> torch.Tensor:
    """Shift and mirror images as drawn; what enters at an edge is the picture's mirror image.

    Args:
        images: tensor ``(m, c, h, w)`` of any type; quick when it is ``channels_last`` in memory,
            as what is returned is.
        draws: for each of the n images that are wanted, on the CPU.
        which: their numbers, ``(n,)`` on the CPU; ``None`` for all m.
    """
    _, c, h, w = images.shape
    which = torch.arange(len(images)) if which is None else which
    n = len(which)
    rows = _reflect(torch.arange(h) + draws.down, h)
    cols = torch.arange(w).expand(n, w)
    cols = torch.where(draws.mirrored, cols.flip(1), cols) + draws.right
    cols = _reflect(cols, w)
    first = which[:, None, None] * (h * w)
    places = (first + rows[:, :, None] * w + cols[:, None, :]).flatten().to(images.device)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, c)
    return pixels.index_select(0, places).view(n, h, w, c).permute(0, 3, 1, 2)


def _reflect(places: torch.Tensor, length: int) -> torch.Tensor:
    """Fold places outside of 0 .. length - 1 back, without repeating the edge."""
    last = length - 1
    return last - (last - places.abs()).abs()


def cut_out(images: torch.Tensor, hole: torch.Tensor, size: int) -> torch.Tensor:
    """Set a square of each image to 0, in place; part of it may lie outside.

    Args:
        images: normalised images ``(n, c, h, w)``, where 0 is the mean colour.
        hole: row and column of each centre, ``(n, 2)``.
        size: side of the square in pixels.
    """
    h, w = images.shape[-2:]
    hole = hole.to(images.device)
    inside = [
        (torch.arange(length, device=images.device) - centre[:, None] + size // 2)
        for length, centre in ((h, hole[:, 0]), (w, hole[:, 1]))
    ]
    rows, cols = ((place >= 0) & (place < size) for place in inside)
    return images.masked_fill_((rows[:, :, None] & cols[:, None, :])[:, None], 0.0)


def shift_and_flip(
    images: torch.Tensor, generator: torch.Generator, pad: int = PAD
) -> torch.Tensor:
    """Shift each image by up to ``pad`` pixels either way (edges mirrored) and mirror half of them.

    Args:
        images: float tensor ``(n, c, h, w)``.
        generator: CPU generator of the draws.
        pad: largest shift in pixels.
    """
    n = len(images)
    down, right = (torch.randint(0, 2 * pad + 1, (n, 1), generator=generator) for _ in range(2))
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    return window(images, Draws(down - pad, right - pad, mirrored)).contiguous()


def order_of(n: int, batch_size: int, generator: torch.Generator | None) -> Sequence[torch.Tensor]:
    """Return the numbers of the images of every batch of a pass over ``n`` images.

    Args:
        n: how many.
        batch_size: images a batch, at most; batches differ by one image.
        generator: CPU generator that shuffles; without one the order stays.
    """
    order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
    return torch.tensor_split(order, math.ceil(n / batch_size))


def batches(
    split: Split,
    batch_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    generator: torch.Generator | None = None,
    augment: Augmentation | None = None,
    mirrored: torch.Tensor | None = None,
    start: int = 0,
    part: Callable[[torch.Tensor], torch.Tensor] = lambda batch: batch,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield ``(images, labels)``; where the images do not divide, batches differ by one image.

    A last batch of what is left over would be harmful: of 10,000 images in batches of 256 it has
    16, whose gradient counts like that of all others, and batch normalisation remembers them best
    (it cost 5 points of accuracy on reduced CIFAR-10).

    All draws of the pass come first, so a pass that is taken up at batch ``start``, with the
    generator as it was, yields what the whole pass would have yielded there.

    Args:
        split: data, already on the device where it trains; quick when its images are
            ``channels_last`` in memory.
        batch_size: images a batch, at most.
        mean: see :func:`normalize`.
        std: see :func:`normalize`.
        generator: CPU generator that shuffles; without one the order stays.
        augment: what may happen to the images (needs a generator).
        mirrored: which images are mirrored in this pass, ``(n,)`` on the CPU, in the order of the
            split; instead of a draw.
        start: number of the first batch.
        part: takes of a tensor with a row for each image of a batch the rows that are wanted.
    """
    device, side = split.images.device, split.images.shape[-1]
    parts, drawn = order_of(len(split), batch_size, generator), []
    if augment is not None and generator is not None:
        drawn = [draw(len(picked), augment, side, generator) for picked in parts]
    for number in range(start, len(parts)):
        picked = part(parts[number])
        labels = split.labels[picked.to(device)]
        if not drawn or augment is None:
            yield normalize(split.images[picked.to(device)], mean, std), labels
            continue
        draws = drawn[number]
        hole = None if draws.hole is None else part(draws.hole)
        draws = Draws(part(draws.down), part(draws.right), part(draws.mirrored), hole)
        if mirrored is not None:
            draws = draws._replace(mirrored=mirrored[picked][:, None])
        images = normalize(window(split.images, draws, picked), mean, std)
        if draws.hole is not None:
            images = cut_out(images, draws.hole, augment.cutout * side // 32)
        yield images, labels


def scaled(images: torch.Tensor, side: int) -> torch.Tensor:
    """Return images of ``side`` pixels: weighted means over what a new pixel covers.

    Scaled up, a new pixel lies between four old ones.

    Args:
        images: float tensor ``(n, c, h, w)``.
        side: of the result.
    """
    return functional.interpolate(
        images, (side, side), mode="bilinear", align_corners=False, antialias=True
    )


def alternate(first: torch.Tensor, epoch: int) -> torch.Tensor:
    """Return which images are mirrored in an epoch of alternating flips.

    Args:
        first: which are mirrored in epoch 1, ``(n,)``.
        epoch: its number, from 1.
    """
    return first if epoch % 2 else ~first
