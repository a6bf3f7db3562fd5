"""The problem sets as data: sources, releases, wrong submissions, and their marks in seconds.

It grades without kernels and without a database, so that tests can grade many submissions; what
it says is compared with nbgrader's own marks (``make soak``). It rests on nbgrader and IPython.
"""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbformat import NotebookNode
from nbgrader.preprocessors import (
    ClearHiddenTests,
    ClearSolutions,
)
from nbgrader.utils import determine_grade, is_grade, is_solution
from preprocess import grade_id, repair, require_outcomes

HERE = Path(__file__).resolve().parent
SETS = tuple(sorted(path.name for path in (HERE / "source").iterdir() if path.is_dir()))
SCHEME = "### Marking scheme"
"""Heads what a reader goes by, below the model answer. A release has neither."""
SECONDS = 60.0
"""How long a cell may take here; nbgrader's limit is in nbgrader_config.py."""


@dataclass(frozen=True)
class Wrong:
    """A wrong submission that students really write.

    Attributes:
        name: its file's name.
        mistake: what is wrong with it, in one line.
        says: what a check must tell this student, among other things; empty for anything.
        marks: what its graded cells earn by grade_id; one that is not named earns all its points.
        cells: what the student wrote, by grade_id; a cell that is not named is the solution's.
        delete: grade_ids of the cells that the student deleted.
        duplicate: code that stands twice: for each grade_id the older version, which comes first.
    """

    name: str
    mistake: str
    marks: dict[str, float]
    says: str = ""
    cells: dict[str, str] = field(default_factory=dict)
    delete: tuple[str, ...] = ()
    duplicate: dict[str, str] = field(default_factory=dict)


def source(name: str) -> NotebookNode:
    """Return the notebook of a set with its solutions."""
    return nbformat.read(HERE / "source" / name / f"{name}.ipynb", as_version=4)


def release(name: str) -> NotebookNode:
    """Return the notebook of a set as students get it, by nbgrader's own preprocessors."""
    return _run(source(name), ClearSolutions, ClearHiddenTests)


def solution(name: str) -> NotebookNode:
    """Return a submission that has everything right: no hidden checks, no marking schemes."""
    notebook = _run(source(name), ClearHiddenTests)
    for cell in notebook.cells:
        cell.source = cell.source.partition(SCHEME)[0].rstrip("\n")
    return notebook


def wrongs(name: str) -> list[Wrong]:
    """Return the wrong submissions of a set, from ``wrong/SET/*.toml``."""
    found = []
    for path in sorted((HERE / "wrong" / name).glob("*.toml")):
        said = tomllib.loads(path.read_text(encoding="utf-8"))
        found.append(Wrong(path.stem, **{**said, "delete": tuple(said.get("delete", ()))}))
    return found


def submission(name: str, wrong: Wrong) -> NotebookNode:
    """Return a wrong submission as a notebook.

    Raises:
        KeyError: the wrong submission names a cell that the set does not have.
    """
    notebook = solution(name)
    cells = {grade_id(cell): cell for cell in notebook.cells if grade_id(cell)}
    for ident in (*wrong.marks, *wrong.cells, *wrong.delete, *wrong.duplicate):
        if ident not in cells:
            raise KeyError(f"{name}/{wrong.name}: the set has no cell {ident}")
    for ident, text in wrong.cells.items():
        cells[ident].source = text.strip("\n")
    for ident, text in wrong.duplicate.items():
        older = nbformat.from_dict(cells[ident])
        older.source, older.id = text.strip("\n"), f"{ident}-older"
        notebook.cells.insert(notebook.cells.index(cells[ident]), older)
    notebook.cells = [c for c in notebook.cells if grade_id(c) not in wrong.delete]
    return notebook


def points(name: str) -> dict[str, float]:
    """Return what the graded cells of a set are worth, by grade_id, the ones read by people too."""
    graded = [cell for cell in source(name).cells if is_grade(cell)]
    return {grade_id(cell): float(cell.metadata.nbgrader.points) for cell in graded}


def by_hand(name: str) -> set[str]:
    """Return the grade_ids of the cells that a person reads."""
    return {grade_id(c) for c in source(name).cells if is_grade(c) and is_solution(c)}


def grade(
    name: str, notebook: NotebookNode, student: str = "student", patience: float = 1.0
) -> dict[str, tuple[float, str]]:
    """Return what the checked cells of a submission earn, and what they say, by grade_id.

    Args:
        name: the set.
        notebook: the submission; it is not changed.
        student: the account that hands it in.
        patience: multiplies how long a cell and a claim may take.
    """
    original = source(name)
    notebook = nbformat.from_dict(notebook)
    repair(notebook, original)
    checks = {grade_id(c): c.source for c in original.cells if is_grade(c) and not is_solution(c)}
    outputs = {}
    with (
        tempfile.TemporaryDirectory() as place,
        _inside(name, Path(place) / student / name, patience),
    ):
        shell = InteractiveShell()
        shell.user_ns["__name__"] = "__main__"
        for cell in notebook.cells:
            if cell.cell_type != "code":
                continue
            ident = grade_id(cell)
            cell.source = checks.get(ident, cell.source)
            outputs[ident] = _execute(shell, cell, patience * SECONDS)
    require_outcomes(notebook)
    return {
        grade_id(cell): (determine_grade(cell)[0], outputs[grade_id(cell)])
        for cell in notebook.cells
        if grade_id(cell) in checks
    }


def _run(notebook: NotebookNode, *preprocessors: type) -> NotebookNode:
    for preprocessor in preprocessors:
        notebook, _ = preprocessor().preprocess(notebook, {"nbgrader": {}})
    return notebook


@contextlib.contextmanager
def _inside(name: str, folder: Path, patience: float):
    """Stand where nbgrader would run the notebook: its folder, its environment, fresh checks."""
    folder.mkdir(parents=True)
    for path in (HERE / "source" / name).iterdir():
        if path.is_file() and path.suffix != ".ipynb":
            shutil.copy(path, folder)
    said = {"NBGRADER_EXECUTION": "autograde", "NGS_COURSE_HIDDEN": str(HERE / "hidden")}
    said |= {"MPLBACKEND": "Agg", "NGS_COURSE_PATIENCE": str(patience)}
    before = {key: os.environ.get(key) for key in said}
    cwd, path, hook = Path.cwd(), list(sys.path), sys.displayhook
    os.environ.update(said)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    modules = set(sys.modules)
    try:
        yield
    finally:
        os.chdir(cwd)
        sys.path[:], sys.displayhook = path, hook
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        for module in set(sys.modules) - modules:
            if module.startswith(name):
                del sys.modules[module]


def _execute(shell: InteractiveShell, cell: NotebookNode, seconds: float) -> str:
    """Run a cell, give it the outputs that determine its marks, and return what it printed."""

    def stop(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with capture_output() as said:
            result = shell.run_cell(cell.source, store_history=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    cell.outputs = []
    if said.stderr:
        cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text=said.stderr))
    if not result.success:
        cell.outputs.append(nbformat.v4.new_output("error"))
    elif result.result is not None:
        data = {"text/plain": repr(result.result)}
        cell.outputs.append(nbformat.v4.new_output("execute_result", data=data))
    return said.stdout
