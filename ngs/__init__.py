"""Nesterov's accelerated gradient: the methods, test problems, optimizers and training recipes.

``import ngs`` needs NumPy and tqdm alone. What needs PyTorch lives in :mod:`ngs.optim.torch` and
:mod:`ngs.train` and is imported when asked for.
"""

from ngs import conversions, factor, methods, minimize, problems, schedules, theory

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "conversions",
    "factor",
    "methods",
    "minimize",
    "problems",
    "schedules",
    "theory",
]
