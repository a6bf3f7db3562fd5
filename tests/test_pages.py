"""Every page of the built book in a browser: it asks no other host for anything, complains of
nothing, typesets its formulas, fits a phone, and is neither heavy nor slow.
"""

import re

import pytest
from pages import DESK, PAGES, PHONE, faults, go, open_context, resize, unfold, weight

TITLE = re.compile(r"<title>(.+?)</title>", re.S)
HEAVY = 1_500_000  # bytes of a page's own, in text and images
SLOW = 30.0  # seconds until all is typeset, on a machine that does other work too


def test_every_page_that_was_built_is_tested(html):
    built = {str(p.relative_to(html).with_suffix("")) for p in html.rglob("*.html")}
    fixed = {page for page in built if page.startswith("_static/")}
    assert sorted(built - fixed - {"index"}) == sorted(PAGES)


def test_the_address_of_the_folder_leads_to_the_first_page(html, browser):
    with open_context(browser) as context:
        page = context.new_page()
        page.goto((html / "index.html").as_uri())
        page.wait_for_url((html / "book/index.html").as_uri())


def test_every_page_has_a_title_of_its_own(html):
    titles = {}
    for page in PAGES:
        title = TITLE.search((html / f"{page}.html").read_text(encoding="utf-8"))
        titles.setdefault(title[1], []).append(page)
    assert [pages for pages in titles.values() if len(pages) > 1] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_whole_and_fits_a_desk_and_a_phone(name, html, browser, record_property):
    with open_context(browser) as context:
        visit = go(context.new_page(), html / f"{name}.html")
        own = weight(visit)
        record_property("page", [name, own, visit.seconds])
        unfold(visit.page)
        found = [f"{DESK['width']}: {fault}" for fault in faults(visit)]
        visit.said.clear()
        resize(visit.page, PHONE)
        found += [f"{PHONE['width']}: {fault}" for fault in faults(visit)]
        assert found == []
    assert own < HEAVY
    assert visit.seconds < SLOW
