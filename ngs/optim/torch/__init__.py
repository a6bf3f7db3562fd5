"""``NGS`` for PyTorch: Nesterov's accelerated gradient, exact under schedules.

It rests on torch's own SGD kernels, on :mod:`ngs.factor` and on :mod:`ngs.restart`.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("ngs.optim.torch needs PyTorch: pip install 'ngs[torch]'") from error

from ngs.optim.torch.optimizer import NGS, Report

__all__ = ["NGS", "Report"]
