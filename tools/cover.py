"""The cover of the PDF and the EPUB: two methods on one valley, as `ngs` itself runs them."""

import html

import numpy as np
from xhtml import SUBTITLE, settings

from ngs.methods import gradient_descent, nesterov
from ngs.minimize import minimize
from ngs.problems import quadratic

WIDTH, HEIGHT = 1050, 1485  # the sides of A4
TILT = np.radians(-31)
START = np.array([-880.0, 92.0])
TURN = np.array([[np.cos(TILT), -np.sin(TILT)], [np.sin(TILT), np.cos(TILT)]])
CENTRE = np.array([760.0, 640.0])


def _line(points: np.ndarray, color: str) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points @ TURN.T + CENTRE)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{color}"/>'
        for x, y in points @ TURN.T + CENTRE
    )
    return (
        f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="3.5" '
        f'stroke-linejoin="round"/>{dots}'
    )


def drawing() -> str:
    """Return the cover's picture as SVG: level lines, gradient descent, Nesterov's method."""
    kappa = 25.0
    problem = quadratic([1.0, kappa])
    beta = (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)
    slow = minimize(gradient_descent, problem, START, lr=1.9 / kappa, steps=34)
    fast = minimize(nesterov, problem, START, lr=1 / kappa, momentum=beta, steps=34)
    levels = "".join(
        f'<ellipse rx="{size:.0f}" ry="{size / np.sqrt(kappa):.0f}" '
        f'transform="translate({CENTRE[0]} {CENTRE[1]}) rotate({np.degrees(TILT):.1f})"/>'
        for size in 90 * 1.42 ** np.arange(8)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'preserveAspectRatio="xMidYMid slice">'
        f'<g fill="none" stroke="#6d8fae" stroke-width="1.6" opacity=".55">{levels}</g>'
        f"{_line(slow.iterates, '#8fb4d6')}{_line(fast.iterates, '#ff8a3d')}</svg>"
    )


def cover() -> str:
    """Return the cover as a piece of HTML; print.css sets it."""
    book = settings()
    return (
        f'<section class="cover" aria-label="Cover">{drawing()}'
        f'<div class="cover-title">{html.escape(book["title"])}</div>'
        f'<div class="cover-subtitle">{SUBTITLE}</div>'
        f'<div class="cover-author">{html.escape(book["author"])}</div></section>'
    )
