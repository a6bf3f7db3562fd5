"""The book as a book: table of contents, executed cells, figures, exercises, links, zero warnings.

nbval compares the stored outputs themselves; it runs from the command line of `make test`.
"""

import ast
import base64
import json
import subprocess
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [c for c in notebook["cells"] if c["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def pages_of(toc):
    yield toc["root"]
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            yield chapter["file"]
            yield from (section["file"] for section in chapter.get("sections", []))


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 5


def test_table_of_contents_and_folder_hold_the_same_pages():
    # Sphinx fills the index, and wants its page at the root.
    files = [*NOTEBOOKS, *(ROOT / "book").rglob("*.md"), ROOT / "genindex.md"]
    on_disk = {str(p.relative_to(ROOT).with_suffix("")) for p in files}
    assert set(pages_of(TOC)) == on_disk


@each_notebook
def test_every_code_cell_was_executed_in_order(path):
    counts = [c["execution_count"] for c in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_no_cell_stores_its_text_in_pieces(path):
    # Each piece is a box of its own on the page: a table falls apart. `make execute` joins them.
    for cell in cells(path, "code"):
        kinds = [(output["output_type"], output.get("name")) for output in cell["outputs"]]
        assert ("stream", "stdout") not in [a for a, b in pairwise(kinds) if a == b], source(cell)


@each_notebook
def test_no_cell_stores_an_error_or_writes_to_stderr(path):
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            assert output["output_type"] != "error", source(cell)
            assert output.get("name") != "stderr", source(cell)


@each_notebook
def test_every_figure_has_caption_name_and_alternative_text(path):
    for cell in cells(path, "code"):
        if any("image/png" in o.get("data", {}) for o in cell["outputs"]):
            said = cell["metadata"].get("mystnb", {})
            assert len(said.get("figure", {}).get("caption", "")) > 40, source(cell)
            assert said["figure"].get("name", "").startswith("fig-")
            assert len(said.get("image", {}).get("alt", "")) > 40, source(cell)


@each_notebook
def test_all_imports_stand_in_the_first_code_cell(path):
    for cell in cells(path, "code")[1:]:
        imports = [n for n in ast.walk(ast.parse(source(cell))) if "Import" in type(n).__name__]
        assert not imports, source(cell)


@each_notebook
def test_a_chapter_opens_with_what_to_do_learn_and_need_and_ends_with_a_summary(path):
    text = [source(c) for c in cells(path, "markdown")]
    assert all(
        f"**{opening}**" in text[0] for opening in ("You will", "You will learn", "You need")
    )
    assert any("## Summary" in t for t in text)


@pytest.mark.parametrize(
    # The exercises of chapter 20 are the problem sets.
    "path",
    [path for path in NOTEBOOKS if not path.stem.startswith("ch20_")],
    ids=lambda p: p.stem,
)
def test_a_chapter_has_four_exercises_of_three_kinds_each_with_a_solution(path):
    text = "\n".join(source(c) for c in cells(path, "markdown"))
    assert text.count("```{exercise}") >= 4
    solutions = text.count("{solution-start}") + text.count("{solution} ")
    assert solutions == text.count("```{exercise}")
    assert all(f"**({kind}.)**" in text for kind in ("Proof", "Code", "Experiment"))


def test_every_letter_is_of_a_script_that_readers_have_a_font_for():
    texts = [*NOTEBOOKS, *(ROOT / "book").rglob("*.md"), ROOT / "book/references.bib"]
    letters = {c for path in texts for c in path.read_text(encoding="utf-8") if c.isalpha()}
    scripts = {unicodedata.name(c).split()[0] for c in letters}
    assert scripts <= {"LATIN", "GREEK", "MATHEMATICAL", "DOUBLE-STRUCK", "FEMININE", "MICRO"}


def test_the_picture_in_the_readme_is_a_figure_of_the_book():
    picture = (ROOT / "book/_static/nesterov-is-optimal.png").read_bytes()
    stored = [
        o["data"]["image/png"]
        for c in cells(ROOT / "book/ch03_deriving_nesterov.ipynb", "code")
        for o in c["outputs"]
        if "image/png" in o.get("data", {})
    ]
    assert picture in [base64.b64decode(s) for s in stored]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "results").glob("*.jsonl")), ids=lambda path: path.stem
)
def test_every_record_says_where_it_came_from(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        for key in ("command", "commit", "date", "device", "versions", "threads"):
            assert record[key], key
        assert record["modified"] is False
        assert record["kind"] != "train" or "seed" in record["config"]


def test_nbval_notices_a_changed_output(tmp_path):
    notebook = json.loads(NOTEBOOKS[0].read_text(encoding="utf-8"))
    stream = {"name": "stdout", "output_type": "stream", "text": ["3\n"]}
    cell = {"cell_type": "code", "execution_count": 1, "id": "a", "metadata": {}}
    notebook["cells"] = [{**cell, "outputs": [stream], "source": ["print(1 + 1)"]}]
    (tmp_path / "wrong.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout


def parsed(html):
    return {
        page: BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        for page in html.rglob("*.html")
    }


def test_every_internal_link_leads_somewhere(html):
    pages = parsed(html)
    anchors = {p: {t["id"] for t in soup.find_all(id=True)} for p, soup in pages.items()}
    broken = []
    for page, soup in pages.items():
        if page.name in ("genindex.html", "search.html"):
            continue
        for link in soup.find_all("a", href=True):
            parts = urlsplit(link["href"])
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.exists() or (
                parts.fragment and target in anchors and parts.fragment not in anchors[target]
            ):
                broken.append(f"{page.name}: {link['href']}")
    assert broken == []


def test_pages_ask_no_other_host_for_anything(html):
    foreign = [
        f"{page.name}: {tag}"
        for page, soup in parsed(html).items()
        for tag in soup.find_all(["script", "link", "img", "iframe"])
        if urlsplit(tag.get("src") or tag.get("href") or "").netloc
    ]
    assert foreign == []
    mathjax = [
        page.parent / urlsplit(tag["src"]).path
        for page, soup in parsed(html).items()
        for tag in soup.find_all("script", src=True)
        if "mathjax" in tag["src"]
    ]
    assert mathjax
    assert all(path.is_file() for path in mathjax)


def test_every_equation_reference_and_citation_resolves(html):
    for page, soup in parsed(html).items():
        text = soup.get_text()
        assert "{eq}" not in text, page.name
        assert "{cite" not in text, page.name
        assert "???" not in text, page.name
        assert not soup.find_all(class_="problematic"), page.name


def test_the_table_of_claims_says_what_the_cells_print():
    (path,) = (ROOT / "book").glob("ch19_*.ipynb")
    rows = [
        line.split("|")[1:4]
        for cell in cells(path, "markdown")
        for line in source(cell).splitlines()
        if line.startswith("| {ref}`")
    ]
    said = {int(link.split("`")[1].split()[0]): verdict.strip() for link, _, verdict in rows}
    printed = {}
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            for line in "".join(output.get("text", [])).splitlines():
                if line.startswith("Claim "):
                    number, _, verdict = line.removeprefix("Claim ").partition(": ")
                    printed[int(number)] = verdict.partition(" (")[0]
    assert list(said) == list(range(1, 23))
    assert said == printed
