"""Ask every external link of the book whether it still leads somewhere; print a line for each lost.

``make links`` runs it, and so does the workflow once a week: it needs the network. Links inside of
the book are tested in tests/test_book.py. It rests on Sphinx's linkcheck builder.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
REFUSALS = ("401 ", "403 ", "429 ", "999 ")
"""How hosts answer that turn programs away; a person may get the page."""


def ask(book: Path) -> list[dict[str, Any]]:
    """Return what linkcheck found, a dictionary for each link.

    Raises:
        click.ClickException: the book could not be read.
    """
    program = Path(sys.executable).with_name("jupyter-book")
    with tempfile.TemporaryDirectory() as place:
        command = [str(program), "build", str(book), "--builder", "linkcheck", "--quiet"]
        done = subprocess.run(  # noqa: S603  (a list of arguments, and no shell)
            [*command, "--path-output", place], capture_output=True, text=True
        )
        found = Path(place) / "_build/html/output.json"
        if not found.is_file():
            raise click.ClickException(f"the links could not be collected:\n{done.stderr[-2000:]}")
        return [json.loads(line) for line in found.read_text(encoding="utf-8").splitlines()]


def refused(link: dict[str, Any]) -> bool:
    """Say whether the host answered, but not to a program."""
    return link["status"] == "broken" and str(link["info"]).startswith(REFUSALS)


@click.command()
@click.argument("book", type=click.Path(path_type=Path, file_okay=False, exists=True), default=ROOT)
def main(book: Path) -> None:
    """Check the external links of BOOK."""
    links = [link for link in ask(book) if link["uri"].startswith(("http://", "https://"))]
    lost = [link for link in links if link["status"] in ("broken", "timeout") and not refused(link)]
    for link in sorted(lost, key=lambda link: (link["filename"], link["lineno"])):
        said = " ".join(str(link["info"]).split())[:200]
        click.echo(f"{link['filename']}:{link['lineno']}: {link['uri']}: {said or link['status']}")
    unsure = sum(map(refused, links))
    click.echo(f"links: {len(links)} asked, {len(lost)} lost, {unsure} that answer people alone")
    if links and len(lost) == len(links):
        click.echo("links: none could be reached: is there a network?")
    if lost:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
