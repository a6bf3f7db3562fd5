"""Claims about the records of the book by name: any study, whole, and one line for no study."""

import json
from pathlib import Path

import pytest

from ngs import records
from ngs.errors import InputError

RESULTS = Path(__file__).resolve().parents[1] / "results"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_a_study_is_every_line_of_its_file_in_order(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert records.recorded(path.stem) == [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", ["comparisons", "comparison.jsonl", "../results/comparison", ""])
def test_an_unknown_study_is_refused_in_one_line_that_lists_the_known(name: str) -> None:
    with pytest.raises(InputError) as refused:
        records.recorded(name)
    said = str(refused.value)
    assert said.startswith(f"no study is called {name!r}; those that there are: cifar10_convnet, ")
    assert "\n" not in said
    assert all(path.stem in said for path in RESULTS.glob("*.jsonl"))


def test_records_inside_the_package_go_before_those_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, number in ((tmp_path / "results", 1), (tmp_path / "ngs/results", 2)):
        folder.mkdir(parents=True)
        monkeypatch.setattr(records, "__file__", str(tmp_path / "ngs" / "records.py"))
        (folder / "mine.jsonl").write_text(f'{{"number": {number}}}\n')
        assert records.recorded("mine") == [{"number": number}]


def test_an_installation_without_records_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "__file__", str(tmp_path / "ngs" / "records.py"))
    with pytest.raises(InputError, match=r"those that there are: none, so install ngs anew$"):
        records.recorded("comparison")
