"""The house style of every plot, and nothing else. It rests on matplotlib.

Figures are opaque and light, so that they read the same in the book's light and dark modes; the
colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from collections.abc import Mapping
from types import MappingProxyType

try:
    import matplotlib as mpl
    from cycler import cycler
except ImportError as error:
    raise ImportError("ngs.figures needs matplotlib: pip install 'ngs[figures]'") from error

COLORS: Mapping[str, str] = MappingProxyType(
    {
        "gradient_descent": "#0072B2",
        "heavy_ball": "#E69F00",
        "nesterov": "#D55E00",
        "bound": "#666666",
        "train": "#009E73",
        "test": "#CC79A7",
    }
)
"""One colour a thing, the same in every chapter."""


def use_style() -> None:
    """Set matplotlib's defaults for this process to the book's."""
    mpl.rcParams.update(
        {
            "figure.figsize": (7.0, 3.8),
            "figure.dpi": 120,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": cycler(
                color=["#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"]
            ),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "lines.linewidth": 2.0,
            "font.size": 11.0,
            "axes.titlesize": 12.0,
            "legend.frameon": False,
        }
    )
