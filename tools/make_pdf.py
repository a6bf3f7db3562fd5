"""Write the whole book as one PDF, ``_build/pdf/nesterov.pdf``.

Chromium prints it twice: the first time says on which page everything stands, the second has the
numbers in the table of contents. Outline and metadata come after that. Rests on tools/xhtml.py,
tools/browser.py and pypdf; book/_static/print.css is the typography.
"""

import html
import io
import itertools
import json
import posixpath
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import matplotlib as mpl
from browser import find_browser, open_browser, open_page
from bs4 import BeautifulSoup, Tag
from cover import cover
from pdf_tags import thin_tags
from playwright.sync_api import Page
from pypdf import PdfReader, PdfWriter
from pypdf.generic import Fit, NameObject, TextStringObject
from xhtml import (
    ROOT,
    STYLE,
    SUBTITLE,
    Entry,
    built_pages,
    contents,
    formulas,
    mathjax,
    pages,
    plain_id,
    read,
    settings,
    stage,
)

GOAL = ROOT / "_build/pdf/nesterov.pdf"
FONTS = {
    # what matplotlib brings along; no page of the book needs a font of the machine
    ("Book Serif", 400, "normal"): "STIXGeneral.ttf",
    ("Book Serif", 400, "italic"): "STIXGeneralItalic.ttf",
    ("Book Serif", 700, "normal"): "STIXGeneralBol.ttf",
    ("Book Serif", 700, "italic"): "STIXGeneralBolIta.ttf",
    ("Book Signs", 400, "normal"): "DejaVuSans.ttf",  # arrows and the like
    ("Book Mono", 400, "normal"): "DejaVuSansMono.ttf",
    ("Book Mono", 400, "italic"): "DejaVuSansMono-Oblique.ttf",
    ("Book Mono", 700, "normal"): "DejaVuSansMono-Bold.ttf",
    ("Book Mono", 700, "italic"): "DejaVuSansMono-BoldOblique.ttf",
}
SHORT = 14
"""So many lines of code or output stay on one page."""
TYPESET = """
async () => {
  await MathJax.startup.promise;
  await document.fonts.ready;
  for (const image of document.images) await image.decode();
  for (const formula of document.querySelectorAll('.tex mjx-container')) {
    // a formula in a line cannot break: one that is wider than the column shrinks a little
    let block = formula.parentElement;
    while (getComputedStyle(block).display.startsWith('inline')) block = block.parentElement;
    const room = block.clientWidth, width = formula.getBoundingClientRect().width;
    if (room && width > room) formula.style.fontSize = `${100 * room / width}%`;
  }
  const faults = [...document.querySelectorAll('mjx-merror')].map(
    node => `a formula that MathJax does not understand: ${node.closest('.tex').dataset.tex}`);
  const edge = document.documentElement.clientWidth + 1;
  for (const node of document.querySelectorAll('pre, table, figure, .math, h1, h2, h3, .sig'))
    if (node.getBoundingClientRect().right > edge)
      faults.push(`wider than the page: ${node.textContent.trim().slice(0, 60)}`);
  return faults;
}
"""
TRIES = 3
"""A line near the end of a page may move when the fonts of its page are used a second time."""
COLUMN = 605
"""The width of the text, A4 less its margins, in CSS pixels."""

FILL_IN = """
places => {
  const lost = [];
  for (const node of document.querySelectorAll('.number')) {
    node.textContent = places[node.dataset.target] ?? '';
    if (!node.textContent) lost.push(node.dataset.target);
  }
  return lost;
}
"""
TITLES = """
() => [...document.querySelectorAll('.contents .title')].map(title => {
  const copy = title.cloneNode(true);
  for (const formula of copy.querySelectorAll('.tex'))
    formula.innerHTML = MathJax.tex2mml(formula.dataset.tex);
  return copy.textContent.replace(/\\s+/g, ' ').trim();
})
"""


def name_of(page: str) -> str:
    """Return the id that a page of the book has in the PDF."""
    return plain_id(page.removeprefix("book/"))


def target_of(entry: Entry) -> str:
    """Return the id in the PDF that a line of the table of contents leads to."""
    if entry.depth == 0:
        return f"part-{name_of(entry.page)}"
    return name_of(entry.page) if entry.section is None else entry.section


def text_of(markup: str) -> str:
    """Return a title without its markup; a formula is its TeX."""
    text = BeautifulSoup(markup, "html.parser").get_text()
    return " ".join(text.replace("\\(", "").replace("\\)", "").split())


