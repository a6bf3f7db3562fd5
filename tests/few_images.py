"""A few images of the offline data set, for tests of training that take a moment."""

from ngs.train import data, offline


def few_images(train: int, test: int) -> data.Dataset:
    """Return a data set of that many images to train on and to test on."""
    images, labels = offline.generate(train + test, seed=3)
    parts = (images[:train], labels[:train], images[train:], labels[train:])
    return data._dataset("offline", offline.CLASSES, *parts, source="a few")
