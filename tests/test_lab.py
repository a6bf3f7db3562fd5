"""The Momentum Lab in a browser: its arithmetic is that of ngs, and every hand can drive it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from playwright.sync_api import Browser, Page
from tool import load_tool

from ngs import problems, schedules, theory
from ngs.factor import AngleRule
from ngs.methods import heavy_ball, nesterov
from ngs.minimize import minimize
from ngs.optim.torch import NGS
from ngs.restart import GradientRestart

ROOT = Path(__file__).resolve().parents[1]
LAB = ROOT / "book/_static/lab"
SCRIPTS = ("arithmetic", "plots", "examples", "lab")
golden_tool = load_tool("make_lab_golden")
pictures_tool = load_tool("make_lab_pictures")
GOLDEN = json.loads(golden_tool.GOLDEN.read_text(encoding="utf-8"))

PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Lab</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="{lab}/lab.css">
<style>body {{ margin: 0; font-family: sans-serif }}</style></head><body><main>
<figure class="momentum-lab lab-begin-valley"><img alt="picture" src="{lab}/valley.png">
<figcaption>A caption.</figcaption></figure></main>{scripts}</body></html>"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with nothing but a Lab, to be opened from disk."""
    path = tmp_path_factory.mktemp("lab") / "lab.html"
    lab = LAB.as_uri()
    scripts = "".join(f'<script src="{lab}/{name}.js"></script>' for name in SCRIPTS)
    path.write_text(PAGE.format(lab=lab, scripts=scripts), encoding="utf-8")
    return path.as_uri()


def opened(browser: Browser, address: str, **options: Any) -> Page:
    page = browser.new_context(**{"viewport": {"width": 1000, "height": 900}, **options}).new_page()
    page.faults = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.faults.append(str(error)))  # type: ignore[attr-defined]
    page.on(
        "console",
        lambda said: said.type == "error" and page.faults.append(said.text),  # type: ignore[attr-defined]
    )
    page.goto(address)
    page.wait_for_selector(".lab-rows td")
    return page


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    page = opened(browser, address)
    yield page
    assert page.faults == []  # type: ignore[attr-defined]
    page.context.close()


def state(page: Page) -> dict[str, Any]:
    page.evaluate("new Promise(requestAnimationFrame)")
    found: dict[str, Any] = page.evaluate("NgsLab.labs[0].state")
    return found


# --- arithmetic ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def computed(browser: Browser) -> dict[str, Any]:
    """What the browser makes of every golden case."""
    page = browser.new_page()
    page.add_script_tag(path=LAB / "arithmetic.js")
    found: dict[str, Any] = page.evaluate(
        """golden => ({
        trajectories: golden.trajectories.map(c =>
            NgsLab.run({...c, f: NgsLab.problem(c.f, c.kappa)})),
        radius: golden.radius.map(c =>
            NgsLab.spectralRadius(c.method, c.eigenvalue, c.lr, c.momentum)),
        lambda: golden.lambda.map(([k]) => NgsLab.nesterovLambda(k)),
        nesterov_momentum: golden.nesterov_momentum.map(([t]) => NgsLab.nesterovMomentum(t)),
        bounds: golden.bounds.map(row => Object.fromEntries(Object.entries(NgsLab.BOUNDS).map(
            ([name, bound]) => [name, bound(row.k, 25, 2, 1)]))),
        heavy_ball_optimum: golden.heavy_ball_optimum.map(([k]) => NgsLab.heavyBallOptimum(k, 1)),
        normal: [1, 2 ** 31].map(seed => {
            const draw = NgsLab.normal(seed); return Array.from({length: 50}, draw); }),
        })""",
        GOLDEN,
    )
    page.close()
    return found


