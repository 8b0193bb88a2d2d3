"""Do intervals cover, and does `compare` see what is there and nothing else?  Where the answer is known."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assay.benchmarks.differences import moved
from assay.benchmarks.intervals import Sample, better, draws, estimates, rank_interval

STATISTICS = (Path(__file__).parent.parent / "docs" / "statistics.md").read_text(encoding="utf-8")
RUNS = 4000
DESIGNS = [  # problems, conditions of each, draws of each
    (4, 3, 2),
    (6, 3, 2),
    (4, 1, 2),
    (5, 2, 3),
    (4, 3, 5),
    (15, 5, 3),
]


def shape(problems, conditions, seeds):
    """Whose every draw is, and what it counts."""
    problem = np.repeat(np.arange(problems), conditions * seeds)
    condition = np.repeat(np.arange(problems * conditions), seeds)
    return problem, condition, np.full(len(problem), 1 / len(problem))


def skills(rng, problem, condition, spread, columns):
    """Skills of as many independent runs as there are columns; their means here and on all problems."""
    by_problem = rng.normal(0, 0.15, (problem.max() + 1, columns))
    by_condition = rng.normal(0, 0.05, (condition.max() + 1, columns))
    sd = 0.04 * np.exp(spread * rng.normal(size=(condition.max() + 1, columns)))
    centre = 0.6 + by_problem[problem] + by_condition[condition]
    return centre + sd[condition] * rng.normal(size=(len(problem), columns)), centre.mean(0), 0.6


@pytest.mark.parametrize("design", DESIGNS, ids=str)
@pytest.mark.parametrize("spread", [0.0, 0.5], ids=["alike", "uneven"])
def test_intervals_cover_in_93_to_97_of_100_runs(design, spread):
    """Also where some conditions are noisier than others: one in six by more than a factor of 1.6."""
    rng = np.random.default_rng([*design, int(10 * spread)])
    problem, condition, weight = shape(*design)
    values, here, everywhere = skills(rng, problem, condition, spread, RUNS)
    found = estimates(Sample(values, problem, condition, weight))
    these = ((found.low_here <= here) & (here <= found.high_here)).mean()
    like = ((found.low <= everywhere) & (everywhere <= found.high)).mean()
    assert 0.93 <= these <= 0.97
    assert 0.93 <= like <= 0.97
    noise = "uneven" if spread else "alike"
    row = f"| {' | '.join(map(str, design))} | {noise} | {these:.1%} | {like:.1%} |"
    assert row in STATISTICS, row


def test_a_bootstrap_that_redraws_problems_and_seeds_covers_less_with_few_problems():
    """Why the intervals are not those of the percentiles of such a bootstrap."""
    rng = np.random.default_rng(4)
    problem, condition, _ = shape(4, 3, 2)
    values, _, everywhere = skills(rng, problem, condition, 0.0, 1000)
    by_seed = values.reshape(4, 3, 2, -1).mean(1)
    means = np.empty((400, values.shape[1]))
    for draw in means:
        problems = rng.integers(4, size=4)
        draw[:] = by_seed[problems[:, None], rng.integers(2, size=(4, 2))].mean((0, 1))
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    covered = ((low <= everywhere) & (everywhere <= high)).mean()
    assert 0.7 < covered < 0.9
    assert f"covers in {covered:.0%}" in STATISTICS, f"covers in {covered:.0%}"


def test_ranks_lie_in_their_intervals():
    rng = np.random.default_rng(5)
    problem, condition, weight = shape(4, 3, 2)
    true = np.array([0.5, 0.49, 0.48, 0.4, 0.39, 0.1])
    inside = []
    for _ in range(500):
        shared = rng.normal(0, 0.05, (len(problem), 1))  # a hard draw is hard for all
        sample = Sample(true + shared + rng.normal(0, 0.03, (len(problem), 6)), problem, condition, weight)
        low, high = rank_interval(draws(sample, rng, 500))
        inside.append((low <= np.arange(1, 7)) & (np.arange(1, 7) <= high))
    assert np.mean(inside) >= 0.93
    assert np.mean(inside, axis=0).min() >= 0.9


def test_of_those_called_better_with_a_probability_as_many_are():
    """Where any difference is as probable as any other beforehand."""
    rng = np.random.default_rng(6)
    problem, condition, weight = shape(4, 3, 2)
    true = rng.uniform(-0.1, 0.1, 20_000)
    values = true + 0.03 * rng.normal(size=(len(problem), len(true)))
    sample = Sample(values, problem, condition, weight)
    said = better(sample.mean, sample.noise.spread())
    for low, high in itertools.pairwise((0.0, 0.05, 0.3, 0.7, 0.95, 1.0)):
        some = (low <= said) & (said < high)
        assert abs((true[some] > 0).mean() - said[some].mean()) < 0.03


METHODS = 8
PLACES = list(itertools.product(range(4), (0, 20, 100), ("mlp",), ("auroc", "uscore")))


def table(rng, seeds, drop=0.0):
    """Scores of a suite as `quick` is; the problems and conditions are the same at every call."""
    fixed = np.random.default_rng(7)
    method = np.linspace(0.2, 0.7, METHODS)
    taste = fixed.normal(0, 0.1, (4, METHODS))  # a method is better on some problems
    hard = {key: fixed.normal(0, 0.1) for key in itertools.product(range(4), (0, 20, 100))}
    noisy = {key: 0.02 * np.exp(0.5 * fixed.normal()) for key in hard}
    rows = []
    for seed in seeds:
        common = {key: noisy[key] * rng.normal() for key in hard}
        own = {key: noisy[key] * rng.normal(size=METHODS) for key in hard}
        for problem, columns, model, metric in PLACES:
            key = (problem, columns)
            skill = (
                method + taste[problem] + hard[key] + common[key] + own[key] + rng.normal(0, 0.005, METHODS)
            )
            skill[3] -= drop
            place = (f"d{problem}", "", f"columns={columns}", model, metric, "ground truth", seed)
            rows += [(*place, f"m{i}", v, v, "ok") for i, v in enumerate(skill)]
    names = [
        "dataset",
        "parameters",
        "noise",
        "model",
        "metric",
        "family",
        "seed",
        "method",
        "skill",
        "value",
    ]
    return pd.DataFrame(rows, columns=[*names, "status"]).assign(model_seed=0, method_seed=0)


@pytest.fixture(scope="module")
def pairs():
    """Two hundred pairs of runs with other seeds, in which nothing is different."""
    rng = np.random.default_rng(11)
    return [moved(table(rng, (0, 1)), table(rng, (2, 3))) for _ in range(200)]


def test_compare_calls_a_difference_where_there_is_none_in_at_most_5_of_100_methods(pairs):
    called = np.array([(pair["verdict"] != "no difference seen").to_numpy() for pair in pairs])
    assert called.mean() <= 0.05
    assert called.any(axis=1).mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)  # in a whole table
    plain = np.array([pair["p"].to_numpy() < 0.05 for pair in pairs])
    assert 0.02 <= plain.mean() <= 0.07  # before the correction: neither blind nor rash
    said = f"in {called.mean():.2%} of methods ({plain.mean():.1%} before the correction)"
    assert said in STATISTICS, said


def test_compare_finds_a_drop_of_twice_what_it_says_would_be_seen(pairs):
    drop = 2 * np.median([pair.set_index("method").loc["m3", "visible"] for pair in pairs])
    rng = np.random.default_rng(12)
    found = [moved(table(rng, (0, 1)), table(rng, (2, 3), drop)) for _ in range(100)]
    verdicts = [pair.set_index("method").loc["m3", "verdict"] for pair in found]
    assert verdicts.count("worse") >= 80
    assert f"in {verdicts.count('worse')} of 100 pairs" in STATISTICS, verdicts.count("worse")
    others = np.mean(
        [(pair.loc[pair["method"] != "m3", "verdict"] != "no difference seen").mean() for pair in found]
    )
    assert others <= 0.05


def test_the_same_seeds_are_compared_cell_by_cell_and_show_far_less():
    rng = np.random.default_rng(13)
    first = table(rng, (0, 1))
    second = first.assign(skill=first["skill"] + rng.normal(0, 0.002, len(first)))
    found = moved(first, second)
    assert set(found["pairing"]) == {"cell by cell"}
    assert found["visible"].max() < 0.01
    apart = moved(first, table(rng, (2, 3)))
    assert set(apart["pairing"]) == {"other seeds"}
    assert apart["visible"].min() > 3 * found["visible"].max()


def test_a_side_with_one_seed_says_nothing_of_its_noise():
    """To take it for none would call a difference in a fifth of methods."""
    rng = np.random.default_rng(14)
    for seeds in ((0, 1), (5,)), ((5,), (0, 1)):
        found = moved(*(table(rng, some) for some in seeds))
        assert set(found["verdict"]) == {"not comparable"}
        assert found["why"].str.contains("too few seeds").all()


def test_seeds_that_overlap_too_little_to_be_paired_are_not_thrown_away():
    rng = np.random.default_rng(15)
    one, shared, other = (table(rng, (seed,)) for seed in range(3))
    found = moved(pd.concat([one, shared]), pd.concat([shared, other]))
    assert set(found["pairing"]) == {"other seeds"}
    assert "not comparable" not in set(found["verdict"])


def test_cells_that_are_trivial_in_some_seeds_move_nothing():
    """Else the mean of a side would be over other cells than that of the other."""
    rng = np.random.default_rng(16)
    called = []
    for _ in range(30):
        a, b = table(rng, (0, 1)), table(rng, (2, 3))
        hard = (a["noise"] == "columns=100") & (a["seed"] == 1)
        a.loc[hard, ["skill", "status"]] = [np.nan, "trivial"]
        found = moved(a, b)
        called.append((found["verdict"] != "no difference seen").mean())
        assert found["difference"].abs().max() < 0.1
    assert np.mean(called) <= 0.05


def test_every_model_seed_counts():
    rng = np.random.default_rng(17)
    first = pd.concat([table(rng, (0, 1)).assign(model_seed=i) for i in range(3)])
    second = first.copy()
    second.loc[(second["method"] == "m3") & (second["model_seed"] > 0), "skill"] -= 0.3
    found = moved(first, second.sample(frac=1, random_state=0)).set_index("method")
    assert found.loc["m3", "difference"] == pytest.approx(-0.2)
    assert found.loc["m3", "verdict"] == "worse"
    assert found.loc["m0", "difference"] == pytest.approx(0)
    assert found.loc["m3", "cells"] == 3 * 2 * len(PLACES)
