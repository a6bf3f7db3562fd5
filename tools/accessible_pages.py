"""A Sphinx extension: mends in the HTML what the theme and its extensions leave to be mended.

It rests on Sphinx's event for a page that is about to be written. What depends on the width of the
window is left to ``book/_static/access.js``.
"""

import re
from typing import Any

from sphinx.application import Sphinx

OUTPUT = re.compile(
    r'(<div class="output [^"]*)("><div class="highlight"><pre><span></span>)(.*?)(</pre>)', re.S
)
PARAMETERS = re.compile(r"<dl>\n((?:<dd>.*?</dd>\n)+)</dl>", re.S)
COLUMNS = re.compile(r"\S {2,}\S")  # blanks that only an alignment needs
SENTENCE = 60  # a line longer than this that is no row of a table may wrap
NEARLY = 4  # rows of a table are of nearly the same length


def are_sentences(lines: list[str]) -> list[bool]:
    """Say of each line whether it may wrap: a long one without columns, unlike its neighbours."""
    lengths = [0, *map(len, lines), 0]
    return [
        length > SENTENCE
        and not COLUMNS.search(line)
        and min(abs(length - before), abs(length - after)) > NEARLY
        for line, before, length, after in zip(
            lines, lengths, lengths[1:], lengths[2:], strict=False
        )
    ]


def mark_tables(body: str) -> str:
    """Mark the printed tables, whose lines must not wrap, and the sentences among them."""

    def mark(found: re.Match[str]) -> str:
        opening, start, text, end = found.groups()
        lines = text.split("\n")
        if "<" in text or sum(bool(COLUMNS.search(line)) for line in lines) < 2:
            return found[0]
        marked = [
            f'<span class="sentence">{line}</span>' if wrap else line
            for line, wrap in zip(lines, are_sentences(lines), strict=True)
        ]
        # A sentence is a block of its own: the line feed behind it would be an empty line.
        text = "\n".join(marked).replace("</span>\n", "</span>")
        return f"{opening} printed-table{start}{text}{end}"

    return OUTPUT.sub(mark, body)


def as_lines(found: re.Match[str]) -> str:
    """Return definitions without a term as plain lines."""
    lines = found[1].replace("<dd>", '<div class="sig-line">').replace("</dd>", "</div>")
    return f"<div>\n{lines}</div>"


def mend(body: str) -> str:
    """Return a page's text without what screen readers stumble over."""
    # ARIA has dropped the role of an entry; the list around it needs items.
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    # A heading of nothing, in the corner of a table, is announced as one.
    body = re.sub(r'<th class="head">(<p></p>)?</th>', "<td></td>", body)
    # Sphinx breaks a long signature as a list of definitions, of nothing.
    body = PARAMETERS.sub(as_lines, body)
    return mark_tables(body)


def is_wanted(asset: Any) -> bool:
    """Say whether a script or style sheet is used: Thebe would run cells on another host."""
    said = f"{getattr(asset, 'filename', asset)} {getattr(asset, 'attributes', '')}"
    return "thebe" not in said.lower()


def mend_page(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Mend a page before its template is filled in."""
    if "body" in context:
        context["body"] = mend(context["body"])
    for kind in ("script_files", "css_files"):
        if kind in context:
            context[kind] = [asset for asset in context[kind] if is_wanted(asset)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx, after the theme has had its say."""
    app.connect("html-page-context", mend_page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
