"""The checks of pages find what they are for: each kind of fault, once, on a page made for it."""

import pytest
from pages import PHONE, THIN, faults, go, open_context, resize, show_theme, violations, weight

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>A page</title>
<style>{style}</style></head>
<body><a href="#main">Skip to the main part</a><main id="main"><h1>A page</h1>{body}</main></body>
</html>"""
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
WIDE = "x" * 300


def written(folder, body="", style="", page=PAGE):
    path = folder / "page.html"
    path.write_text(page.format(body=body, style=style), encoding="utf-8")
    return path


def test_a_plain_page_has_no_fault(browser, tmp_path):
    with open_context(browser, viewport=PHONE) as context:
        visit = go(context.new_page(), written(tmp_path, f'<p>Text.</p><img alt="" src="{DOT}">'))
        assert faults(visit) == []
        assert violations(visit.page) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<script>console.error('no good')</script>", "console error: no good"),
        ("<script>console.warn('beware')</script>", "console warning: beware"),
        ("<script>let a; let a</script>", "script failed"),
        ("<script src='none.js'></script>", "request failed"),
        ("<img alt='' src='https://example.org/a.png'>", "asks another host: https://example.org"),
        (
            "<script>fetch('http://127.0.0.1:9/').catch(() => 0)</script>",
            "asks another host: http:",
        ),
        ("<img alt='' src='none.png'>", "image not loaded"),
        (f"<img src='{DOT}'>", "image without alternative text"),
        (r"<span class='math'>\(x^2\)</span>", "0 of 1 formulas are typeset"),
        (r"<p>Left over: \(x^2\)</p>", "raw formula: Left over"),
        (
            "<div class='math'><mjx-container><mjx-merror>x</mjx-merror></mjx-container></div>",
            "wrong",
        ),
        ("<h1>Another</h1>", "2 headings of the first level"),
        ("<h3>Too deep</h3>", "skips a level: h3 Too deep"),
        (f"<p>{WIDE}</p>", "wide and the window 360"),
        (f"<p>{WIDE}</p>", f"too wide: p {WIDE[:50]}"),
        (f"<pre style='overflow: hidden'>{WIDE}</pre>", "cut off: pre"),
        (
            f"<div style='overflow: auto'><p>{WIDE}</p></div>",
            "scrolls, and not by keyboard: div",
        ),
        (f"<pre style='overflow: auto' tabindex='0'>{WIDE}</pre>", "scrolls, and has no name: pre"),
    ],
)
def test_a_fault_is_found(body, said, browser, tmp_path):
    with open_context(browser, viewport=PHONE) as context:
        found = faults(go(context.new_page(), written(tmp_path, body)))
    assert any(said in fault for fault in found), found


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('lang="en"', "", "does not say its language"),
        ("<title>A page</title>", "", "no title"),
        ('href="#main"', 'href="#nowhere"', "does not skip to the main part"),
    ],
)
def test_a_fault_of_the_frame_is_found(right, wrong, said, browser, tmp_path):
    with open_context(browser) as context:
        visit = go(context.new_page(), written(tmp_path, page=PAGE.replace(right, wrong)))
        assert any(said in fault for fault in faults(visit))


def test_a_formula_that_is_too_wide_for_a_phone_is_found_there_alone(browser, tmp_path):
    with open_context(browser) as context:
        visit = go(context.new_page(), written(tmp_path, "<p>" + "x" * 80 + "</p>"))
        assert faults(visit) == []
        resize(visit.page, PHONE)
        assert faults(visit) != []


def test_the_weight_of_a_page_is_that_of_its_text_and_images(browser, tmp_path):
    (tmp_path / "a b.svg").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'></svg>"
    )
    image = "<img alt='' src='a%20b.svg?v=1'>"
    path = written(tmp_path, image + image)
    with open_context(browser) as context:
        visit = go(context.new_page(), path)
        assert visit.said == []
        assert weight(visit) == path.stat().st_size + (tmp_path / "a b.svg").stat().st_size


# What axe is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("<p style='color: #999'>Pale.</p>", "color-contrast"),
        ("<button></button>", "button-name"),
        ("<pre style='overflow: auto'>" + WIDE + "</pre>", "scrollable-region-focusable"),
        ("<table><tr><th></th></tr><tr><td>1</td></tr></table>", "empty-table-header"),
        ("<nav>a</nav><nav>b</nav>", "landmark-unique"),
        ("<h4>Deep</h4>", "heading-order"),
    ],
)
def test_axe_is_heard(body, rule, browser, tmp_path):
    with open_context(browser) as context:
        page = go(context.new_page(), written(tmp_path, body)).page
        assert any(found.startswith(f"{rule}: ") for found in violations(page))


def test_a_colour_that_is_too_pale_in_the_dark_alone_is_found_there(browser, tmp_path):
    style = "[data-theme=dark] body { background: #111 } [data-theme=dark] em { color: #555 }"
    body = "<p style='color: inherit'><em>Word</em></p>"
    with open_context(browser) as context:
        page = go(context.new_page(), written(tmp_path, body, style)).page
        assert violations(page) == []
        show_theme(page, "dark")
        assert any("color-contrast" in found for found in violations(page))


def test_of_words_that_look_the_same_three_are_left_and_of_others_none_is_lost(browser, tmp_path):
    word = "<span class='k'>def</span> "
    style = ".k { color: #0000aa } .pale .k { color: #aaaaff } .once { color: #bbbbbb }"
    body = (
        f"<pre>{word * 9}<span class='once'>pale</span></pre>"
        f"<div class='pale'><pre>{word * 9}</pre></div>"
    )
    with open_context(browser) as context:
        page = go(context.new_page(), written(tmp_path, body, style)).page
        before = page.inner_text("main")
        page.evaluate(THIN)
        assert page.inner_text("main") == before
        assert page.locator("pre span").count() == 3 + 1 + 3
        assert sum("color-contrast" in found for found in violations(page)) == 1 + 3
