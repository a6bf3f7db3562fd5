"""Build the course: a zip a problem set for students, and the instructor's pack, ``course/``.

``python tools/make_course.py`` makes both and checks them; with ``--downloads DIR`` it writes the
students' zips there alone, for the book's pages. What an instructor has in ``course/`` (their
submissions, marks, feedback) is kept. It rests on nbgrader, and on assignments/grading.py.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import click
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
ASSIGNMENTS = ROOT / "assignments"
COURSE = ROOT / "course"
sys.path.insert(0, str(ASSIGNMENTS))

PACK = ("README.md", "nbgrader_config.py", "preprocess.py", "grade.py", "leaderboard.py")
"""Files of the instructor's pack, beside Containerfile, source/ and hidden/."""
NEEDED = (
    *("numpy", "torch", "torchvision", "matplotlib", "filelock", "tqdm", "click", "scikit-learn"),
    *("ipykernel", "jupyterlab", "nbgrader"),
)
"""What a student or a grader installs beside ngs, in the versions of requirements.txt."""
SECRETS = ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS", "ngs.course import hidden", "_hidden")
"""What no file of a release may hold; nor the text of a solution, nor a marking scheme."""
MOMENT = (2026, 1, 1, 0, 0, 0)
"""The date of every file in a zip, so that the same sources make the same zip."""


def nbgrader(folder: Path, *arguments: str) -> None:
    """Run nbgrader in a course.

    Raises:
        click.ClickException: it failed; its words are passed on.
    """
    done = subprocess.run(  # noqa: S603  (a list of arguments, and no shell)
        [sys.executable, "-m", "nbgrader", *arguments], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise click.ClickException(f"nbgrader {' '.join(arguments)} failed:\n{done.stderr}")


def lay_out(course: Path) -> None:
    """Put the sources of the course in their places, and nothing else."""
    course.mkdir(parents=True, exist_ok=True)
    for name in (*PACK, "Containerfile"):
        shutil.copy(ASSIGNMENTS / name, course)
    for name in ("source", "hidden"):
        shutil.rmtree(course / name, ignore_errors=True)
        shutil.copytree(
            ASSIGNMENTS / name,
            course / name,
            ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"),
        )


def make_releases(course: Path, sets: tuple[str, ...]) -> None:
    """Let nbgrader make the students' versions, in a course without submissions.

    ``release/`` has them; ``blank.db`` is a gradebook that knows the sets and no student.
    """
    with tempfile.TemporaryDirectory() as place:
        fresh = Path(place) / "course"
        lay_out(fresh)
        for name in tqdm(sets, desc="releases", unit="set"):
            nbgrader(fresh, "generate_assignment", name)
        shutil.rmtree(course / "release", ignore_errors=True)
        shutil.copytree(fresh / "release", course / "release")
        shutil.copy(fresh / "gradebook.db", course / "blank.db")
    if (course / "gradebook.db").is_file():  # with marks: it learns of new and of changed checks
        for name in sets:
            nbgrader(course, "generate_assignment", name, "--force")
    else:
        shutil.copy(course / "blank.db", course / "gradebook.db")


def check_release(folder: Path, name: str) -> None:
    """See that a release holds what students need, and nothing that they must not see.

    Raises:
        click.ClickException: it does not.
    """
    import grading
    import nbformat
    from preprocess import UNANSWERED, grade_id

    files = {path.name for path in folder.rglob("*") if path.is_file()}
    if files != {f"{name}.ipynb", f"{name}_checks.py"}:
        raise click.ClickException(f"the release of {name} has other files: {sorted(files)}")
    text = (folder / f"{name}.ipynb").read_text(encoding="utf-8")
    leaked = [word for word in (*SECRETS, grading.SCHEME) if word in text]
    shown = {grade_id(c): c.source for c in nbformat.read(folder / f"{name}.ipynb", 4).cells}
    for cell in grading.source(name).cells:
        if grade_id(cell) in grading.by_hand(name):
            leaked += [] if shown[grade_id(cell)] == UNANSWERED else [grade_id(cell)]
        regions = re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", cell.source, re.S)
        lines = [line.strip() for region in regions for line in region.splitlines()]
        there = {line.strip() for line in shown.get(grade_id(cell), "").splitlines()}
        leaked += [line for line in lines if line and line in there]
    if leaked:
        raise click.ClickException(f"the release of {name} shows {leaked[0]!r}")


def zip_folder(folder: Path, goal: Path, top: str) -> None:
    """Write a folder as a zip whose files lie in ``top/``; the same folder makes the same bytes."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    part = goal.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(f"{top}/{path.relative_to(folder).as_posix()}", MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    part.replace(goal)


def make_setup(
    folder: Path, needed: tuple[str, ...] = NEEDED, purpose: str = "What the problem sets need"
) -> None:
    """Write what a student or a grader installs: the library as a wheel, and pinned versions."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as place:
        source = Path(place)
        leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / "ngs", source / "ngs", ignore=leave)
        shutil.copytree(ROOT / "results", source / "results")
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        done = subprocess.run(  # noqa: S603  (a list of arguments, and no shell)
            [*command, "--no-build-isolation", "--wheel-dir", str(folder), "."],
            cwd=source,
            capture_output=True,
            text=True,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1767225600"},
        )
        if done.returncode:
            raise click.ClickException(f"the wheel could not be built:\n{done.stderr}")
    (wheel,) = folder.glob("*.whl")
    pins = [f"{name}=={version(name).partition('+')[0]}" for name in needed]
    lines = [
        f"# {purpose}: pip install -r requirements.txt, in this folder.",
        *pins,
        f"./{wheel.name}",
    ]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@click.command()
@click.option(
    "--downloads",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the students' zips to this folder, and nothing else.",
)
def main(downloads: Path | None) -> None:
    """Build the students' zips and the instructor's pack."""
    import grading

    if downloads is not None:
        with tempfile.TemporaryDirectory() as place:
            build_zips(Path(place) / "course", grading.SETS, downloads)
            make_setup(Path(place) / "setup")
            zip_folder(Path(place) / "setup", downloads / "setup.zip", "setup")
        return
    lay_out(COURSE)
    make_setup(COURSE / "setup")
    build_zips(COURSE, grading.SETS, COURSE / "students")
    zip_folder(COURSE / "setup", COURSE / "students" / "setup.zip", "setup")
    click.echo(f"course: students' zips in {COURSE.relative_to(ROOT)}/students")
    click.echo(f"course: the instructor's pack is {COURSE.relative_to(ROOT)}/, see its README.md")


def build_zips(course: Path, sets: tuple[str, ...], goal: Path) -> None:
    """Make the releases in a course, check them, and write a zip a set."""
    lay_out(course)
    make_releases(course, sets)
    for name in sets:
        check_release(course / "release" / name, name)
    for name in sets:
        zip_folder(course / "release" / name, goal / f"{name}.zip", name)


if __name__ == "__main__":
    main()
