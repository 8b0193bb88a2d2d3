"""The page as text: everything in it, nothing from outside, and nothing that a name could break."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from assay.benchmarks import html, payload
from assay.benchmarks import leaderboard as lead
from assay.benchmarks.charts import Chart, agreement, charts, cost, curves
from assay.benchmarks.diagrams import MOST
from assay.benchmarks.findings import Findings
from assay.benchmarks.leaderboard import Tables
from assay.benchmarks.store import COLUMNS

EVIL = "<script>alert(1)</script>"
MADE = {
    "suite": "small",
    "command": "assay run small --out 'a & b'",
    "config": {"title": "A small suite"},
    "config_hash": "abc123",
    "plugins": {"method": {"saliency": "1"}},
    "versions": {"python": "3.11"},
    "git_commit": "0123456789abcdef",
    "machine": {"cores": 2, "device": "cpu"},
    "tables": {"scores": "feedbeef"},
    "start": "2026-01-01T00:00:00+00:00",
    "end": "2026-01-02T00:00:00+00:00",
}


def scores(methods=("saliency", "random"), seeds=2, problems=3):
    """A whole grid, in which each method is worse than the one before it."""
    rng = np.random.default_rng(0)
    rows = [
        {"dataset": "d", "parameters": f"p={p}", "noise": noise, "model": "mlp", "method": method}
        | {"metric": metric, "family": lead.RANKED_BY, "seed": seed, "status": "ok", "reason": ""}
        | {
            "model_seed": 0,
            "method_seed": 0,
            "skill": 0.9 - 0.2 * i + rng.normal(0, 0.02),
            "value": 0.5,
            "chance": 0.1,
            "ceiling": 1.0,
        }
        for p in range(problems)
        for noise in ("columns=0", "columns=9")
        for metric in ("auroc", "uscore")
        for seed in range(seeds)
        for i, method in enumerate(methods)
    ]
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS["scores"]))


def findings(table, folder=Path("nowhere"), **more):
    """What `findings.find` would hand over, with the least that there can be."""
    empty = {name: pd.DataFrame(columns=list(COLUMNS[name])) for name in ("agreement", "models")}
    methods = list(dict.fromkeys(table["method"]))
    costs = pd.DataFrame({"method": methods, "seconds_per_row": np.geomspace(1e-4, 1e-2, len(methods))})
    costs = costs.assign(control=(costs["method"] == "random").astype(float), dataset="d")
    costs = costs.reindex(columns=list(COLUMNS["costs"]))
    for column in ("model_rows_per_row", "backward_rows_per_row", "peak_mb"):
        costs[column] = 1.0
    tables = Tables(scores=table, costs=costs, **empty)
    boards = {"overall": lead.leaderboard(tables, "overall")}
    nothing = pd.DataFrame()
    made = Findings(folder, "small", tables, MADE, boards, pairs=nothing, overview=["`saliency` is best."])
    return dataclasses.replace(made, **more)


def data(page):
    """The JSON that the page carries."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


@pytest.fixture(scope="module")
def page():
    return html.render(findings(scores()))


def test_the_page_says_what_was_run_and_how(page):
    for said in ("<h1>small</h1>", "A small suite", "<code>saliency</code> is best.", "0123456789abcdef"):
        assert said in page
    assert "assay run small --out &#39;a &amp; b&#39;" in page
    assert "<dt>machine</dt><dd>cores 2, device cpu</dd>" in page
    assert "<dd>scores feedbeef</dd>" in page
    assert "48 scores · 2 methods · 3 problems · 2 seeds · 2026-01-02" in page


def test_nothing_is_loaded_from_outside(page):
    body = re.sub(r'<script type="text/plain".*?</script>', "", page, flags=re.DOTALL)
    for address in re.findall(r'(?:src|href)="([^"]*)"', body):
        assert address.startswith(("#", "data:")), address
    assert not re.search(r"url\(|@import|<link(?![^>]*data:,)", body)
    assert "default-src 'none'" in body


