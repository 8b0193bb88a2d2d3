"""The page in a real browser: it shows what Python computes, by mouse, by keyboard and from an address."""

import dataclasses
import importlib.util
import json
import math
import shutil
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import pytest

from assay.benchmarks import findings as found_
from assay.benchmarks import html
from assay.benchmarks import leaderboard as lead
from assay.benchmarks.findings import Findings
from assay.benchmarks.leaderboard import Tables
from assay.benchmarks.store import COLUMNS

ROOT = Path(__file__).resolve().parent.parent
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
READY = "return document.documentElement.dataset.ready === 'yes'"
EVIL = "<script>document.title = 'run'</script>"

pytestmark = [
    pytest.mark.skipif(
        not (BROWSER and DRIVER and importlib.util.find_spec("selenium")),
        reason="no browser: apt-get install chromium chromium-driver, and pip install selenium",
    ),
    # what selenium leaves to the garbage collector is not ours
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def quick():
    return found_.find(ROOT / "results" / "reference" / "quick")


@pytest.fixture(scope="module")
def page(quick, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "quick.html"
    html.write(quick, path)
    return path


def scores(skills, seeds=2):
    """One problem, at two noise levels, with a skill a method."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "dataset": "d",
            "parameters": "",
            "noise": noise,
            "model": "mlp",
            "method": method,
            "metric": "auroc",
        }
        | {"family": lead.RANKED_BY, "seed": seed, "model_seed": 0, "method_seed": 0, "status": "ok"}
        | {"reason": "", "skill": skill + rng.normal(0, 0.01)}
        for noise in ("n=0", "n=9")
        for seed in range(seeds)
        for method, skill in skills.items()
    ]
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS["scores"]))


def small(table, folder, **more):
    empty = {name: pd.DataFrame(columns=list(COLUMNS[name])) for name in ("agreement", "models", "costs")}
    tables = Tables(scores=table, **empty)
    wide = lead.skills(table, lead.RANKED_BY)
    board = lead.summary(wide, "overall").assign(seconds_per_row=0.001, control=False, note="")
    board = board.assign(agreement=np.nan, failed=0, skipped=0)
    board = board.sort_values("skill", ascending=False, ignore_index=True)
    found = Findings(folder, "small", tables, {}, {"overall": board}, pairs=pd.DataFrame())
    path = folder / "page.html"
    html.write(dataclasses.replace(found, **more), path)
    return path


def visit(browser, path, width=1280, **state):
    """Open the page as from a link."""
    from selenium.webdriver.support.ui import WebDriverWait

    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(path.as_uri() + (f"#{urlencode(state)}" if state else ""))
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(READY))


def complaints(browser):
    """What the browser has to complain of since it was last asked."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def board(browser):
    """The leaderboard as it stands, one row a method."""
    text = browser.execute_script(
        """
        const number = (cell, key) => cell?.dataset[key] === undefined ? null : Number(cell.dataset[key]);
        return JSON.stringify([...document.querySelectorAll("#board tbody tr")].map((row) => {
          const cell = (key) => row.querySelector(`[data-key="${key}"]`);
          return { method: row.dataset.method, rank: number(cell("rank"), "value"),
            skill: number(cell("skill"), "value"), low: number(cell("width"), "low"),
            high: number(cell("width"), "high") };
        }));
        """
    )
    return pd.DataFrame(json.loads(text), columns=["method", "rank", "skill", "low", "high"])


def choose(browser, name, value):
    """Pick from one of the page's lists."""
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("name", name)).select_by_value(value)


def same(shown, wanted, ends):
    """Whether the page's numbers are Python's."""
    wanted = wanted.set_index("method").loc[shown["method"]]
    for column, own in {"rank": "rank", "skill": "skill", "low": ends[0], "high": ends[1]}.items():
        found = shown[column].to_numpy(dtype=float)
        np.testing.assert_allclose(found, wanted[own].to_numpy(dtype=float), rtol=0, atol=1e-6)


def kept(table, state):
    """The scores that the reader's filters leave."""
    dataset, _, parameters = state.get("problem", "").partition("[")
    if dataset:
        table = table[table["dataset"] == dataset]
    if parameters:
        table = table[table["parameters"] == parameters.removesuffix("]")]
    for column in ("noise", "model", "metric"):
        if state.get(column, "") and not state[column].startswith("family:"):
            table = table[table[column] == state[column]]
    return table


SELECTIONS = [
    {},
    {"problem": "tabular"},
    {"problem": "symbolic"},
    {"problem": "symbolic[function=11 rows=10000 explained=50]", "model": "mlp"},
    {"noise": "columns=100 label_sd=0.01"},
    {"model": "boosted_trees"},
    {"model": "oracle", "metric": "auroc"},
    {"metric": "uscore", "noise": "columns=0 label_sd=0.01"},
    {"metric": "family:faithfulness"},
    {"metric": "deletion", "model": "linear"},
    {"problem": "vision"},
]


@pytest.mark.parametrize("state", SELECTIONS, ids=str)
@pytest.mark.parametrize("interval", ["", "like"])
def test_what_the_page_computes_is_what_python_computes(browser, page, quick, state, interval):
    visit(browser, page, **state, interval=interval)
    table = quick.tables.scores
    metric = state.get("metric", "")
    family = metric.removeprefix("family:") if metric.startswith("family:") else lead.judge(table)
    family = "faithfulness" if metric == "deletion" else family
    wanted = lead.summary(lead.skills(kept(table, state), family), "overall")
    ends = ("low", "high") if interval else ("low_here", "high_here")
    shown = board(browser)
    ranked = shown.dropna(subset="skill")
    assert set(ranked["method"]) == set(wanted.dropna(subset="skill")["method"])
    assert len(ranked) >= 3
    same(ranked, wanted, ends)
    assert complaints(browser) == []


def test_the_first_screen_has_the_answer(browser, page, quick):
    visit(browser, page)
    best = quick.boards["overall"]["method"][0]
    row = browser.find_element("css selector", "#board tbody tr")
    assert row.get_attribute("data-method") == best
    assert row.location["y"] + row.size["height"] < 900
    assert row.find_element("css selector", "svg.mark").is_displayed()
    overview = browser.find_element("css selector", ".overview")
    assert overview.location["y"] < 400


def test_a_click_sorts_and_another_turns_it(browser, page):
    visit(browser, page)
    head = "#board th[data-key='{}']"
    for key, first in (("method", "ascending"), ("skill", "descending")):
        browser.find_element("css selector", head.format(key) + " button").click()
        assert browser.find_element("css selector", head.format(key)).get_attribute("aria-sort") == first
    shown = board(browser).dropna(subset="skill")
    assert list(shown["skill"]) == sorted(shown["skill"], reverse=True)
    browser.find_element("css selector", head.format("skill") + " button").click()
    turned = board(browser)
    assert list(turned["skill"].dropna()) == sorted(turned["skill"].dropna())
    assert turned["skill"].isna().to_numpy()[-1]  # who is not ranked is last either way
    browser.find_element("css selector", head.format("method") + " button").click()
    assert list(board(browser)["method"]) == sorted(board(browser)["method"])
    assert "sort=method.asc" in browser.current_url
    assert complaints(browser) == []


def test_the_keyboard_sorts_and_keeps_its_place(browser, page):
    from selenium.webdriver.common.keys import Keys

    visit(browser, page)
    button = browser.find_element("css selector", "#board button[data-sort='method']")
    browser.execute_script("arguments[0].focus()", button)
    button.send_keys(Keys.ENTER)
    assert list(board(browser)["method"]) == sorted(board(browser)["method"])
    assert browser.switch_to.active_element.get_attribute("data-sort") == "method"
    browser.switch_to.active_element.send_keys(Keys.SPACE)
    assert list(board(browser)["method"]) == sorted(board(browser)["method"], reverse=True)


def test_filters_and_search_are_kept_in_the_address(browser, page, quick):
    visit(browser, page)
    choose(browser, "metric", "auroc")
    choose(browser, "model", "mlp")
    browser.find_element("name", "q").send_keys("grad")
    shown, address = board(browser), browser.current_url
    assert {"smooth_grad", "integrated_gradients"} <= set(shown["method"])
    assert all("grad" in method for method in shown["method"])
    wanted = lead.summary(
        lead.skills(kept(quick.tables.scores, {"metric": "auroc", "model": "mlp"}), lead.RANKED_BY), "overall"
    )
    same(shown.dropna(subset="skill"), wanted, ("low_here", "high_here"))
    browser.get("about:blank")
    browser.get(address)
    pd.testing.assert_frame_equal(board(browser), shown)
    assert browser.find_element("name", "q").get_attribute("value") == "grad"
    assert browser.find_element("name", "model").get_attribute("value") == "mlp"
    browser.find_element("css selector", "#filters button[type='reset']").click()
    assert len(board(browser)) == quick.tables.scores["method"].nunique()
    assert "#" not in browser.current_url
    assert complaints(browser) == []


def test_an_address_from_elsewhere_does_no_harm(browser, page):
    visit(browser, page, model="no such model", sort="nothing.up", problem=EVIL)
    assert board(browser)["skill"].notna().sum() > 3
    assert complaints(browser) == []


def test_every_chart_is_drawn_in_both_themes(browser, page):
    from selenium.webdriver.support.ui import WebDriverWait

    visit(browser, page)
    names = [f.get_attribute("data-chart") for f in browser.find_elements("css selector", "[data-chart]")]
    assert {"curves", "difference", "profiles", "cost", "trust"} <= set(names)
    for name in names:
        figure = browser.find_element("css selector", f"[data-chart='{name}']")
        browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", figure)
        drawn = f"[data-chart='{name}'] .plot[data-drawn] svg"
        WebDriverWait(browser, 60).until(lambda d, drawn=drawn: d.find_elements("css selector", drawn))
        assert len(figure.find_element("css selector", ".plot").get_attribute("aria-label")) > 20
    before = browser.find_element("tag name", "body").value_of_css_property("background-color")
    browser.execute_script("document.getElementById('theme').click()")
    assert browser.find_element("tag name", "body").value_of_css_property("background-color") != before
    theme = browser.execute_script("return document.documentElement.dataset.theme")
    again = f"[data-chart] .plot[data-drawn='{theme}'] svg.marks"
    WebDriverWait(browser, 60).until(lambda d: len(d.find_elements("css selector", again)) == len(names))
    assert complaints(browser) == []
    browser.execute_script("document.getElementById('theme').click()")


def test_the_numbers_of_a_chart_can_be_read(browser, page):
    visit(browser, page)
    details = browser.find_element("css selector", "[data-rows='cost']")
    browser.execute_script("arguments[0].open = true", details)
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 10).until(lambda d: details.find_elements("css selector", "tbody tr"))
    assert len(details.find_elements("css selector", "tbody tr")) > 5


