"""The built book as a browser sees it: what a page must be, and what of that it is not.

It rests on ``tools/browser.py``. A function that finds faults returns them as lines of text; the
tests say that there are none, and ``test_pages_faults.py`` that each kind of fault is found.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from axe_playwright_python.base import AXE_SCRIPT
from filelock import FileLock
from playwright.sync_api import Browser, BrowserContext, Page
from tool import load_tool

ROOT = Path(__file__).resolve().parents[1]
browser_tool = load_tool("browser")

DESK = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
OF_SPHINX = (
    "genindex",
    "prf-prf",
    "py-modindex",
    "search",
)  # pages that no source file stands behind
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def files_of(toc: Any) -> Iterator[str]:
    """Return the pages that a table of contents names, however deep."""
    if isinstance(toc, dict):
        yield from (toc[key] for key in ("root", "file") if key in toc)
        toc = list(toc.values())
    if isinstance(toc, list):
        for part in toc:
            yield from files_of(part)


TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = list(dict.fromkeys([*files_of(TOC), *OF_SPHINX]))


# The build ---------------------------------------------------------------------------------------


def build(out: Path) -> Path:
    """Build the book below ``out`` as ``make book`` does, and return the folder of its pages."""
    subprocess.run(["make", "downloads"], cwd=ROOT, check=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(ROOT)]
    done = subprocess.run(
        [*command, "-W", "-n", "--keep-going", "--quiet", "--path-output", str(out)],
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    (out / "said").write_text(said, encoding="utf-8")
    assert done.returncode == 0, said[-6000:]
    assert "warning" not in said.lower(), said
    return out / "_build/html"


def build_once(out: Path) -> Path:
    """Build the book unless a neighbouring worker of this run has done so, or has failed to."""
    with FileLock(f"{out}.lock"):
        if out.exists():
            assert (out / "ready").exists(), (out / "said").read_text(encoding="utf-8")[-6000:]
            return Path((out / "ready").read_text(encoding="utf-8"))
        out.mkdir()
        html = build(out)
        (out / "ready").write_text(str(html), encoding="utf-8")
        return html


# A visit -----------------------------------------------------------------------------------------


@dataclass
class Visit:
    """A page that was opened and typeset, how long that took, and what it said meanwhile."""

    page: Page
    seconds: float = 0.0
    said: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Keep what the page complains of and what it asks for in vain, or asks other hosts for."""
        page = self.page
        page.on(
            "console",
            lambda m: (
                self.said.append(f"console {m.type}: {m.text}")
                if m.type in ("error", "warning")
                else None
            ),
        )
        page.on("pageerror", lambda error: self.said.append(f"script failed: {error}"))
        page.on("requestfailed", lambda asked: self.said.append(f"request failed: {asked.url}"))
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith(("file:", "data:", "blob:"))
                else self.said.append(f"asks another host: {asked.url}")
            ),
        )


READY = """async () => {
  if (document.querySelector(".math") && window.MathJax) await MathJax.startup.promise;
  await document.fonts.ready;
  const frame = () => new Promise(requestAnimationFrame);
  await frame(); await frame();  // in which boxes are measured anew
}"""


@contextmanager
def open_context(browser: Browser, theme: str = "light", **more: Any) -> Iterator[BrowserContext]:
    """Open a browser without a network, in which nothing moves; with no theme it has no past."""
    context = browser.new_context(
        **{"viewport": DESK, "offline": True, "reduced_motion": "reduce", **more}
    )
    if theme:
        context.add_init_script(
            "if (!localStorage.mode) "
            f"localStorage.setItem('mode', '{theme}'), localStorage.setItem('theme', '{theme}')"
        )
    try:
        yield context
    finally:
        context.close()


def go(page: Page, path: Path) -> Visit:
    """Open a file in a page, and wait until its formulas are typeset."""
    visit = Visit(page)
    visit.listen()
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.evaluate(READY)
    visit.seconds = time.perf_counter() - start
    return visit


def resize(page: Page, size: dict[str, int]) -> None:
    """Give the window another size, and wait until the page has taken it in."""
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.evaluate(READY)


def unfold(page: Page) -> None:
    """Open all that is folded: what is hidden cannot be looked at."""
    page.evaluate(
        """() => {
          for (const folded of document.querySelectorAll("details")) folded.open = true;
          for (const box of document.querySelectorAll(".toggle-hidden"))
            box.querySelector("button.toggle-button").click();
        }"""
    )
    page.evaluate(READY)


# Faults ------------------------------------------------------------------------------------------

