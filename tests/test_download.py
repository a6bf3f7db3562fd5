"""Claims about a notebook that was downloaded: with the wheel installed it runs in any folder and
prints what the book prints; and the zip of all has what they need, and is the same each time.
"""

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tool import load_tool

import ngs
from ngs.records import recorded

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
DAILY = ("ch12_cifar10", "ch17_wrong", "ch20_problem_sets")
"""Three that read records; `make soak` runs all."""
make_downloads = load_tool("make_downloads")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if path.stem in DAILY else pytest.mark.soak)
        for path in NOTEBOOKS
    ],
    ids=lambda path: path.stem,
)
def test_a_notebook_alone_in_a_folder_prints_what_the_book_prints(
    path: Path, installed: Callable[..., str], tmp_path: Path
) -> None:
    shutil.copy(path, tmp_path)
    options = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout", "300", "-q"]
    options += ["-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    said = installed("python", "-m", "pytest", *options, path.name, folder=tmp_path)
    assert f"{number_of_cells(path)} passed" in said
    assert [left.name for left in tmp_path.iterdir()] == [path.name]


def number_of_cells(path: Path) -> int:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return sum(cell["cell_type"] == "code" for cell in cells)


def test_no_notebook_reads_what_lies_beside_it() -> None:
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        assert "../" not in code, path.name
        assert "results/" not in code, path.name


# The zip ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What somebody has who downloaded the zip."""
    folder = tmp_path_factory.mktemp("downloads")
    make_downloads.make_notebooks(folder)
    with zipfile.ZipFile(folder / "nesterov-notebooks.zip") as archive:
        archive.extractall(folder)
    return folder / "nesterov-notebooks"


def test_the_zip_holds_every_notebook_the_library_and_the_pins(unpacked: Path) -> None:
    names = {path.name for path in unpacked.iterdir()}
    wheel = f"ngs-{ngs.__version__}-py3-none-any.whl"
    assert names == {*(path.name for path in NOTEBOOKS), wheel, "requirements.txt"}
    for path in NOTEBOOKS:
        assert (unpacked / path.name).read_bytes() == path.read_bytes()
    assert (unpacked.parent / wheel).read_bytes() == (unpacked / wheel).read_bytes()


def test_the_same_sources_make_the_same_zip(unpacked: Path, tmp_path: Path) -> None:
    make_downloads.make_notebooks(tmp_path)
    first = (unpacked.parent / "nesterov-notebooks.zip").read_bytes()
    assert (tmp_path / "nesterov-notebooks.zip").read_bytes() == first


def test_an_older_wheel_does_not_stay_beside_a_newer_one(tmp_path: Path) -> None:
    (tmp_path / "ngs-0.0.1-py3-none-any.whl").write_bytes(b"old")
    make_downloads.make_notebooks(tmp_path)
    wheel = f"ngs-{ngs.__version__}-py3-none-any.whl"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nesterov-notebooks.zip", wheel]


def test_the_pins_name_all_that_the_notebooks_import(unpacked: Path) -> None:
    lines = (unpacked / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = {Requirement(line).name for line in lines if line[0] not in "#."}
    owners = packages_distributions()
    for path in NOTEBOOKS:
        for name in imported(path) - sys.stdlib_module_names - {"ngs"}:
            assert pinned & set(owners[name]), f"{path.name} imports {name}"


def imported(path: Path) -> set[str]:
    """Return what the first code cell of a notebook imports, where all imports stand."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    first = next("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    names = set()
    for node in ast.walk(ast.parse(first)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name.partition(".")[0] for name in names}


def test_pip_takes_the_pins_and_the_wheel_beside_them(unpacked: Path) -> None:
    # In this environment all pins are met, so that pip needs no index.
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "-r", "requirements.txt"],
        cwd=unpacked,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"Processing ./ngs-{ngs.__version__}-py3-none-any.whl" in done.stdout


def test_the_page_names_what_is_made() -> None:
    page = (ROOT / "book/download.md").read_text(encoding="utf-8")
    wheel = f"ngs-{ngs.__version__}-py3-none-any.whl"
    for name, command in (
        (f"download/{make_downloads.NAME}.zip", "make book"),
        (f"download/{wheel}", "make book"),
        ("pdf/nesterov.pdf", "make pdf"),
        ("epub/nesterov.epub", "make epub"),
    ):
        assert f"{{offer}}`_build/{name} <{command}>`" in page
    assert f'"./{wheel}[' in page
    assert f'recorded("comparison")  # {len(recorded("comparison"))} trainings;' in page
