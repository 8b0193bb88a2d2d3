"""Who is better than whom: on the cells that all share, each problem once, with those that count alone."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest

from assay.benchmarks.accord import agreement_matrices, agreement_matrix
from assay.benchmarks.leaderboard import (
    RANKED_SHARE,
    Tables,
    by_group,
    code,
    in_prose,
    leaderboard,
    leaderboards,
    markdown_table,
    mean_skill,
    model_table,
    reasons,
    shared,
    skills,
    summary,
)
from assay.benchmarks.store import COLUMNS

TRUTH, FAITH = "ground truth", "faithfulness"


def score(method, skill, **changed):
    """One row of scores.csv; skill None: without one."""
    row = {
        "dataset": "d",
        "parameters": "",
        "noise": "columns=1",
        "model": "easy",
        "method": method,
        "metric": "auroc",
        "family": TRUTH,
        **{"seed": 0, "model_seed": 0, "method_seed": 0},
        "skill": math.nan if skill is None else skill,
        "value": 0.5,
        "rows": 10,
        "nan_rows": 0,
        "status": "ok" if skill is not None else "skipped",
        "reason": "" if skill is not None else "needs a gradient",
        "version": "1",
    }
    return row | changed


def table(name, rows):
    columns = [c for c in COLUMNS[name] if c != "seconds" or name == "costs"]
    return pd.DataFrame(rows, columns=columns)


def tables(scores, agreement=(), models=(), costs=()):
    return Tables(
        table("scores", scores), table("agreement", agreement), table("models", models), table("costs", costs)
    )


def board(scores, **others):
    found = leaderboard(tables(scores, **others), "overall")
    return found.set_index("method")


def grid(skill_of, **axes):
    """Rows for every combination of the axes; skill_of(method, **cell) is the skill or None."""
    names = list(axes)
    cells = [dict(zip(names, values, strict=True)) for values in itertools.product(*axes.values())]
    return [score(skill=skill_of(**cell), **cell) for cell in cells]


# ---- shared cells ---------------------------------------------------------------------------------------


def test_a_method_that_is_skipped_on_the_hard_model_gains_no_rank():
    """b is better than a wherever both are; a has no skill on the model where all do badly."""

    def skill(method, model, seed):
        if model == "hard":
            return None if method == "a" else 0.1
        return {"a": 0.7, "b": 0.8}[method]

    found = board(grid(skill, method=["a", "b"], model=["easy", "hard"], seed=[0, 1]))
    assert found["rank"].to_dict() == {"a": 2, "b": 1}
    assert found["skill"].to_dict() == pytest.approx({"a": 0.7, "b": 0.8})
    assert found["skipped"].to_dict() == {"a": 2, "b": 0}


@pytest.mark.parametrize("status", ["trivial", "undefined", "broken", "unlearned", "failed", "skipped"])
def test_only_cells_that_are_ok_count_whatever_number_they_hold(status):
    rows = [score(m, s) for m, s in (("a", 0.2), ("b", 0.4))]
    rows += [score(m, 9.0, seed=1, status=status) for m in "ab"]
    found = board(rows)
    assert found["skill"].to_dict() == {"a": 0.2, "b": 0.4}
    assert found[status].to_dict() == {"a": 1, "b": 1}
    assert found["ok"].to_dict() == {"a": 1, "b": 1}


def test_a_cell_that_one_ranked_method_lacks_counts_for_none():
    rows = grid(lambda method, seed: 0.1 * seed, method=["a", "b"], seed=[0, 1, 2, 3])
    rows[0] |= {"status": "failed", "skill": math.nan}  # a, seed 0
    wide = skills(table("scores", rows), TRUTH)
    assert shared(wide).index.get_level_values("seed").tolist() == [1, 2, 3]
    assert board(rows)["skill"].to_dict() == pytest.approx({"a": 0.2, "b": 0.2})


def few(count, of=16):
    """a and b with `of` cells, c with the first `count` of them."""
    return grid(
        lambda method, seed: (
            (0.9 if method == "c" else 0.1 * (seed + 1)) if method != "c" or seed < count else None
        ),
        method=["a", "b", "c"],
        seed=list(range(of)),
    )


def test_a_method_with_too_few_cells_is_listed_and_not_ranked_and_takes_no_cells_away():
    count = math.ceil(RANKED_SHARE * 16) - 1
    found = board(few(count))
    assert math.isnan(found.loc["c", "rank"])
    assert math.isnan(found.loc["c", "skill"])
    assert found.loc["a", "skill"] == pytest.approx(0.85)  # over all 16 cells
    assert found.loc["c", "ok"] == count
    assert list(found.index)[-1] == "c"


def test_a_method_with_just_enough_cells_is_ranked_on_them():
    found = board(few(math.ceil(RANKED_SHARE * 16)))
    assert found.loc["c", "rank"] == 1
    assert found.loc["a", "skill"] == pytest.approx(0.25)  # of the cells that c has too: 0.1 to 0.4


def test_two_methods_without_a_common_cell_do_not_take_the_ranks_of_all_the_others():
    """One for trees alone and one for networks alone: those that explain both can still be compared."""

    def skill(method, model):
        if (method, model) in {("for trees", "network"), ("for networks", "tree")}:
            return None
        return {"a": 0.7, "b": 0.8}.get(method, 0.5)

    methods = ["a", "b", "for trees", "for networks"]
    found = board(grid(skill, method=methods, model=["tree", "network"]))
    assert found.loc["b", "rank"] < found.loc["a", "rank"]


def test_another_family_has_no_part_in_the_rank():
    rows = [score("a", 0.2), score("b", 0.4)]
    rows += [
        score("a", 0.9, family=FAITH, metric="deletion"),
        score("b", 0.3, family=FAITH, metric="deletion"),
    ]
    found = board(rows)
    assert found["rank"].to_dict() == {"a": 2, "b": 1}
    assert found["faithfulness"].to_dict() == {"a": 0.9, "b": 0.3}


def test_without_any_cell_that_counts_nobody_is_ranked():
    found = board([score("a", None), score("b", None)])
    assert found["rank"].isna().all()
    assert found["skipped"].to_dict() == {"a": 1, "b": 1}
    assert board([score("a", 0.5), score("b", None)])["rank"]["a"] == 1


# ---- means and intervals --------------------------------------------------------------------------------


def test_a_problem_counts_once_however_many_cells_it_has():
    rows = [score("a", 0.0, metric=m, seed=s) for m in ("auroc", "uscore", "mass") for s in (0, 1, 2)]
    rows += [score("a", 1.0, dataset="e")]
    assert board(rows)["skill"]["a"] == 0.5


def test_ties_share_the_better_rank_and_stand_in_the_order_of_their_names():
    found = board([score("b", 0.5), score("a", 0.5), score("c", 0.1), score("d", 0.9)])
    assert list(found.index) == ["d", "a", "b", "c"]
    assert found["rank"].tolist() == [1, 2, 2, 4]


def test_a_single_cell_has_no_interval_and_several_have_one_around_the_mean():
    assert board([score("a", 0.5)])[["low", "high"]].isna().all(axis=None)
    rng = np.random.default_rng(0)
    found = board(
        [score("a", float(rng.normal()), dataset=f"d{i}", seed=s) for i in range(8) for s in (0, 1)]
    )
    assert found["low"]["a"] < found["skill"]["a"] < found["high"]["a"]


def test_intervals_are_the_same_whenever_they_are_made_and_whoever_else_is_there():
    rows = [score("a", float(i), dataset=f"d{i}") for i in range(6)]
    alone = board(rows)
    with_other = board([*rows, *(score("b", 0.0, dataset=f"d{i}") for i in range(6))])
    columns = ["skill", "low", "high"]
    assert alone.loc["a", columns].tolist() == with_other.loc["a", columns].tolist()


def functions(noise_levels, method="a"):
    """Six functions, each at several noise levels at which it has the same skill."""
    values = [0.1, 0.9, 0.4, 0.7, 0.2, 0.8]
    return [
        score(method, v, parameters=f"function={i}", noise=f"columns={n}")
        for i, v in enumerate(values)
        for n in range(noise_levels)
    ]


def test_noise_levels_of_one_function_are_no_independent_problems():
    """To repeat every function at five noise levels teaches nothing of a seventh function.

    Counted as problems of their own they narrow the interval by sqrt(5).  In a simulation of 15 functions x
    5 levels, function effects twice those of a level, it then held the truth in 65% of cases instead of 92%.
    """
    once, five = (board(functions(n)).loc["a", ["low", "high"]] for n in (1, 5))
    assert five["high"] - five["low"] == pytest.approx(once["high"] - once["low"], rel=0.05)


def test_skill_where_the_model_is_right_stands_beside_that_over_all_rows_of_the_same_cells():
    rows = [
        score("a", 0.4, skill_right=0.6, seed=0),
        score("a", 0.9, skill_right=math.nan, seed=1),  # of a regression, say: in neither column
        score("b", 0.2, skill_right=0.1, seed=0),
        score("b", 0.8, skill_right=math.nan, seed=1),
    ]
    found = by_group(table("scores", rows), "right")
    assert found.loc["a"].tolist() == pytest.approx([0.4, 0.6])
    assert found.loc["b"].tolist() == pytest.approx([0.2, 0.1])
    assert by_group(table("scores", rows[1::2]), "right").empty


def test_each_dataset_has_a_board_of_its_own_beside_the_whole():
    rows = [score("a", 0.1), score("b", 0.2), score("a", 0.9, dataset="e"), score("b", 0.0, dataset="e")]
    found = leaderboards(tables(rows))
    assert list(found) == ["overall", "d", "e"]
    assert found["d"]["method"].tolist() == ["b", "a"]
    assert found["e"]["method"].tolist() == ["a", "b"]
    assert list(leaderboards(tables(rows[:2]))) == ["overall"]


def test_a_method_listed_first_is_no_better_for_it():
    rows = grid(
        lambda method, seed: {"a": 0.1, "b": 0.5, "c": 0.3}[method], method=["c", "a", "b"], seed=[0, 1]
    )
    orders = [leaderboard(tables(r), "overall")["method"].tolist() for r in (rows, rows[::-1])]
    assert orders == [["b", "c", "a"]] * 2


def test_summary_keeps_every_method():
    wide = skills(table("scores", few(2)), TRUTH)
    assert sorted(summary(wide, "overall")["method"]) == ["a", "b", "c"]


# ---- what stands beside the rank ------------------------------------------------------------------------


def pair(method, other, value, **changed):
    row = {"dataset": "d", "parameters": "", "noise": "", "model": "m", "seed": 0, "metric": "spearman"}
    return (
        row
        | {"method": method, "other": other, "value": value, "skill": value, "status": "ok", "rows": 5}
        | changed
    )


PAIRS = [pair("a", "b", 0.2), pair("a", "c", 0.4), pair("b", "c", -0.6), pair("a", "b", 0.4, seed=1)]


def test_agreement_of_a_pair_is_symmetric_and_a_mean():
    found = agreement_matrix(table("agreement", PAIRS), "spearman")
    assert found.loc["a", "b"] == found.loc["b", "a"] == pytest.approx(0.3)
    assert found.loc["c", "b"] == found.loc["b", "c"] == -0.6
    assert list(found.index) == list(found.columns) == ["a", "b", "c"]


def test_agreement_counts_cells_that_are_ok_and_the_metric_asked_for():
    more = [
        pair("a", "b", 1.0, seed=2, status="unlearned"),
        pair("a", "b", 1.0, seed=3, metric="kendall_tau"),
        pair("a", "b", math.nan, seed=4),
    ]
    found = agreement_matrix(table("agreement", PAIRS + more), "spearman")
    assert found.loc["a", "b"] == pytest.approx(0.3)
    assert agreement_matrix(table("agreement", []), "spearman").empty


def test_a_method_agrees_with_the_others_by_the_mean_over_its_pairs():
    rows = [score(m, 0.5) for m in "abc"]
    assert board(rows, agreement=PAIRS)["agreement"].to_dict() == pytest.approx(
        {"a": (0.2 + 0.4 + 0.4) / 3, "b": (0.2 + 0.4 - 0.6) / 3, "c": (0.4 - 0.6) / 2}
    )
    assert board(rows)["agreement"].isna().all()


def test_costs_are_medians_a_row():
    costs = [
        {"method": "a", "seconds_per_row": s, "model_rows_per_row": r}
        for s, r in ((1.0, 10.0), (2.0, 10.0), (90.0, 30.0))
    ]
    found = board([score("a", 0.5), score("b", 0.5)], costs=costs)
    assert found.loc["a", "seconds_per_row"] == 2
    assert found.loc["a", "model_rows_per_row"] == 10
    assert math.isnan(found.loc["b", "seconds_per_row"])


def test_a_reader_is_told_of_broken_promises_and_failures_and_on_which_models():
    promise = "promise broken: misses f(x) - f(everything absent) by 5.0% on average"
    rows = [
        score("a", 0.5, model="mlp", reason=promise),
        score("a", 0.5, model="cnn", reason=f"is input x gradient at GELU: no rule; {promise}"),
        score("a", None, model="trees"),
        score("b", None, model="mlp", status="failed", reason="b raised ValueError: no"),
        score("c", 0.5),
    ]
    notes = board(rows)["note"]
    assert "promise broken on cnn, mlp (by up to 5%)" in notes["a"]
    assert "is input x gradient at GELU on cnn" in notes["a"]
    assert "trees" not in notes["a"]
    assert notes["b"] == "failed on mlp"
    assert notes["c"] == ""


def test_mean_skill_by_a_column_is_over_shared_cells_too():
    """A method that is skipped on the hard model must not look better by metric or by noise either."""

    def skill(method, model):
        if model == "hard":
            return None if method == "a" else 0.0
        return {"a": 0.7, "b": 0.8}[method]

    found = mean_skill(table("scores", grid(skill, method=["a", "b"], model=["easy", "hard"])), ["metric"])
    assert found.loc["b", "auroc"] > found.loc["a", "auroc"]


def test_mean_skill_by_model_is_that_of_the_model():
    rows = [score("a", 0.2), score("a", 0.4, seed=1), score("a", 0.9, model="hard"), score("b", None)]
    found = mean_skill(table("scores", rows), ["model"])
    assert found.loc["a", "easy"] == pytest.approx(0.3)
    assert found.loc["a", "hard"] == pytest.approx(0.9)


def test_models_are_averaged_over_their_seeds():
    rows = [
        {
            "dataset": "d",
            "parameters": "",
            "noise": "",
            "model": "m",
            "seed": s,
            "quality": q,
            "learned": q > 0.1,
        }
        for s, q in ((0, 0.0), (1, 0.8))
    ]
    found = model_table(table("models", rows))
    assert len(found) == 1
    assert found["quality"][0] == 0.4
    assert found["learned"][0] == 0.5


def test_reasons_are_counted():
    rows = [score("a", None, seed=s) for s in (0, 1)] + [score("a", 0.5), score("b", None, reason="other")]
    found = reasons(table("scores", rows))
    assert found[["method", "reason", "cells"]].values.tolist() == [
        ["a", "needs a gradient", 2],
        ["b", "other", 1],
    ]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("evil<script>alert(1)</script>", "evil&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a|b\\|c", r"a\|b\\\|c"),
        ("two\r\nlines", "two lines"),
        ("[x](http://y) $z$ &lt;", r"[x]\(http://y) \$z\$ &amp;lt;"),
        ("kernel_shap[budget=9] `a` 15 to >100", "kernel_shap[budget=9] `a` 15 to >100"),
        (math.nan, ""),
        (None, ""),
        (7, "7"),
    ],
)
def test_a_cell_of_a_table_is_text_and_so_is_a_title(text, cell):
    lines = markdown_table(
        pd.DataFrame([[text, "next"]], columns=[str(text), "b"], dtype=object)
    ).splitlines()
    assert re.split(r" *(?<!\\)(?:\\\\)*\| *", lines[2])[1:-1] == [cell, "next"]
    if isinstance(text, str):
        assert re.split(r" *(?<!\\)(?:\\\\)*\| *", lines[0])[1:-1] == [cell, "b"]


def test_a_text_in_a_sentence_has_no_markup_of_its_own():
    assert in_prose("*a* `b` <i>|") == r"\*a\* \`b\` &lt;i&gt;\|"
    assert code("a `b`\n<i>") == "`a 'b' <i>`"


def test_stacked_matrices_are_those_of_every_condition():
    rng = np.random.default_rng(0)
    pairs = list(itertools.combinations(["d", "a", "c", "b"], 2))
    conditions = itertools.product(["first", "second"], ["x", "y"], ["spearman", "top"], [0, 1])
    columns = ["dataset", "model", "metric", "seed", "method", "other"]
    table = pd.DataFrame([(*where, *pair) for where in conditions for pair in pairs], columns=columns)
    table = table.assign(parameters="", noise="none", skill=rng.normal(size=len(table)), status="ok")
    # the first rows have no skill, one condition has none at all, and one method is in one data set only
    table.loc[table.index < 2, "status"] = "undefined"
    table.loc[(table["model"] == "y") & (table["metric"] == "top"), "status"] = "failed"
    table = table[(table["dataset"] == "second") | (table["method"] != "d")]
    by = ["dataset", "parameters", "noise", "model", "metric"]
    parts = {key: agreement_matrix(rows, key[-1]) for key, rows in table.groupby(by, sort=False)}
    wanted = pd.concat(parts, names=by).reset_index()
    assert len(wanted) == 3 * 3 + 3 * 4
    assert agreement_matrices(table).to_csv() == wanted.to_csv()
    nothing = agreement_matrices(table.assign(status="failed"))
    assert nothing.empty
    assert list(nothing) == [*by, "method"]
