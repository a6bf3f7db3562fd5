"""Write the appendix "Equation ledger": every numbered equation, and what stands behind it.

An equation is ``$$ ... $$ (eq:name)`` in a chapter. It is a definition if an HTML comment
``<!-- definition: eq:name -->`` in the same cell says so; otherwise a code cell of the same chapter
must call ``proved``, ``certified`` or ``measured`` of `ngs.checks` with its name. The functions are
used by tests/test_ledger.py too.
"""

import ast
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LEDGER = ROOT / "book/ledger.md"
DISPLAYED = re.compile(r"\$\$(?P<formula>.*?)\$\$(?:[ \t]*\((?P<label>[^)\s]+)\))?", re.DOTALL)
RELATION = re.compile(
    r"[=<>]|\\(le|ge|leq|geq|ll|gg|to|rightarrow|mapsto|approx|sim|equiv|ne|iff|implies|in)\b"
)
DEFINITION = re.compile(r"<!--\s*definition:\s*(?P<labels>[^>]*?)\s*-->")
KINDS = {
    "proved": "proved by SymPy",
    "certified": "certified by PEPit",
    "measured": "measured",
}


class Equation(NamedTuple):
    """A displayed formula: its label (``None`` where it has none), its text, its section."""

    label: str | None
    formula: str
    section: str


class Check(NamedTuple):
    """A call of `ngs.checks`: the equation it names, the kind, the cell's number, the section."""

    label: str
    kind: str
    cell: int | None
    section: str
    output: str


class Chapter(NamedTuple):
    """What a notebook says about its equations."""

    path: Path
    title: str
    equations: list[Equation]
    definitions: list[str]
    checks: list[Check]


def chapters() -> list[Chapter]:
    """Return the chapters in their order."""
    return [read(path) for path in sorted((ROOT / "book").glob("ch[0-9][0-9]_*.ipynb"))]


def read(path: Path) -> Chapter:
    """Read a notebook's equations, definitions and checks."""
    equations, definitions, checks, title, section = [], [], [], "", ""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            checks += [
                Check(label, kind, cell["execution_count"], section, _printed(cell))
                for kind, label in calls(text)
            ]
            continue
        for part in re.split(r"(?m)^(?=#{1,3} )", text):  # headings keep the text up to the next
            heading = re.match(r"(#{1,3}) (.+)", part)
            if heading and len(heading[1]) == 1:
                title = heading[2]
            elif heading:
                section = heading[2]
            for found in DISPLAYED.finditer(part):
                equations.append(Equation(found["label"], found["formula"].strip(), section))
        for found in DEFINITION.finditer(text):
            definitions += re.split(r"[,\s]+", found["labels"])
    return Chapter(path, title, equations, definitions, checks)


def calls(code: str) -> list[tuple[str, str]]:
    """Return kind and equation of every check that a cell calls; the name must be a literal."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
        name = name.id if isinstance(name, ast.Name) else name
        if name in KINDS and node.args:
            label = node.args[0]
            if not (isinstance(label, ast.Constant) and isinstance(label.value, str)):
                raise ValueError(f"{name}(...) must name its equation as a string in place")
            found.append((str(name), label.value))
    return found


def _printed(cell: dict[str, Any]) -> str:
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def page(chapters: list[Chapter]) -> str:
    """Return the ledger as a page of the book."""
    lines = [
        "(ledger)=",
        "# Equation Ledger",
        "",
        "What stands behind every numbered equation of the book. A *definition* says what a word",
        "or a symbol means, so there is nothing to check. Everything else has a cell that",
        "runs with the tests and fails when the equation does not hold: *proved by SymPy* runs on",
        "symbols, mostly through the code of `ngs` itself; *certified by PEPit* computes the",
        "exact worst case by performance estimation; *measured* compares numbers with what the",
        "equation says. A measurement supports a statement on the cases that were run; it proves",
        "nothing.",
        "",
        "The number of a cell is the one that Jupyter shows beside it, `[n]`.",
        "",
    ]
    counts = dict.fromkeys(("definition", *KINDS.values()), 0)
    tables: list[str] = []
    for chapter in (chapter for chapter in chapters if chapter.equations):
        tables += [f"## {chapter.title}", "", "| equation | name | check | cell, section |"]
        tables += ["|---|---|---|---|"]
        for equation in chapter.equations:
            if equation.label is None:
                continue
            name = f"| {{eq}}`{equation.label}` | `{equation.label.removeprefix('eq:')}` "
            checks = [c for c in chapter.checks if c.label == equation.label]
            kinds = dict.fromkeys(KINDS[c.kind] for c in checks) or {"definition": None}
            for kind in kinds:
                counts[kind] += 1
            cells = dict.fromkeys(f"[{c.cell}] {c.section}" for c in checks)
            where = "; ".join(cells) if checks else equation.section
            tables.append(f"{name}| {', '.join(kinds)} | {where} |")
        tables.append("")
    definitions = counts.pop("definition")
    total = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    summary = f"In all: {definitions} definitions; {total} (some in two ways)."
    return "\n".join([*lines, summary, "", *tables])


if __name__ == "__main__":
    LEDGER.write_text(page(chapters()), encoding="utf-8")
