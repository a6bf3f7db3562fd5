"""Claims about what stands around the library: ``make env`` refuses an interpreter that will not do
and leaves a finished environment alone; the wheel installs and runs far from the checkout.
"""

import ast
import os
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Callable
from email.parser import Parser
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import ngs

ROOT = Path(__file__).resolve().parents[1]
SUPPORTED = "3.11 3.12 3.13 3.14"


def script(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0", "3.14.0"])
def test_every_installed_package_takes_the_first_release_of_each_python(python):
    # Debian 12 has 3.11.2; a pin that asks for 3.11.5 stops its users with a riddle of pip's.
    refusing = [
        f"{found.name} {found.version} needs Python {found.metadata['Requires-Python']}"
        for found in distributions()
        if not SpecifierSet(found.metadata["Requires-Python"] or "").contains(python)
    ]
    assert refusing == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What ``make env`` reads, in a folder with blanks in its name."""
    tree = tmp_path / "a tree with blanks"
    (tree / "tools").mkdir(parents=True)
    for name in ("tools/make_env.sh", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tree / name)
    return tree


def make_env(tree: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(tree / "tools" / "make_env.sh")],
        cwd=tree.parent,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], **environment},
    )


def pins(tree: Path) -> str:
    names = ("requirements.txt", "constraints.txt", "pyproject.toml")
    return "".join((tree / name).read_text() for name in names)


def stub_environment(tree: Path, version: str = "Python 3.12.1") -> Path:
    """A finished .venv whose python only keeps a list of what it was asked."""
    asked = tree / "asked"
    script(
        tree / ".venv" / "bin" / "python",
        f'if [ "$1" = --version ]; then echo "{version}"; exit; fi',
        f'echo "$@" >> "{asked}"',
        'exit "${STUB_FAILS:-0}"',
    )
    (tree / ".venv" / "home").write_text(f"{tree}\n{version}\n")
    (tree / ".venv" / "pins").write_text(pins(tree))
    return asked


# make env ---------------------------------------------------------------------------------------


def test_an_interpreter_that_is_too_old_is_refused_in_one_line(tree: Path, tmp_path: Path) -> None:
    old = script(tmp_path / "old python", "echo 3.9")
    done = make_env(tree, PYTHON=str(old))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"env: needs Python {SUPPORTED}, and {old} is 3.9: install one of these, or name it: "
        "make PYTHON=python3.12 ...\n"
    )
    assert not (tree / ".venv").exists()


def test_an_interpreter_that_is_not_there_is_refused_in_one_line(tree: Path) -> None:
    done = make_env(tree, PYTHON="/no/such/python")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"env: needs Python {SUPPORTED}, and /no/such/python is not there: install one of these, "
        "or name it: make PYTHON=python3.12 ...\n"
    )
    assert not (tree / ".venv").exists()


@pytest.mark.parametrize("version", ["3.1", "3.110", "2.7", "4.11", "11"])
def test_a_version_is_compared_as_a_whole(version: str, tree: Path, tmp_path: Path) -> None:
    odd = script(tmp_path / "python", f"echo {version}")
    done = make_env(tree, PYTHON=str(odd))
    assert done.returncode == 2
    assert f"{odd} is {version}: install one of these" in done.stderr


def test_the_supported_versions_are_those_that_the_package_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    start = "Programming Language :: Python :: "
    declared = [c.removeprefix(start) for c in project["classifiers"] if c.startswith(start)]
    assert declared == SUPPORTED.split()
    assert project["requires-python"] == f">={declared[0]}"
    assert f'supported="{SUPPORTED}"' in (ROOT / "tools" / "make_env.sh").read_text()


def test_an_unusable_interpreter_costs_no_environment_that_was_there(tree: Path) -> None:
    stub_environment(tree)
    (tree / ".venv" / "home").write_text("moved from elsewhere\nPython 3.12.1\n")
    assert make_env(tree, PYTHON="/no/such/python").returncode == 2
    assert (tree / ".venv" / "bin" / "python").exists()


def test_a_finished_environment_is_left_alone(tree: Path) -> None:
    asked = stub_environment(tree)
    before = {p: p.stat().st_mtime_ns for p in tree.rglob("*")}
    done = make_env(tree, PYTHON="/no/such/python")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not asked.exists()
    assert {p: p.stat().st_mtime_ns for p in tree.rglob("*")} == before


@pytest.mark.parametrize("changed", ["requirements.txt", "constraints.txt", "pyproject.toml"])
def test_changed_pins_are_installed_once(changed: str, tree: Path) -> None:
    asked = stub_environment(tree)
    with (tree / changed).open("a") as file:
        file.write("# changed\n")
    assert make_env(tree).returncode == 0
    assert "-m pip install" in asked.read_text()
    assert "-r requirements.txt" in asked.read_text()
    asked.unlink()
    assert make_env(tree).returncode == 0
    assert not asked.exists()


def test_an_installation_that_failed_is_tried_again(tree: Path) -> None:
    asked = stub_environment(tree)
    (tree / ".venv" / "pins").unlink()
    assert make_env(tree, STUB_FAILS="1").returncode != 0
    asked.unlink()
    assert make_env(tree).returncode == 0
    assert "-m pip install" in asked.read_text()


def test_an_environment_that_was_moved_or_lost_its_python_is_made_anew(
    tree: Path, tmp_path: Path
) -> None:
    stub_environment(tree)
    (tree / ".venv" / "home").write_text("/elsewhere\nPython 3.12.1\n")
    (tree / ".venv" / "stale").write_text("from before")
    create = [
        'if [ "$1" = -c ]; then echo 3.12; exit; fi',
        'mkdir -p "$3/bin"',
        """printf '#!/bin/sh\\necho "Python 3.12.1"\\n' > "$3/bin/python" """,
        'chmod +x "$3/bin/python"',
    ]
    chosen = script(tmp_path / "python with blanks", *create)  # also in the interpreter's path
    done = make_env(tree, PYTHON=str(chosen))
    assert done.returncode == 0, done.stderr
    assert "creating .venv with Python 3.12" in done.stdout
    assert not (tree / ".venv" / "stale").exists()
    assert (tree / ".venv" / "home").read_text() == f"{tree}\nPython 3.12.1\n"
    assert (tree / ".venv" / "pins").read_text() == pins(tree)


# The wheel --------------------------------------------------------------------------------------


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    modules = [str(p.relative_to(ROOT)) for p in (ROOT / "ngs").rglob("*.py")]
    read = [f"ngs/results/{p.name}" for p in (ROOT / "results").glob("*.jsonl")]
    read = [name for name in read if name != "ngs/results/executions.jsonl"]
    info = f"ngs-{ngs.__version__}.dist-info"
    found = [n for n in names if not n.startswith(f"{info}/")]
    assert sorted(found) == sorted([*modules, *read, "ngs/py.typed"])


def test_the_list_of_packages_is_complete() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = project["tool"]["setuptools"]["packages"]
    folders = {p.parent.relative_to(ROOT) for p in (ROOT / "ngs").rglob("*.py")}
    assert sorted(named) == sorted([*(".".join(f.parts) for f in folders), "ngs.results"])


def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"ngs-{ngs.__version__}.dist-info/METADATA").decode()
    metadata = Parser().parsestr(text)
    assert metadata["Version"] == ngs.__version__
    needs = metadata.get_all("Requires-Dist") or []
    required = {n.split(">")[0] for n in needs if "extra ==" not in n}
    assert required == {"numpy", "tqdm", "click"}
    assert set(metadata.get_all("Provides-Extra") or []) >= {"torch", "train", "figures"}


def test_the_installed_package_is_imported_from_where_it_was_installed(
    installed: Callable[..., str],
) -> None:
    code = "import ngs, sys; print(ngs.__file__); print('torch' in sys.modules)"
    file, torch_is_loaded = installed("python", "-c", code).splitlines()
    assert "fresh env" in file
    assert torch_is_loaded == "False"


def test_the_installed_command_says_its_version(installed: Callable[..., str]) -> None:
    assert installed("ngs", "--version") == f"ngs, version {ngs.__version__}"


def test_the_installed_package_reads_the_records_of_the_book(
    installed: Callable[..., str],
) -> None:
    # How many there are of each study, and what it costs to ask.
    code = (
        "import sys; from pathlib import Path; from ngs import records\n"
        "there = (Path(records.__file__).parent / 'results').iterdir()\n"
        "print({path.stem: len(records.recorded(path.stem)) for path in there})\n"
        "print('torch' in sys.modules)"
    )
    counts, torch_is_loaded = installed("python", "-c", code).splitlines()
    here = {p.stem: len(p.read_text().splitlines()) for p in (ROOT / "results").glob("*.jsonl")}
    here.pop("executions", None)
    assert ast.literal_eval(counts) == here
    assert torch_is_loaded == "False"


def test_the_version_is_the_same_in_code_and_metadata() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == ngs.__version__