@pytest.mark.parametrize(
    "number",
    range(len(GOLDEN["trajectories"])),
    ids=lambda i: "-".join(str(GOLDEN["trajectories"][i][k]) for k in ("method", "f", "restart")),
)
def test_the_browser_follows_the_golden_trajectories_to_1e_12(
    computed: dict[str, Any], number: int
) -> None:
    case, run = GOLDEN["trajectories"][number], computed["trajectories"][number]
    every = golden_tool.EVERY
    for key in ("iterates", "values", "rates"):
        expected = np.array(case[key])
        found = np.array(run[key][::every])
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-12 * max(1.0, np.abs(expected).max())
    assert run["restarts"] == case["restarts"]


def test_rates_bounds_schedules_and_noise_are_those_of_ngs_to_1e_12(
    computed: dict[str, Any],
) -> None:
    def near(found: Any, expected: Any) -> None:
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)

    near(computed["radius"], [row["radius"] for row in GOLDEN["radius"]])
    near(computed["lambda"], [row[1] for row in GOLDEN["lambda"]])
    near(computed["nesterov_momentum"], [row[1] for row in GOLDEN["nesterov_momentum"]])
    near(computed["normal"], GOLDEN["normal"])
    for found, row in zip(computed["bounds"], GOLDEN["bounds"], strict=True):
        near([found[name] for name in found], [row[name] for name in found])
    for best, row in zip(computed["heavy_ball_optimum"], GOLDEN["heavy_ball_optimum"], strict=True):
        near([best["lr"], best["momentum"], best["rate"]], row[1:])


def test_the_golden_file_is_what_ngs_computes_now() -> None:
    for case in GOLDEN["trajectories"]:
        given = {k: case[k] for k in case if k not in ("iterates", "values", "rates", "restarts")}
        again = golden_tool.trajectory(given)
        for key in ("iterates", "values", "rates"):
            np.testing.assert_allclose(again[key], case[key], rtol=1e-9, atol=1e-12)
        assert again["restarts"] == case["restarts"]


def test_the_golden_cases_restart_and_reach_every_method_and_function() -> None:
    cases = GOLDEN["trajectories"]
    assert len(cases) >= 40
    assert {(c["method"], c["f"]) for c in cases} == {
        (m, f)
        for m in ("gradient_descent", "heavy_ball", "nesterov", "ngs")
        for f in ("quadratic", "rosenbrock", "lessard")
    }
    assert sum(bool(c["restarts"]) for c in cases) >= 8
    assert len({tuple(c["rates"]) for c in cases if c["method"] == "ngs"}) >= 8


@pytest.mark.parametrize("kind", ["none", "gradient"])
def test_what_the_lab_calls_ngs_is_the_optimizer(kind: str) -> None:
    case = next(
        c
        for c in GOLDEN["trajectories"]
        if (c["method"], c["f"], c["restart"], c["noise"]) == ("ngs", "quadratic", kind, 0.0)
        and c["momentum"] == 0.85
    )
    theta = torch.tensor(case["theta"], dtype=torch.float64, requires_grad=True)
    optimizer = NGS(
        [theta],
        lr=case["lr"],
        momentum=case["momentum"],
        factor=AngleRule(),
        restart=GradientRestart(average=0.0, wait=1) if kind == "gradient" else None,
    )
    curvatures = torch.tensor([1.0, case["kappa"]], dtype=torch.float64)
    iterates = [theta.detach().clone()]
    for _ in range(case["steps"]):
        optimizer.zero_grad()
        (0.5 * (curvatures * theta**2).sum()).backward()
        optimizer.step()
        with optimizer.at_iterate():
            iterates.append(theta.detach().clone())
    found = torch.stack(iterates[:: golden_tool.EVERY]).numpy()
    np.testing.assert_allclose(found, case["iterates"], rtol=0, atol=1e-10)


# --- examples -----------------------------------------------------------------------------------

EXAMPLES = pictures_tool.examples()


