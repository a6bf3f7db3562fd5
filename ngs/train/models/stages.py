"""A network as stages from its images to its scores: the head, what is frozen, rates by stage.

It rests on torch.nn.
"""

import math
from collections.abc import Iterator
from typing import Any

from torch import nn

from ngs.errors import InputError

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
CONTAINERS = ("Sequential", "Encoder")
"""Classes that are taken apart: torch's, and the encoder of torchvision's Vision Transformers."""


def stages(model: nn.Module) -> list[list[nn.Module]]:
    """Return the layers and blocks that have parameters, from the images to the scores.

    A normalisation belongs to the stage before it. A residual block, a layer of a Transformer or a
    single layer is a stage; containers are taken apart. Parameters of the network itself (class
    token, positions) belong to none, see :func:`stage_groups`.
    """
    found: list[list[nn.Module]] = []
    for module in _parts(model):
        if next(module.parameters(), None) is None:
            continue
        if found and isinstance(module, NORMS):
            found[-1].append(module)
        else:
            found.append([module])
    return found


def _parts(model: nn.Module) -> Iterator[nn.Module]:
    for child in model.children():
        if type(child).__name__ in CONTAINERS:
            yield from _parts(child)
        else:
            yield child


def head_name(model: nn.Module) -> str:
    """Return the name of the layer that gives the scores: the last one with weights to multiply by.

    Raises:
        InputError: the network has no linear layer and no convolution.
    """
    names: list[str] = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not names:
        raise InputError("the network has no linear layer or convolution that could be its head")
    return names[-1]


def replace_head(model: nn.Module, classes: int) -> None:
    """Put a new last layer, freshly initialised, in place of the one that gives the scores.

    Args:
        model: is changed in place.
        classes: number of outputs of the new layer, 2 or more.
    """
    if classes < 2:
        raise InputError(f"classes must be 2 or more, got {classes}")
    name = head_name(model)
    old = model.get_submodule(name)
    bias = old.bias is not None
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, classes, bias)
    elif isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, classes, 1, bias=bias)
    model.set_submodule(name, new.to(next(old.parameters())))


def train_last(model: nn.Module, count: int, trained: set[nn.Parameter]) -> None:
    """Let the last stages train and freeze all before them, normalisations included.

    A frozen normalisation stands in evaluation mode: neither its parameters nor its running means
    move. Call it after ``model.train()``, which takes frozen layers out of that mode.

    Args:
        model: is changed in place.
        count: of stages that train; 0, or as many as there are, for all.
        trained: the parameters that train where nothing is frozen.
    """
    parts = stages(model)
    first = len(parts) - count if 0 < count < len(parts) else 0
    frozen = {id(p) for stage in parts[:first] for module in stage for p in module.parameters()}
    inside = {id(p) for stage in parts for module in stage for p in module.parameters()}
    for p in model.parameters():
        # What is in no stage (class token, positions) goes with the first.
        still = id(p) in frozen or (first > 0 and id(p) not in inside)
        p.requires_grad_(p in trained and not still)
    for stage in parts[:first]:
        for module in stage:
            module.eval()


def stage_groups(model: nn.Module, lr: float, decay: float) -> list[dict[str, Any]]:
    r"""Return a parameter group for every stage, its learning rate smaller the further from scores.

    Discriminative fine-tuning (Howard and Ruder 2018, section 3.2): the stage :math:`k` places
    before the last trains at :math:`\eta/q^k`.

    Args:
        model: whose parameters.
        lr: :math:`\eta`, of the last stage, the head.
        decay: :math:`q`, above 0; the paper takes 2.6.

    Raises:
        InputError: ``decay`` is out of range.
    """
    if not 0.0 < decay < math.inf:
        raise InputError(f"stage-decay must be finite and above 0, got {decay}")
    parts = stages(model)
    inside = {id(p) for stage in parts for module in stage for p in module.parameters()}
    columns = [[p for module in stage for p in module.parameters()] for stage in parts]
    columns[0] = [*(p for p in model.parameters() if id(p) not in inside), *columns[0]]
    last = len(columns) - 1
    return [
        {"params": params, "lr": lr / decay ** (last - number)}
        for number, params in enumerate(columns)
    ]
