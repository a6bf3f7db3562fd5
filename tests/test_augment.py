"""Claims about batches: normalised, shifted and mirrored as promised, each image once an epoch.

The oracle is a slow loop over the windows of an image that NumPy has padded.
"""

import numpy as np
import pytest
import torch

from ngs.train.augment import PAD, Augmentation, batches, normalize, shift_and_flip
from ngs.train.data import Split

NO_MEAN, NO_STD = (0.0, 0.0, 0.0), (1 / 255.0, 1 / 255.0, 1 / 255.0)
"""With these, normalised pixels are the bytes again."""


AUGMENT = Augmentation()


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_normalize_gives_mean_zero_and_deviation_one_by_channel() -> None:
    images = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8, generator=generator(0))
    images[:, 1] //= 2  # the channels differ
    images[:, 2] //= 4
    pixels = images.double() / 255.0
    mean = pixels.mean((0, 2, 3)).tolist()
    std = pixels.std((0, 2, 3), correction=0).tolist()
    found = normalize(images, mean, std)
    assert found.dtype == torch.float32
    assert found.shape == images.shape
    assert found.mean((0, 2, 3)).abs().max() < 1e-5
    assert (found.std((0, 2, 3), correction=0) - 1.0).abs().max() < 1e-5
    assert found[3, 2, 5, 7].item() == pytest.approx(
        (images[3, 2, 5, 7].item() / 255.0 - mean[2]) / std[2], abs=1e-5
    )


def windows(image: np.ndarray) -> dict[bytes, tuple[int, int, bool]]:
    """Every allowed picture of an image ``(c, h, w)`` by its bytes: rows, columns, mirrored."""
    _, h, w = image.shape
    padded = np.pad(image, ((0, 0), (PAD, PAD), (PAD, PAD)), mode="reflect")
    found = {}
    for row in range(2 * PAD + 1):
        for col in range(2 * PAD + 1):
            window = padded[:, row : row + h, col : col + w]
            found[window.tobytes()] = (row, col, False)
            found[window[:, :, ::-1].tobytes()] = (row, col, True)
    return found


def test_every_output_is_a_window_of_its_reflected_image_and_all_windows_occur() -> None:
    images = torch.rand(2000, 2, 9, 11, generator=generator(1))
    found = shift_and_flip(images, generator(2))
    assert found.shape == images.shape
    picks = []
    for before, after in zip(images.numpy(), found.numpy(), strict=True):
        allowed = windows(before)
        assert len(allowed) == 2 * (2 * PAD + 1) ** 2  # a window is recognised without doubt
        picks.append(allowed[np.ascontiguousarray(after).tobytes()])
    rows, cols, flips = (np.array(column) for column in zip(*picks, strict=True))
    for shifts in (rows, cols):
        share = np.bincount(shifts, minlength=9) / len(shifts)
        assert share == pytest.approx([1 / 9] * 9, abs=0.03)  # four standard deviations
    assert flips.mean() == pytest.approx(0.5, abs=0.045)
    for one, other in ((rows, cols), (rows, flips), (cols, flips)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.09  # drawn independently


def test_augmentation_leaves_its_input_alone_and_is_decided_by_the_generator() -> None:
    torch.manual_seed(0)
    images = torch.rand(20, 3, 8, 8)
    kept = images.clone()
    first = shift_and_flip(images, generator(5))
    torch.manual_seed(1)
    assert torch.equal(shift_and_flip(images, generator(5)), first)
    assert not torch.equal(shift_and_flip(images, generator(6)), first)
    assert torch.equal(images, kept)


@pytest.fixture
def split() -> Split:
    """Ten images that say which they are in every pixel and in the label."""
    labels = torch.arange(10)
    return Split(labels.to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 8, 8), labels)


def test_batches_keep_the_order_when_nothing_shuffles(split: Split) -> None:
    found = [labels.tolist() for _, labels in batches(split, 5, NO_MEAN, NO_STD)]
    assert found == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_the_last_batch_holds_what_is_left(split: Split) -> None:
    sizes = [len(labels) for _, labels in batches(split, 4, NO_MEAN, NO_STD)]
    assert sizes == [4, 4, 2]


@pytest.mark.parametrize("augment", [False, True])
def test_an_epoch_shows_each_image_once_with_its_own_label(split: Split, augment: bool) -> None:
    seen = []
    source = batches(
        split, 4, NO_MEAN, NO_STD, generator=generator(0), augment=AUGMENT if augment else None
    )
    for images, labels in source:
        assert images.dtype == torch.float32
        for image, label in zip(images, labels, strict=True):
            assert image.unique().tolist() == pytest.approx([label.item()], abs=1e-4)
            seen.append(label.item())
    assert sorted(seen) == list(range(10))
    assert seen != list(range(10))


def test_the_order_is_decided_by_the_generator_and_changes_every_epoch(split: Split) -> None:
    def epochs(seed: int) -> list[list[int]]:
        draws = generator(seed)
        return [
            torch.cat([y for _, y in batches(split, 4, NO_MEAN, NO_STD, generator=draws)]).tolist()
            for _ in range(2)
        ]

    torch.manual_seed(0)
    first, second = epochs(7)
    torch.manual_seed(1)
    assert epochs(7) == [first, second]
    assert first != second
    assert epochs(8) != [first, second]


@pytest.mark.parametrize(("side", "largest"), [(32, 4), (16, 2), (8, 1)])
def test_the_largest_shift_is_an_eighth_of_the_side(side: int, largest: int) -> None:
    # Each row and column has its own value, so an output tells how far it was shifted.
    places = torch.arange(side, dtype=torch.uint8)
    images = torch.stack([places.view(-1, 1).expand(-1, side), places.expand(side, -1)])
    images = torch.cat([images, images[:1]])[None].expand(400, -1, -1, -1)
    data = Split(images, torch.zeros(400, dtype=torch.int64))
    ((found, _),) = batches(data, 400, NO_MEAN, NO_STD, generator=generator(0), augment=AUGMENT)
    middle = side // 2
    down = found[:, 0, middle, middle] - middle
    step = found[:, 1, middle, middle] - found[:, 1, middle, middle - 1]  # -1 where mirrored
    across = found[:, 1, middle, middle] - torch.where(step > 0, middle, side - 1 - middle)
    for shifts in (down, across):
        assert sorted(set(shifts.round().int().tolist())) == list(range(-largest, largest + 1))


def test_batches_are_normalised_before_they_are_augmented_and_only_when_asked() -> None:
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=generator(3))
    data = Split(images, torch.arange(6))
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    for augment in (False, True):
        got, labels = next(
            batches(
                data, 6, mean, std, generator=generator(4), augment=AUGMENT if augment else None
            )
        )
        draws = generator(4)
        order = torch.randperm(6, generator=draws)
        expected = normalize(images[order], mean, std)
        if augment:
            expected = shift_and_flip(expected, draws, pad=1)  # of 8x8: in proportion
        assert torch.equal(labels, order)
        assert torch.equal(got, expected)
