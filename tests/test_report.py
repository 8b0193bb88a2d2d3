"""The parts of the report beside the leaderboards: notes, errors on the exact function, errors by budget."""

import pandas as pd
import pytest

from assay.benchmarks import estimators, leaderboard
from assay.benchmarks.leaderboard import Tables
from assay.benchmarks.runner import load_plugins

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
