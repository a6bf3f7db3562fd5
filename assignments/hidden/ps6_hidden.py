"""The checks of problem set 6 that run at grading: other images, and the line on the leaderboard.

It rests on the module of visible checks, which the grader puts back, and on ngs.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from ps6_checks import (
    PATIENCE,
    SIDE,
    TEST,
    TRAIN,
    Data,
    ask,
    classes,
    few,
    kept_rules,
    make_run,
    own_network,
    split_of,
    which,
)

from ngs.course import Claims, answer, close, expect, number
from ngs.train import data as datasets
from ngs.train import offline

DATASET = "NGS_COURSE_DATASET"
"""Environment variable: ``cifar10`` where the grader has it and wants photographs on the board."""
LEVELS = {"offline": (0.40, 0.50, 0.58), "cifar10": (0.30, 0.40, 0.47)}
"""Accuracies that earn a point each, with the full budget."""
TOTAL, FIRST = 60e9, 10e9
ENTRY = "leaderboard.json"


def unseen() -> Data:
    """Return images that no student has: drawn anew, or another part of CIFAR-10."""
    if os.environ.get(DATASET, "offline") == "offline":
        images, labels = offline.generate(TRAIN + TEST, seed=19641964)
        small = torch.nn.functional.avg_pool2d(torch.from_numpy(images).float(), 32 // SIDE)
        pictures, answers = small.round().to(torch.uint8), torch.from_numpy(labels)
        return Data(
            "offline", (pictures[:TRAIN], answers[:TRAIN]), (pictures[TRAIN:], answers[TRAIN:])
        )
    found = datasets.load("cifar10", download=False).reduced(0, SIDE)
    train, test = slice(TRAIN, 2 * TRAIN), slice(-TEST, None)
    return Data(
        "cifar10",
        (found.train.images[train], found.train.labels[train]),
        (found.test.images[test], found.test.labels[test]),
    )


def parts(hold_out, statistics, normalize) -> float:
    """Check part A on more images, and on statistics that are not the images' own."""
    claims = Claims()
    pair = few(600, seed=5)
    with claims(1, "the split is drawn from all images"):
        found = split_of(hold_out, pair, 150, 11)
        held = np.array(which(found[2]))
        expect(
            sorted(which(found[0]) + held.tolist()) == list(range(600)),
            "every image should be in one of the two, and in one only",
        )
        expect(
            np.count_nonzero(np.diff(np.sort(held)) > 1) > 100 and 230 < held.mean() < 370,
            "images from everywhere should be held out, not a block of neighbours",
        )
    with claims(1, "mean and deviation are those of all pixels"):
        mean, std = answer(statistics, pair[0])
        pixels = pair[0].double().numpy() / 255
        expect(
            close(mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-4),
            "the mean should be that of every pixel of the channel, in units of 0 to 1",
        )
        expect(
            close(std, pixels.std(axis=(0, 2, 3)), rtol=2e-4),
            "the deviation should be that of all pixels together, not a mean over the images",
        )
    with claims(1, "other images are normalised with the statistics of the training images"):
        other = few(7, seed=6)[0]
        mean, std = torch.tensor([0.1, 0.5, 0.7]), torch.tensor([0.2, 0.3, 0.4])
        found = answer(normalize, other, mean, std)
        right = (other.numpy() / 255 - mean.numpy()[:, None, None]) / std.numpy()[:, None, None]
        expect(
            close(found, right, atol=1e-4),
            "normalize should use the mean and deviation that it is given, channel by channel",
        )
    return claims.points


