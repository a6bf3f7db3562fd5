"""What holds for all tests: Keras runs on torch where a test does not say otherwise. The wheel,
built and installed far from the checkout. The book, built once a run, and a browser to open it in.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pages
import pytest
from playwright.sync_api import Browser

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
            env={"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1"},
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


@pytest.fixture(scope="session")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of the book; the workers of a run share one build."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    return pages.build_once(shared / "book")


# A module's, not the session's: while Playwright runs, no other loop can, and notebooks need one.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    try:
        pages.browser_tool.find_browser()
    except pages.browser_tool.NoBrowserError as error:
        pytest.skip(str(error))
    with pages.browser_tool.open_browser() as opened:
        yield opened


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the pages weigh and how long they take; all of them with -v, else the worst."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    measured = [
        value
        for r in reports
        for name, value in getattr(r, "user_properties", [])
        if name == "page"
    ]
    if not measured:
        return
    heaviest = sorted(measured, key=lambda page: -page[1])
    slowest = sorted(measured, key=lambda page: -page[2])
    worst = [page for page in heaviest if page in heaviest[:3] or page in slowest[:3]]
    shown = heaviest if terminalreporter.verbosity > 0 else worst
    terminalreporter.section(f"pages: {len(measured)} opened")
    for name, size, seconds in shown:
        terminalreporter.line(f"{name:32} {size / 1e3:7,.0f} kB {seconds:6.1f} s until typeset")
