"""The one door to torchvision, open also where its compiled part does not match torch.

It rests on torch and torchvision.
"""

from functools import cache
from types import ModuleType

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []


@cache
def torchvision() -> ModuleType:
    """Return the module torchvision.

    A torchvision built for CUDA beside a CPU build of torch fails at import with "operator
    torchvision::nms does not exist". Datasets, transforms and models need no such operator, so
    its schema is declared and the import tried once more.

    Raises:
        ImportError: torchvision is not installed.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            library.define(f"{operator}{_SIGNATURE}")  # type: ignore[no-untyped-call]
        _declared.append(library)  # the declaration lives as long as the object
        import torchvision
    except ImportError as error:
        raise ImportError("ngs.train needs torchvision: pip install 'ngs[train]'") from error
    return torchvision  # type: ignore[no-any-return]
