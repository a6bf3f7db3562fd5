"""The course as an instructor runs it: built, handed in, graded, given back and exported.

nbgrader does it, with kernels and a gradebook, by the commands of chapter 20; containers are left
to `make soak`, where an engine and the image are at hand.
"""

import csv
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from tool import load_tool

make_course = load_tool("make_course")
sys.path.insert(0, str(make_course.ASSIGNMENTS))

import grading  # noqa: E402
from preprocess import repair, require_outcomes  # noqa: E402

SETS = grading.SETS


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    """The instructor's pack and the students' zips, as `make course` builds them."""
    course = tmp_path_factory.mktemp("an instructor") / "course"
    make_course.build_zips(course, SETS, course / "students")
    return course


def instruct(course: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of an instructor who has not activated the environment."""
    path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if ".venv" not in p)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=course,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )


def hand_in(course: Path, name: str, student: str, notebook) -> None:
    folder = course / "submitted" / student / name
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(notebook, str):
        (folder / f"{name}.ipynb").write_text(notebook, encoding="utf-8")
    else:
        nbformat.write(notebook, folder / f"{name}.ipynb")


def exported(course: Path) -> dict[tuple[str, str], float]:
    done = instruct(course, "-m", "nbgrader", "export", "--to", "grades.csv")
    assert done.returncode == 0, done.stderr
    with (course / "grades.csv").open(encoding="utf-8") as file:
        return {
            (row["student_id"], row["assignment"]): float(row["score"])
            for row in csv.DictReader(file)
        }


def outcomes(course: Path, name: str) -> dict[str, str]:
    with (course / "grading" / f"{name}.csv").open(encoding="utf-8") as file:
        return {row["student"]: row["outcome"] for row in csv.DictReader(file)}


def full_marks(name: str) -> float:
    hand = grading.by_hand(name)
    return sum(worth for ident, worth in grading.points(name).items() if ident not in hand)


def with_code(name: str, code: str):
    """Return the solution with a line of the student's own in its first code cell."""
    notebook = grading.solution(name)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source += f"\n{code}"
    return notebook


@pytest.mark.parametrize("name", SETS)
def test_a_zip_holds_the_notebook_and_its_checks_and_nothing_else(pack, name):
    with zipfile.ZipFile(pack / "students" / f"{name}.zip") as archive:
        assert archive.namelist() == [f"{name}/{name}.ipynb", f"{name}/{name}_checks.py"]
        notebook = nbformat.reads(archive.read(f"{name}/{name}.ipynb").decode(), as_version=4)
        checks = archive.read(f"{name}/{name}_checks.py").decode()
    text = "\n".join(cell.source for cell in notebook.cells)
    for word in ("SOLUTION", "HIDDEN", "_hidden", grading.SCHEME):
        assert word not in text
    assert "_hidden" not in checks
    assert "raise NotImplementedError" in text
    mine = {c.id: c.source for c in grading.release(name).cells}
    assert {c.id: c.source for c in notebook.cells} == mine  # what the tests of the tests grade


def test_the_same_sources_make_the_same_zip(pack, tmp_path):
    make_course.zip_folder(pack / "release" / "ps1", tmp_path / "again.zip", "ps1")
    assert (tmp_path / "again.zip").read_bytes() == (pack / "students" / "ps1.zip").read_bytes()


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("ps1-path", "        path.append(path[-1] - lr * grad(path[-1]))"),
        ("ps1-descent", "The answer is this."),
        ("ps1-path-more", "### BEGIN HIDDEN TESTS"),
        ("ps1-imports", 'hidden("ps1_hidden")'),
    ],
)
def test_a_release_that_shows_what_it_must_not_is_refused(pack, tmp_path, cell, text):
    shutil.copytree(pack / "release" / "ps1", tmp_path / "ps1")
    path = tmp_path / "ps1" / "ps1.ipynb"
    make_course.check_release(tmp_path / "ps1", "ps1")
    notebook = nbformat.read(path, as_version=4)
    next(c for c in notebook.cells if c.id == cell).source += f"\n{text}"
    path.chmod(0o644)
    nbformat.write(notebook, path)
    with pytest.raises(Exception, match="the release of ps1 shows"):
        make_course.check_release(tmp_path / "ps1", "ps1")


