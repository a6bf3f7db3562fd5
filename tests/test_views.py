"""Claims about test-time augmentation: which views there are, and what each one weighs."""

import pytest
import torch

from ngs.errors import InputError
from ngs.train.views import VIEWS, score_views

SIDE = 5
PLACES = torch.randn(3 * SIDE * SIDE, 4, generator=torch.Generator().manual_seed(0)).double()


def score(images: torch.Tensor) -> torch.Tensor:
    """Weigh every pixel by its place, then bend: no two views score alike, none cancels."""
    return (images.flatten(1) @ PLACES).tanh()


def pixel(image: list[list[float]], row: int, column: int) -> float:
    """Return a pixel of one channel; one beyond an edge is the one as far inside."""
    row, column = (abs(k) if k < SIDE else 2 * (SIDE - 1) - k for k in (row, column))
    return image[row][column]


def view(images: torch.Tensor, shift: int, mirrored: bool) -> torch.Tensor:
    """Return what a window shows that was moved down and right by ``shift``, pixel by pixel."""
    seen = [
        [
            [
                [
                    pixel(channel, i + shift, (SIDE - 1 - j if mirrored else j) + shift)
                    for j in range(SIDE)
                ]
                for i in range(SIDE)
            ]
            for channel in image
        ]
        for image in images.tolist()
    ]
    return torch.tensor(seen, dtype=torch.float64)


WEIGHTS = {
    "none": {(0, False): 1.0},
    "mirror": {(0, False): 0.5, (0, True): 0.5},
    "mirror-shift": {
        (0, False): 0.25,
        (0, True): 0.25,
        (1, False): 0.125,
        (1, True): 0.125,
        (-1, False): 0.125,
        (-1, True): 0.125,
    },
}


@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_scores_are_the_weighted_mean_over_views_drawn_pixel_by_pixel(
    kind: str, layout: torch.memory_format
) -> None:
    images = torch.randn(6, 3, SIDE, SIDE, dtype=torch.float64).contiguous(memory_format=layout)
    before = images.clone()
    expected = sum(w * score(view(images, *which)) for which, w in WEIGHTS[kind].items())
    torch.testing.assert_close(score_views(score, images, kind), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(images, before)


def test_every_kind_has_an_oracle_and_weights_that_sum_to_one() -> None:
    assert set(WEIGHTS) == set(VIEWS)
    assert all(sum(weights.values()) == 1.0 for weights in WEIGHTS.values())


def test_the_number_of_evaluations_is_one_two_and_six() -> None:
    calls: list[torch.Size] = []

    def counted(images: torch.Tensor) -> torch.Tensor:
        calls.append(images.shape)
        return score(images)

    images = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.float64)
    for kind, number in (("none", 1), ("mirror", 2), ("mirror-shift", 6)):
        calls.clear()
        score_views(counted, images, kind)
        assert calls == [images.shape] * number


def test_an_unknown_kind_is_refused_with_the_kinds_there_are() -> None:
    with pytest.raises(InputError, match="none, mirror, mirror-shift, got 'flip'"):
        score_views(score, torch.zeros(1, 3, SIDE, SIDE), "flip")
