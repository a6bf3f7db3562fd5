"""The settings of a run as options of the command line, each declared once.

It rests on click, and on :mod:`ngs.train.config`, which checks the values and has the presets; that
is loaded when a preset is asked for, so that ``--help`` needs no torch.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ngs.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])

SETTINGS: dict[str, tuple[Any, str]] = {
    "dataset": (
        "offline",
        "Data set: offline (generated here), cifar10 or tensors (train_data.pth, test_data.pth).",
    ),
    "model": (
        "convnet-narrow",
        "Network: convnet (19.4 M parameters), convnet-narrow (1.2 M), fast (2.0 M), small "
        "(71 k), resnet18 (11 M), vit (a Transformer, 2.7 M), or one of torchvision's, "
        "torchvision-resnet50 say.",
    ),
    "classes": ("", "Numbers of the classes to learn, 0,1,2 say.  [default: all ten]"),
    "init": (
        "",
        "Weights to begin with: a file that a run has written, or torchvision.  [default: fresh]",
    ),
    "new-head/--keep-head": (False, "Let the last layer begin fresh in spite of --init."),
    "train-last": (0, "Stages that train, counted from the scores; 0 for all."),
    "unfreeze-every": (0, "Epochs after which one more stage trains; 0: never."),
    "stage-decay": (1.0, "Learning rate of a stage, over that of the one before it."),
    "epochs": (8, "Passes over the training images."),
    "batch-size": (128, "Images a step."),
    "optimizer": (
        "ngs",
        "ngs (exact Nesterov), ngs-factor (which learns the learning rate), ngs-rescaled or "
        "ngs-factor-rescaled (velocities follow the learning rate), sgd (torch's heavy ball), "
        "sgd-nesterov (torch's Nesterov form), sgd-plain (no momentum), gradient-descent (all "
        "images a step), adam, nadam, hypergradient, or, with the extra peers, prodigy or "
        "schedule-free.",
    ),
    "lr": (0.05, "Learning rate at its largest."),
    "momentum": (0.9, "Momentum coefficient, in [0, 1)."),
    "weight-decay": (5e-4, "L2 penalty on every parameter."),
    "schedule": (
        "cosine",
        "Learning rate: cosine (15 % warm-up, then to 0), triangle (up over 23 %, then down to "
        "0.07), onecycle (momentum too) or constant.",
    ),
    "factor-every": (1, "Steps between two looks at the factor."),
    "batch-norm/--no-batch-norm": (True, "Normalise the batches."),
    "augment/--no-augment": (True, "Shift, mirror and cut out at random."),
    "shift": (4, "Largest shift, in pixels of a 32x32 image."),
    "flip": ("random", "random, alternating (every other epoch) or none."),
    "cutout": (0, "Side of the square cut out, in pixels; 0 for none."),
    "label-smoothing": (0.0, "Share of the target given to all classes."),
    "accumulate": (1, "Parts in which a batch goes through the network."),
    "max-norm": (0.0, "Clip longer gradients to this norm; 0: never."),
    "average": (0.0, "Decay a step of the mean of the weights; 0: none."),
    "lookahead": (0, "Steps after which the weights return to that mean; 0: never."),
    "bias-scale": (1.0, "Learning rate of normalisation biases, times lr."),
    "whitening-epochs": (0, "Epochs in which fast's first bias trains; 0 for all."),
    "low-share": (0.0, "Share of the epochs, the first ones, on images scaled down."),
    "low-side": (0, "Their side in pixels."),
    "views": ("none", "Test-time views: none, mirror or mirror-shift."),
    "guard": ("off", "Watch every step: off, watch (report anomalies) or act (and mend them)."),
    "target": (0.0, "Stop at this validation accuracy, 0.9 say; 0: never."),
    "compile/--no-compile": (False, "Compile the network."),
    "validation": (0, "Training images to hold out; a run measures them after every epoch."),
    "train-images": (0, "How many of the others to train on; 0 for all."),
    "side": (
        32,
        "Width of the images: 8 or 16 (pixels averaged), 32, 64, 96, 128 or 224 (scaled up).",
    ),
    "seed": (0, "Of initial weights, data order and augmentation."),
    "device": ("auto", "auto, cpu, cuda or mps."),
    "precision": (
        "auto",
        "auto, float32, bfloat16, float16 or float64; auto takes what is fast on the device.",
    ),
}
"""What stands after ``--``, the default, and the help."""


def settings(*without: str, **defaults: Any) -> Callable[[F], F]:
    """Return a decorator that gives a command the options of :data:`SETTINGS`, in their order.

    Args:
        without: names of those that it is not to have.
        defaults: where its defaults are others.
    """

    def decorate(command: F) -> F:
        for flag, (default, text) in reversed(SETTINGS.items()):
            name = flag.split("/")[0].replace("-", "_")
            if name not in without:
                option = click.option(f"--{flag}", default=defaults.get(name, default), help=text)
                command = option(command)
        return command

    return decorate


download = click.option(
    "--download/--no-download",
    default=True,
    help="Fetch CIFAR-10 (170 MB) when no folder has it.",
)


def _preset(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    """Let the settings of a recipe be the defaults of the other options."""
    from ngs.train.config import PRESETS

    if name is not None:
        if name not in PRESETS:
            raise InputError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
        context.default_map = PRESETS[name]
    return name


preset = click.option(
    "--preset",
    is_eager=True,
    expose_value=False,
    callback=_preset,
    help="A whole recipe, of which other options change parts: fast (the network fast on CIFAR-10, "
    "about 94 % in twelve epochs).  [default: none]",
)
dataset = click.option("--dataset", default=SETTINGS["dataset"][0], help=SETTINGS["dataset"][1])
