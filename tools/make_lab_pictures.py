"""Draw what stands in for the Momentum Lab on paper and where there is no script.

The examples are those of ``book/_static/lab/examples.js``, the courses come out of :mod:`ngs`. The
pictures lie beside the script. It rests on matplotlib, on :mod:`ngs`, and on the golden
trajectories' tool beside it.
"""

import json
from pathlib import Path
from typing import Any

import click
import matplotlib.pyplot as plt
import numpy as np
from make_lab_golden import problem_of, trajectory

from ngs import theory
from ngs.figures import COLORS, use_style

LAB = Path(__file__).resolve().parents[1] / "book/_static/lab"
DRAWN = ("valley", "best", "bound", "restart", "factor")
"""Examples with which a Lab of the book begins."""
LABELS = {
    "gradient_descent": "gradient descent",
    "heavy_ball": "heavy ball",
    "nesterov": "Nesterov",
    "ngs": "NGS with its factor",
}
LOOKS = {
    "gradient_descent": {"color": COLORS["gradient_descent"]},
    "heavy_ball": {"color": COLORS["heavy_ball"], "linestyle": "--"},
    "nesterov": {"color": COLORS["nesterov"], "linewidth": 2.6},
    "ngs": {"color": COLORS["train"], "linestyle": "-."},
}


def examples() -> dict[str, dict[str, Any]]:
    """Return the settings of every example of the Lab by name."""
    text = (LAB / "examples.js").read_text(encoding="utf-8")
    given = json.loads(text[text.index("{", text.index("NGS_LAB_EXAMPLES")) : text.rindex("}") + 1])
    return {name: {**given["natural"], **e["set"]} for name, e in given["examples"].items()}


def case_of(settings: dict[str, Any], method: str) -> dict[str, Any]:
    """Return what :func:`make_lab_golden.trajectory` is to run."""
    free = settings["schedule"] == "nesterov" and method != "heavy_ball"
    return {
        **{key: settings[key] for key in ("f", "kappa", "steps", "restart", "noise", "seed")},
        "method": method,
        "theta": [settings["x"], settings["y"]],
        "lr": settings["eta"] / settings["kappa"],
        "momentum": "nesterov" if free else settings["beta"],
    }


def draw(settings: dict[str, Any], path: Path) -> None:
    """Draw the paths on the contours of a quadratic, and the gaps beside them."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.6))
    f = problem_of({**settings, "noise": 0.0})
    x, y = np.meshgrid(np.linspace(-2.4, 2.4, 200), np.linspace(-1.6, 1.6, 200))
    heights = (x**2 + settings["kappa"] * y**2) / 2
    left.contour(x, y, np.log1p(heights / 0.02), levels=14, colors="#b9c7d8", linewidths=0.8)
    for method in settings["on"]:
        run = trajectory(case_of(settings, method), every=1)
        points = np.array(run["iterates"])
        left.plot(*points.T, marker=".", markersize=4, markevery=(0, 1), **LOOKS[method])
        right.semilogy(run["values"], label=LABELS[method], **LOOKS[method])
    left.plot(0, 0, "*", color="black", markersize=11)
    left.set(xlim=(-2.4, 2.4), ylim=(-1.6, 1.6), xlabel=r"$\theta_1$", ylabel=r"$\theta_2$")
    start = np.array([settings["x"], settings["y"]])
    if settings["schedule"] == "nesterov":
        k = np.arange(1, settings["steps"] + 1)
        R = float(np.linalg.norm(start))
        bound = [theory.nesterov_bound(int(i), L=settings["kappa"], R=R) for i in k]
        right.semilogy(k, bound, ":", color=COLORS["bound"], label="proved bound")
    right.set(xlabel="step $t$", ylabel=r"$f(\theta_t)-f^\star$")
    lowest = min(line.get_ydata().min() for line in right.lines)
    right.set_ylim(max(lowest / 3, 1e-16), 100 * f.value(start))
    right.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


@click.command()
@click.option("--out", default=LAB, type=click.Path(path_type=Path, file_okay=False))
def main(out: Path) -> None:
    """Draw the pictures that stand in for the Momentum Lab."""
    use_style()
    settings = examples()
    for name in DRAWN:
        draw(settings[name], out / f"{name}.png")
    print(f"wrote {', '.join(DRAWN)} (.png)")


if __name__ == "__main__":
    main()
