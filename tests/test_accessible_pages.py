"""What is mended in the HTML of a page: printed tables are told from sentences, lists are lists."""

from types import SimpleNamespace

import pytest
from tool import load_tool

tool = load_tool("accessible_pages")

START = '<div class="output stream highlight-myst-ansi notranslate'
PRINTED = '"><div class="highlight"><pre><span></span>'
LONG = "a line of output that says in a whole sentence what the run has come to in the end"


def printed(text):
    return f"{START}{PRINTED}{text}\n</pre></div>"


def test_a_printed_table_is_marked_and_else_left_as_it_is():
    table = "method    steps\nheavy      1200\n"
    assert tool.mend(printed(table)) == printed(table).replace(START, f"{START} printed-table")


@pytest.mark.parametrize(
    "text",
    [
        "True",
        f"{LONG}\n{LONG}",
        "one row   of columns",
        "indented:\n    once\n    twice",
        "columns   in\ncolour    <span>too</span>",
    ],
)
def test_what_is_no_table_is_not_marked(text):
    assert tool.mend(printed(text)) == printed(text)


def test_a_sentence_among_rows_may_wrap_and_a_row_without_wide_gaps_may_not():
    row, like = "rate 0.01   lost  3 of 10 " + "x" * 40, "rate 0.001 lost 10 of 10 " + "x" * 40
    text = tool.mend(printed(f"{row}\n{like}\n{row}\n{LONG}\nend"))
    assert f'{row}\n{like}\n{row}\n<span class="sentence">{LONG}</span>end' in text


def test_entries_of_the_bibliography_are_items_of_their_list():
    entry = '<div role="list"><div class="citation" role="doc-biblioentry">x</div></div>'
    assert tool.mend(entry).count('role="listitem"') == 1


def test_the_empty_corner_of_a_table_is_no_heading():
    row = '<tr><th class="head"><p></p></th><th class="head"><p>lr</p></th></tr>'
    assert tool.mend(row) == '<tr><td></td><th class="head"><p>lr</p></th></tr>'


def test_parameters_in_a_signature_are_lines_and_a_list_of_definitions_stays_one():
    assert tool.mend("<dl>\n<dd>a,</dd>\n<dd>b,</dd>\n</dl>") == (
        '<div>\n<div class="sig-line">a,</div>\n<div class="sig-line">b,</div>\n</div>'
    )
    definitions = "<dl>\n<dt>a</dt>\n<dd>b</dd>\n</dl>"
    assert tool.mend(definitions) == definitions


def test_scripts_that_would_run_cells_elsewhere_are_left_out():
    def script(filename, **attributes):
        return SimpleNamespace(filename=filename, attributes=attributes)

    files = [script("_static/sphinx-thebe.js"), script("_static/access.js")]
    files.append(script("", body='const THEBE_JS_URL = "elsewhere"'))
    context = {"script_files": files, "css_files": ["_static/sphinx-thebe.css", "a.css"]}
    tool.mend_page(None, "page", "page.html", context, None)
    assert context == {"script_files": [files[1]], "css_files": ["a.css"]}
