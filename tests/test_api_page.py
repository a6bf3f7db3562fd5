"""Claims about the reference: every public name of ``ngs`` is on its pages or here, with a reason;
what it shows has a text of its own; every command is shown.
"""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tool import load_tool

from ngs import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "book/api").glob("*.md"))
reference = load_tool("reference_pages")

# Modules whose names are parts of something that has a page: their docstrings are for who changes
# them.
PARTS = {
    "ngs.__main__": "python -m ngs; the command is shown",
    "ngs.cli": "the command line, which is shown as commands",
    "ngs.options": "options of the commands, which are shown",
    "ngs.optim.torch.control": "part of NGS for PyTorch",
    "ngs.optim.torch.flat": "part of NGS for PyTorch",
    "ngs.optim.torch.iterate": "part of NGS, whose members show it",
    "ngs.optim.torch.kernel": "part of NGS for PyTorch",
    "ngs.optim.torch.shards": "part of NGS for PyTorch",
    "ngs.optim.torch.signals": "part of NGS for PyTorch",
    "ngs.optim.torch.states": "part of NGS for PyTorch",
    "ngs.train.usual": "part of the guard",
}
# Names in modules that have a page.
ALIAS = """optim.torch.optimizer.Group optim.traced.Array problems.problem.Matrix
    problems.problem.Vector train.bench.Step train.checkpoint.Content train.guard.Named
    train.offline.Floats train.optimizers.Builder train.pretrained.Weights train.recovery.State
    train.results.Column"""
CHECKS_AN_ARGUMENT = """problems.problem.as_matrix problems.problem.as_vector
    problems.problem.check_count problems.problem.check_positive schedules.kinds.check_kappa
    schedules.kinds.check_steps"""
CONSTANT_OF_THE_INSIDE = """optim.keras.FACTORS optim.keras.RESTARTS
    problems.classification.DIGITS_GRADIENT_NORM theory.certificates.ACCURACIES train.augment.FLIPS
    train.bench.WARMUP_STEPS train.bench.REFERENCE train.checkpoint.VERSION train.config.OWN_SIDE
    train.config.COUNTS train.config.LOWEST_SIDE train.curves.DASHES train.data.ARCHIVE
    train.data.ARCHIVE_MD5 train.data.PATIENCE train.data.FOLDER train.deep.WIDTH
    train.deep.CLASSES train.faults.TOO_HIGH train.faults.FOR_STEPS train.guard.LOGGER
    train.models.cost.FEW train.models.cost.UNCOUNTED train.models.registry.CLASSES
    train.models.stages.NORMS train.models.stages.CONTAINERS train.offline.CLASSES
    train.offline.SIDE train.offline.TRAIN train.offline.TEST train.offline.SEED
    train.optimizers.COPIES train.optimizers.SECOND_BETA train.optimizers.LEAST_CYCLE
    train.policy.COUNTS train.pretrained.TORCHVISION train.pretrained.REMEDY train.probes.WEIGHTED
    train.probes.RECTIFIERS train.probes.FEW train.probes.MOST_INPUTS train.processes.MEETINGS
    train.processes.LOST train.range_test.SMOOTHING train.range_test.LOST train.report.COLUMNS
    train.results.WIDTH train.results.CUT train.results.LEAST train.results.NOTHING
    train.results.RUN_COLUMNS train.results.ANY_COLUMNS train.run.EVALUATION_BATCH
    train.run.ALTERNATE train.run.WORST train.run.SHOW_EVERY train.tensors.FILES
    train.tensors.CLASSES train.tensors.SIDE train.tensors.IMAGES train.tensors.LABELS
    train.throughput.WARMUP_STEPS train.throughput.PARTS"""
PART_OF_ONE_FUNCTION = """optim.keras.Wide problems.smooth_maximum.softmax records.held
    train.checkpoint.part_of train.checkpoint.packed train.checkpoint.unpacked
    train.optimizers.state_copies train.recovery.cloned train.results.shortened"""