def test_nothing_is_fetched(browser, page):
    visit(browser, page)
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [name for name in fetched if not name.startswith("data:")] == []


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_not_wider_than_the_screen(browser, page, width):
    visit(browser, page, width)
    for details in browser.find_elements("css selector", "details"):
        browser.execute_script("arguments[0].open = true", details)
    wide = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1] == width
    box = browser.find_element("css selector", ".board")
    before = box.find_element("css selector", "tbody .method").location["x"]
    browser.execute_script("arguments[0].scrollLeft = 300", box)
    after = box.find_element("css selector", "tbody .method").rect["x"]
    assert after <= before + 1  # the names stay in sight
    assert complaints(browser) == []


def test_every_control_has_a_name(browser, page):
    visit(browser, page)
    nameless = browser.execute_script(
        """return [...document.querySelectorAll("select, input, button")].filter((one) =>
             !(one.labels && one.labels.length) && !one.textContent.trim() && !one.ariaLabel).length"""
    )
    assert nameless == 0


def test_the_page_of_quick_is_small(page):
    assert page.stat().st_size < 8_000_000


def test_two_thousand_methods_sort_and_filter(browser, tmp_path):
    rng = np.random.default_rng(1)
    skills = {f"method_{i:04d}": float(s) for i, s in enumerate(rng.permutation(2000) / 2000)}
    path = small(scores(skills), tmp_path)
    assert path.stat().st_size < 8_000_000
    visit(browser, path)
    shown = board(browser)
    assert len(shown) == 2000
    assert list(shown["skill"]) == sorted(shown["skill"], reverse=True)
    browser.find_element("css selector", "#board button[data-sort='method']").click()
    assert board(browser)["method"].is_monotonic_increasing
    browser.find_element("name", "q").send_keys("_19")
    assert len(board(browser)) == 100
    choose(browser, "noise", "n=9")
    assert len(board(browser)) == 100
    assert complaints(browser) == []