def test_the_examples_hold_the_coefficients_that_they_claim() -> None:
    pair = schedules.StronglyConvexMomentum(25.0)(0)
    assert EXAMPLES["valley"]["beta"] == pytest.approx(pair, abs=1e-15)
    for name, kappa in (("best", 100.0), ("circle", 25.0)):
        best = theory.heavy_ball_optimum(kappa, 1.0)
        assert EXAMPLES[name]["eta"] == pytest.approx(best.lr * kappa, rel=1e-15)
        assert EXAMPLES[name]["beta"] == pytest.approx(best.momentum, rel=1e-15)


def test_the_stories_of_the_examples_are_true(page: Page) -> None:
    def ends(name: str, **changes: Any) -> dict[str, float]:
        return page.evaluate(
            """([name, changes]) => {
            const lab = NgsLab.labs[0];
            lab.begin(name); Object.assign(lab.state, changes); lab.draw();
            return Object.fromEntries(Object.entries(lab.runs).map(([m, run]) =>
                [m, run.diverged ? 1e300 : run.values[run.values.length - 1]])); }""",
            [name, changes],
        )

    limit = [ends("limit", eta=eta)["gradient_descent"] for eta in (1.9, 1.99, 2.01, 2.1)]
    assert limit == sorted(limit)
    assert limit[0] < 1.0 < limit[3]
    assert ends("circle")["heavy_ball"] > 1.0
    assert ends("circle", x=3.5)["heavy_ball"] < 1e-6
    before, after = ends("restart"), ends("restart", restart="gradient")
    assert after["nesterov"] < 1e-20 * before["nesterov"]
    assert after["heavy_ball"] > before["heavy_ball"]
    factor = ends("factor")
    assert factor["ngs"] < 1e-6 < 0.1 < factor["nesterov"] < factor["gradient_descent"]
    bend = ends("bend")
    assert bend["ngs"] == 1e300
    assert max(bend["nesterov"], bend["heavy_ball"]) < bend["gradient_descent"] / 10
    floors = [ends("noise", beta=beta, seed=3)["nesterov"] for beta in (0.0, 0.97)]
    assert floors[0] < floors[1]


def test_the_best_pair_first_raises_the_gap_and_the_bound_holds() -> None:
    best = EXAMPLES["best"]
    f = problems.quadratic([1.0, best["kappa"]])
    start = [best["x"], best["y"]]
    run = minimize(
        heavy_ball, f, start, lr=best["eta"] / f.L, momentum=best["beta"], steps=best["steps"]
    )
    assert run.gaps.max() > 1.5 * run.gaps[0]
    bound = EXAMPLES["bound"]
    f = problems.quadratic([1.0, bound["kappa"]])
    run = minimize(
        nesterov,
        f,
        [bound["x"], bound["y"]],
        lr=1 / f.L,
        momentum=schedules.NesterovMomentum(),
        steps=bound["steps"],
    )
    R = float(np.hypot(bound["x"], bound["y"]))
    assert all(
        gap <= theory.nesterov_bound(k, f.L, R) for k, gap in enumerate(run.gaps[1:], start=1)
    )


def test_every_lab_of_the_book_begins_with_an_example_and_has_its_picture() -> None:
    begun = {}
    for source in [*(ROOT / "book").glob("*.ipynb"), *(ROOT / "book").glob("*.md")]:
        text = source.read_text(encoding="utf-8")
        for name in re.findall(r"momentum-lab lab-begin-([a-z]+)", text):
            begun[source.stem] = name
            assert f"_static/lab/{name}.png" in text
    assert set(begun.values()) == set(pictures_tool.DRAWN)
    chapters = {stem[:4] for stem in begun}
    assert {"inde", "ch02", "ch03", "ch05", "ch08"} <= chapters


def test_the_pictures_that_stand_in_for_the_lab_are_current(tmp_path: Path) -> None:
    pictures_tool.main.callback(tmp_path)
    for name in pictures_tool.DRAWN:
        old, new = imread(LAB / f"{name}.png"), imread(tmp_path / f"{name}.png")
        assert old.shape == new.shape
        assert np.abs(old - new).mean() < 2e-3, f"{name}.png: python tools/make_lab_pictures.py"


