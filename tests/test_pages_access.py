"""Every page of the built book, held against the rules of WCAG 2.2 AA and good practice by axe: in
light and in dark, with all that is folded opened.
"""

import pytest
from pages import PAGES, go, open_context, show_theme, unfold, violations


@pytest.mark.parametrize("name", PAGES)
def test_axe_objects_to_nothing(name, html, browser):
    with open_context(browser) as context:
        page = go(context.new_page(), html / f"{name}.html").page
        unfold(page)
        found = [f"light: {violation}" for violation in violations(page)]
        show_theme(page, "dark")
        found += [f"dark: {violation}" for violation in violations(page)]
        assert found == []
