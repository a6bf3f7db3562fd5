"""A Sphinx extension: collects what a link of the book may show before one follows it.

Equations, sources, terms, theorems, exercises and captions that any page links to go into one
script, ``previews-data.js``: a page that is opened from disk cannot fetch another one.
``book/_static/previews.js`` shows them. It rests on Sphinx's pages as they are written.
"""

import json
import re
from pathlib import Path
from urllib.parse import unquote

from sphinx.application import Sphinx

DATA = "previews-data.js"
LINK = re.compile(r'<a class="[^"]*\breference\b[^"]*" href="([^"#:]*)#([^"]+)"')
OPENINGS = (
    re.compile(r'<(div) class="math[^"]*" id="(?P<id>equation-[^"]+)"'),
    re.compile(r'<(div) class="citation" id="(?P<id>[^"]+)"'),
    re.compile(r'<(div) class="(?:proof|exercise) [^"]*" id="(?P<id>[^"]+)"'),
    re.compile(r'<(figure) class="[^"]*" id="(?P<id>[^"]+)"'),
)
TERM = re.compile(r'<dt id="(?P<id>term-[^"]+)">.*?</dt>\s*<dd>(?P<text>.*?)</dd>', re.S)
NOT_SHOWN = re.compile(r'<a class="headerlink".*?</a>|<button.*?</button>', re.S)
LONGEST = 4000
"""Characters of a preview; what is longer is better read where it stands."""


def element(html: str, start: int, tag: str) -> str:
    """Return the element that begins at ``start``, up to the end tag that closes it."""
    depth = 0
    for found in re.compile(rf"<(/?){tag}\b").finditer(html, start):
        depth += -1 if found[1] else 1
        if depth == 0:
            return html[start : html.index(">", found.start()) + 1]
    return html[start:]


def shown(html: str) -> str:
    """Return what a preview shows of an element: no identifiers, no buttons, no pictures."""
    if html.startswith("<figure"):
        caption = re.search(r"<figcaption>(.*?)</figcaption>", html, re.S)
        html = caption[1] if caption else ""
    html = NOT_SHOWN.sub("", html)
    return re.sub(r' id="[^"]*"', "", html).strip()


def previews(pages: dict[str, str]) -> dict[str, str]:
    """Return the previews of everything that a page of the book links to.

    Args:
        pages: the HTML of each page by its path from the root of the book.

    Returns:
        HTML by ``path#id``.
    """
    wanted: dict[str, set[str]] = {}
    for path, html in pages.items():
        for target, anchor in LINK.findall(html):
            folder = Path(path).parent
            there = (folder / unquote(target)).as_posix() if target else path
            wanted.setdefault(there, set()).add(anchor)
    found = {}
    for path, anchors in wanted.items():
        html = pages.get(path, "")
        for opening in OPENINGS:
            for match in opening.finditer(html):
                if match["id"] in anchors:
                    found[f"{path}#{match['id']}"] = shown(element(html, match.start(), match[1]))
        for match in TERM.finditer(html):
            if match["id"] in anchors:
                found[f"{path}#{match['id']}"] = shown(match["text"])
    return {key: html for key, html in sorted(found.items()) if 0 < len(html) < LONGEST}


def write(app: Sphinx, exception: Exception | None) -> None:
    """Write the script when all pages are there."""
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    pages = {
        path.relative_to(out).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(out.rglob("*.html"))
    }
    text = json.dumps(previews(pages), ensure_ascii=False, indent=0)
    (out / "_static" / DATA).write_text(f"var NGS_PREVIEWS = {text};\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_js_file(DATA, defer="defer")
    app.add_js_file("previews.js", defer="defer")
    app.add_css_file("previews.css")
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
