"""From uint8 images to normalised, randomly shifted and mirrored batches, where they train.

Everything is vectorised over the batch; the random draws come from one seeded generator on the CPU,
so a run sees the same pictures on every device. It rests on torch.
"""

from collections.abc import Iterator, Sequence

import torch

from ngs.train.data import Split

PAD = 4
"""Largest shift in pixels of a 32x32 image, the usual one for CIFAR-10; others in proportion."""


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
    return (images.float() / 255.0 - m) / s


def shift_and_flip(
    images: torch.Tensor, generator: torch.Generator, pad: int = PAD
) -> torch.Tensor:
    """Shift each image by up to ``pad`` pixels either way (edges mirrored) and mirror half of them.

    Args:
        images: float tensor ``(n, c, h, w)``.
        generator: CPU generator of the draws.
        pad: largest shift in pixels.
    """
    n, c, h, w = images.shape
    device = images.device
    rows = torch.randint(0, 2 * pad + 1, (n, 1), generator=generator) + torch.arange(h)
    cols = torch.randint(0, 2 * pad + 1, (n, 1), generator=generator) + torch.arange(w)
    flip = torch.rand(n, 1, generator=generator) < 0.5
    cols = torch.where(flip, cols.flip(1), cols)
    padded = torch.nn.functional.pad(images, (pad, pad, pad, pad), mode="reflect")
    pick = torch.arange(n, device=device)[:, None, None, None]
    channel = torch.arange(c, device=device)[None, :, None, None]
    return padded[
        pick, channel, rows.to(device)[:, None, :, None], cols.to(device)[:, None, None, :]
    ]


def batches(
    split: Split,
    batch_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    generator: torch.Generator | None = None,
    augment: bool = False,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield ``(images, labels)``; the last batch may be smaller.

    Args:
        split: data, already on the device where it trains.
        batch_size: images a batch.
        mean: see :func:`normalize`.
        std: see :func:`normalize`.
        generator: CPU generator that shuffles; without one the order stays.
        augment: whether to shift and mirror (needs a generator).
    """
    device = split.images.device
    order = torch.arange(len(split))
    if generator is not None:
        order = torch.randperm(len(split), generator=generator)
    for picked in torch.split(order.to(device), batch_size):
        images = normalize(split.images[picked], mean, std)
        if augment and generator is not None:
            images = shift_and_flip(images, generator, PAD * images.shape[-1] // 32)
        yield images, split.labels[picked]
