"""The parts of the report beside the leaderboards: notes, errors on the exact function, errors by budget."""

import json
import re

import pandas as pd
import pytest

from assay.benchmarks import estimators, html, leaderboard, provenance, report
from assay.benchmarks.leaderboard import Tables
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.store import COLUMNS, TEXT, WORDS

load_plugins()
PLACE = {
    "dataset": "d",
    "parameters": "p",
    "noise": "n",
    "family": "ground truth",
    "metric": "attribution_error",
    **{"model_seed": 0, "method_seed": 0},
}


def score(method, value, **changed):
    row = {**PLACE, "model": "oracle", "method": method, "seed": 0, "value": value, "skill": 0.5}
    return row | {"chance": 1.0, "ceiling": 0.0, "status": "ok", "reason": "", "version": "1"} | changed


def tables(rows, **estimands):
    scores = pd.DataFrame(rows)
    costs = pd.DataFrame(
        [
            {"method": m, "estimand": e, "seconds_per_row": 1.0, "model_rows_per_row": 1.0}
            for m, e in estimands.items()
        ]
    )
    agreement = pd.DataFrame(columns=["method", "other", "metric", "status", "value"])
    models = pd.DataFrame()
    return Tables(scores, agreement, models, costs)


def test_the_error_on_the_exact_function_is_of_the_oracle_and_of_attribution_error_alone():
    rows = [score("a", 0.1), score("a", 0.3, seed=1), score("b", 0.01), score("a", 9.0, model="mlp")]
    rows += [score("a", 9.0, metric="uscore"), score("b", None, seed=1)]
    found = estimators.exact_errors(tables(rows, a="shapley", b="ablation (marginal)"))
    assert found["method"].tolist() == ["b", "a"]
    assert found["estimand"].tolist() == ["ablation (marginal)", "shapley"]
    assert found["mean error"].tolist() == pytest.approx([0.01, 0.2])
    assert found["worst cell"].tolist() == pytest.approx([0.01, 0.3])
    assert found["cells"].tolist() == [1, 2]


def test_the_error_by_budget_is_by_noise_and_empty_where_a_cell_lacks():
    budgets = {
        "k[budget=10]": ("k", 10),
        "k[budget=99]": ("k", 99),
        "s[budget=10]": ("s", 10),
        "s": ("s", 99),
    }
    rows = [score(m, v) for m, v in zip(budgets, (0.4, 0.2, 0.5, 0.3), strict=True)]
    rows += [score(m, v, seed=1) for m, v in zip(budgets, (0.2, 0.2, None, 0.3), strict=True)]
    rows += [score("k[budget=10]", 0.9, noise="more"), score("k[budget=99]", 0.8, noise="more")]
    rows += [score("s[budget=10]", None, noise="more", status="skipped"), score("s", 0.7, noise="more")]
    rows += [score("once", 0.7)]
    found = estimators.error_by_budget(pd.DataFrame(rows), budgets | {"once": ("once", 10)})
    assert list(found) == ["n", "more"]
    few, more = (curve.astype(object).where(curve.notna(), None) for curve in found.values())
    assert few.loc["k"].tolist() == pytest.approx([0.3, 0.2])
    assert few.loc["s"].tolist() == [None, pytest.approx(0.3)]  # not over easier cells than another's
    assert more.loc["k"].tolist() == pytest.approx([0.9, 0.8])
    assert more.loc["s"].tolist() == [None, pytest.approx(0.7)]


def test_budgets_are_those_that_the_methods_were_given():
    costs = pd.DataFrame(
        {
            "method": [
                "kernel_shap[budget=64,value=marginal]",
                "kernel_shap",
                "gradient",
                "odd[budget=small]",
            ],
            "budget": [64.0, 2048.0, "", "small"],
        }
    )
    assert estimators.budgets(costs) == {
        "kernel_shap[budget=64,value=marginal]": ("kernel_shap[value=marginal]", 64),
        "kernel_shap": ("kernel_shap", 2048),  # the default
    }


