"""Where skill falls to half: planted curves, what is compared, and how often intervals hold the truth."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from assay.benchmarks.breakdown import (
    BREAKDOWNS,
    CURVES,
    breakdowns,
    curves,
    display,
    noise_axes,
    section,
)
from assay.benchmarks.store import COLUMNS

LEVELS = (0, 10, 20, 40)


def table(rows):
    return pd.DataFrame(rows, columns=[c for c in COLUMNS["scores"] if c != "seconds"])


def score(method, skill, **changed):
    known = skill is not None
    row = {
        **{"dataset": "d", "parameters": "", "noise": "columns=0", "model": "m", "method": method},
        **{"metric": "auroc", "family": "ground truth", "seed": 0, "reason": "", "version": "1"},
        **{"model_seed": 0, "method_seed": 0},
        **{"skill": skill if known else math.nan, "value": 0.5, "status": "ok" if known else "trivial"},
    }
    return row | changed


def planted(levels=LEVELS, axis="columns", seeds=3, spread=0.0, **methods):
    """Methods whose skill is the given function of the level, and of seeds that differ by `spread`."""
    return table(
        [
            score(
                method, skill(level) + spread * (seed - (seeds - 1) / 2), noise=f"{axis}={level}", seed=seed
            )
            for (method, skill), level, seed in itertools.product(methods.items(), levels, range(seeds))
        ]
    )


def found(scores):
    return breakdowns(scores).set_index("method")


def test_a_straight_fall_crosses_half_where_it_should():
    line = found(planted(a=lambda x: 0.8 * (1 - x / 30))).loc["a"]
    assert (line["says"], line["level"]) == ("at", pytest.approx(15))
    assert line["clean_level"] == 0
    assert line["clean_skill"] == pytest.approx(0.8)
    assert [line["low"], line["high"]] == pytest.approx([15, 15])  # seeds that are all alike


def test_what_never_falls_what_falls_at_once_and_what_has_nothing():
    got = found(
        planted(
            flat=lambda x: 0.5,
            rising=lambda x: 0.2 + x,
            cliff=lambda x: 0.9 if x == 0 else 0.1,
            zero=lambda x: 0.0,
            negative=lambda x: -0.3 - x,
        )
    )
    says = {"flat": "never", "rising": "never", "cliff": "always below", "zero": "no skill"}
    assert got["says"].to_dict() == says | {"negative": "no skill"}
    assert (got.loc[["flat", "rising"], ["level", "low", "high"]] == math.inf).all(axis=None)
    assert got.loc["cliff", ["level", "low", "high"]].tolist() == [10, 0, 10]
    assert got.loc[["zero", "negative"], ["level", "low", "high"]].isna().all(axis=None)


def test_the_first_crossing_counts_of_a_curve_that_comes_back():
    skill = {0: 1.0, 10: 0.75, 20: 0.25, 40: 0.9}
    line = found(planted(a=skill.__getitem__)).loc["a"]
    assert (line["says"], line["level"]) == ("at", pytest.approx(15))


def test_a_fall_to_exactly_half_is_a_crossing():
    skill = {0: 1.0, 10: 0.75, 20: 0.5, 40: 0.5}
    assert found(planted(a=skill.__getitem__)).loc["a", "level"] == 20


@pytest.mark.parametrize("axis", ["snr_db", "contrast", "alpha"])
def test_less_signal_is_more_noise(axis):
    scores = planted(levels=(-10, 0, 10, 20), axis=axis, a=lambda x: (x + 10) / 30)
    line = found(scores).loc["a"]
    assert (line["clean_level"], line["last_level"]) == (20, -10)
    assert (line["says"], line["level"]) == ("at", pytest.approx(5))
    flat = found(planted(levels=(0, 10), axis=axis, a=lambda x: 0.4)).loc["a"]
    assert flat["level"] == -math.inf
    shown = display(breakdowns(planted(levels=(0, 10), axis=axis, a=lambda x: 0.4)))
    assert shown["95% interval"].tolist() == ["<0"]


def test_skill_that_two_seeds_disagree_on_is_none_and_one_that_they_share_is():
    both = planted(seeds=2, spread=0.9, a=lambda x: 0.3)
    assert found(both).loc["a", "says"] == "no skill"
    assert found(planted(seeds=2, spread=0.02, a=lambda x: 0.3)).loc["a", "says"] == "never"


def test_one_seed_has_a_breakdown_and_no_interval():
    scores = planted(seeds=1, a=lambda x: 0.8 * (1 - x / 30), b=lambda x: 0.9 if x == 0 else 0.1)
    assert found(scores)["level"].to_dict() == {"a": pytest.approx(15), "b": 10}
    assert found(scores)[["low", "high"]].isna().all(axis=None)
    assert curves(scores)[["low", "high"]].isna().all(axis=None)


def test_curves_are_means_with_students_intervals_over_seeds():
    got = curves(planted(seeds=3, spread=0.1, a=lambda x: 1 - x / 100)).set_index("level")
    assert got["skill"].to_dict() == pytest.approx({0: 1, 10: 0.9, 20: 0.8, 40: 0.6})
    half = 4.302653 * 0.1 / math.sqrt(3)  # t with 2 degrees of freedom; the spread of -0.1, 0, 0.1 is 0.1
    assert (got["high"] - got["skill"]).tolist() == pytest.approx([half] * 4)
    assert (got["skill"] - got["low"]).tolist() == pytest.approx([half] * 4)
    assert got.index.tolist() == [0, 10, 20, 40]


def test_a_hard_model_that_is_run_at_one_level_only_moves_no_curve():
    scores = planted(a=lambda x: 0.6, b=lambda x: 0.5)
    more = [score(m, 0.0, noise="columns=40", model="hard", seed=s) for m in "ab" for s in range(3)]
    got = curves(pd.concat([scores, table(more)]))
    assert got.loc[got["method"] == "a", "skill"].tolist() == pytest.approx([0.6] * 4)


def test_a_cell_that_one_ranked_method_lacks_counts_for_none():
    scores = planted(a=lambda x: 0.6, b=lambda x: 0.5, spread=0.1)
    lost = (scores["method"] == "b") & (scores["noise"] == "columns=40") & (scores["seed"] == 2)
    got = curves(scores[~lost])
    assert got.loc[got["method"] == "a", "skill"].tolist() == pytest.approx([0.55] * 4)


def test_a_method_without_a_level_is_left_out_and_takes_no_level_from_the_others():
    scores = planted(a=lambda x: 0.6, b=lambda x: 0.5)
    got = curves(scores[(scores["method"] == "a") | (scores["noise"] != "columns=40")])
    assert set(got["method"]) == {"a"}
    assert got["level"].tolist() == [*LEVELS]


def test_the_cleanest_level_is_the_cleanest_with_a_skill():
    scores = planted(a=lambda x: 0.8)
    gone = scores["noise"] == "columns=0"
    scores.loc[gone, ["skill", "status"]] = [math.nan, "trivial"]
    assert found(scores).loc["a", "clean_level"] == 10


def test_other_axes_are_held_and_texts_are_no_axis():
    rows = [
        score("a", 0.5, noise=f"background={kind} columns={n} sd={sd}", seed=seed)
        for kind, n, sd, seed in itertools.product(("random", "two words"), (0, 5), (0.0, 0.5, 1.0), (0, 1))
    ]
    got = curves(table(rows))
    held = got[["axis", "held"]].drop_duplicates().to_numpy().tolist()
    assert len(held) == 2 * 3 + 2 * 2
    assert ["sd", "background=two words columns=5"] in held
    assert ["columns", "background=random sd=0.5"] in held
    assert set(got["axis"]) == {"columns", "sd"}


def test_noise_text_is_read_as_it_is_written():
    assert noise_axes("background=two words snr_db=-5.0") == {"background": "two words", "snr_db": "-5.0"}
    assert noise_axes("") == {}


def test_nothing_to_show_of_one_level_or_of_no_skill():
    for scores in (planted(levels=(3,), a=lambda x: 0.5), table([score("a", None)]), table([])):
        assert curves(scores).columns.tolist() == CURVES
        assert curves(scores).empty
        got = breakdowns(scores)
        assert got.empty
        assert got.columns.tolist()[: len(BREAKDOWNS)] == BREAKDOWNS
        assert section(got) == []


def test_the_most_robust_stands_first_and_names_are_text():
    scores = planted(
        **{
            "zero": lambda x: 0.0,
            "cliff": lambda x: 0.9 if x == 0 else 0.1,
            "soon": lambda x: 1 - x / 25,
            "late|": lambda x: 1 - x / 40,
            "<flat>": lambda x: 0.5,
        }
    )
    shown = display(breakdowns(scores))
    assert shown["method"].tolist() == ["<flat>", "late|", "soon", "cliff", "zero"]
    text = ["never", "at 20", "at 12.5", "always below (from 10)", "no skill seen"]
    assert shown["falls to half"].tolist() == text
    assert shown["95% interval"].tolist() == [">40", "20", "12.5", "0 to 10", ""]
    told = "\n".join(section(breakdowns(scores)))
    assert "&lt;flat&gt;" in told
    assert "late\\|" in told


def noisy(rng, problems, seeds, sd):
    """Tables of one method whose true skill falls from 0.8 in a straight line to half of it at 15."""
    rows = [
        score("a", 0.8 * (1 - level / 30) + sd * rng.normal(), parameters=f"f={p}", noise=f"columns={level}")
        | {"seed": seed}
        for p, level, seed in itertools.product(range(problems), (0, 10, 20, 30), range(seeds))
    ]
    return table(rows)


def test_intervals_hold_the_true_crossing():
    """Of 300 tables with 5 seeds: 93%, less two standard errors of a share of 300."""
    got = breakdowns(noisy(np.random.default_rng(1), 300, 5, 0.1))
    assert len(got) == 300
    assert (got["says"] == "at").mean() > 0.98
    held = (got["low"] <= 15) & (got["high"] >= 15)
    assert held.mean() > 0.93 - 2 * math.sqrt(0.05 * 0.95 / 300)
    assert got["low"].gt(5).mean() > 0.95  # and says something
    assert got["high"].lt(25).mean() > 0.9
    assert got["level"].median() == pytest.approx(15, abs=0.5)


def test_breakdowns_are_the_same_whoever_else_is_there():
    scores = planted(spread=0.05, a=lambda x: 0.8 * (1 - x / 30))
    both = planted(spread=0.05, a=lambda x: 0.8 * (1 - x / 30), b=lambda x: 0.4)
    pd.testing.assert_series_equal(found(scores).loc["a"], found(both).loc["a"])
