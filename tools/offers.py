"""A Sphinx extension: what the pages offer only where it is there.

``{offer}`_build/pdf/nesterov.pdf <make pdf>``` is a link to that file and its size, or says what
builds it. So a page can offer what takes long to build, and no link of it is ever broken. And the
buttons that open a notebook elsewhere are left out where _config.yml names no repository.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import ReferenceRole


class Offer(ReferenceRole):
    """The role: its text is the file, from the root of the book; its target the command."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the link, or the command that would make it one."""
        path = Path(self.env.srcdir) / self.title
        self.env.note_dependency(str(path))  # the page is written anew when the file appears
        name = nodes.literal(text=path.name)
        if not path.is_file():
            command = nodes.literal(text=self.target)
            said = " makes it (this page was built without)"
            return [name, nodes.Text(": "), command, nodes.Text(said)], []
        link = download_reference("", "", name, reftarget=f"/{self.title}", refdoc=self.env.docname)
        return [link, nodes.Text(f", {size(path.stat().st_size)}")], []


def size(count: int) -> str:
    """Return a number of bytes as people say it.

    >>> size(1_049_000), size(240_499)
    ('1.0 MB', '240 kB')
    """
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def without_address(app: Sphinx, config: Config) -> None:
    """Leave out the launch buttons of a book without an address; the theme would stumble."""
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options.pop("launch_buttons", None)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the role, and what looks for the address."""
    app.add_role("offer", Offer())
    app.connect("config-inited", without_address)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