def test_a_name_is_shown_and_not_run(browser, tmp_path):
    table = scores({EVIL: 0.9, "a|b$c`d & e": 0.5, "random": 0.0})
    table.loc[0, ["status", "reason"]] = ["failed", EVIL]
    path = small(table, tmp_path, overview=[f"`{EVIL}` is best."])
    visit(browser, path)
    assert browser.title != "run"
    assert set(board(browser)["method"]) == {EVIL, "a|b$c`d & e", "random"}
    assert EVIL in browser.find_element("css selector", "#board").text.replace("\n", "")
    assert EVIL in browser.find_element("css selector", ".overview").text
    assert complaints(browser) == []


def test_cells_without_a_score_are_filtered_by_method(browser, page, quick):
    visit(browser, page)
    table = quick.tables.scores
    lost = table[table["status"].isin(list(html.WHY))]
    counts = "[...document.querySelectorAll('.reason .count')]"
    said = f"return {counts}.map((one) => Number(one.textContent.replaceAll(',', '')))"
    assert math.fsum(browser.execute_script(said)) == len(lost)
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", "reason-method")).select_by_value("tree_shap")
    assert math.fsum(browser.execute_script(said)) == (lost["method"] == "tree_shap").sum()


def test_a_link_to_a_section_keeps_the_selection(browser, page):
    visit(browser, page, model="mlp")
    link = browser.find_element("css selector", "nav a[href='#cost']")
    browser.execute_script("arguments[0].click()", link)
    assert "model=mlp" in browser.current_url
    assert "at=cost" in browser.current_url
