"""Write the whole book as one EPUB 3, ``_build/epub/nesterov.epub``, its mathematics as MathML.

Sphinx writes the EPUB; the MathJax that the web pages use turns every formula into MathML, in
Chromium; what no page needs is taken out. Rests on tools/xhtml.py and tools/browser.py.
"""

import posixpath
import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree as ET

import click
from browser import find_browser, open_browser, open_page
from bs4 import BeautifulSoup, Tag
from cover import HEIGHT, WIDTH, cover
from xhtml import (
    ROOT,
    STYLE,
    SUBTITLE,
    Entry,
    built_pages,
    contents,
    formulas,
    mathjax,
    read,
    settings,
    stage,
)

GOAL = ROOT / "_build/epub/nesterov.epub"
CSS = ROOT / "book/_static/ebook.css"
KEPT_STYLES = ("pygments.css", CSS.name)
MOMENT = (2026, 1, 1, 0, 0, 0)
"""The date of every file in the zip."""
OPF = "http://www.idpf.org/2007/opf"
NCX = "http://www.daisy.org/z3986/2005/ncx/"
XHTML = "http://www.w3.org/1999/xhtml"
ACCESS = {
    "accessMode": ("textual", "visual"),
    "accessModeSufficient": ("textual",),
    "accessibilityFeature": ("MathML", "alternativeText", "structuralNavigation"),
    "accessibilityHazard": ("none",),
    "accessibilitySummary": ("Figures have alternative text; formulas are MathML with their TeX.",),
}
CONVERT = """
async formulas => {
  await MathJax.startup.promise;
  return formulas.map(([tex, display]) => MathJax.tex2mml(tex, {display}));
}
"""

for prefix, space in (("", OPF), ("dc", "http://purl.org/dc/elements/1.1/")):
    ET.register_namespace(prefix, space)


def draw_cover(goal: Path) -> None:
    """Write the cover as a PNG."""
    style = STYLE.read_text(encoding="utf-8") + ".book-pdf .cover {height: 100vh !important}"
    with open_browser() as browser, open_page(browser) as page:
        page.emulate_media(media="print")
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        page.set_content(f"<!DOCTYPE html><style>{style}</style><body class='book-pdf'>{cover()}")
        page.screenshot(path=goal)


def to_mathml(found: list[tuple[str, bool]]) -> dict[tuple[str, bool], str]:
    """Return the MathML of each formula, given as its TeX and whether it is displayed.

    Raises:
        click.ClickException: MathJax does not understand one.
    """
    distinct = list(dict.fromkeys(found))
    with TemporaryDirectory(prefix="ngs-epub-") as place:
        script = (mathjax() / "tex-chtml.js").as_uri()
        (Path(place) / "mathjax.html").write_text(
            f'<!DOCTYPE html><title>MathJax</title><script src="{script}"></script>',
            encoding="utf-8",
        )
        with open_browser() as browser, open_page(browser) as page:
            page.goto((Path(place) / "mathjax.html").as_uri())
            converted = page.evaluate(CONVERT, [list(formula) for formula in distinct])
    for (tex, _), markup in zip(distinct, converted, strict=True):
        if "<merror" in markup:
            raise click.ClickException(f"MathJax does not understand {tex}")
    return dict(zip(distinct, converted, strict=True))


def put_in(node: Tag, tex: str, markup: str) -> None:
    """Put MathML in the place of a formula's TeX; the number of the equation stays."""
    math = BeautifulSoup(markup, "html.parser").math
    assert math is not None
    for element in (math, *math.find_all(True)):
        for name in [n for n in element.attrs if n.startswith("data-") or n == "class"]:
            del element[name]
    math["alttext"] = " ".join(tex.split())
    number = node.select_one(".eqno")
    node.clear()
    node["class"] = ["math"]
    if number:
        node.append(number)
    node.append(math)


def tidy_pages(folder: Path) -> dict[str, BeautifulSoup]:
    """Rewrite all pages: MathML for TeX, no styles of the web pages, no links out of the book.

    Returns:
        Every page by its file without the ending.
    """
    soups = {path: read(path) for path in sorted(folder.resolve().rglob("*.xhtml"))}
    found = [(tex, shown) for soup in soups.values() for _, tex, shown in formulas(soup)]
    stage("epub", f"turning {len(found)} formulas into MathML")
    converted = to_mathml(found)
    ids = {path: {node["id"] for node in soup.find_all(id=True)} for path, soup in soups.items()}
    for path, soup in soups.items():
        for node, tex, shown in list(formulas(soup)):
            put_in(node, tex, converted[tex, shown])
        for link in soup.select("link[rel=stylesheet]"):
            if Path(link["href"]).name not in KEPT_STYLES:
                link.decompose()
        for link in soup.select("a[href]"):
            where, _, target = link["href"].partition("#")
            goal = (path.parent / where).resolve() if where else path
            if ":" in where:
                continue
            if goal not in soups:
                link.unwrap()  # a download beside the web pages is not in the EPUB
            elif target and target not in ids[goal]:
                link["href"] = where  # the index names places that a page need not have
        path.write_text(str(soup), encoding="utf-8")
    return {
        path.relative_to(folder.resolve()).with_suffix("").as_posix(): s
        for path, s in soups.items()
    }


