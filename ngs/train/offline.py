"""The offline data set: ten classes of coloured shapes, 32x32 RGB, generated, never downloaded.

It stands behind the same interface as CIFAR-10 and is never reported as CIFAR-10. It rests on
NumPy.
"""

import numpy as np
from numpy.typing import NDArray

CLASSES = (
    "disc", "ring", "crescent", "square", "frame",
    "triangle", "cross", "star", "bars", "checks",
)  # fmt: skip
SIDE = 32
TRAIN, TEST = 5000, 1000
SEED = 19830208  # any fixed number will do; this data set is its seed

Floats = NDArray[np.float64]


def generate(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw ``count`` images and their labels, the same ones on every machine.

    Each image is one filled shape of random place, size, turn and colours over a background with a
    colour gradient, a distracting blob and pixel noise. Two thirds of the contrast between shape
    and background are random in every channel, so a single pixel's colour tells nothing.

    Args:
        count: number of images, a multiple of 10; the classes are equally frequent.
        seed: seed of NumPy's PCG64.

    Returns:
        images uint8 ``(count, 3, 32, 32)`` and labels int64 ``(count,)``, in random order.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % len(CLASSES)).astype(np.int64)
    u, v = _turned_grid(rng, count)
    inside = np.empty((count, SIDE, SIDE))
    for label, distance in enumerate(_distances(u, v)):
        chosen = labels == label
        inside[chosen] = distance(chosen)
    softness = 0.12
    mask = np.clip(0.5 - inside / softness, 0.0, 1.0)[:, None]
    images = _background(rng, count)
    sign = rng.choice([-1.0, 1.0], size=(count, 3, 1, 1))
    contrast = sign * rng.uniform(0.12, 0.45, size=(count, 3, 1, 1))
    images = images + mask * contrast + rng.normal(0.0, 0.08, size=images.shape)
    return np.clip(np.rint(images * 255.0), 0, 255).astype(np.uint8), labels


def train_and_test() -> tuple[
    NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]
]:
    """Return the 5,000 training and 1,000 test images with their labels."""
    images, labels = generate(TRAIN + TEST, SEED)
    return images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:]


def _turned_grid(rng: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Return pixel coordinates in the frame of each image's shape, of unit radius there."""
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2.0 - 1.0
    y, x = np.meshgrid(axis, axis, indexing="ij")
    shape = (count, 1, 1)
    cx, cy = rng.uniform(-0.35, 0.35, shape), rng.uniform(-0.35, 0.35, shape)
    size = rng.uniform(0.38, 0.7, shape)
    turn = rng.uniform(-0.6, 0.6, shape)
    stretch = np.exp(rng.uniform(-0.25, 0.25, shape))
    dx, dy = (x - cx) / size, (y - cy) / size
    u = (np.cos(turn) * dx + np.sin(turn) * dy) * stretch
    v = (-np.sin(turn) * dx + np.cos(turn) * dy) / stretch
    return u, v


def _distances(u: Floats, v: Floats):  # type: ignore[no-untyped-def]
    """Yield, class by class, a function of the chosen images: negative inside the shape."""

    def disc(i: NDArray[np.bool_]) -> Floats:
        return np.hypot(u[i], v[i]) - 0.85

    def ring(i: NDArray[np.bool_]) -> Floats:
        radius: Floats = np.hypot(u[i], v[i])
        width: Floats = np.abs(radius - 0.7)
        return width - 0.2

    def crescent(i: NDArray[np.bool_]) -> Floats:
        return np.maximum(np.hypot(u[i], v[i]) - 0.9, 0.7 - np.hypot(u[i] - 0.45, v[i]))

    def square(i: NDArray[np.bool_]) -> Floats:
        return np.maximum(np.abs(u[i]), np.abs(v[i])) - 0.75

    def frame(i: NDArray[np.bool_]) -> Floats:
        return np.abs(np.maximum(np.abs(u[i]), np.abs(v[i])) - 0.65) - 0.18

    def triangle(i: NDArray[np.bool_]) -> Floats:
        slope: float = 0.5 * np.sqrt(3.0)
        return np.maximum(slope * np.abs(u[i]) - 0.5 * v[i], v[i]) - 0.45

    def cross(i: NDArray[np.bool_]) -> Floats:
        a, b = np.abs(u[i]), np.abs(v[i])
        return np.minimum(np.maximum(a - 0.28, b - 0.9), np.maximum(b - 0.28, a - 0.9))

    def star(i: NDArray[np.bool_]) -> Floats:
        angle = np.arctan2(v[i], u[i])
        edge: Floats = 0.65 + 0.3 * np.cos(5.0 * angle)
        radius: Floats = np.hypot(u[i], v[i])
        return radius - edge

    def bars(i: NDArray[np.bool_]) -> Floats:
        stripe = 0.22 - np.abs(np.mod(v[i] + 0.3, 0.6) - 0.3)
        return np.maximum(np.maximum(np.abs(u[i]), np.abs(v[i])) - 0.9, stripe)

    def checks(i: NDArray[np.bool_]) -> Floats:
        product: Floats = -np.minimum(np.abs(u[i]), np.abs(v[i])) * np.sign(u[i] * v[i])
        return np.maximum(np.maximum(np.abs(u[i]), np.abs(v[i])) - 0.85, product)

    yield from (disc, ring, crescent, square, frame, triangle, cross, star, bars, checks)


def _background(rng: np.random.Generator, count: int) -> Floats:
    """Return backgrounds ``(count, 3, 32, 32)`` in [0, 1]: a colour gradient and one soft blob."""
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2.0 - 1.0
    y, x = np.meshgrid(axis, axis, indexing="ij")
    shape = (count, 3, 1, 1)
    level = rng.uniform(0.3, 0.7, shape)
    gradient = rng.uniform(-0.2, 0.2, shape) * x + rng.uniform(-0.2, 0.2, shape) * y
    place = (count, 1, 1, 1)
    bx, by = rng.uniform(-1.0, 1.0, place), rng.uniform(-1.0, 1.0, place)
    width = rng.uniform(0.15, 0.4, place)
    blob = np.exp(-((x - bx) ** 2 + (y - by) ** 2) / (2.0 * width**2))
    return level + gradient + rng.uniform(-0.35, 0.35, shape) * blob