def chapter(folder: Path, page: str, known: set[str]) -> Tag:
    """Return a page's text for the one document: its ids and links say which page they are of."""
    soup = read(folder / f"{page}.xhtml")
    body = soup.select_one("div.body")
    assert body is not None
    own = name_of(page)
    for node in body.find_all(id=True):
        node["id"] = f"{own}--{node['id']}"
    for link in body.find_all("a", href=True):
        where, _, target = link["href"].partition("#")
        if "://" in where or where.startswith("mailto:"):
            continue
        there = posixpath.normpath(posixpath.join(posixpath.dirname(page), where))
        goal = name_of(there.removesuffix(".xhtml")) if where else own
        if goal not in known:
            link.unwrap()  # a file beside the web pages is not in the PDF
            continue
        link["href"] = f"#{goal}--{target}" if target else f"#{goal}"
    for image in body.find_all("img"):
        image["src"] = (folder / page).parent.joinpath(image["src"]).resolve().as_uri()
    _unwrap_plain_tokens(body)
    for node in body.find_all("pre"):
        if node.get_text().count("\n") <= SHORT:
            node["class"] = ["short"]
    for node in body.select(".tex2jax_ignore, .mathjax_ignore"):
        node["class"] = [c for c in node["class"] if not c.endswith("jax_ignore")]
    for node, tex, displayed in formulas(body):
        node["class"] = ["math", "tex"]
        node["data-tex"] = tex
        label = node.select_one(".eqno")
        node.clear()
        node.append(f"\\[{tex}\\]" if displayed else f"\\({tex}\\)")
        if label:
            node.insert(0, label)
    body.name, body.attrs = "section", {"id": own, "class": "page", "style": f"page: {own}"}
    return body


def _unwrap_plain_tokens(body: Tag) -> None:
    # names and blanks have no colour of their own; each would be a tag of the PDF
    for node in body.select(".highlight span"):
        if node.get("class") in (None, ["n"], ["p"], ["w"]):
            node.unwrap()


def number(target: str) -> str:
    """Return the place for the number of the page on which something stands."""
    return f'<span class="number" data-target="{target}">0</span>'


def table(entries: list[Entry]) -> str:
    """Return the table of contents as HTML; the numbers of the pages come later."""
    lines = ['<nav class="contents"><h1 id="contents">Contents</h1>']
    for entry in entries:
        link = (
            f'<a href="#{target_of(entry)}"><span class="title">{entry.markup}</span>'
            f'<span class="dots"></span>{number(target_of(entry))}</a>'
        )
        kind = ("part-line", "page-line", "section-line")[entry.depth]
        lines.append(f'<div class="{kind}">{link}</div>')
    return "".join([*lines, "</nav>"])


def imprint() -> str:
    """Return the page behind the cover: title, authors, licence, and what is left out."""
    book = settings()
    title, author = html.escape(book["title"]), html.escape(book["author"])
    return f"""<section class="imprint"><h1>{title}</h1>
<p>{SUBTITLE}. Edition of the library <code>ngs</code> {version("ngs")}.</p>
<p>{book["copyright"]}, {author}. Text, code and figures are under the MIT licence.</p>
<p>This PDF is made from the notebooks and the outputs that are stored in them. The code that only
draws a figure is left out, solutions follow their exercises, and what moves on the web pages
stands still. The notebooks have all of it.</p></section>"""


def styles(folder: Path, entries: list[Entry]) -> str:
    """Return what print.css cannot know: the fonts' places, and a running head for every page."""
    fonts = Path(mpl.get_data_path()) / "fonts/ttf"
    rules = [
        f'@font-face {{font-family: "{family}"; font-weight: {weight}; font-style: {style}; '
        f'src: url("{(fonts / file).as_uri()}")}}'
        for (family, weight, style), file in FONTS.items()
    ]
    count = 'content: counter(page); font: 9pt "Book Serif"; color: #444'
    rules.append("@page cover {margin: 0} ")
    rules.append(f"@page contents {{@bottom-center {{{count}}}}}")
    for entry in entries:
        if entry.depth and entry.section is None:
            title = text_of(entry.markup).replace("\\", "\\\\").replace('"', '\\"')
            head = f'content: "{title}"; font: italic 9pt "Book Serif"; color: #444'
            line = "border-bottom: 0.2mm solid #b9c6d1; margin-bottom: 4mm; vertical-align: bottom"
            rules.append(
                f"@page {target_of(entry)} {{@bottom-center {{{count}}} "
                f"@top-left {{{head}; {line}; width: 100%; text-align: left}}}}"
            )
    pygments = (folder / "_static/pygments.css").read_text(encoding="utf-8")
    return "\n".join([pygments, STYLE.read_text(encoding="utf-8"), *rules])


def part_page(part: Entry, entries: list[Entry]) -> str:
    """Return the page that opens a part: its title and those of its chapters."""
    after = entries[entries.index(part) + 1 :]
    own = itertools.takewhile(lambda entry: entry.depth, after)
    titles = "".join(f"<p>{e.markup}</p>" for e in own if e.depth == 1)
    return f'<section class="part" id="{target_of(part)}"><h1>{part.markup}</h1>{titles}</section>'


