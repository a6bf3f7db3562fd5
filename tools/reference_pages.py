"""A Sphinx extension: how the reference is read from the docstrings; folded proofs; the index.

It rests on autodoc, sphinx-click and sphinx-proof. Nothing here is imported by ``ngs``.
"""

import os
import re
import sys
from types import BuiltinFunctionType
from typing import Any

import click
from docutils import nodes
from numpy.typing import ArrayLike
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms import SphinxTransform
from sphinx.util.typing import stringify_annotation

# Keras asks for its backend when it is imported, and the book brings torch. JAX is to look for no
# accelerator: a page is the same on every machine.
os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Python keeps what NumPy's names of types stand for; a reader wants the names.
ARRAY_LIKE = stringify_annotation(ArrayLike, "smart")
ND_ARRAY = re.compile(r"~?numpy\.ndarray\[tuple\[[^\]]*\], ~?numpy\.dtype\[~?([^\]]+)\]\]")


def skip(
    app: Sphinx, kind: str, name: str, member: Any, skipped: bool, options: Any
) -> bool | None:
    """Leave out what Python describes: its own parts, and fields of named tuples by number."""
    told = getattr(member, "__doc__", None) or ""
    if told.startswith("Alias for field number") or isinstance(member, BuiltinFunctionType):
        return True
    return None


def said_of(name: str) -> list[str]:
    """Return the text below a constant, in the module that defines it or in one beside that."""
    module, _, name = name.rpartition(".")
    for place in sorted(m for m in sys.modules if m == module or m.startswith(f"{module}.")):
        try:
            comments = ModuleAnalyzer.for_module(place).find_attr_docs()
        except PycodeError:
            continue
        if ("", name) in comments:
            return [*comments[("", name)]]
    return []


def keep_constant(
    app: Sphinx, kind: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Keep what a constant says before napoleon takes all up to a colon for its type."""
    if kind == "data":
        lines[:] = said_of(name)  # autodoc's guess may be the text of its type, a dictionary's say
    if kind in ("data", "attribute"):
        app.env.temp_data["said"] = [*lines]


def restore_constant(
    app: Sphinx, kind: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Put it back."""
    if kind in ("data", "attribute"):
        lines[:] = app.env.temp_data.pop("said")


def sign(
    app: Sphinx, kind: str, name: str, value: Any, options: Any, signature: str, returned: str
) -> tuple[str, str]:
    """Write the types of arrays as the source does."""
    return _short(signature), _short(returned)


def _short(text: str) -> str:
    if not text:
        return text
    return ND_ARRAY.sub(r"NDArray[\1]", text.replace(ARRAY_LIKE, "ArrayLike"))


def shape(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Show what the terminal must not refill, commands to copy, as code; the rest is plain text."""
    context.show_default = True  # which sphinx-click forgets to take from the group's settings
    shaped: list[str] = []
    kept = False
    for line in lines:
        if line.startswith("| "):
            if not kept:
                shaped += [".. code-block:: console", ""]
            shaped.append("   " + line.removeprefix("| ").strip())
        else:
            if kept and line:
                shaped.append("")
            shaped.append(re.sub(r"([*`|\\])", r"\\\1", line))
        kept = line.startswith("| ")
    lines[:] = shaped


def say_defaults(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Say a default as the terminal does: not that an option is off, or what its help has said."""
    said: list[str] = []
    for line in lines:
        found = re.fullmatch(r"(\s*):default: ``(.*)``", line)
        if not found:
            said.append(line)
        elif found[2] == "True":
            said.append(f"{found[1]}On by default.")
        elif found[2] not in ("False", "''", "None") and "UNSET" not in found[2]:
            said.append(f"{found[1]}Default: ``{found[2].strip(chr(39))}``.")
    lines[:] = said


class IndexStatements(SphinxTransform):
    """Put the titles of theorems, definitions and algorithms into the index.

    Options of commands are left out of it: five commands share most of them, and they would fill
    its first screens.
    """

    default_priority = 700  # before the domains collect what a page has

    def apply(self, **kwargs: Any) -> None:
        """Insert an entry before each of them."""
        for part in self.document.findall(addnodes.index):
            entries = part.get("entries", [])
            part["entries"] = [e for e in entries if "command line option" not in e[1]]
        for part in list(self.document.findall(nodes.Admonition)):
            if "realtype" not in part or not part["title"]:
                continue
            title = part["title"].strip(" ()").replace("`", "")
            entry = addnodes.index(entries=[("single", title, part["label"], "", None)])
            part.parent.insert(part.parent.index(part), entry)


def tidy(app: Sphinx, doctree: nodes.document) -> None:
    """Call attributes what docstrings call them; give folded proofs a title that can be clicked.

    Sphinx-proof gives all theorems of a page one identifier, and all proofs another.
    """
    for part in doctree.findall(nodes.Element):
        if "proof-content" in part.get("ids", ()):
            part["ids"] = [f"{part.parent['ids'][0]}-content"]
    for part in list(doctree.findall(addnodes.tabular_col_spec)):
        # What the index of modules leads to; docutils has hung it onto what makes no HTML.
        moved = [name for name in part["ids"] if name.startswith("module-")]
        if moved:
            part["ids"] = [name for name in part["ids"] if name not in moved]
            part.parent.insert(part.parent.index(part), nodes.target("", "", ids=moved))
    for proof in doctree.findall(nodes.admonition):
        if "proof" not in proof["ids"]:
            continue
        proof["ids"] = []
        proof["classes"].append("prf-proof")
        if "dropdown" in proof["classes"]:
            start = next(iter(proof.findall(nodes.Text)))
            start.parent.replace(start, nodes.Text(start.astext().removeprefix("Proof. ")))
            proof.insert(0, nodes.title("", "Proof"))
    for name in doctree.findall(nodes.field_name):
        if name.astext() == "Variables":
            name.clear()
            name += nodes.Text("Attributes")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect what stands above."""
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", keep_constant, priority=100)
    app.connect("autodoc-process-docstring", restore_constant, priority=900)
    app.connect("autodoc-process-signature", sign)
    app.add_transform(IndexStatements)
    app.connect("doctree-read", tidy)
    app.connect("sphinx-click-process-description", shape)
    app.connect("sphinx-click-process-options", say_defaults)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
