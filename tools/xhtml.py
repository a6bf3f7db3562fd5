"""The book's pages as XHTML, read and tidied for paper and for e-readers.

Sphinx's EPUB builder writes pages without sidebars, buttons or scripts; the PDF and the EPUB are
both made from them. Rests on jupyter-book and Beautiful Soup.
"""

import html
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import click
import yaml
from bs4 import BeautifulSoup, Comment, Tag

ROOT = Path(__file__).resolve().parents[1]
STYLE = ROOT / "book/_static/print.css"
ROMAN = ("", "I", "II", "III", "IV", "V", "VI", "VII")
SUBTITLE = "A book you can run"
INLINE, DISPLAYED = re.compile(r"\\\((.*)\\\)", re.S), re.compile(r"\\\[(.*)\\\]", re.S)


class Leaf(NamedTuple):
    """A page of the book: its file without the ending, and 1 where it belongs to the one before."""

    file: str
    level: int


class Part(NamedTuple):
    """A part of the book: its title (none for the opening page) and its pages."""

    title: str | None
    pages: list[Leaf]


def settings() -> dict[str, Any]:
    """Return the book's settings, ``_config.yml``."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def parts() -> list[Part]:
    """Return the parts of the book in their order, from ``_toc.yml``."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    opening = Part(None, [Leaf(toc["root"], 0)])
    return [opening, *(Part(p["caption"], [*_leaves(p["chapters"])]) for p in toc["parts"])]


def _leaves(entries: list[dict[str, Any]], level: int = 0) -> Iterator[Leaf]:
    for entry in entries:
        yield Leaf(entry["file"], level)
        yield from _leaves(entry.get("sections", []), 1)


class Entry(NamedTuple):
    """A line of the table of contents.

    Attributes:
        depth: 0 for a part, 1 for a page, 2 for what is below.
        markup: the title as HTML.
        page: the page's file; of a part, the one of its first page.
        section: the id of a section; none where the page or the part itself is meant.
    """

    depth: int
    markup: str
    page: str
    section: str | None


def contents(found: Mapping[str, Tag]) -> list[Entry]:
    """Return the table of contents of pages that have been read.

    Args:
        found: every page's HTML by its file.
    """
    entries = []
    for number, part in enumerate(parts()):
        if part.title:
            title = html.escape(f"Part {ROMAN[number]}. {part.title}")
            entries.append(Entry(0, title, part.pages[0].file, None))
        for page, level in part.pages:
            heading = found[page].h1
            assert heading is not None
            entries.append(Entry(1 + level, _title(heading), page, None))
            if not (ROOT / f"{page}.ipynb").is_file():
                continue  # what is not a chapter is not read through
            for section in found[page].select("h2[id]"):
                entries.append(Entry(2, _title(section), page, str(section["id"])))
    return entries


def _title(heading: Tag) -> str:
    """Return a heading's HTML without the places for links in it."""
    copy = BeautifulSoup(heading.decode_contents(), "html.parser")
    for target in copy.select("span[id]"):
        target.unwrap()
    return copy.decode_contents()


def pages() -> list[str]:
    """Return the files of all pages in their order, without the ending."""
    return [page.file for part in parts() for page in part.pages]