def test_sections_without_anything_are_left_out(page):
    for name in ("noise", "difference", "profiles", "agreement", "trust", "shortcuts", "sources", "gallery"):
        assert f'<section id="{name}">' not in page
    for name in ("leaderboard", "cost", "provenance"):
        assert f'<section id="{name}">' in page


def test_a_name_is_shown_and_not_run():
    table = scores((EVIL, "a|b$c`d", "random"))
    table.loc[0, ["status", "reason"]] = ["failed", EVIL]
    said = ["`a` and `b`", f"`{EVIL}` is best", "a lone ` is kept"]
    page = html.render(findings(table, overview=said, name=EVIL))
    assert EVIL not in page
    assert "<code>&lt;script&gt;alert(1)&lt;/script&gt;</code> is best" in page
    assert "a lone ` is kept" in page
    assert data(page)["board"]["methods"] == [EVIL, "a|b$c`d", "random"]
    assert data(page)["tables"]["reasons"]["reason"] == [EVIL]


def test_script_elements_end_where_they_should(page):
    """No text within one can close it: as many ends as beginnings, outside of Vega's own text."""
    body = re.sub(r'<script type="text/plain".*?</script>', "", page, flags=re.DOTALL)
    assert len(re.findall(r"<script\b", body)) == len(re.findall(r"</script>", body)) == 3