def by_hand(given: dict) -> float:
    """Check the rest of part B against the numbers of the student's account."""
    claims = Claims()
    network = own_network(given.get("student_id", ""))

    def forward(side):
        return side**2 * 27 * network.channels + 10 * network.channels

    once = forward(network.side)
    with claims(1, "forward"):
        found = number(given.get("forward"), "forward")
        expect(
            found != 9 * network.side**2 * network.channels + 10 * network.channels,
            "each filter looks at three channels",
        )
        expect(found == once, "a filter is applied at every place; then comes the linear layer")
    with claims(1, "training"):
        found = number(given.get("training"), "training")
        expect(found != 2 * once, "the backward pass computes two gradients, not one")
        expect(found == 3 * once, "forward, and twice that backward")
    with claims(1, "steps"):
        right = network.budget // (3 * once * network.batch_size)
        expect(
            number(given.get("steps"), "steps") == right,
            "it is the number of whole steps, each with all the images of a batch",
        )
    with claims(1, "doubled"):
        right = network.budget // (3 * forward(2 * network.side) * network.batch_size)
        expect(
            number(given.get("doubled"), "doubled") == right,
            "at twice the side there are four times as many places; the linear layer stays",
        )
    return claims.points


def measure(lr_at, accuracy) -> float:
    """Check part C on other lengths, and on a last batch that is shorter."""
    claims = Claims()
    with claims(1, "triangles of other lengths and heights"):
        for steps, peak in ((23, 0.4), (100, 2.0), (4, 1.0), (1, 0.3)):
            found = np.array([answer(lr_at, t, steps, peak) for t in range(steps)], float)
            w = -(-steps // 5)
            rising = peak * np.arange(1, w + 1) / w
            falling = peak * (steps - np.arange(w, steps)) / (steps - w + 1)
            expect(
                close(found, np.concatenate([rising, falling])),
                f"with {steps} steps the rate should rise for {w}, then fall evenly, to 0 after "
                "the last step",
            )
    with claims(1, "every image counts once, in the short last batch too"):
        found, model = ask(accuracy, 1203, 203, training=True)
        expect(sum(model.sizes) == 1203, "each image should go through the model once")
        expect(
            close(found, 1000 / 1203, rtol=1e-5),
            "the share should be over all images: a mean of the batches' shares is another number",
        )
    with claims(1, "a model in evaluation mode stays in it"):
        found, model = ask(accuracy, 20, 5, training=False)
        expect(close(found, 0.75), "15 of 20 right should be 0.75")
        expect(
            not any(t or g for t, g in model.modes), "evaluation mode, and no gradients recorded"
        )
    return claims.points


def run(final_run, nickname) -> float:
    """Check part D on images that nobody has seen, and write the line on the leaderboard."""
    claims = Claims(PATIENCE)
    data = unseen()
    images, labels = data._test
    first = full = None
    with claims(1, "with a sixth of the budget: the rules are kept, the report is true"):
        begin = time.perf_counter()
        first = make_run(final_run, data, FIRST, seed=7)
        kept_rules(first, data)
        right = (classes(first.predict, images) == labels).float().mean()
        expect(
            close(number(first.reported, "the test accuracy"), right, atol=2e-3),
            "the reported accuracy should be the share of test images that predict gets right",
        )
    share = 0.0
    with claims(1, "with the full budget: the rules are kept"):
        full = make_run(final_run, data, TOTAL, seed=8)
        kept_rules(full, data)
        share = float((classes(full.predict, images) == labels).float().mean())
        if first is not None and first.read:
            entry = {
                "nickname": str(nickname or "nameless")[:40],
                "dataset": data.name,
                "sixth": float((classes(first.predict, images) == labels).float().mean()),
                "full": share,
                "seconds": round(time.perf_counter() - begin, 1),
            }
            Path(ENTRY).write_text(json.dumps(entry), encoding="utf-8")
    with claims(1, "an image's class does not depend on the images beside it"):
        expect(full is not None, "there is no run to look at: see the line above")
        together = classes(full.predict, images[:60])
        alone = torch.cat([classes(full.predict, images[i : i + 1]) for i in range(60)])
        expect(
            (together == alone).float().mean() >= 0.95,
            "alone, images get other classes than in company: predict in evaluation mode",
        )
    for level in LEVELS[data.name]:
        with claims(1, f"more than {100 * level:.0f} % on images that you have not seen"):
            expect(
                share > level,
                f"{100 * share:.0f} %, with the full budget and the rules kept"
                if share
                else "no accuracy counts where a rule was broken",
            )
    return claims.points
