"""Find Chromium and open pages in it, without a request to another host.

The PDF, the EPUB and the tests that open pages rest on this, and this rests on Playwright.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import click
from playwright.sync_api import Browser, Page, Playwright, Route, sync_playwright

VARIABLE = "NGS_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LOCAL = ("127.0.0.1", "localhost", "::1")
ARGUMENTS = (
    "--no-sandbox",  # containers have no user namespaces; only pages built here are opened
    "--disable-gpu",
    "--no-first-run",
    # Chromium itself looks for updates and synchronises unless told not to
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
)


class NoBrowserError(click.ClickException):
    """There is no Chromium; the message says what to install."""

    exit_code = 2


class ForeignRequestError(click.ClickException):
    """A page asked another host for something; the request was stopped."""


def find_browser(playwright: Playwright | None = None) -> str:
    """Return the path of Chromium or Chrome.

    ``$NGS_BROWSER`` goes first, then what is on the PATH, then the one that Playwright keeps.

    Raises:
        NoBrowserError: there is none, or ``$NGS_BROWSER`` names something else than a program.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if found := shutil.which(named):
            return found
        raise NoBrowserError(f"{VARIABLE} must name a browser's program, got {named!r}")
    for name in NAMES:
        if found := shutil.which(name):
            return found
    if playwright is not None:
        own = playwright.chromium.executable_path
    else:
        with sync_playwright() as started:
            own = started.chromium.executable_path
    if Path(own).is_file():
        return own
    raise NoBrowserError(
        "no Chromium found: install it (Debian, Ubuntu: 'sudo apt install chromium'; elsewhere: "
        f"'.venv/bin/playwright install chromium'), or name its program in {VARIABLE}"
    )


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium without a window, and end it after the block.

    Raises:
        NoBrowserError: there is none.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_browser(playwright), args=list(ARGUMENTS)
        )
        try:
            yield browser
        finally:
            browser.close()


def is_local(url: str) -> bool:
    """Say whether an address lies on this machine: a file, data, or this host."""
    parts = urlsplit(url)
    return parts.scheme in ("file", "data", "blob", "about") or parts.hostname in LOCAL


@contextmanager
def open_page(browser: Browser) -> Iterator[Page]:
    """Open an empty page from which no request to another host gets out.

    Raises:
        ForeignRequestError: at the end of the block, if the page has tried.
    """
    context = browser.new_context()
    foreign: list[str] = []

    def judge(route: Route) -> None:
        if is_local(route.request.url):
            route.continue_()
            return
        foreign.append(route.request.url)
        route.abort()

    context.route("**/*", judge)
    try:
        yield context.new_page()
    finally:
        context.close()
    if foreign:
        raise ForeignRequestError(f"a page asked another host: {foreign[0]}")
