"""Networks for small colour images: which there are, what they cost, how they are taken apart.

They rest on torch.nn; the bigger ones on torchvision, which is loaded when one is built.
"""

from ngs.train.models.convnet import Conv3x3, ConvNet, SmallNet
from ngs.train.models.cost import Cost, cost
from ngs.train.models.fast import ConvBeforePool, FastNet, PixelGELU, bias_groups
from ngs.train.models.registry import (
    FIXED_SIDE,
    LEAST_SIDE,
    MODELS,
    NORMALISED,
    build,
    check,
    parameter_count,
)
from ngs.train.models.stages import head_name, replace_head, stage_groups, stages, train_last

__all__ = [
    "FIXED_SIDE",
    "LEAST_SIDE",
    "MODELS",
    "NORMALISED",
    "Conv3x3",
    "ConvBeforePool",
    "ConvNet",
    "Cost",
    "FastNet",
    "PixelGELU",
    "SmallNet",
    "bias_groups",
    "build",
    "check",
    "cost",
    "head_name",
    "parameter_count",
    "replace_head",
    "stage_groups",
    "stages",
    "train_last",
]
