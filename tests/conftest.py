"""What holds for all tests: Keras runs on torch where a test does not say otherwise. And the wheel,
built and installed far from the checkout.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git would hand out, so that nothing is left in the checkout."""
    source = tmp_path_factory.mktemp("source tree")
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("ngs", "results", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=leave)
    (source / "book").mkdir()
    (source / "book" / "chapter.ipynb").write_text("{}")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source / name)
    isolation = ["--no-isolation"] if find_spec("setuptools") else []
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", *isolation, "--outdir", "dist", "."],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (source / "dist").iterdir()
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Install the wheel into a new environment; return a function that runs a program of it.

    What ngs depends on is lent by the environment of the tests, through a .pth file: the finder of
    an editable ngs does not come along that way.
    """
    home = tmp_path_factory.mktemp("elsewhere")
    environment = home / "fresh env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"

    def run(name: str, *arguments: str | Path, folder: Path = home) -> str:
        done = subprocess.run(
            [environment / "bin" / name, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    packages = Path(run("python", "-c", where))
    lent = subprocess.run(
        [sys.executable, "-c", where], capture_output=True, text=True, check=True
    ).stdout
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    (packages / "lent.pth").write_text(lent)
    return run