def document(folder: Path) -> tuple[str, list[Entry]]:
    """Return the whole book as one HTML page, and the lines of its table of contents."""
    known = {name_of(page) for page in pages()}
    chapters = {page: chapter(folder, page, known) for page in pages()}
    ids = {node["id"] for body in chapters.values() for node in body.find_all(id=True)}
    ids |= {name_of(page) for page in chapters}
    for body in chapters.values():
        for link in body.select("a[href^='#']"):
            if link["href"][1:] not in ids:  # the index names places that a page need not have
                link["href"] = link["href"].partition("--")[0]
        for link in body.select(".genindextable a[href^='#']"):
            link.append(BeautifulSoup(f" {number(link['href'][1:])}", "html.parser"))
    entries = contents(chapters)
    pieces = [cover(), imprint(), table(entries)]
    for entry in entries:
        if entry.depth == 0:
            pieces.append(part_page(entry, entries))
        elif entry.section is None:
            pieces.append(str(chapters[entry.page]))
    title = html.escape(settings()["title"])
    script = (mathjax() / "tex-chtml.js").as_uri()
    options = {
        "ignoreHtmlClass": "page|contents|part",
        "processHtmlClass": "tex",
        "enableMenu": False,
        # a second, hidden copy of every formula would be in the text of the PDF
        "menuOptions": {"settings": {"assistiveMml": False}},
    }
    head = (
        f'<meta charset="utf-8"><title>{title}</title><style>{styles(folder, entries)}</style>'
        f"<script>MathJax = {json.dumps({'options': options})}</script>"
        f'<script async src="{script}"></script>'
    )
    body = f'<body class="book-pdf">{"".join(pieces)}</body>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head>{body}</html>', entries


def places(pdf: bytes) -> dict[str, int]:
    """Return the number of the page, from 1, on which each named place of a PDF stands."""
    reader = PdfReader(io.BytesIO(pdf))
    return {
        name.removeprefix("/"): reader.get_destination_page_number(destination) + 1
        for name, destination in reader.named_destinations.items()
    }


def printed(page: Page) -> bytes:
    """Print the page as it stands."""
    return page.pdf(prefer_css_page_size=True, print_background=True, tagged=True)


def finished(pdf: bytes, entries: list[Entry], titles: list[str]) -> PdfWriter:
    """Give the PDF its outline, with these titles, and its metadata."""
    reader = PdfReader(io.BytesIO(pdf))
    thin_tags(reader)
    writer = PdfWriter(clone_from=reader)
    where = places(pdf)
    heights = reader.named_destinations
    above: dict[int, object] = {}
    for entry, title in zip(entries, titles, strict=True):
        page = where[target_of(entry)] - 1
        parents = [above[d] for d in range(entry.depth) if d in above]
        item = writer.add_outline_item(
            title=title,
            page_number=page,
            parent=parents[-1] if parents else None,
            fit=Fit.xyz(top=heights[f"/{target_of(entry)}"].top),
            is_open=False,
        )
        above = {d: i for d, i in above.items() if d < entry.depth} | {entry.depth: item}
    book = settings()
    writer.metadata = None
    writer.add_metadata(
        {
            "/Title": book["title"],
            "/Author": book["author"],
            "/Subject": SUBTITLE,
            "/Keywords": "Nesterov, momentum, optimization, deep learning",
            "/Creator": f"ngs {version('ngs')}",
            "/CreationDate": f"D:{datetime.now(UTC):%Y%m%d%H%M%S}Z",
        }
    )
    writer.root_object[NameObject("/Lang")] = TextStringObject("en")
    writer.page_mode = "/UseOutlines"
    return writer


def make_pdf(folder: Path, goal: Path) -> None:
    """Print the pages in a folder that `xhtml.built_pages` has made.

    Raises:
        click.ClickException: a formula could not be typeset, something is wider than the page (all
            would shrink), or the pages moved between the runs.
    """
    text, entries = document(folder)
    with TemporaryDirectory(prefix="ngs-pdf-") as place:
        book = Path(place) / "book.html"
        book.write_text(text, encoding="utf-8")
        with open_browser() as browser, open_page(browser) as page:
            page.set_default_timeout(300_000)
            stage("pdf", "typesetting the formulas")
            page.emulate_media(media="print")
            page.set_viewport_size({"width": COLUMN, "height": 900})
            page.goto(book.as_uri())
            if faults := page.evaluate(TYPESET):
                raise click.ClickException("\n".join(faults))
            stage("pdf", "printing, to learn on which page everything stands")
            known, moved = places(printed(page)), [""]
            for _ in range(TRIES):
                if lost := page.evaluate(FILL_IN, known):
                    raise click.ClickException(f"not in the PDF, but in its contents: {lost[0]}")
                stage("pdf", "printing, with the numbers of the pages")
                pdf = printed(page)
                now = places(pdf)
                moved = [name for name in known if now.get(name) != known[name]]
                if not moved:
                    break
                known = now
            titles = page.evaluate(TITLES)
    if moved:
        raise click.ClickException(f"the pages do not come to rest: {moved[0]} moves")
    stage("pdf", "outline and metadata")
    goal.parent.mkdir(parents=True, exist_ok=True)
    part = goal.with_suffix(".part")
    finished(pdf, entries, titles).write(part)
    part.replace(goal)


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=GOAL)
def main(out: Path) -> None:
    """Write the book as a PDF."""
    find_browser()  # before the minutes of work, not after
    stage("pdf", "building the pages from the notebooks' stored outputs")
    with built_pages() as folder:
        make_pdf(folder, out)
    stage("pdf", f"ready: {out}, {len(PdfReader(out).pages)} pages")


if __name__ == "__main__":
    main()
