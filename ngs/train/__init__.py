"""What a training run is made of: data, models, loop, records.

It rests on :mod:`ngs.optim.torch` and :mod:`ngs.schedules`, and needs ``pip install 'ngs[train]'``.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "ngs.train needs PyTorch and torchvision: pip install 'ngs[train]'"
    ) from error