# --- hands --------------------------------------------------------------------------------------


def middle(page: Page, selector: str) -> tuple[float, float]:
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_a_mouse_drags_the_start_and_the_point_in_the_map(page: Page) -> None:
    x, y = middle(page, ".lab-path .lab-knob")
    before = page.locator(".lab-path polyline").first.get_attribute("points")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 30, steps=4)
    near = state(page)
    page.mouse.move(x + 160, y + 30)  # in one leap, out of the point: it is still held
    assert state(page)["x"] > near["x"] + 0.5
    page.mouse.move(x + 60, y + 30)
    page.mouse.up()
    after = state(page)
    assert after["x"] > EXAMPLES["valley"]["x"] + 0.2
    assert after["y"] < EXAMPLES["valley"]["y"] - 0.1
    assert page.locator(".lab-path polyline").first.get_attribute("points") != before
    page.mouse.move(x + 90, y + 30)  # let go: it stays
    assert state(page) == after

    page.locator(".lab-map").scroll_into_view_if_needed()
    x, y = middle(page, ".lab-map .lab-knob")
    slider = page.get_by_label("Momentum β")
    value = slider.input_value()
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 40, y + 40, steps=4)
    page.mouse.up()
    moved = state(page)
    assert moved["eta"] < 0.7
    assert moved["beta"] < 0.6
    assert slider.input_value() != value


def test_a_mouse_click_beside_the_point_moves_it_there(page: Page) -> None:
    page.locator(".lab-map .lab-stage svg").click(position={"x": 150, "y": 100})
    assert state(page)["eta"] < 0.2