@contextmanager
def built_pages(static: Path | None = None, **epub: Any) -> Iterator[Path]:
    """Build the pages in a folder of their own, from the notebooks' stored outputs.

    A warning is no reason to stop here: `make book` builds the same pages, and takes none.

    Args:
        static: files to put into ``_static/``.
        epub: Sphinx's settings ``epub_...``, without that prefix.

    Raises:
        click.ClickException: Sphinx failed; its words are passed on.
    """
    config = settings()
    for buttons in ("launch_buttons", "repository"):
        config.pop(buttons, None)
    sphinx = config["sphinx"]
    sphinx["extra_extensions"].remove("sphinx-mathjax-offline")  # it copies files for web pages
    sphinx["local_extensions"] = {
        name: str(ROOT / folder) for name, folder in sphinx.get("local_extensions", {}).items()
    }
    sphinx["config"] |= {
        "html_static_path": [] if static is None else [str(static)],
        "html_css_files": [],
        "html_js_files": [],
        "epub_show_urls": "no",
        "html_domain_indices": False,
        "language": "en",
        "version": version("ngs"),
        # a page on paper offers no downloads, so the problem sets need not be there
        "suppress_warnings": ["myst.domains", "download.not_readable"],
        **{f"epub_{name}": value for name, value in epub.items()},
    }
    with TemporaryDirectory(prefix="ngs-pages-") as place:
        (Path(place) / "config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        program = str(Path(sys.executable).with_name("jupyter-book"))
        command = [program, "build", str(ROOT), "-q"]
        command += ["--builder", "custom", "--custom-builder", "epub"]
        command += ["--config", f"{place}/config.yml", "--path-output", place]
        done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603  (no shell)
        if done.returncode:
            raise click.ClickException(f"the pages could not be built:\n{done.stderr[-3000:]}")
        yield Path(place) / "_build/epub"


def read(path: Path) -> BeautifulSoup:
    """Read a page, and tidy it: no comments, no scripts, no folded code, solutions open."""
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    for node in soup.find_all(string=lambda text: isinstance(text, Comment)):
        node.extract()
    # the code that draws a figure is folded on the web; on paper there is nothing to unfold
    for node in soup.select("script, details.above-input, .toctree-wrapper"):
        node.decompose()
    for node in soup.select("details > summary"):
        node.decompose()
    for node in soup.select("details"):
        node.name = "div"
    for node in soup.select(".dropdown"):
        node["class"].remove("dropdown")
    _make_ids_unique(soup)
    _move_ids_to_headings(soup)
    return soup


def _move_ids_to_headings(soup: BeautifulSoup) -> None:
    # a section can begin on the page before its heading, and a link would lead there
    for heading in soup.select("section[id] > :is(h1, h2, h3, h4)"):
        section = heading.parent
        assert section is not None
        if section.find(re.compile("^h[1-4]$")) is not heading:
            continue
        for target in section.find_all("span", id=True, recursive=False):
            if not target.contents and heading in target.next_siblings:
                heading.insert(0, target.extract())
        heading["id"] = section["id"]
        del section["id"]


def _make_ids_unique(soup: BeautifulSoup) -> None:
    seen = set()
    for node in soup.find_all(id=True):
        node["id"] = plain_id(node["id"])
        if node["id"] in seen:
            del node["id"]
            continue
        seen.add(node["id"])
    for link in soup.select("a[href*='#']"):
        page, _, target = link["href"].partition("#")
        if "://" not in page:
            link["href"] = f"{page}#{plain_id(target)}"


def plain_id(name: str) -> str:
    """Return an id without the characters that XML and PDF do not take in one.

    >>> plain_id("book/ch03-solution-1")
    'book-ch03-solution-1'
    """
    plain = re.sub(r"[^\w.-]", "-", name)
    return plain if re.match(r"[^\W\d]", plain) else f"id-{plain}"


def formulas(soup: Tag) -> Iterator[tuple[Tag, str, bool]]:
    """Yield every formula: its element, its TeX, and whether it is displayed."""
    for node in soup.select(".math"):
        text = node.get_text()
        if found := DISPLAYED.search(text):
            yield node, found[1].strip(), True
        elif found := INLINE.search(text):
            yield node, found[1].strip(), False
        else:
            raise click.ClickException(f"a formula without its delimiters: {text[:60]!r}")


def mathjax() -> Path:
    """Return the folder of the MathJax that the web pages use."""
    spec = find_spec("sphinx-mathjax-offline")
    if spec is None or not spec.submodule_search_locations:
        raise click.ClickException("sphinx-mathjax-offline is missing: run 'make env'")
    return Path(spec.submodule_search_locations[0]) / "static/mathjax"


def stage(format_: str, text: str) -> None:
    """Say which stage begins."""
    click.echo(f"{format_}: {text}")
