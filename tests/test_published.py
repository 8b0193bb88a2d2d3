"""What the README shows is what was measured, and the committed tables say how they were made."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from assay.benchmarks import estimators, leaderboard, shortcuts, trust
from assay.benchmarks.findings import load
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import METHODS, METRICS
from assay.benchmarks.tables import read_table

load_plugins()
ROOT = Path(__file__).resolve().parent.parent
QUICK = ROOT / "results" / "reference" / "quick"
SUITES = ["quick", "methods", "metrics", "budget", "reference", "vision", "audio"]
SUITES += ["spurious", "games", "end_tasks", "seeds", "splits"]


def test_the_readme_shows_the_committed_leaderboard():
    block = re.search(r"<!-- leaderboard[^>]*-->\n(.*?)\n<!--", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    section = (QUICK / "leaderboard.md").read_text().split("## Overall")[1].split("##")[0]
    assert block[1].strip() in section


@pytest.mark.parametrize("suite", SUITES)
def test_the_committed_leaderboard_follows_from_the_committed_scores(suite):
    scores = read_table(QUICK.parent / suite, "scores")
    again = leaderboard.summary(leaderboard.skills(scores, leaderboard.judge(scores)), "overall")
    board = pd.read_csv(QUICK.parent / suite / "leaderboard.csv")
    board = board[board["scope"] == "overall"].set_index("method")
    for row in again.itertuples():
        for column in ("skill", "low", "high", "rank"):
            assert board.loc[row.method, column] == pytest.approx(getattr(row, column), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("suite", SUITES)
def test_the_manifest_says_how_the_tables_were_made(suite):
    made = json.loads((QUICK.parent / suite / "manifest.json").read_text())
    assert re.fullmatch(r"[0-9a-f]{40}", made["git_commit"])  # a clean commit, nothing changed since
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    for package in ("torch", "captum", "shap", "numpy"):
        assert made["versions"][package].split("+")[0] == pins[package]


def test_the_published_means_are_remade():
    """Of arXiv 2406.12150, 15 functions with 100 irrelevant columns; its DeepLift is input x gradient."""
    scores = read_table(QUICK.parent / "reference", "scores")
    found = scores.groupby(["metric", "method"])["value"].mean()
    published = {
        ("functional_precision", "saliency"): 0.822,
        ("functional_precision", "deep_lift[rule=captum]"): 0.690,
        ("functional_precision", "integrated_gradients"): 0.719,
        ("functional_precision", "feature_ablation"): 0.665,
        ("uscore", "integrated_gradients"): 0.563,
        ("uscore", "feature_ablation"): 0.490,
    }
    for cell, value in published.items():
        assert found[cell] == pytest.approx(value, abs=0.02), cell
    note = scores.loc[scores["method"] == "deep_lift[rule=captum]", "reason"]
    assert note.str.contains("is input x gradient at GELU").all()


EXACT = ["gradient", "saliency", "input_x_gradient", "integrated_gradients", "feature_ablation"]
EXACT += ["exact_shapley", "shap_exact"]


@pytest.mark.parametrize("method", EXACT)
def test_on_the_exact_function_an_exact_method_has_no_error_to_speak_of(method):
    scores = read_table(QUICK.parent / "methods", "scores")
    mine = scores[(scores["model"] == "oracle") & (scores["method"] == method)]
    errors = mine.loc[mine["metric"] == "attribution_error", "value"].dropna()
    assert len(errors) >= 6
    assert errors.max() < 1e-5


def test_every_method_has_scores_in_a_committed_table():
    """Of tables, of pictures, of sound or of end tasks, with some parameters."""
    scored = set()
    for suite in ("methods", "vision", "audio", "end_tasks"):
        scores = read_table(QUICK.parent / suite, "scores")
        assert len(scores), suite
        assert "failed" not in set(scores["status"]), suite
        scored |= {text.partition("[")[0] for text in scores.loc[scores["status"] == "ok", "method"]}
    assert scored == {plugin.name for plugin in METHODS}


def test_the_committed_trust_follows_from_the_committed_scores():
    found = trust.tidy(trust.load_trust(QUICK.parent / "metrics"))
    published = pd.read_csv(QUICK.parent / "metrics" / "trust.csv")
    assert list(found["metric"]) == list(published["metric"])
    for column in ("tau", "tau_real", "low_real", "high_real"):
        assert found[column].tolist() == pytest.approx(published[column].tolist(), abs=1e-9, nan_ok=True)


def test_every_metric_has_scores_in_a_committed_table():
    """With some parameters."""
    scored = set()
    for suite in ("metrics", "quick", "vision", "audio", "spurious", "games", "end_tasks", "splits"):
        scores = read_table(QUICK.parent / suite, "scores")
        assert "failed" not in set(scores["status"]), suite
        scored |= {text.partition("[")[0] for text in scores.loc[scores["value"].notna(), "metric"]}
    assert scored == {plugin.name for plugin in METRICS}


def test_the_committed_answer_about_shortcuts_follows_from_the_committed_tables():
    """And says what the page about it says."""
    folder = QUICK.parent / "spurious"
    text = (folder / "leaderboard.md").read_text()
    tables = load(folder)
    assert "\n\n".join(shortcuts.section(shortcuts.answers(tables), tables)) in text
    assert text.index("From 0.") < text.index("## Overall")


def test_more_budget_is_less_error():
    budgets = estimators.budgets(pd.read_csv(QUICK.parent / "budget" / "costs.csv.gz"))
    curves = estimators.error_by_budget(read_table(QUICK.parent / "budget", "scores"), budgets)
    assert len(curves) == 2
    for noise, curve in curves.items():
        for method, errors in curve.iterrows():
            known = errors.dropna()
            assert len(known) > 1, (noise, method)
            assert known.iloc[-1] < known.iloc[0], (noise, method)


def test_no_page_has_a_place_left_to_be_filled():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        assert not re.search(r"[A-Z]{3,}_(TIME|TABLE)|@[A-Z]{3,}", page.read_text()), page.name
