"""Claims about what the chapters set apart: numbered statements, proofs, asides, terms."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "book").glob("ch*.ipynb"))
GLOSSARY = (ROOT / "book/glossary.md").read_text(encoding="utf-8")
OPENED = re.compile(r"^:::\{(?P<kind>[a-z:]+)\}(?P<title>.*)\n(?P<body>(?:.*\n)*?):::$", re.M)
KINDS = ("prf:theorem", "prf:lemma", "prf:definition", "prf:algorithm", "prf:proof", "margin")


def texts(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


@each_notebook
def test_every_box_is_closed_in_its_cell_and_stands_alone(path):
    # A fence in the middle of a paragraph is shown as it is; one that is not closed takes the rest.
    for text in texts(path):
        boxes = list(OPENED.finditer(text))
        assert text.count(":::{") == len(boxes), text
        assert text.count(":::") == 2 * len(boxes), text
        for box in boxes:
            assert box["kind"] in KINDS
            assert text[: box.start()].endswith("\n\n") or box.start() == 0, box["title"]
            assert text[box.end() :].startswith("\n\n") or not text[box.end() :], box["title"]


@each_notebook
def test_every_statement_has_a_title_and_a_label(path):
    for text in texts(path):
        for box in OPENED.finditer(text):
            if box["kind"].startswith("prf:") and box["kind"] != "prf:proof":
                assert box["title"].strip(), box.group()
                prefix = {"prf:theorem": "thm", "prf:lemma": "lem"}
                prefix |= {"prf:definition": "def", "prf:algorithm": "alg"}
                assert box["body"].startswith(f":label: {prefix[box['kind']]}-"), box.group()


@each_notebook
def test_a_note_in_the_margin_has_a_title_and_at_most_forty_words(path):
    for text in texts(path):
        for box in OPENED.finditer(text):
            if box["kind"] == "margin":
                assert box["title"].strip()
                assert len(box["body"].split()) <= 40, box.group()


def test_chapters_one_to_nineteen_have_two_to_four_notes_in_the_margin():
    for path in NOTEBOOKS[:19]:
        notes = sum(text.count(":::{margin}") for text in texts(path))
        assert 2 <= notes <= 4, path.stem


def test_the_glossary_explains_each_term_once_and_in_few_words():
    terms = re.findall(r"^([A-Za-z][^\n]*)\n(?=  |[A-Za-z])", GLOSSARY.split(":sorted:")[1], re.M)
    assert len(terms) >= 60
    assert len({term.lower() for term in terms}) == len(terms)
    for said in re.findall(r"^  (.+)$", GLOSSARY, re.M):
        assert len(said.split()) <= 45, said
