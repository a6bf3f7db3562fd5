"""What an import costs and asks for: ``import ngs`` runs on NumPy and tqdm alone, what needs more
says which extra to install, and inside the package imports point one way.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ngs

PACKAGE = Path(ngs.__file__).parent

LAYERS = (
    {"ngs.arithmetic", "ngs.errors", "ngs.methods", "ngs.figures"},
    {
        "ngs.conversions",
        "ngs.records",
        "ngs.schedules",
        "ngs.problems",
        "ngs.factor",
        "ngs.restart",
        "ngs.attention",
    },
    {"ngs.minimize", "ngs.theory"},
    {"ngs.checks", "ngs.course"},
    {"ngs"},  # the front door: import ngs
    {"ngs.optim"},
    {"ngs.train"},
    {"ngs.options"},
    {"ngs.cli"},
    {"ngs.__main__"},
)
"""From the bottom up. A module imports from layers below its own, or from its own subpackage."""

ABSENT = (
    *("torch", "torchvision", "matplotlib", "click", "PEPit", "cvxpy", "sympy"),
    *("sklearn", "scipy", "jax", "optax", "keras"),
)
BLOCKER = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ImportError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def bare_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter where the optional packages cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKER + code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=PACKAGE.parent,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )


def test_import_ngs_needs_numpy_and_tqdm_alone():
    done = bare_python(
        "import ngs, numpy as np\n"
        "f = ngs.problems.quadratic([1.0, 4.0])\n"
        "run = ngs.minimize.minimize(ngs.methods.heavy_ball, f, np.ones(2), lr=0.25, steps=7)\n"
        "print(run.stop, run.steps)\n"
        f"print([m for m in {ABSENT!r} if m in sys.modules])\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "budget 7\n[]\n"
    assert done.stderr == ""


def test_the_blocker_blocks():
    done = bare_python("import torch")
    assert done.returncode == 1
    assert "No module named 'torch'" in done.stderr


@pytest.mark.parametrize(
    ("statement", "needs", "extra"),
    [
        ("from ngs.optim.torch import NGS", "PyTorch", "ngs[torch]"),
        ("from ngs.optim.optax import ngs", "JAX and optax", "ngs[jax]"),
        ("from ngs.optim.keras import NGS", "Keras", "ngs[keras]"),
        ("import ngs.train", "PyTorch and torchvision", "ngs[train]"),
        ("from ngs.train.loop import train", "PyTorch and torchvision", "ngs[train]"),
        ("import ngs.figures", "matplotlib", "ngs[figures]"),
        ("import ngs; ngs.theory.certify(ngs.methods.nesterov, 1)", "PEPit", "ngs[theory]"),
        ("import ngs; ngs.problems.digits_logistic_regression()", "scikit-learn", "ngs[problems]"),
    ],
)
def test_what_needs_an_extra_says_so_in_one_importerror(statement, needs, extra):
    done = bare_python(
        f"try:\n    {statement}\n"
        "except ImportError as error:\n    print(type(error).__name__, error)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ImportError ngs.")
    assert f"needs {needs}: pip install '{extra}'" in done.stdout
    assert done.stdout.count("\n") == 1
    assert f"\n{extra.removeprefix('ngs[').removesuffix(']')} = [" in (
        (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    )


def test_keras_without_its_backend_says_so_in_one_line():
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['jax'] = None; import ngs.optim.keras"],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: ngs.optim.keras needs jax, the backend of Keras: install it, or set "
        "KERAS_BACKEND to another"
    )


def module_name(path: Path) -> str:
    parts = ("ngs", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def unit(module: str) -> str:
    """Return what stands in the table of layers for a module: itself, or its subpackage."""
    return ".".join(module.split(".")[:2])


def layer(module: str) -> int:
    return next(i for i, members in enumerate(LAYERS) if unit(module) in members)


def imports(tree: ast.AST) -> set[str]:
    """Return the modules of ngs that are imported anywhere in a file, inside functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full: a relative one hides its layer"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in SOURCES else str(node.module))
    return {name for name in found if name.partition(".")[0] == "ngs"}


IMPORTS = {
    name: imports(ast.parse(path.read_text(encoding="utf-8"))) for name, path in SOURCES.items()
}


def wrong_imports(importing: dict[str, set[str]]) -> list[str]:
    """Return every import that does not point down, as ``importer -> imported``."""
    return [
        f"{module} -> {target}"
        for module, targets in importing.items()
        for target in sorted(targets)
        if layer(target) >= layer(module) and unit(target) != unit(module)
    ]


def test_every_module_has_one_layer():
    units = [member for members in LAYERS for member in members]
    assert len(units) == len(set(units))
    assert {unit(module) for module in SOURCES} == set(units)


def test_imports_point_down():
    assert wrong_imports(IMPORTS) == []


def outside_the_library_and_ngs(path: Path) -> set[str]:
    """Return the packages that a file imports beside the standard library and ngs."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"ngs"}


@pytest.mark.parametrize(
    "module",
    [
        module
        for module in SOURCES
        if unit(module) in ("ngs.methods", "ngs.conversions", "ngs.records", "ngs.schedules")
    ],
)
def test_methods_conversions_records_and_schedules_rest_on_the_standard_library(module):
    assert outside_the_library_and_ngs(SOURCES[module]) == set()


def test_the_conversions_rest_on_the_methods_alone():
    assert IMPORTS["ngs.conversions"] == {"ngs.methods"}


def test_the_loop_rests_on_numpy_and_tqdm():
    assert outside_the_library_and_ngs(SOURCES["ngs.minimize"]) == {"numpy", "tqdm"}
    assert {unit(m) for m in IMPORTS["ngs.minimize"]} == {
        "ngs.errors",
        "ngs.methods",
        "ngs.problems",
        "ngs.schedules",
    }


def test_an_import_that_points_up_is_seen():
    source = "def f():\n    from ngs import minimize\n    import ngs.train.loop\n    import numpy\n"
    found = imports(ast.parse(source))
    assert found == {"ngs.minimize", "ngs.train.loop"}
    assert wrong_imports({"ngs.methods": found}) == [
        "ngs.methods -> ngs.minimize",
        "ngs.methods -> ngs.train.loop",
    ]
    assert wrong_imports({"ngs.schedules": {"ngs.problems"}}) != []
    assert wrong_imports({"ngs.schedules.kinds": {"ngs.schedules.shapes"}}) == []
    assert wrong_imports({"ngs.train.loop": {"ngs.train.data", "ngs.optim.torch"}}) == []


def test_no_two_modules_import_each_other_in_a_circle():
    remaining = dict(IMPORTS)
    while ready := [m for m, targets in remaining.items() if not targets & remaining.keys()]:
        for module in ready:
            del remaining[module]
    assert not remaining, f"a circle runs among {sorted(remaining)}"
