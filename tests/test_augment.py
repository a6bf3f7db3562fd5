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


@pytest.mark.parametrize(
    ("size", "expected"), [(4, [4, 3, 3]), (5, [5, 5]), (9, [5, 5]), (10, [10])]
)
def test_batches_differ_by_one_image_at_most(split: Split, size: int, expected: list[int]) -> None:
    assert [len(labels) for _, labels in batches(split, size, NO_MEAN, NO_STD)] == expected


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


def test_a_pass_that_is_taken_up_in_the_middle_yields_what_the_whole_pass_yields_there() -> None:
    images = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8, generator=generator(0))
    data = Split(images, torch.arange(50))
    augment = Augmentation(shift=3, cutout=10)

    def taken_up(start: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        draws = generator(1)
        source = batches(data, 8, NO_MEAN, NO_STD, generator=draws, augment=augment, start=start)
        found = list(source)
        after.append(draws.get_state())
        return found

    after: list[torch.Tensor] = []
    whole = taken_up(0)
    for start in (1, 5, 7):
        for (x, labels), (y, others) in zip(whole[start:], taken_up(start), strict=True):
            assert torch.equal(x, y)
            assert torch.equal(labels, others)
    assert all(torch.equal(state, after[0]) for state in after)  # the next pass is the same too


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_batches_do_not_depend_on_how_the_images_lie_in_memory(
    layout: torch.memory_format,
) -> None:
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8, generator=generator(0))
    found, plain = (
        next(
            batches(
                Split(x, torch.arange(20)), 20, NO_MEAN, NO_STD, generator=generator(2),
                augment=AUGMENT,
            )
        )
        for x in (images.contiguous(memory_format=layout), images)
    )  # fmt: skip
    assert torch.equal(found[0], plain[0])


@pytest.mark.parametrize(("side", "cutout", "size"), [(32, 8, 8), (32, 5, 5), (16, 8, 4)])
def test_cutout_sets_one_square_of_each_image_to_the_mean_and_its_centre_may_be_anywhere(
    side: int, cutout: int, size: int
) -> None:
    n = 3000
    data = Split(torch.full((n, 3, side, side), 255, dtype=torch.uint8), torch.zeros(n).long())
    augment = Augmentation(shift=0, flip="none", cutout=cutout)
    source = batches(data, n, (0.5,) * 3, (0.5,) * 3, generator=generator(0), augment=augment)
    ((images, _),) = source
    assert set(images.unique().tolist()) == {0.0, 1.0}
    centres = set()
    for image in (images == 0.0).numpy():
        assert (image == image[:1]).all()  # in all channels alike
        rows, cols = np.flatnonzero(image[0].any(1)), np.flatnonzero(image[0].any(0))
        top, left, down, right = rows[0], cols[0], rows[-1] + 1, cols[-1] + 1
        assert image[0, top:down, left:right].all()
        assert image[0].sum() == (down - top) * (right - left)
        for low, high in ((top, down), (left, right)):
            assert high - low == size or (low == 0 or high == side)
            assert high - low <= size
        if down - top == right - left == size:
            centres.add((top + size // 2, left + size // 2))
    inside = range(size // 2, side - (size - size // 2) + 1)
    assert len(centres) > 0.6 * len(inside) ** 2
    assert {row for row, _ in centres} == {col for _, col in centres} == set(inside)
    # A corner of the image is cut where the centre is near it, and not more often.
    share = images[:, 0, 0, 0].eq(0.0).float().mean().item()
    assert share == pytest.approx(((size // 2 + 1) / side) ** 2, abs=0.012)


def test_no_flip_mirrors_nothing_and_shift_0_moves_nothing() -> None:
    images = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8, generator=generator(0))
    data = Split(images, torch.arange(30))
    augment = Augmentation(shift=0, flip="none")
    ((found, labels),) = batches(data, 30, NO_MEAN, NO_STD, generator=generator(1), augment=augment)
    assert torch.equal(found, normalize(images[labels], NO_MEAN, NO_STD))


def test_flips_that_are_given_go_with_their_images() -> None:
    images = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8, generator=generator(0))
    data, mirrored = Split(images, torch.arange(30)), torch.rand(30, generator=generator(2)) < 0.5
    augment = Augmentation(shift=0, flip="alternating")
    source = batches(
        data, 7, NO_MEAN, NO_STD, generator=generator(1), augment=augment, mirrored=mirrored
    )
    for found, labels in source:
        plain = normalize(images[labels], NO_MEAN, NO_STD)
        for image, before, label in zip(found, plain, labels, strict=True):
            assert torch.equal(image, before.flip(2) if mirrored[label] else before)
