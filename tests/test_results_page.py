"""The appendix of results is what the records say, and leaves none out."""

import json
import re
from pathlib import Path

import pytest
from tool import load_tool

ROOT = Path(__file__).resolve().parents[1]
appendix = load_tool("make_results")


def test_the_page_is_what_the_records_say():
    stored = appendix.PAGE.read_text(encoding="utf-8")
    assert stored == appendix.page(appendix.files()), "run 'make pages'"


def test_every_file_of_records_is_on_the_page_with_its_commands_and_commits():
    text = appendix.PAGE.read_text(encoding="utf-8")
    for path in (ROOT / "results").glob("*.jsonl"):
        assert f"`results/{path.name}`" in text
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            assert record["command"] in text
            assert record["commit"][:7] in text


def test_every_description_names_a_file_and_the_chapters_that_read_it():
    chapters = {
        path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.ipynb")
    }
    for stem, study in appendix.STUDIES.items():
        assert (ROOT / f"results/{stem}.jsonl").is_file(), stem
        named_in_code = re.compile(rf'(results/|\\"){stem}(\.jsonl|\\")')  # a literal, in JSON
        reading = [text for text in chapters.values() if named_in_code.search(text)]
        named = [
            text for text in chapters.values() if any(f"({c})=" in text for c in study.read_in)
        ]
        assert reading == named, stem


def test_a_file_without_a_description_is_an_error():
    with pytest.raises(KeyError, match=r"no description .* of mystery"):
        appendix.page({"mystery": []})
