"""The built book in use: searched, switched to dark, on a phone, by keyboard alone, code copied,
notebooks downloaded. All from files, as a reader has it who was given the folder.
"""

import json
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pages import DESK, PHONE, go, open_context, resize, violations

CHAPTER = "book/ch03_deriving_nesterov"
WITH_WIDE_CODE = "book/ch13_convnet"


@contextmanager
def opened(browser, html, name=CHAPTER, **more):
    with open_context(browser, **more) as context:
        yield go(context.new_page(), html / f"{name}.html").page


def focused(page, selector):
    """Say whether the keyboard is at an element, or in it."""
    return page.evaluate("s => !!document.activeElement?.closest(s)", selector)


def tab_to(page, selector, most=60):
    """Go by the tabulator key to an element."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if focused(page, selector):
            return
    raise AssertionError(f"{most} steps of the tabulator key do not lead to {selector}")


# Search ------------------------------------------------------------------------------------------


def test_a_search_finds_pages_and_leads_to_them(html, browser):
    with opened(browser, html, "book/index") as page:
        page.keyboard.press("Control+k")
        page.wait_for_selector("#pst-search-dialog[open]")
        page.keyboard.type("restart")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=restart*")
        page.wait_for_selector("#search-results ul.search li a")
        page.wait_for_function(
            "document.querySelector('#search-results').textContent.includes('found')"
        )
        links = page.locator("#search-results ul.search li > a")
        assert links.count() > 3
        links.first.click()
        page.wait_for_url("**/book/**")
        assert "restart" in page.inner_text("main").lower()


def test_a_search_for_nothing_says_so(html, browser):
    with opened(browser, html, "search") as page:
        page.goto((html / "search.html").as_uri() + "?q=zyzzyva")
        page.get_by_text("did not match any documents").wait_for()


# Light and dark ----------------------------------------------------------------------------------


def test_the_switch_changes_the_theme_and_the_next_page_remembers_it(html, browser):
    theme = "document.documentElement.dataset.theme"
    with open_context(browser, theme="", color_scheme="light") as context:
        page = go(context.new_page(), html / f"{CHAPTER}.html").page
        assert page.evaluate(theme) == "light"
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        switch = page.locator("button.theme-switch-button:visible").first
        for _ in range(3):  # light, dark, as the system is
            if page.evaluate("document.documentElement.dataset.mode") == "dark":
                break
            switch.click()
        assert page.evaluate(theme) == "dark"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper
        # A page from disk has a process of its own, which Chromium tells a moment later what is
        # kept. A file without scripts can wait for it; the theme would write what it believes.
        other = context.new_page()
        other.goto((html / "_static/book.css").as_uri())
        other.wait_for_function("localStorage.mode === 'dark'")
        page.locator("a.right-next").click()
        page.wait_for_url("**/ch04_*.html")
        assert page.evaluate(theme) == "dark"


def test_a_first_visit_follows_the_system(html, browser):
    with open_context(browser, theme="", color_scheme="dark") as context:
        page = go(context.new_page(), html / f"{CHAPTER}.html").page
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


# The sidebar -------------------------------------------------------------------------------------


def test_on_a_phone_the_sidebar_opens_by_keyboard_and_leads_on(html, browser):
    with opened(browser, html, viewport=PHONE) as page:
        sidebar = page.locator(".bd-sidebar-primary nav.bd-links, dialog nav.bd-links").first
        assert not sidebar.is_visible()
        tab_to(page, "button.primary-toggle")
        page.keyboard.press("Enter")
        sidebar.wait_for(state="visible")
        assert violations(page) == []
        page.keyboard.press("Escape")
        sidebar.wait_for(state="hidden")
        page.wait_for_function("document.activeElement.matches('button.primary-toggle')")
        page.keyboard.press("Enter")
        sidebar.wait_for(state="visible")
        tab_to(page, "a[href*='ch04_']")
        page.keyboard.press("Enter")
        page.wait_for_url("**/ch04_*.html")


def test_on_a_phone_the_contents_of_the_page_open_by_touch(html, browser):
    with opened(browser, html, viewport=PHONE, has_touch=True) as page:
        page.locator("button.secondary-toggle").tap()
        link = page.locator("#pst-secondary-sidebar-modal a, #pst-secondary-sidebar a")
        link.first.wait_for(state="visible")
        link.last.tap()
        page.wait_for_function("location.hash.length > 1")


def test_a_phone_as_a_whole_has_nothing_that_axe_objects_to(html, browser):
    with opened(browser, html, WITH_WIDE_CODE, viewport=PHONE, has_touch=True) as page:
        assert violations(page) == []


# The keyboard ------------------------------------------------------------------------------------


def test_the_first_stop_is_a_link_that_skips_to_the_text(html, browser):
    with opened(browser, html) as page:
        page.keyboard.press("Tab")
        assert focused(page, ".skip-link a")
        box = page.locator(".skip-link a").bounding_box()
        assert box["y"] >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#main-content"
        page.keyboard.press("Tab")
        assert focused(page, "main")


def test_every_stop_of_the_keyboard_is_seen(html, browser):
    ring = """() => {
      const at = document.activeElement, style = getComputedStyle(at);
      const seen = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 1)
        || style.boxShadow !== "none";
      return [at === document.body, seen && style.opacity !== "0", at.outerHTML.slice(0, 120)];
    }"""
    unseen, stops = [], 0
    with opened(browser, html, viewport=PHONE) as page:
        for _ in range(400):
            page.keyboard.press("Tab")
            at_end, seen, where = page.evaluate(ring)
            if at_end:
                break
            stops += 1
            if not seen:
                unseen.append(where)
        else:
            raise AssertionError("the keyboard does not come to an end")
    assert stops > 50
    assert unseen == []


@pytest.mark.parametrize("what", ["pre", "mjx-container"])
def test_what_is_wider_than_a_phone_is_reached_and_scrolled_by_keyboard(what, html, browser):
    with opened(browser, html, WITH_WIDE_CODE, viewport=PHONE) as page:
        wide = page.locator(f"main {what}[role=group]").first
        assert "scrolls sideways" in wide.get_attribute("aria-label")
        wide.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            "s => document.querySelector(s).scrollLeft > 0", arg=f"main {what}[role=group]"
        )


def test_what_fits_again_is_no_stop_of_the_keyboard(html, browser):
    wide = "main :is(pre, mjx-container, span.math)[role=group]"
    with opened(browser, html, WITH_WIDE_CODE, viewport=PHONE) as page:
        on_phone = page.locator(wide).count()
        resize(page, DESK)
        page.wait_for_function(
            "([s, n]) => document.querySelectorAll(s).length < n", arg=[wide, on_phone]
        )


def test_formulas_are_read_aloud_and_are_no_stops(html, browser):
    with opened(browser, html) as page:
        formulas = page.locator("mjx-container")
        assert formulas.count() > 100
        assert page.locator("mjx-container > mjx-assistive-mml > math").count() == formulas.count()
        assert page.locator("mjx-container[tabindex='0']:not([role=group])").count() == 0


def test_a_solution_opens_by_keyboard_and_says_which_it_is(html, browser):
    with opened(browser, html) as page:
        button = page.locator("button.toggle-button").first
        assert button.get_attribute("aria-expanded") == "false"
        assert "show or hide" in button.get_attribute("aria-label")
        solution = button.locator("xpath=ancestor::div[contains(@class, 'admonition')][1]")
        text = solution.locator("p:not(.admonition-title)").first
        assert not text.is_visible()
        button.focus()
        page.keyboard.press("Enter")
        text.wait_for(state="visible")
        assert button.get_attribute("aria-expanded") == "true"


# Motion ------------------------------------------------------------------------------------------


def test_nothing_moves_for_who_asked_for_that(html, browser):
    moving = """() => [...document.querySelectorAll("*")].filter((element) => {
      const style = getComputedStyle(element);
      const longest = (times) => Math.max(...times.split(",").map(parseFloat));
      return longest(style.transitionDuration) > 0.001 || longest(style.animationDuration) > 0.001
        || style.scrollBehavior === "smooth";
    }).map((element) => element.outerHTML.slice(0, 80))"""
    with opened(browser, html) as page:
        assert page.evaluate(moving) == []
    with opened(browser, html, reduced_motion="no-preference") as page:
        assert page.evaluate(moving) != []  # the question is a fair one


# Code and notebooks ------------------------------------------------------------------------------


def test_every_code_cell_has_a_button_that_copies_it(html, browser):
    with opened(browser, html) as page:
        blocks = page.locator("main .cell_input div.highlight")
        assert blocks.count() > 10
        assert page.locator("main .cell_input div.highlight button.copybtn").count() == (
            blocks.count()
        )
        button = blocks.first.locator("button.copybtn")
        button.focus()
        page.wait_for_function("getComputedStyle(document.activeElement).opacity === '1'")
        page.keyboard.press("Enter")
        page.wait_for_selector("button.copybtn.success")
        page.evaluate(
            "document.querySelector('main').insertAdjacentHTML('beforeend', "
            "\"<textarea id='paste' aria-label='Paste'></textarea>\")"
        )
        page.locator("#paste").focus()
        page.keyboard.press("Control+v")
        pasted = page.locator("#paste").input_value()
        assert pasted.strip() == blocks.first.locator("pre").inner_text().strip()
        assert pasted.startswith(("import", "from"))


def test_the_download_button_offers_the_notebook(html, browser):
    with opened(browser, html) as page:
        page.locator(".dropdown-download-buttons > button").click()
        link = page.locator(".dropdown-download-buttons a", has_text=".ipynb")
        link.wait_for(state="visible")
        address = page.evaluate("a => a.href", link.element_handle())
        offered = Path(unquote(urlsplit(address).path))
        cells = json.loads(offered.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert len(code) == page.locator("main div.cell").count()
        assert any(cell["outputs"] for cell in code)