FAULTS = r"""() => {
  const faults = [];
  const short = (element) =>
    `${element.tagName.toLowerCase()} ${(element.textContent || "").trim().slice(0, 50)}`;
  const shown = (element) => element.checkVisibility({ visibilityProperty: true });

  if (document.documentElement.lang !== "en") faults.push("the page does not say its language");
  if (!document.title.trim()) faults.push("no title");
  const skip = document.querySelector("a[href^='#']");
  if (!skip?.hash || !document.querySelector(skip.hash)?.matches("main"))
    faults.push("the first link does not skip to the main part");

  const levels = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(shown);
  const first = levels.filter((heading) => heading.tagName === "H1");
  if (first.length !== 1) faults.push(`${first.length} headings of the first level`);
  let before = 0;
  for (const heading of levels) {
    const level = Number(heading.tagName[1]);
    if (level > before + 1) faults.push(`skips a level: ${short(heading)}`);
    before = level;
  }

  const formulas = document.querySelectorAll(".math");
  const typeset = [...formulas].filter((formula) => formula.querySelector("mjx-container"));
  if (typeset.length !== formulas.length)
    faults.push(`${typeset.length} of ${formulas.length} formulas are typeset`);
  for (const wrong of document.querySelectorAll("mjx-merror, [data-mjx-error]"))
    faults.push(`wrong formula: ${wrong.dataset.mjxError || short(wrong)}`);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    if (/\\[(\[]/.test(text.data) && !text.parentElement.closest("pre, code, script, style"))
      faults.push(`raw formula: ${text.data.trim().slice(0, 60)}`);
  }

  for (const image of document.images) {
    if (!image.complete || !image.naturalWidth) faults.push(`image not loaded: ${image.src}`);
    if (!image.hasAttribute("alt")) faults.push(`image without alternative text: ${image.src}`);
  }
  return faults;
}"""

FITS = r"""() => {
  const faults = [];
  const short = (element) =>
    `${element.tagName.toLowerCase()} ${(element.textContent || "").trim().slice(0, 50)}`;
  const scrolls = (element) => getComputedStyle(element).overflowX !== "visible";
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth) {
    faults.push(`the page is ${width} wide and the window ${innerWidth}`);
    for (const element of [...document.querySelectorAll("main *")].reverse()) {
      if (faults.length > 8) break;
      let box = element.parentElement;
      while (box && !(scrolls(box) && box !== document.body)) box = box.parentElement;
      const { left, right } = element.getBoundingClientRect();
      const end = Math.max(right, left + element.scrollWidth);
      if (!box && !element.children.length && end > innerWidth)
        faults.push(`too wide: ${short(element)}`);
    }
  }
  for (const box of document.querySelectorAll("main *")) {
    if (box.scrollWidth <= box.clientWidth + 1 || box.clientWidth <= 1) continue;
    if (box.closest("mjx-math, mjx-assistive-mml")) continue;  // parts of glyphs
    const overflow = getComputedStyle(box).overflowX;
    if (overflow === "visible" || !box.checkVisibility({ visibilityProperty: true })) continue;
    if (overflow === "hidden" || overflow === "clip") faults.push(`cut off: ${short(box)}`);
    else if (box.tabIndex < 0) faults.push(`scrolls, and not by keyboard: ${short(box)}`);
    else if (!box.ariaLabel) faults.push(`scrolls, and has no name: ${short(box)}`);
  }
  return faults;
}"""


def faults(visit: Visit) -> list[str]:
    """Return what is wrong with a page in a window of the present size."""
    return [*visit.said, *visit.page.evaluate(FAULTS), *visit.page.evaluate(FITS)]


def weight(visit: Visit) -> int:
    """Return how many bytes are a page's own: its text and its images."""
    sources = "() => [document.URL, ...[...document.images].map((image) => image.src)]"
    files = {url.split("#")[0].split("?")[0] for url in visit.page.evaluate(sources)}
    return sum(
        Path(unquote(urlsplit(url).path)).stat().st_size for url in files if url.startswith("file:")
    )


# Accessibility -----------------------------------------------------------------------------------

# Code is thousands of words in a dozen colours, and axe takes a millisecond for each. Of words
# whose classes are the same, and those of all that they stand in, three are left as they are; the
# others become plain text of their block. What is drawn of a formula makes room for itself: its
# glyphs are not text, and who does not see them reads the MathML beside them.
THIN = """() => {
  const seen = new Map();
  for (const block of document.querySelectorAll("pre, code, dt.sig")) {
    const words = [...block.querySelectorAll("span:not(.sentence)")];
    for (const word of words.reverse()) {  // the inner ones first
      if (word.children.length || word.id) continue;
      let key = word.getAttribute("style") || "";
      for (let box = word; box; box = box.parentElement) key += `|${box.tagName}.${box.className}`;
      seen.set(key, (seen.get(key) || 0) + 1);
      if (seen.get(key) > 3) word.replaceWith(word.textContent);
    }
    block.normalize();
  }
  const drawn = [...document.querySelectorAll("mjx-math")];
  const sizes = drawn.map((formula) => formula.getBoundingClientRect());
  drawn.forEach((formula, i) => {
    formula.replaceChildren();
    const { width, height } = sizes[i];
    formula.style.cssText = `display: inline-block; width: ${width}px; height: ${height}px`;
  });
}"""


def violations(page: Page) -> list[str]:
    """Return what axe objects to, in a page as it is shown now."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE_SCRIPT)
        page.evaluate(THIN)
    found = page.evaluate(
        "options => axe.run(options)",
        # Preloading asks for style sheets a second time, which a page from a file may not.
        {"resultTypes": ["violations"], "preload": False, "runOnly": AXE_TAGS},
    )
    return [
        f"{violation['id']}: {node['html'][:160]} {' '.join(node['failureSummary'].split())}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def show_theme(page: Page, theme: str) -> None:
    """Show a page in light or in dark, as its own button does."""
    page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    page.evaluate(READY)
