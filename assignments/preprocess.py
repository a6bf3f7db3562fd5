"""What nbgrader lacks: cells that a student deleted or duplicated, and checks that show nothing.

(With nbgrader 0.9.6 alone a duplicated cell ends the grading of the whole class, and a check that
was deleted together with the cell before it, that of its student.) It rests on nbgrader.
"""

from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade, is_solution

SOURCE = Path(__file__).resolve().parent / "source"
UNANSWERED = "YOUR ANSWER HERE"
"""What a release has where a person reads the answer: nbgrader's own words."""


def grade_id(cell: NotebookNode) -> str | None:
    """Return nbgrader's name of a cell, or ``None`` for a cell that nbgrader does not know."""
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def repair(submission: NotebookNode, source: NotebookNode) -> list[str]:
    """Give a submission each graded cell once, in its place.

    Of a cell that stands several times the last counts, and the others stay as ordinary cells: so
    it is in the student's own kernel too. A graded cell that is missing is put after the nearest
    cell before it that is there. A deleted answer that is checked further down is not put back:
    the student may have written it in a cell of their own, which the empty one would overrule.

    Args:
        submission: the student's notebook, changed in place.
        source: the notebook with the solutions.

    Returns:
        A line for each thing that was mended.
    """
    right = {grade_id(cell): cell for cell in source.cells if grade_id(cell)}
    said, has = [], set()
    for cell in reversed(submission.cells):
        name = grade_id(cell)
        if "nbgrader" not in cell.metadata:
            continue
        if name in right and name not in has:
            cell.metadata.nbgrader = nbformat.from_dict(right[name].metadata.nbgrader)
            has.add(name)
        else:
            del cell.metadata["nbgrader"]
            said.append(f"cell {name} stands more than once, or is not of this set: not graded")
    before = None
    for name, cell in right.items():
        if name not in has and cell.metadata.nbgrader.grade:
            copy = nbformat.from_dict(cell)
            if cell.metadata.nbgrader.solution:
                copy.source = UNANSWERED
            known = [grade_id(here) for here in submission.cells]
            place = 0 if before is None else known.index(before) + 1
            submission.cells.insert(place, copy)
            has.add(name)
            said.append(f"cell {name} was deleted: put back")
        if name in has:
            before = name
    return said


def require_outcomes(notebook: NotebookNode) -> list[str]:
    """Give each check without an outcome an error.

    nbgrader gives full marks to a check that shows nothing: one that was never run, or whose points
    the notebook keeps from being displayed. Every check of this course ends in its points.

    Args:
        notebook: an executed submission, changed in place.

    Returns:
        The grade_ids of the checks that showed nothing.
    """
    silent = []
    for cell in notebook.cells:
        if not is_grade(cell) or is_solution(cell) or cell.cell_type != "code":
            continue
        if not any(out.output_type in ("execute_result", "error") for out in cell.outputs):
            words = "this check showed no points: was it run, and is its result displayed?"
            cell.outputs.append(
                new_output("error", ename="NoOutcome", evalue=words, traceback=[words])
            )
            silent.append(cell.metadata.nbgrader.grade_id)
    return silent


class RequireOutcomes(NbGraderPreprocessor):
    """Runs :func:`require_outcomes` before nbgrader reads the marks off a notebook."""

    def preprocess(self, nb, resources):
        """Mark silent checks, and say so in nbgrader's log."""
        for name in require_outcomes(nb):
            self.log.warning(
                "%s: check %s showed no points", resources["nbgrader"]["student"], name
            )
        return nb, resources


class RepairCells(NbGraderPreprocessor):
    """Runs :func:`repair` before nbgrader overwrites the checks with the instructor's."""

    def preprocess(self, nb, resources):
        """Mend the notebook, and say in nbgrader's log what was mended."""
        names = resources["nbgrader"]
        path = SOURCE / names["assignment"] / f"{names['notebook']}.ipynb"
        for line in repair(nb, nbformat.read(path, as_version=4)):
            self.log.warning("%s: %s", names["student"], line)
        return nb, resources