def test_the_keyboard_reaches_and_moves_everything(page: Page) -> None:
    names = []
    page.locator("#lab-1-example").focus()
    for _ in range(40):
        names.append(
            page.evaluate(
                """() => { const e = document.activeElement;
                return e.getAttribute("aria-label") || (e.labels && e.labels[0]?.textContent)
                    || e.textContent; }"""
            )
        )
        page.keyboard.press("Tab")
    for name in ("Start of all paths", "Step size η", "Momentum β", "Condition κ", "Function"):
        assert name in names
    for name in ("Restart", "Gradient descent", "Step size and momentum", "Copy link"):
        assert name in names
    page.get_by_label("Step size η", exact=True).focus()
    page.keyboard.press("ArrowLeft")
    assert state(page)["eta"] < 1.0
    page.locator(".lab-path .lab-knob").focus()
    before = state(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    after = state(page)
    assert after["x"] > before["x"]
    assert after["y"] < before["y"]
    said = page.locator(".lab-path .lab-knob").get_attribute("aria-valuetext")
    assert said == f"start at {after['x']:.2f}, {after['y']:.2f}"


@pytest.fixture
def phone(browser: Browser, address: str) -> Iterator[Page]:
    page = opened(
        browser, address, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    yield page
    assert page.faults == []  # type: ignore[attr-defined]
    page.context.close()


def draw_finger(page: Page, places: list[tuple[float, float]]) -> None:
    """Put a finger down at the first place, move it along the others, and lift it."""
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": x, "y": y} for x, y in points]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    touch("touchStart", places[0])
    for place in places[1:]:
        touch("touchMove", place)
    touch("touchEnd")


def test_a_finger_drags_the_start_and_the_page_stays(phone: Page) -> None:
    x, y = middle(phone, ".lab-path .lab-knob")
    # Upwards: elsewhere this would scroll the page.
    draw_finger(phone, [(x + 8 * step, y - 12 * step) for step in range(9)])
    phone.wait_for_function("NgsLab.labs[0].state.x > -1.4")
    assert phone.evaluate("scrollY") == 0


def test_a_finger_that_taps_beside_the_start_moves_it_there(phone: Page) -> None:
    box = phone.locator(".lab-path svg").bounding_box()
    assert box is not None
    phone.touchscreen.tap(box["x"] + 0.8 * box["width"], box["y"] + 0.3 * box["height"])
    phone.wait_for_function("NgsLab.labs[0].state.x > 1")


def test_a_finger_beside_the_start_scrolls_and_moves_nothing(phone: Page) -> None:
    box = phone.locator(".lab-path svg").bounding_box()
    assert box is not None
    before = state(phone)
    x, y = box["x"] + 0.5 * box["width"], box["y"] + 0.7 * box["height"]
    draw_finger(phone, [(x, y - 20 * step) for step in range(9)])
    phone.wait_for_function("scrollY > 0")
    assert state(phone) == before


def test_choices_change_what_is_shown(page: Page) -> None:
    assert page.locator(".lab-rows tbody tr").count() == 4
    page.get_by_label("Heavy ball", exact=True).uncheck()
    page.get_by_label("NGS with its factor", exact=True).uncheck()
    state(page)
    assert page.locator(".lab-rows tbody tr").count() == 2
    assert page.locator(".lab-rate").is_hidden()
    page.get_by_label("Function", exact=True).select_option("rosenbrock")
    assert state(page)["y"] == 1
    assert page.get_by_label("Condition κ").is_disabled()
    page.get_by_label("Momentum (Nesterov, NGS)").select_option("nesterov")
    assert state(page)["schedule"] == "nesterov"
    page.get_by_label("Example", exact=True).select_option("restart")
    state(page)
    assert page.locator(".lab-loss .lab-sign").count() == 0
    page.get_by_label("Restart", exact=True).select_option("gradient")
    state(page)
    assert page.locator(".lab-loss .lab-sign").count() > 2
    page.get_by_label("Example", exact=True).select_option("circle")
    assert state(page)["f"] == "lessard"
    assert "circle" not in page.locator(".lab-story").inner_text()
    page.get_by_role("button", name="Start again").click()
    assert state(page) == EXAMPLES["circle"]


def test_the_bound_turns_pale_where_its_proof_is_gone(page: Page) -> None:
    page.evaluate("NgsLab.labs[0].begin('bound')")
    state(page)
    assert page.locator(".lab-loss .lab-bound").count() == 2
    assert page.locator(".lab-loss polyline.lab-elsewhere").count() == 0
    page.evaluate("NgsLab.labs[0].change({eta: 1.2})")
    state(page)
    assert page.locator(".lab-loss polyline.lab-elsewhere").count() == 2
    page.evaluate("NgsLab.labs[0].change({eta: 1, noise: 0.1})")
    state(page)
    assert page.locator(".lab-loss polyline.lab-elsewhere").count() == 2


# --- links --------------------------------------------------------------------------------------


def test_a_link_carries_every_value_to_another_page(
    page: Page, browser: Browser, address: str
) -> None:
    page.evaluate("NgsLab.labs[0].begin('restart')")
    page.evaluate("NgsLab.labs[0].change({eta: 0.7, restart: 'gradient', x: 1.25, seed: 17})")
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_function("location.hash.startsWith('#lab:')")
    other = opened(browser, page.url)
    assert state(other) == state(page)
    assert other.locator("#lab-1-eta").input_value() == page.locator("#lab-1-eta").input_value()
    other.context.close()


@pytest.mark.parametrize(
    "words",
    [
        "eta=NaN&beta=7&kappa=-3&steps=1e9&noise=&seed=x",
        "f=constructor&restart=__proto__&show=ngs&schedule=toString",
        "on=ngs.nothing.hasOwnProperty&x=1e300&y=-Infinity",
        "<img src=x onerror=alert(1)>&f=<b>&%",
        "",
    ],
)
def test_nonsense_in_a_link_is_left_out(browser: Browser, address: str, words: str) -> None:
    page = opened(browser, f"{address}#lab:{words}")
    found = state(page)
    limits = {"eta": (0.001, 4), "beta": (0, 0.995), "kappa": (1, 1000), "steps": (10, 500)}
    for name, (low, high) in limits.items():
        assert low <= found[name] <= high
    assert found["f"] in ("quadratic", "rosenbrock", "lessard")
    assert found["restart"] == "none"
    assert set(found["on"]) <= {"gradient_descent", "heavy_ball", "nesterov", "ngs"}
    assert page.faults == []  # type: ignore[attr-defined]
    page.context.close()


def test_no_value_of_any_slider_breaks_a_drawing(page: Page) -> None:
    broken = page.evaluate(
        """() => {
        const lab = NgsLab.labs[0], broken = [];
        for (const f of ["quadratic", "rosenbrock", "lessard"])
        for (const eta of [0.001, 1, 4]) for (const beta of [0, 0.995])
        for (const kappa of [1, 1000]) for (const noise of [0, 3])
        for (const restart of ["none", "function", "gradient"])
        for (const schedule of ["constant", "nesterov"]) {
            lab.begin("valley");
            Object.assign(lab.state, {f, eta, beta, kappa, noise, restart, schedule, steps: 60});
            lab.draw();
            const bad = [...lab.box.querySelectorAll("svg *")].some(e => [...e.attributes].some(
                a => /NaN|Infinity|undefined/.test(a.value)));
            const said = /NaN|undefined/.test(lab.box.textContent);
            if (bad || said) broken.push([f, eta, beta, kappa, noise, restart, schedule]);
        }
        return broken; }"""
    )
    assert broken == []


# --- paper, dark pages, no motion, no script ----------------------------------------------------


def test_without_scripts_and_on_paper_the_picture_stands_in(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("img").is_visible()
    assert page.locator(".lab").count() == 0
    context.close()
    page = opened(browser, address)
    assert page.locator("img").is_hidden()
    page.emulate_media(media="print")
    assert page.locator("img").is_visible()
    assert page.locator(".lab").is_hidden()
    page.context.close()


def test_a_dark_page_has_a_dark_lab(page: Page) -> None:
    look = """() => [getComputedStyle(document.querySelector(".lab-plot")).backgroundColor,
        document.querySelector(".lab-path canvas").getContext("2d")
            .getImageData(5, 5, 1, 1).data[0]]"""
    paper, corner = page.evaluate(look)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function("NgsLab.labs[0].due === 0")
    page.evaluate("new Promise(requestAnimationFrame)")
    dark_paper, dark_corner = page.evaluate(look)
    assert paper != dark_paper
    assert dark_corner < corner / 2


def test_play_draws_the_course_step_by_step_and_ends(page: Page) -> None:
    length = "document.querySelector('.lab-loss polyline:not(.lab-bound)').points.length"
    whole = page.evaluate(length)
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"{length} > 2 && {length} < {whole} / 2")
    page.wait_for_function(f"{length} === {whole}")
    assert page.get_by_role("button", name="Play").is_visible()


def test_who_wants_no_motion_is_offered_none(browser: Browser, address: str) -> None:
    page = opened(browser, address, reduced_motion="reduce")
    assert page.get_by_role("button", name="Play").count() == 0
    page.context.close()


@pytest.mark.parametrize("width", [320, 360, 620, 1280])
def test_the_lab_fits_every_width(browser: Browser, address: str, width: int) -> None:
    page = opened(browser, address, viewport={"width": width, "height": 800})
    for name in EXAMPLES:
        page.evaluate("name => NgsLab.labs[0].begin(name)", name)
        state(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    page.context.close()


def test_a_screen_reader_hears_what_came_of_it(page: Page) -> None:
    page.get_by_label("Step size η", exact=True).focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('output.lab-said').textContent.includes('gap')")
    said = page.locator("output.lab-said").inner_text()
    assert said.startswith("After 80 steps with step size 0.99")
    assert "gradient descent ends at a gap of" in said
    label = page.locator(".lab-loss svg").get_attribute("aria-label")
    assert label is not None
    assert label.startswith("Gap against the step: ")
