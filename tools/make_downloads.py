"""Make what the page "Get the book" offers, but for the PDF and the EPUB: all notebooks as one zip.

With them lie the library, as a wheel that has the measured records, and pinned versions of what
the notebooks import: whoever unpacks it needs neither git nor this checkout. The same sources make
the same zip. It rests on tools/make_course.py.
"""

import shutil
import tempfile
from pathlib import Path

from make_course import make_setup, zip_folder

ROOT = Path(__file__).resolve().parents[1]
GOAL = ROOT / "_build/download"
NAME = "nesterov-notebooks"
NEEDED = (
    *("numpy", "scipy", "sympy", "matplotlib", "tqdm", "click", "filelock", "scikit-learn"),
    *("torch", "torchvision", "jax", "optax", "keras", "PEPit", "cvxpy", "clarabel"),
    *("ipykernel", "jupyterlab"),
)
"""What the notebooks import beside ngs, and what opens them, in this environment's versions."""


def make_notebooks(goal: Path) -> None:
    """Write the zip of all notebooks, the library and pinned versions."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / NAME
        make_setup(folder, NEEDED, "What the notebooks need")
        for path in sorted((ROOT / "book").glob("*.ipynb")):
            shutil.copy(path, folder)
        zip_folder(folder, goal / f"{NAME}.zip", NAME)
        for old in goal.glob("*.whl"):
            old.unlink()
        (wheel,) = folder.glob("*.whl")
        shutil.copy(wheel, goal)


if __name__ == "__main__":
    make_notebooks(GOAL)
