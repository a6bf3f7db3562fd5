"""The problem sets: solutions earn all, releases nothing, wrong submissions what is stated.

They are graded in this process; tests/test_course_grading.py lets nbgrader do it.
"""

import importlib
import itertools
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

ASSIGNMENTS = Path(__file__).resolve().parents[1] / "assignments"
sys.path.insert(0, str(ASSIGNMENTS))

import grading  # noqa: E402
from preprocess import grade_id  # noqa: E402

SETS = grading.SETS
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # wrong answers overflow
WRONG = [(name, wrong) for name in SETS for wrong in grading.wrongs(name)]
ENDLESS = {"patience": 0.1}
"""A loop that never ends need not be waited for as long as a student's slow machine."""


def checked(name):
    """What the cells that are checked by machine are worth."""
    hand = grading.by_hand(name)
    return {ident: worth for ident, worth in grading.points(name).items() if ident not in hand}


def marks(graded):
    return {ident: points for ident, (points, _) in graded.items()}


def said(graded):
    return "\n".join(text for _, text in graded.values())


def test_there_are_six_sets():
    assert SETS == ("ps1", "ps2", "ps3", "ps4", "ps5", "ps6")


@pytest.mark.parametrize("name", SETS)
def test_the_solution_earns_full_marks(name):
    graded = grading.grade(name, grading.solution(name))
    assert marks(graded) == checked(name), said(graded)
    assert "✗" not in said(graded)


@pytest.mark.parametrize("name", SETS)
def test_the_untouched_release_earns_nothing_and_says_so_in_one_line_a_claim(name):
    graded = grading.grade(name, grading.release(name))
    assert marks(graded) == dict.fromkeys(checked(name), 0.0)
    assert "✓" not in said(graded)
    for text in said(graded).splitlines():
        assert "Traceback" not in text, text
        assert len(text) < 250, text
    assert "this is not written yet" in said(graded)


@pytest.mark.parametrize(
    ("name", "wrong"), WRONG, ids=[f"{name}-{wrong.name}" for name, wrong in WRONG]
)
def test_a_wrong_submission_earns_exactly_what_is_stated(name, wrong):
    patience = ENDLESS if wrong.name.startswith("endless") else {}
    graded = grading.grade(name, grading.submission(name, wrong), **patience)
    assert marks(graded) == {**checked(name), **wrong.marks}, said(graded)
    assert wrong.says in said(graded)


@pytest.mark.parametrize("name", SETS)
def test_students_mistakes_of_every_kind_are_among_the_wrong_submissions(name):
    found = {wrong.name for wrong in grading.wrongs(name)}
    assert len(found) >= 10
    assert {"hard_coded", "deleted_cells", "duplicated_cell"} <= found
    assert any(mistake.startswith("endless") for mistake in found)
    for wrong in grading.wrongs(name):
        assert wrong.mistake
        assert "\n" not in wrong.mistake
        full = grading.points(name)
        assert all(0 <= given <= full[ident] for ident, given in wrong.marks.items())
        if wrong.name != "duplicated_cell":
            assert any(given < full[ident] for ident, given in wrong.marks.items())


@pytest.mark.parametrize("name", SETS)
def test_a_set_states_its_goals_hours_and_points(name):
    head = grading.source(name).cells[0].source
    assert head.startswith(f"# Problem set {name[2:]}: ")
    assert len(re.findall(r"^- ", head, re.M)) >= 3
    hours, total, machine, reader = map(
        int,
        re.search(
            r"\*\*About (\d+) hours · (\d+) points\*\*, (\d+) by checks and (\d+) by a reader", head
        ).groups(),
    )
    assert 3 <= hours <= 8
    assert machine == sum(checked(name).values())
    assert reader == sum(grading.points(name).values()) - machine
    assert total == machine + reader


@pytest.mark.parametrize("name", SETS)
def test_what_a_person_reads_has_a_marking_scheme_whose_points_add_up(name):
    hand = grading.by_hand(name)
    assert hand
    for cell in grading.source(name).cells:
        if grade_id(cell) in hand:
            answer, _, scheme = cell.source.partition(grading.SCHEME)
            assert len(answer.split()) > 30
            worth = [int(n) for n in re.findall(r"^- (\d+) points?: ", scheme, re.M)]
            assert sum(worth) == cell.metadata.nbgrader.points, grade_id(cell)


@pytest.mark.parametrize("name", SETS)
def test_every_part_is_checked_in_sight_and_out_of_sight(name):
    cells = [c for c in grading.source(name).cells if grade_id(c) in checked(name)]
    visible = [c for c in cells if not c.source.startswith("# More checks at grading")]
    hidden = [c for c in cells if c not in visible]
    assert len(visible) >= 4
    assert len(hidden) >= 4
    for cell in hidden:
        assert "### BEGIN HIDDEN TESTS" in cell.source
        said = re.match(r"# More checks at grading: (\d+) points?\.", cell.source)
        assert int(said.group(1)) == cell.metadata.nbgrader.points
    for cell in visible:
        assert "HIDDEN" not in cell.source
        assert len(cell.source.splitlines()) == 1


@pytest.mark.parametrize("name", SETS)
def test_each_student_has_numbers_of_their_own_and_everyones_can_be_solved(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ASSIGNMENTS / "source" / name))
    checks = importlib.import_module(f"{name}_checks")
    del sys.modules[checks.__name__]
    makers = [getattr(checks, maker) for maker in dir(checks) if maker.startswith("own_")]
    makers = [m for m in makers if m.__module__ == checks.__name__]
    assert makers
    for maker in makers:
        drawn = [repr(maker(f"student {number}")) for number in range(200)]
        assert len(set(drawn)) > 60, maker.__name__
        assert repr(maker("ada")) == repr(maker(" Ada "))


def test_no_two_sets_share_a_grade_id():
    names = [set(grading.points(name)) for name in SETS]
    assert all(not a & b for a, b in itertools.combinations(names, 2))
    assert all(ident.startswith(f"{name}-") for name in SETS for ident in grading.points(name))


def test_a_wrong_submission_that_names_no_cell_of_its_set_is_refused():
    lost = grading.Wrong("lost", "names a cell that is not there", {"ps1-nowhere": 1})
    with pytest.raises(KeyError, match="ps1-nowhere"):
        grading.submission("ps1", lost)


def test_grading_leaves_the_process_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = (Path.cwd(), list(sys.path), sys.displayhook, np.geterr(), warnings.filters[:])
    grading.grade("ps1", grading.release("ps1"))
    assert (Path.cwd(), list(sys.path), sys.displayhook, np.geterr(), warnings.filters[:]) == before
    assert not [module for module in sys.modules if module.startswith("ps1_")]
