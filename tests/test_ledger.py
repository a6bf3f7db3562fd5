"""Every numbered equation of the book is a definition, or a check that ran names it."""

import json
from pathlib import Path

import pytest
from tool import load_tool

ROOT = Path(__file__).resolve().parents[1]
ledger = load_tool("make_ledger")

CHAPTERS = ledger.chapters()
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.path.stem)


def unnumbered(chapter):
    return [
        e.formula for e in chapter.equations if not e.label and ledger.RELATION.search(e.formula)
    ]


def unsupported(chapter):
    supported = {*chapter.definitions, *(c.label for c in chapter.checks)}
    return [e.label for e in chapter.equations if e.label and e.label not in supported]


def unknown(chapter):
    labels = {e.label for e in chapter.equations}
    named = {*chapter.definitions, *(c.label for c in chapter.checks)}
    return sorted(named - labels)


def silent(chapter):
    """Checks whose cell did not print the verdict: it was not run, or not reached."""
    verdicts = {"proved": "is proved", "certified": "is certified", "measured": "is measured"}
    return [c.label for c in chapter.checks if f"{c.label} {verdicts[c.kind]}" not in c.output]


def test_the_ledger_covers_every_chapter():
    notebooks = sorted(p.stem for p in (ROOT / "book").glob("*.ipynb"))
    assert [c.path.stem for c in CHAPTERS] == notebooks
    assert len(notebooks) >= 10


@each_chapter
def test_every_displayed_relation_is_numbered(chapter):
    assert unnumbered(chapter) == []


@each_chapter
def test_every_numbered_equation_is_a_definition_or_has_a_check_that_names_it(chapter):
    if not chapter.path.stem.startswith("ch20_"):  # the problem sets: their equations are tasks
        assert len(chapter.equations) >= 2
    assert unsupported(chapter) == []


@each_chapter
def test_checks_and_definitions_name_equations_that_there_are(chapter):
    assert unknown(chapter) == []


@each_chapter
def test_every_check_has_run_and_said_so(chapter):
    assert silent(chapter) == []


@each_chapter
def test_no_equation_is_both_a_definition_and_checked(chapter):
    assert sorted({*chapter.definitions} & {c.label for c in chapter.checks}) == []


@each_chapter
def test_formulas_are_displayed_with_dollars_alone(chapter):
    # What the ledger does not see it cannot ask for.
    text = chapter.path.read_text(encoding="utf-8")
    for other in ("```{math}", "\\\\begin{align}", "\\\\begin{equation}", '"\\\\[\\n'):
        assert other not in text, other


def test_labels_are_unique_in_the_book():
    labels = [e.label for c in CHAPTERS for e in c.equations if e.label]
    assert sorted(labels) == sorted(set(labels))


def test_the_page_is_the_one_that_the_chapters_give():
    # `make execute` writes it.
    assert ledger.LEDGER.read_text(encoding="utf-8") == ledger.page(CHAPTERS)


# --- the tests above can fail -------------------------------------------------------------------

EQUATION = "# 9. Title\n\nText\n\n$$\na = b\n$$ (eq:one)\n"


def chapter_of(tmp_path, *cells):
    notebook = {
        "cells": [
            {"cell_type": "markdown", "metadata": {}, "source": [cell]}
            if isinstance(cell, str)
            else {
                "cell_type": "code",
                "metadata": {},
                "source": [cell[0]],
                "execution_count": 1,
                "outputs": [{"output_type": "stream", "text": [cell[1]]}],
            }
            for cell in cells
        ]
    }
    path = tmp_path / "ch09_title.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return ledger.read(path)


def test_an_equation_with_neither_is_found(tmp_path):
    assert unsupported(chapter_of(tmp_path, EQUATION)) == ["eq:one"]


@pytest.mark.parametrize(
    "cells",
    [
        (EQUATION + "<!-- definition: eq:one -->",),
        (EQUATION, ('proved("eq:one", x - x)', "eq:one is proved\n")),
        (EQUATION, ('checks.measured("eq:one", 1, 2)', "eq:one is measured: ...\n")),
    ],
    ids=["definition", "proved", "measured"],
)
def test_an_equation_with_one_of_them_is_not(tmp_path, cells):
    chapter = chapter_of(tmp_path, *cells)
    assert unsupported(chapter) == unknown(chapter) == silent(chapter) == []


def test_a_check_in_a_comment_or_of_another_name_does_not_count(tmp_path):
    chapter = chapter_of(
        tmp_path, EQUATION, ('# proved("eq:one", 0)\nproved("eq:two", 0)', "eq:two is proved\n")
    )
    assert unsupported(chapter) == ["eq:one"]
    assert unknown(chapter) == ["eq:two"]


def test_a_check_that_was_not_reached_is_found(tmp_path):
    chapter = chapter_of(tmp_path, EQUATION, ('if False:\n    proved("eq:one", 0)', ""))
    assert silent(chapter) == ["eq:one"]


def test_a_check_that_hides_its_equation_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must name its equation"):
        chapter_of(tmp_path, EQUATION, ("proved(name, 0)", ""))


def test_a_relation_without_a_number_is_found(tmp_path):
    chapter = chapter_of(tmp_path, "$$ a \\le b $$\n\n$$ \\frac12 $$")
    assert unnumbered(chapter) == ["a \\le b"]
