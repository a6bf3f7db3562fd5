"""Claims about publishing: the workflow asks for what exists and no more rights than it needs; an
address in one place of _config.yml brings the launch buttons; lost links are named, one a line.
"""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = yaml.load((ROOT / ".github/workflows/book.yml").read_text(), yaml.BaseLoader)
JOBS = WORKFLOW["jobs"]
STEPS = [(name, step) for name, job in JOBS.items() for step in job["steps"]]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
JUPYTER_BOOK = Path(sys.executable).with_name("jupyter-book")


# The workflow ------------------------------------------------------------------------------------


def commands(job: str) -> list[str]:
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def test_every_target_of_make_that_the_workflow_names_exists() -> None:
    named = {target for _, step in STEPS for target in re.findall(r"make (\w+)", str(step))}
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"env", "test", "book", "pdf", "epub", "links"} <= named
    assert named <= targets


def test_every_test_file_that_the_workflow_names_exists() -> None:
    named = {file for _, step in STEPS for file in re.findall(r"tests/\w+\.py", str(step))}
    assert named
    assert all((ROOT / file).is_file() for file in named)


def test_every_action_is_pinned_to_a_major_version() -> None:
    used = {step["uses"] for _, step in STEPS if "uses" in step}
    assert used
    assert [name for name in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", name)] == []


def test_rights_are_minimal() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    given = {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job}
    assert given == {"publish": {"contents": "read", "pages": "write", "id-token": "write"}}


def test_no_command_has_an_expression_in_its_text() -> None:
    # What an expression expands to would be run by the shell; through `env` it is only text.
    assert [step["run"] for _, step in STEPS if "${{" in step.get("run", "")] == []


def test_nothing_is_published_that_was_not_tested_and_no_pull_request_is() -> None:
    assert set(JOBS["publish"]["needs"]) == {"test", "oldest-torch"}
    assert JOBS["publish"]["if"] == (
        "github.ref == 'refs/heads/main' && github.event_name != 'pull_request'"
    )
    assert all("timeout-minutes" in job for job in JOBS.values())


def test_the_pages_are_built_when_pdf_and_epub_are_there_to_be_offered() -> None:
    order = commands("publish")
    book = order.index("make book")
    assert order.index("make pdf") < book
    assert order.index("make epub") < book
    assert any("playwright install" in said for said in order[: order.index("make pdf")])


def test_a_lost_link_holds_no_publishing_up_and_all_are_asked_every_week() -> None:
    (asked,) = [s for s in JOBS["publish"]["steps"] if s.get("run") == "make links"]
    assert asked["continue-on-error"] == "true"
    assert WORKFLOW["on"]["schedule"][0]["cron"].split()[2:4] == ["*", "*"]
    on_schedule = {name for name, job in JOBS.items() if "== 'schedule'" in job.get("if", "")}
    assert on_schedule == {"links"}
    assert commands("links") == ["make links PYTHON=python"]


# Launch buttons ----------------------------------------------------------------------------------


def set_address(folder: Path, address: str) -> dict[str, Any]:
    """Let the workflow's own step write an address into a copy of _config.yml."""
    shutil.copy(ROOT / "_config.yml", folder)
    (step,) = [step for step in JOBS["publish"]["steps"] if step.get("name") == "address"]
    command = step["run"] if sys.platform == "linux" else step["run"].replace("-i", "-i ''")
    subprocess.run(
        ["sh", "-c", command], cwd=folder, check=True, env={**os.environ, "ADDRESS": address}
    )
    text = (folder / "_config.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def test_the_workflow_writes_the_address_and_nothing_else(tmp_path: Path) -> None:
    changed = set_address(tmp_path, "https://github.com/someone/some-book.v2")
    expected = {**CONFIG, "repository": {**CONFIG["repository"]}}
    expected["repository"]["url"] = "https://github.com/someone/some-book.v2"
    assert changed == expected


def small_book(folder: Path, config: dict[str, Any]) -> None:
    """Write a book of a page and a notebook, with what concerns buttons and downloads as ours."""
    (folder / "book").mkdir(parents=True)
    (folder / "book/index.md").write_text(
        "# Small\n\n{offer}`_build/there.zip <make there>` and {offer}`_build/not.pdf <make not>`\n"
    )
    cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# A chapter"]}
    code = {
        "cell_type": "code", "execution_count": 1, "id": "b", "metadata": {}, "outputs": [],
        "source": ["1"],
    }  # fmt: skip
    metadata = {
        "kernelspec": {"display_name": "Python 3", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook = {"cells": [cell, code], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    (folder / "book/ch01.ipynb").write_text(json.dumps(notebook))
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n- file: book/ch01\n"
    )
    shared = {key: config[key] for key in ("repository", "launch_buttons", "execute")}
    sphinx = {"local_extensions": {"offers": str(ROOT / "tools")}}
    (folder / "_config.yml").write_text(
        yaml.safe_dump({"title": "Small", "only_build_toc_files": True, **shared, "sphinx": sphinx})
    )
    (folder / "_build").mkdir()
    (folder / "_build/there.zip").write_bytes(b"x" * 1234)


def built(folder: Path) -> Path:
    done = subprocess.run(
        [JUPYTER_BOOK, "build", ".", "-W", "-n", "--keep-going", "--quiet"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "_build/html"


def links(page: Path) -> list[str]:
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    return [str(tag["href"]) for tag in soup.find_all("a", href=True)]


def test_with_an_address_a_notebook_opens_on_binder_and_colab(tmp_path: Path) -> None:
    small_book(tmp_path, set_address(tmp_path, "https://github.com/someone/some-book"))
    html = built(tmp_path)
    found = links(html / "book/ch01.html")
    binder = "https://mybinder.org/v2/gh/someone/some-book/main?urlpath=lab/tree/book/ch01.ipynb"
    colab = "https://colab.research.google.com/github/someone/some-book/blob/main/book/ch01.ipynb"
    assert found.count(binder) == 1
    assert found.count(colab) == 1
    assert not [link for link in links(html / "book/index.html") if "binder" in link]


def test_without_an_address_there_are_no_buttons_and_no_warning(tmp_path: Path) -> None:
    without = {**CONFIG, "repository": {**CONFIG["repository"], "url": ""}}
    small_book(tmp_path, without)
    html = built(tmp_path)
    text = (html / "book/ch01.html").read_text(encoding="utf-8")
    assert not re.search("mybinder.org|colab.research", text)
    assert "ch01.ipynb" in text  # the download of the notebook itself stays

    # The same book offers what was built, and says how to make what was not.
    (offered,) = [link for link in links(html / "book/index.html") if "_downloads" in link]
    assert offered.endswith("/there.zip")
    assert (html / "book" / offered).read_bytes() == b"x" * 1234
    said = BeautifulSoup((html / "book/index.html").read_text(), "html.parser").get_text()
    assert "there.zip, 1 kB and not.pdf: make not makes it" in said

    # And again when that has appeared, though no page was edited.
    (tmp_path / "_build/not.pdf").write_bytes(b"pdf")
    built(tmp_path)
    offers = [link for link in links(html / "book/index.html") if "_downloads" in link]
    assert sorted(link.rpartition("/")[2] for link in offers) == ["not.pdf", "there.zip"]


def test_the_book_itself_has_no_address_yet_or_a_public_one() -> None:
    url = CONFIG["repository"]["url"]
    assert url == "" or re.fullmatch(r"https://(github|gitlab)\.com/[\w.-]+/[\w.-]+", url)


# Links to other hosts ----------------------------------------------------------------------------


@pytest.fixture
def host() -> Iterator[str]:
    """A host that has one page, turns programs away from another, and knows no more."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {"/there": 200, "/people-only": 403}
            self.send_response(known.get(self.path, 404))
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def check_links(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tools/check_links.py", folder], capture_output=True, text=True
    )


def test_a_lost_link_is_one_line_with_its_place(host: str, tmp_path: Path) -> None:
    small_book(tmp_path, CONFIG)
    page = tmp_path / "book/index.md"
    page.write_text(
        f"# Small\n\n[a]({host}/there)\n\n[b]({host}/people-only)\n\n[c]({host}/lost)\n"
    )
    done = check_links(tmp_path)
    assert done.returncode == 1, done.stderr
    lost, summary = done.stdout.splitlines()
    assert lost.startswith(f"book/index.md:7: {host}/lost: 404 ")
    assert summary == "links: 3 asked, 1 lost, 1 that answer people alone"

    page.write_text(f"# Small\n\n[a]({host}/there)\n")
    done = check_links(tmp_path)
    assert (done.returncode, done.stdout) == (
        0,
        "links: 1 asked, 0 lost, 0 that answer people alone\n",
    )


def test_without_a_network_the_check_says_so(tmp_path: Path) -> None:
    small_book(tmp_path, CONFIG)
    (tmp_path / "book/index.md").write_text("# Small\n\n[a](http://127.0.0.1:9/nobody)\n")
    done = check_links(tmp_path)
    assert done.returncode == 1
    assert done.stdout.endswith("links: none could be reached: is there a network?\n")