def test_json_cannot_leave_its_element():
    text = payload.script({"a": "</script><!-- & \u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!-- & \u2028"}


def test_cells_are_all_there_and_can_be_decoded():
    table = scores(("a", "b", "c"))
    table.loc[4, "skill"] = np.nan
    board = payload.board(table, findings(table).boards["overall"])
    wide = lead.skills(table, lead.RANKED_BY)
    decoded = np.array(board["skill"], dtype=float).T / 10.0 ** board["decimals"]
    assert np.allclose(decoded, wide.to_numpy(float), atol=1e-7, rtol=0, equal_nan=True)
    assert [board["names"]["noise"][c] for c in board["cells"]["noise"]] == list(
        wide.index.get_level_values("noise")
    )
    problems = [tuple(board["names"]["problem"][c]) for c in board["cells"]["problem"]]
    assert problems == [place[:2] for place in wide.index]


def test_no_skill_at_all_is_a_page_too():
    table = scores().assign(skill=np.nan, status="failed", reason="broke")
    board = data(html.render(findings(table)))["board"]
    assert board["methods"] == ["saliency", "random"]
    assert board["cells"]["seed"] == []


def test_the_polynomial_is_students_quantile():
    freedom = np.concatenate([np.linspace(1, 40, 400), np.geomspace(40, 1e7, 100)])
    found = np.polynomial.chebyshev.chebval(2 / freedom - 1, payload.quantile_polynomial())
    assert np.allclose(found, student.ppf(0.975, freedom), rtol=0, atol=1e-9)


def test_plain_columns():
    assert payload.plain(pd.Series([1.0, np.nan, 0.123456789, np.inf])) == [1, None, 0.1234568, None]
    assert payload.plain(pd.Series(["a", None])) == ["a", None]
    assert payload.plain(pd.Series([True, False])) == [True, False]


def test_the_frontier_is_of_the_real_methods_that_none_beats():
    board = pd.DataFrame({"method": list("abcdr"), "skill": [0.2, 0.1, 0.5, 0.4, 0.3]})
    board["seconds_per_row"] = [1, 2, 3, 4, 0.5]
    board = board.assign(low_here=0.0, high_here=1.0, control=board["method"] == "r")
    found = cost(board)
    assert isinstance(found, Chart)
    assert list(found.rows.loc[found.rows["frontier"], "method"]) == ["a", "c"]
    assert "a, c." in found.says
    assert cost(board.head(1)) is None


def test_curves_have_a_panel_for_each_axis_of_each_problem():
    frame = pd.DataFrame({"dataset": "d", "parameters": ["p=1", "p=1", "p=2", "p=2"], "axis": "columns"})
    frame = frame.assign(held=["", "", "x", "x"], level=[0.0, 1.0, 0.0, 1.0], method="m", skill=0.5)
    found = curves(frame.assign(low=0.4, high=0.6), ["m"])
    assert found.panels == [("d[p=1]: columns", "columns"), ("d[p=2]: columns (x)", "columns")]
    assert list(found.rows["panel"]) == [0, 0, 1, 1]


def test_agreement_names_the_closest_pair():
    matrix = pd.DataFrame([[1.0, 0.2, 0.9], [0.2, 1.0, 0.1], [0.9, 0.1, 1.0]], list("abc"), list("abc"))
    found = agreement(matrix, ["b", "a"])
    assert "a and c (0.90)" in found.says
    assert list(found.rows["method"].unique()) == ["b", "a", "c"]
    assert len(found.rows) == 9


def test_every_chart_is_valid_and_knows_no_address():
    for chart in charts(findings(scores())).values():
        assert "http" not in json.dumps(chart.spec)
        assert chart.says


def test_cells_without_a_score_are_counted_by_reason():
    table = scores()
    table.loc[[0, 2], ["status", "reason"]] = ["failed", "out of memory"]
    table.loc[[4], ["status", "reason"]] = ["trivial", ""]
    found = data(html.render(findings(table)))["tables"]["reasons"]
    assert found["cells"] == [2, 1]
    assert found["reason"] == ["out of memory", "no attribution could be wrong here"]
    assert found["status"] == ["failed", "trivial"]


def test_a_gallery_is_in_the_page_and_a_large_one_is_made_smaller(tmp_path, monkeypatch):
    from PIL import Image

    path = tmp_path / "gallery.png"
    noise = np.random.default_rng(0).integers(0, 256, (1300, 1300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    assert html.gallery(path).startswith("data:image/jpeg;base64,")
    assert len(html.gallery(path)) < html.LARGEST * 4 / 3 + 100
    Image.fromarray(noise[:20]).save(path)
    assert html.gallery(path).startswith("data:image/png;base64,")
    assert html.gallery(tmp_path / "none.png") == ""


def test_the_pairs_of_many_methods_are_those_of_the_best():
    table = scores([f"method_{i:03d}" for i in range(100)], problems=1)
    every = pd.DataFrame(itertools.combinations(dict.fromkeys(table["method"]), 2), columns=["a", "b"])
    every = every.assign(difference=0.1, low=0.0, high=0.2, better=0.9)
    page = html.render(findings(table, pairs=every))
    pairs = data(page)["tables"]["pairs"]
    assert len(pairs["a"]) == MOST * (MOST - 1) // 2
    assert "method_000" in pairs["a"]
    assert "method_099" not in pairs["b"]
    assert f"of the best {MOST}" in page


def test_bibtex_holds_the_commit_and_no_bare_special_character():
    entry = html.bibtex("a_b%", MADE)
    assert entry.startswith("@misc{assay-a-b-,")
    assert "a\\_b\\%" in entry
    assert "commit 0123456789ab, configuration abc123" in entry
    assert "year = {2026}" in entry
    assert "year" not in html.bibtex("x", {})


def test_a_page_of_a_hundred_thousand_cells_is_small():
    rng = np.random.default_rng(0)
    table = scores([f"method_{i}" for i in range(100)], seeds=2, problems=125)
    table["skill"] = rng.random(len(table))
    assert len(table) == 100_000
    board = payload.board(table, pd.DataFrame({"method": [], "note": []}))
    assert len(payload.script(board)) < 3_000_000


@pytest.mark.parametrize(
    "made",
    [{"suite": "quick"}, {"config": None, "plugins": ["a"]}, {"config": [1], "plugins": {"method": None}}],
)
def test_a_manifest_that_says_little_or_something_else_makes_a_page(made):
    page = html.render(findings(scores(), made=made))
    assert "<h1>small</h1>" in page
    assert "None" not in html.bibtex("small", {"git_commit": None, "end": None})


def test_errors_have_a_setting_where_one_differs():
    rows = {"method": ["m", "m"], "model": "mlp", "estimator": 0.1, "setting": ["", ""]}
    for setting, shown in (("", False), ("direction=true", True)):
        errors = pd.DataFrame(rows).assign(setting=["", setting])
        found = data(html.render(findings(scores(), errors=errors)))["tables"]["errors"]
        assert ("setting" in found) == shown