UNSHOWN = {
    f"ngs.{name}"
    for names in (ALIAS, CHECKS_AN_ARGUMENT, CONSTANT_OF_THE_INSIDE, PART_OF_ONE_FUNCTION)
    for name in names.split()
}


def modules():
    for path in sorted((ROOT / "ngs").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def defined(path):
    """Yield the public names that a module defines, not those it imports."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
        else:
            continue
        yield from (name for name in names if not name.startswith("_"))


def shown():
    """Yield module, name and directive of every entry of the pages."""
    module = ""
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            if found := re.match(r"\.\. (?:py:module|currentmodule):: (\S+)", line):
                module = found[1]
            elif found := re.match(r"\.\. auto(class|exception|function|data):: (\S+)", line):
                yield module, found[2], found[1]


ENTRIES = list(shown())
SHOWN = {(module, name) for module, name, _ in ENTRIES}


def is_shown(module, name):
    """Whether a name has an entry, in its own module or in a package that exports it."""
    packages = [module.rsplit(".", n)[0] for n in range(module.count(".") + 1)]
    return any((package, name) in SHOWN for package in packages)


def test_every_public_name_is_in_the_reference_or_listed_with_a_reason():
    missing = [
        f"{module}.{name}"
        for module, path in modules()
        if module not in PARTS
        for name in defined(path)
        if not is_shown(module, name) and f"{module}.{name}" not in UNSHOWN
    ]
    assert missing == []


def test_the_lists_name_what_there_is_and_is_not_shown():
    there = dict(modules())
    assert [module for module in PARTS if module not in there] == []
    for name in UNSHOWN:
        module, _, last = name.rpartition(".")
        assert last in set(defined(there[module])), name
        assert not is_shown(module, last), name


def test_what_a_package_exports_is_in_the_reference():
    for module, path in modules():
        if path.name == "__init__.py" and module not in ("ngs", "ngs.optim"):
            names = getattr(importlib.import_module(module), "__all__", ())
            assert [name for name in names if (module, name) not in SHOWN] == []


def test_nothing_is_shown_twice():
    assert len(SHOWN) == len(ENTRIES)


@pytest.mark.parametrize(
    ("module", "name", "kind"), ENTRIES, ids=[f"{module}.{name}" for module, name, _ in ENTRIES]
)
def test_what_is_shown_has_a_text_of_its_own(module, name, kind):
    value = getattr(importlib.import_module(module), name)
    if kind == "data":
        assert reference.said_of(f"{module}.{name}")
    else:
        # A class without a docstring would show its parent's.
        assert vars(value).get("__doc__") if kind == "class" else value.__doc__


def test_the_tables_list_what_stands_below_them():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"```\{eval-rst\}\n(.*?)```", text, re.DOTALL):
            listed = re.findall(r"^   ([A-Za-z_]\w*)$", block, re.MULTILINE)
            entries = re.findall(r"^\.\. auto(?!summary)\w+:: (\S+)$", block, re.MULTILINE)
            assert listed == entries, page.name


def test_every_command_is_in_the_reference():
    text = (ROOT / "book/api/command.md").read_text(encoding="utf-8")

    def leaves(command, name):
        if not isinstance(command, click.Group):
            yield name
            return
        for word, child in command.commands.items():
            yield from leaves(child, f"{name} {word}")

    assert re.findall(r":prog: (.+)", text)[0] == "ngs"
    assert set(re.findall(r":prog: (.+)", text)) == {"ngs", *leaves(cli.ngs, "ngs")}


def test_what_the_pages_import_prints_and_writes_nothing(tmp_path):
    names = sorted({module for module, _ in SHOWN})
    code = "import sys; sys.path.insert(0, sys.argv[1]); import reference_pages, importlib\n"
    code += f"for name in {names}: importlib.import_module(name)"
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "tools")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