def test_a_note_says_what_is_broken_where_and_by_how_much():
    broken = "promise broken: misses f(x) - f(everything absent) by {}% on average"
    rows = [
        score(
            "m",
            0.1,
            model="mlp",
            reason="is input x gradient at GELU: captum has no rule; " + broken.format(12.5),
        ),
        score("m", 0.1, model="net", reason=broken.format(80.0)),
        score("m", None, model="trees", status="skipped", reason="needs a gradient, and trees has none"),
        score("m", None, model="odd", status="failed", reason="m raised ValueError: no: 1; 2"),
    ]
    assert leaderboard._note(pd.DataFrame(rows)) == (
        "is input x gradient at GELU on mlp; promise broken on mlp, net (by up to 80%); failed on odd"
    )
    assert leaderboard._note(pd.DataFrame([score("m", 0.1)])) == ""


NAMES = ["evil<script>alert(1)</script>", "a|b", "two\nlines", "$x$", "[l](http://u)"]


def folder_of(folder, names, **made):
    """A results folder in which methods, a dataset and models have these names."""
    place = {"dataset": names[0], "parameters": names[1], "model": names[2], "seed": 0, "version": "1/1/1/1"}
    rows = [
        place
        | {"noise": f"n={noise}", "method": method, "metric": metric, "family": family, "seed": seed}
        | {
            "value": 0.5,
            "skill": 0.9 - i / 9 - noise / 50 + seed / 99,
            "status": "ok",
            "reason": f"said of {method}",
        }
        for i, method in enumerate(names)
        for metric, family in (("auroc", "ground truth"), ("deletion", "faithfulness"))
        for noise in range(4)
        for seed in range(2)
    ]
    cells = pd.DataFrame(rows)
    pairs = [
        r | {"other": other, "metric": "spearman"} for r in rows for other in names if r["metric"] == "auroc"
    ]
    pairs = [r for r in pairs if r["method"] < r["other"]]
    models = cells.drop_duplicates(["noise", "seed"]).assign(quality=0.9, learned=1)
    metrics = {"metric": ["auroc", "deletion"], "best": 1, "worst": 0, "caveat": names[0]}
    costs = cells[cells["metric"] == "auroc"].assign(seconds_per_row=1.0, control=0)
    frames = {"scores": cells, "agreement": pairs, "models": models, "metrics": metrics, "costs": costs}
    for name, frame in frames.items():
        numbers = {c: 0 for c in COLUMNS[name] if c not in (*TEXT, *WORDS, "budget")}
        pd.DataFrame(frame).reindex(columns=list(COLUMNS[name])).fillna(numbers).to_csv(
            folder / f"{name}.csv", index=False
        )
    (folder / "manifest.json").write_text(json.dumps(made))


def test_no_name_in_the_page_is_markup(tmp_path):
    folder_of(tmp_path, NAMES, suite=NAMES[0], command=f"assay run '{NAMES[0]}'", end=NAMES[0])
    report.write(tmp_path)
    text = (tmp_path / "leaderboard.md").read_text()
    assert "<script" not in re.sub(r"`[^`\n]*`", "", text)  # what is in code is shown
    assert text.count("evil&lt;script&gt;") > 20
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) > 8
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, lines[0]
        assert all(line.startswith("|") for line in lines)
    assert not re.search(r"(?<!\\)\$x", re.sub(r"`[^`\n]*`", "", text))


def test_names_are_escaped_once(tmp_path):
    folder_of(tmp_path, NAMES)
    report.write(tmp_path)
    text = (tmp_path / "leaderboard.md").read_text()
    assert "&amp;lt;" not in text
    assert r"a\\" not in text


@pytest.mark.parametrize(
    "made", [{"suite": "quick"}, {"suite": "quick", "git_commit": None, "end": None, "config": None}]
)
def test_a_manifest_that_says_little_is_reported(tmp_path, made):
    folder_of(tmp_path, ["a", "b", "c"], **made)
    found = report.write(tmp_path)
    text = (tmp_path / "leaderboard.md").read_text()
    assert text.startswith("# Leaderboard: quick")
    assert "Made by a command not known at commit unknown, unfinished." in text
    assert "<h1>quick</h1>" in html.render(found)


def test_versions_that_do_not_say_all_are_no_versions():
    place = {"dataset": ["d", "d"], "model": "m", "method": ["a", "b"], "metric": "u"}
    whole = pd.DataFrame({**place, "version": ["1/1/1/1", "1/1/2/1"]})
    for text in ("1", "", "1/1", "1/1/1/1/1"):
        found = provenance.versions(whole, pd.DataFrame({**place, "version": [text, "1/1/3/1"]}))
        assert found.values.tolist() == [["method b", "version 2", "version 3"]]
        assert provenance.versions(whole, pd.DataFrame({**place, "version": text})).empty