@pytest.mark.parametrize("name", SETS)
def test_nbgrader_gives_two_submissions_of_each_set_what_is_stated(pack, name):
    wrong = next(w for w in grading.wrongs(name) if w.name == "deleted_cells")
    hand_in(pack, name, "ada", grading.solution(name))
    hand_in(pack, name, "bela", grading.submission(name, wrong))
    done = instruct(pack, "grade.py", name, "--engine", "none", "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"2 of 2 submissions of {name} are graded" in done.stdout
    marks = exported(pack)
    lost = sum(grading.points(name)[ident] - given for ident, given in wrong.marks.items())
    assert marks["ada", name] == full_marks(name)
    assert marks["bela", name] == full_marks(name) - lost
    done = instruct(pack, "-m", "nbgrader", "generate_feedback", name)
    assert done.returncode == 0, done.stderr
    page = (pack / "feedback" / "bela" / name / f"{name}.html").read_text(encoding="utf-8")
    hidden = (pack / "hidden" / f"{name}_hidden.py").read_text(encoding="utf-8")
    secret = [line.strip() for line in hidden.splitlines() if len(line.strip()) > 50]
    secret = [line for line in secret if not line.startswith(('"', 'f"', "expect("))]
    assert secret
    assert not [line for line in secret if line in page]


def test_a_submission_that_cannot_be_graded_is_named_and_stops_nobody_else(pack):
    for student, notebook in {
        "ada": grading.solution("ps1"),
        "broken": "not a notebook",
        "killer": with_code("ps1", "import os\nos._exit(0)"),
        "silent": with_code("ps1", "get_ipython().ast_node_interactivity = 'none'"),
        "shadow": with_code("ps1", "import sys\nsys.modules.pop('ps1_hidden', None)"),
    }.items():
        hand_in(pack, "ps1", student, notebook)
    (pack / "submitted" / "shadow" / "ps1" / "ps1_hidden.py").write_text(
        "def __getattr__(name):\n    return lambda *given: 99.0\n", encoding="utf-8"
    )
    stray = pack / "submitted" / "misnamed" / "ps1"
    stray.mkdir(parents=True)
    nbformat.write(grading.solution("ps1"), stray / "ps1 (1).ipynb")
    done = instruct(pack, "grade.py", "ps1", "--engine", "none")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    found = outcomes(pack, "ps1")
    assert "is not a notebook" in found["broken"]
    assert "the kernel died" in found["killer"]
    assert "ps1 (1).ipynb: rename the notebook" in found["misnamed"]
    assert all(f"{student}: {found[student]}" in done.stderr for student in ("broken", "killer"))
    marks = exported(pack)
    assert marks["ada", "ps1"] == full_marks("ps1")
    assert marks["silent", "ps1"] == 0
    assert marks["shadow", "ps1"] == full_marks("ps1")


def test_students_code_runs_where_no_other_submission_and_no_marks_are(pack):
    look = (
        "import pathlib\nroot = pathlib.Path('../../..')\nseen = sorted(map(str, root.rglob('*')))"
    )
    book = "b'ottilie' in (root / 'gradebook.db').read_bytes()"
    tell = f"{look}\nprint('SEEN', *seen)\nprint('MARKS' if {book} else 'no marks')"
    hand_in(pack, "ps1", "ottilie", grading.solution("ps1"))
    hand_in(pack, "ps1", "curious", with_code("ps1", tell))
    for student in ("ottilie", "curious"):
        done = instruct(pack, "grade.py", "ps1", "--engine", "none", "--student", student)
        assert done.returncode == 0, done.stdout + done.stderr
    assert b"ottilie" in (pack / "gradebook.db").read_bytes()
    notebook = nbformat.read(pack / "autograded" / "curious" / "ps1" / "ps1.ipynb", as_version=4)
    said = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert "SEEN" in said
    assert "curious" in said
    assert "no marks" in said
    assert not [name for name in ("ottilie", "ps2_hidden", "executed") if name in said]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ps9"], "ps9 is no set of this course: give one of ps1, ps2"),
        (["ps1", "--student", "nobody", "--engine", "none"], "no submission of ps1 by nobody"),
        (["ps1", "--engine", "docker"], "docker"),
        (["ps1", "--engine", "chroot"], "'chroot' is not one of 'podman', 'docker', 'none'"),
    ],
)
def test_what_cannot_be_graded_is_refused_in_one_line(pack, arguments, said):
    done = instruct(pack, "grade.py", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_building_the_course_anew_keeps_submissions_marks_and_feedback(pack, tmp_path):
    course = tmp_path / "course"
    shutil.copytree(pack, course)
    hand_in(course, "ps1", "kept", grading.solution("ps1"))
    assert (
        instruct(course, "grade.py", "ps1", "--engine", "none", "--student", "kept").returncode == 0
    )
    make_course.build_zips(course, ("ps1",), course / "students")
    assert (course / "submitted" / "kept" / "ps1" / "ps1.ipynb").is_file()
    assert exported(course)["kept", "ps1"] == full_marks("ps1")


def test_the_container_has_no_network_no_privileges_and_limits(pack):
    limits = " ".join(_grade(pack).LIMITS)
    for limit in ("--network none", "--memory 4g", "--pids-limit 256", "--cap-drop ALL"):
        assert limit in limits
    assert "no-new-privileges" in limits
    assert "--read-only" in limits


def _grade(pack):
    import importlib.util

    spec = importlib.util.spec_from_file_location("grade", pack / "grade.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_and_huge_files_are_not_taken_out_of_a_container(pack, tmp_path, monkeypatch):
    grade = _grade(pack)
    monkeypatch.setattr(grade, "HERE", tmp_path)
    (tmp_path / "submitted" / "ada" / "ps1").mkdir(parents=True)
    made = tmp_path / "made"
    made.mkdir()
    (made / "ps1.ipynb").symlink_to("/etc/passwd")
    assert "is a link" in grade.keep(made, "ps1", "ada")
    (made / "ps1.ipynb").unlink()
    with (made / "ps1.ipynb").open("wb") as file:
        file.truncate(grade.LARGEST + 1)
    assert "larger than 50 MiB" in grade.keep(made, "ps1", "ada")
    (made / "ps1.ipynb").write_text("{}")
    assert grade.keep(made, "ps1", "ada") is None
    assert (tmp_path / "executed" / "ada" / "ps1" / "ps1.ipynb").is_file()


def test_a_cell_that_stands_twice_counts_once_and_a_stranger_not_at_all():
    source = grading.source("ps1")
    twice = grading.solution("ps1")
    check = next(c for c in twice.cells if c.id == "ps1-path-check")
    older, stranger = nbformat.from_dict(check), nbformat.from_dict(check)
    stranger.metadata.nbgrader.grade_id = "ps7-path"
    twice.cells[:0] = [older, stranger]
    said = repair(twice, source)
    assert len(said) == 2
    assert "nbgrader" not in older.metadata
    assert "nbgrader" not in stranger.metadata
    assert "nbgrader" in check.metadata


def test_points_that_a_student_gave_themselves_in_the_metadata_do_not_count():
    source, greedy = grading.source("ps1"), grading.solution("ps1")
    check = next(c for c in greedy.cells if c.id == "ps1-path-check")
    check.metadata.nbgrader.points = 100
    repair(greedy, source)
    assert check.metadata.nbgrader.points == 3


def test_a_notebook_without_any_cell_gets_all_its_checks_back():
    empty = nbformat.v4.new_notebook()
    repair(empty, grading.source("ps1"))
    names = [cell.metadata.nbgrader.grade_id for cell in empty.cells]
    assert names == list(grading.points("ps1"))


def test_a_check_that_showed_nothing_gets_an_error():
    notebook = grading.solution("ps1")
    silent = require_outcomes(notebook)
    hand = grading.by_hand("ps1")
    assert silent == [ident for ident in grading.points("ps1") if ident not in hand]
    assert require_outcomes(notebook) == []


def test_the_leaderboard_shows_nicknames_and_refuses_an_empty_course(pack, tmp_path):
    course = tmp_path / "course"
    course.mkdir()
    shutil.copy(pack / "leaderboard.py", course)
    done = instruct(course, "leaderboard.py")
    assert done.returncode == 1
    assert "run 'python grade.py ps6' first" in done.stderr
    done = instruct(pack, "leaderboard.py")
    assert done.returncode == 0, done.stderr
    assert "The model answer" in done.stdout
    assert (pack / "leaderboard.csv").is_file()
    assert (pack / "leaderboard.png").is_file()
    assert "ada" not in done.stdout
