"""Draw the book's logo, ``book/_static/logo.svg``: a look ahead that winds into a valley's minimum.

The curve is a run of :mod:`ngs`, with steps so small that it is smooth. It rests on NumPy and
:mod:`ngs`.
"""

from pathlib import Path

import numpy as np

from ngs.methods import nesterov
from ngs.minimize import minimize
from ngs.problems import quadratic

LOGO = Path(__file__).resolve().parents[1] / "book/_static/logo.svg"
CURVATURES = (1.0, 2.6)
TILT = np.radians(-28)
TURN = np.array([[np.cos(TILT), -np.sin(TILT)], [np.sin(TILT), np.cos(TILT)]])


def drawing() -> str:
    """Return the logo as SVG."""
    run = minimize(
        nesterov, quadratic(CURVATURES), [-27.0, 12.0], lr=0.004, momentum=0.962, steps=330
    )
    course = run.iterates[::5] @ TURN.T + 32
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in course)
    x, y = course[0]
    levels = "".join(
        f'<ellipse rx="{size:.1f}" ry="{size / np.sqrt(CURVATURES[1]):.1f}" '
        f'transform="translate(32 32) rotate({np.degrees(TILT):.0f})"/>'
        for size in (30.0, 20.0, 10.5)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" width="64" height="64">\n'
        f'<g fill="none" stroke="#5f86ad" stroke-width="2.2">{levels}</g>\n'
        f'<polyline points="{points}" fill="none" stroke="#d9570f" stroke-width="4" '
        'stroke-linecap="round" stroke-linejoin="round"/>\n'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.6" fill="#d9570f"/>\n'
        "</svg>\n"
    )


if __name__ == "__main__":
    LOGO.write_text(drawing(), encoding="utf-8")
    print(f"wrote {LOGO.name}")
