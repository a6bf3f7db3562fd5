"""What a link shows before it is followed: collected from the pages, shown in a browser."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tool import load_tool

previews = load_tool("previews")


def test_a_preview_is_the_element_that_a_link_of_any_page_leads_to() -> None:
    pages = {
        "book/a.html": '<a class="reference internal" href="b.html#equation-eq-x">(1)</a>'
        '<a class="reference internal" href="#thm">Theorem</a>'
        '<div class="proof theorem" id="thm"><div>one</div><div>two</div></div><div>not me</div>',
        "book/b.html": '<div class="math notranslate" id="equation-eq-x"><span class="eqno">(1)'
        '<a class="headerlink" href="#equation-eq-x">#</a></span>\\[x\\]</div>'
        '<div class="math notranslate" id="equation-eq-unseen">\\[y\\]</div>'
        '<dl><dt id="term-rate">rate</dt><dd><p>how fast</p></dd></dl>',
        "c.html": '<a class="reference internal" href="book/b.html#term-rate">rate</a>'
        '<a class="reference external" href="https://example.org/#term-rate">elsewhere</a>',
    }
    found = previews.previews(pages)
    assert set(found) == {"book/a.html#thm", "book/b.html#equation-eq-x", "book/b.html#term-rate"}
    assert found["book/a.html#thm"].endswith("<div>one</div><div>two</div></div>")
    assert found["book/b.html#term-rate"] == "<p>how fast</p>"
    assert "headerlink" not in found["book/b.html#equation-eq-x"]
    assert " id=" not in "".join(found.values())


def data(html: Path) -> dict[str, str]:
    text = (html / "_static/previews-data.js").read_text(encoding="utf-8")
    found: dict[str, str] = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return found


def test_every_equation_and_source_that_the_book_refers_to_has_a_preview(html: Path) -> None:
    known = data(html)
    kinds = {"equation": "#equation-", "source": "bibliography.html#id"}
    counts = dict.fromkeys(kinds, 0)
    for path in sorted((html / "book").glob("*.html")):
        text = path.read_text(encoding="utf-8")
        for href in re.findall(r'<a class="reference internal" href="([^"]+)"', text):
            for kind, mark in kinds.items():
                if mark in href:
                    counts[kind] += 1
                    key = f"book/{path.name}{href}" if href[0] == "#" else f"book/{href}"
                    assert key in known, key
    assert counts["equation"] > 150
    assert counts["source"] > 50
    assert sum("#term-" in key for key in known) > 20
    assert "<script" not in "".join(known.values()).lower()


@pytest.fixture
def chapter(browser: Browser, html: Path) -> Page:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.goto((html / "book/ch03_deriving_nesterov.html").as_uri())
    page.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
    page.evaluate("MathJax.startup.promise.then(() => null)")
    return page


def test_a_pointer_that_rests_on_a_link_is_shown_the_equation_typeset(chapter: Page) -> None:
    link = chapter.locator("article a.reference[href='#equation-eq-potential']").first
    link.hover()
    box = chapter.locator(".preview-box")
    expect(box.locator("mjx-container")).to_be_visible()
    expect(box).to_contain_text("(")
    assert "\\[" not in box.inner_text()
    chapter.mouse.move(0, 0)
    expect(box).to_have_count(0)


def test_a_source_is_shown_to_the_keyboard_and_escape_closes_it(chapter: Page) -> None:
    link = chapter.locator("article a.reference[href^='bibliography.html#']").first
    link.scroll_into_view_if_needed()
    chapter.keyboard.press("Tab")  # the next focus is that of a keyboard
    link.focus()
    box = chapter.locator(".preview-box")
    expect(box).to_contain_text("Nesterov")
    assert link.get_attribute("aria-describedby") == box.get_attribute("id")
    chapter.keyboard.press("Escape")
    expect(box).to_have_count(0)


def test_a_click_follows_the_link_and_leaves_no_box(chapter: Page) -> None:
    link = chapter.locator("article a.reference[href='#equation-eq-potential']").first
    link.hover()
    expect(chapter.locator(".preview-box")).to_be_visible()
    link.click()
    chapter.wait_for_function("location.hash === '#equation-eq-potential'")
    chapter.mouse.move(0, 0)
    expect(chapter.locator(".preview-box")).to_have_count(0)
