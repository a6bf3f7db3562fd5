"""Claims about the source text: it is formatted, linted and typed, its examples run, and what is
public says what it is.
"""

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ngs

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "ngs").rglob("*.py"))
MODULES = ["ngs", *(m.name for m in pkgutil.walk_packages(ngs.__path__, "ngs."))]


RUFF = ["--output-format", "concise", "book", "ngs", "tests", "tools"]
COMMANDS = {
    "ruff check": ["ruff", "check", *RUFF],
    "ruff format": ["ruff", "format", "--check", *RUFF],
    "mypy": ["mypy"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_source_passes(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *COMMANDS[name]], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.fail(f"{name} finds:\n{done.stdout}{done.stderr}", pytrace=False)


def test_walking_the_packages_meets_every_file() -> None:
    paths = {importlib.import_module(name).__file__ for name in MODULES}
    assert {str(p) for p in FILES} == paths


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_are_examples_in_docstrings() -> None:
    finder = doctest.DocTestFinder()
    modules = map(importlib.import_module, MODULES)
    assert sum(len(test.examples) for module in modules for test in finder.find(module)) > 0


def public(node: ast.AST, where: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield the module, its public classes and functions, and the public methods of those classes.

    Overload declarations are left out: the implementation after them carries the text.
    """
    yield where, node
    if isinstance(node, ast.FunctionDef):
        return  # what is defined inside a function is nobody's interface
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef) or child.name.startswith("_"):
            continue
        if any(ast.unparse(d).split(".")[-1] == "overload" for d in child.decorator_list):
            continue
        yield from public(child, f"{where}: {child.name}")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = list(public(tree, path.name))
    assert [where for where, node in found if not ast.get_docstring(node)] == []  # type: ignore[arg-type]