def write_contents(folder: Path, soups: dict[str, BeautifulSoup]) -> None:
    """Write the tables of contents: parts, chapters and sections for EPUB 3, pages for EPUB 2."""
    path = folder / "nav.xhtml"
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    assert soup.nav is not None
    assert soup.nav.ol is not None
    soup.nav.ol.replace_with(nested(contents(soups), soup))
    path.write_text(str(soup), encoding="utf-8")
    ET.register_namespace("", NCX)
    ncx = ET.parse(folder / "toc.ncx")  # noqa: S314  (Sphinx has just written it)
    for meta in ncx.iter(f"{{{NCX}}}meta"):
        if meta.get("name") == "dtb:uid":
            meta.set("content", about()["identifier"])
    ncx.write(folder / "toc.ncx", encoding="utf-8", xml_declaration=True)


def nested(entries: list[Entry], soup: BeautifulSoup) -> Tag:
    """Return the lines of a table of contents as lists in lists."""
    whole = soup.new_tag("ol")
    lists = {0: whole}  # by the depth of their lines
    for entry in entries:
        depth = max(d for d in lists if d <= entry.depth)
        line, below = soup.new_tag("li"), soup.new_tag("ol")
        lists[depth].append(line)
        lists = {d: kept for d, kept in lists.items() if d <= depth} | {entry.depth + 1: below}
        address = f"{entry.page}.xhtml" + (f"#{entry.section}" if entry.section else "")
        title = soup.new_tag("a", href=address) if entry.depth else soup.new_tag("span")
        title.string = BeautifulSoup(entry.markup, "html.parser").get_text()
        line.extend([title, below])
    for empty in whole.find_all(lambda tag: tag.name == "ol" and not tag.contents):
        empty.decompose()
    return whole


def tidy_manifest(folder: Path) -> list[str]:
    """Take out of the manifest what no page asks for; say which pages have MathML.

    Returns:
        The files that are left.
    """
    asked = set()
    for path in folder.rglob("*.xhtml"):
        text = path.read_text(encoding="utf-8")
        for node in BeautifulSoup(text, "html.parser").find_all(["img", "link"]):
            address = node.get("src") or node.get("href")
            here = path.parent.relative_to(folder).as_posix()
            asked.add(posixpath.normpath(posixpath.join(here, address)))
    ET.register_namespace("", OPF)
    tree = ET.parse(folder / "content.opf")  # noqa: S314  (Sphinx has just written it)
    metadata, manifest = tree.find(f"{{{OPF}}}metadata"), tree.find(f"{{{OPF}}}manifest")
    assert metadata is not None
    assert manifest is not None
    for name, values in ACCESS.items():
        for value in values:
            ET.SubElement(metadata, f"{{{OPF}}}meta", property=f"schema:{name}").text = value
    for item in list(manifest):
        href = item.get("href", "")
        if not href.endswith((".xhtml", ".ncx")) and href not in asked:
            manifest.remove(item)
        elif href.endswith(".xhtml") and "<math" in (folder / href).read_text(encoding="utf-8"):
            item.set("properties", "mathml")
        elif href == "_static/cover.png":
            item.set("properties", "cover-image")
    spine = tree.find(f"{{{OPF}}}spine")
    assert spine is not None
    listed = {item.get("id") for item in manifest}
    for place in list(spine):
        if place.get("idref") not in listed:
            spine.remove(place)
    tree.write(folder / "content.opf", encoding="utf-8", xml_declaration=True)
    return [item.get("href", "") for item in manifest]


def pack(folder: Path, files: list[str], goal: Path) -> None:
    """Write the EPUB, whole or not at all."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    part = goal.with_suffix(".part")
    with zipfile.ZipFile(part, "w") as archive:
        for name in ("mimetype", "META-INF/container.xml", "content.opf", *files):
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.external_attr = 0o644 << 16
            plain = name == "mimetype"  # the format asks for this one first, and as it is
            entry.compress_type = zipfile.ZIP_STORED if plain else zipfile.ZIP_DEFLATED
            archive.writestr(entry, (folder / name).read_bytes())
    part.replace(goal)


def about() -> dict[str, Any]:
    """Return what Sphinx's EPUB builder needs to know of the book."""
    book = settings()
    return {
        "title": book["title"],
        "author": book["author"],
        "publisher": book["author"],
        "contributor": book["author"],
        "copyright": f"{book['copyright']}, {book['author']}. MIT licence.",
        "description": f"{SUBTITLE}. Nesterov's method: derived, proved, built, trained with.",
        "identifier": uuid5(NAMESPACE_URL, book["title"]).urn,
        "uid": "book-id",
        "scheme": "UUID",
        "cover": ["_static/cover.png", "epub-cover.html"],
        "css_files": [CSS.name],
        "tocscope": "includehidden",
        "tocdepth": 2,
        "tocdup": False,
    }


def make_epub(folder: Path, goal: Path) -> None:
    """Make the EPUB of a folder in which Sphinx's EPUB builder has written."""
    soups = tidy_pages(folder)
    stage("epub", "contents and manifest")
    write_contents(folder, soups)
    pack(folder, tidy_manifest(folder), goal)


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=GOAL)
def main(out: Path) -> None:
    """Write the book as an EPUB."""
    find_browser()  # before the minutes of work, not after
    with TemporaryDirectory(prefix="ngs-cover-") as static:
        stage("epub", "drawing the cover")
        draw_cover(Path(static) / "cover.png")
        shutil.copy(CSS, static)
        stage("epub", "building the pages from the notebooks' stored outputs")
        with built_pages(Path(static), **about()) as folder:
            make_epub(folder, out)
    stage("epub", f"ready: {out}, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
