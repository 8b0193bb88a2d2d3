"""Seeds of three kinds: what each of them moves in a run, and how the spread is split between them."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from assay.benchmarks import leaderboard as lead
from assay.benchmarks.grid import plan
from assay.benchmarks.intervals import estimates
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.runner import run
from assay.benchmarks.store import Ledger
from assay.benchmarks.suite import Suite
from assay.benchmarks.tables import read_table
from assay.benchmarks.variance import COLUMNS, display, nested, section, variance

torch.set_num_threads(1)
load_plugins()
WHERE = ["model", "method", "metric", "model_seed", "method_seed"]
TABLES = ("scores", "agreement", "models", "costs", "scoring", "problems")
BLOCK = {
    "dataset": ["symbolic[function=11,columns=5,rows=300,explained=5]"],
    "model": ["linear", "mlp[depth=1]"],
    "method": ["random", "saliency", "kernel_shap[budget=64]"],
    "metric": ["attribution_error", "spearman", "sensitivity_n", "max_sensitivity"],
}


# ---- a run ----------------------------------------------------------------------------------------------


def tables(folder, block=BLOCK, **seeds):
    """The tables of a real run."""
    ledger = Ledger(folder)
    for _ in run(plan(Suite.model_validate({"name": "toy", "grid": [block]} | seeds)), ledger):
        pass
    ledger.export()
    ledger.close()
    return {name: read_table(folder, name) for name in TABLES}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tables(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    return tables(tmp_path_factory.mktemp("several"), model_seeds=2, method_seeds=2)


@pytest.mark.parametrize("name", TABLES)
def test_the_first_of_several_seeds_is_what_it_was_without_others(plain, several, name):
    found = several[name]
    for column in {"model_seed", "method_seed"} & set(found):
        found = found[found[column] == 0]
    measured = {"seconds", "seconds_per_row", "peak_mb", "cells", "model_rows"}
    columns = [c for c in found if c not in measured]
    pd.testing.assert_frame_equal(found[columns].reset_index(drop=True), plain[name][columns])


def test_every_table_has_the_seeds_that_its_rows_hang_on(several):
    runs = {name: len(frame) for name, frame in several.items()}
    assert runs["problems"] == 1
    assert runs["models"] == 2 * 2
    assert runs["costs"] == 2 * 3 * 4
    assert runs["scores"] == 2 * 3 * 4 * 4
    assert runs["agreement"] == 2 * 3 * 4
    assert runs["scoring"] == 2 * 4 * 2
    assert (several["scoring"].loc[several["scoring"]["metric"] == "sensitivity_n", "cells"] == 3 * 2).all()


def values(scores, by):
    """Values in columns by a kind of seed."""
    return scores.pivot_table(
        index=[c for c in WHERE if c != by], columns=by, values="value", aggfunc="first"
    )


def test_the_seed_of_a_method_moves_the_methods_that_draw_and_no_other(several):
    wide = values(several["scores"], "method_seed")
    differs = (wide[0] != wide[1]).groupby(level=["method", "metric"]).any()
    assert not differs["saliency"].any()  # by no metric, not even one that explains again
    for method in ("random", "kernel_shap[budget=64]"):
        assert differs[method]["attribution_error"], method
        assert differs[method]["max_sensitivity"], method


def test_the_seed_of_a_method_moves_neither_chance_nor_ceiling(several):
    by = ["model", "method", "metric", "model_seed"]
    counts = several["scores"].groupby(by)[["chance", "ceiling"]].nunique(dropna=False)
    assert (counts == 1).all(axis=None)


def test_the_seed_of_a_model_moves_what_is_random_in_training_alone(several):
    quality = several["models"].pivot_table(index="model", columns="model_seed", values="quality")
    assert quality.loc["linear", 0] == quality.loc["linear", 1]
    assert quality.loc["mlp[depth=1]", 0] != quality.loc["mlp[depth=1]", 1]
    wide = values(several["scores"], "model_seed")
    error = wide.xs("attribution_error", level="metric").xs("saliency", level="method")
    assert (error.loc["linear"][0] == error.loc["linear"][1]).all()
    assert (error.loc["mlp[depth=1]"][0] != error.loc["mlp[depth=1]"][1]).all()


def test_a_later_seed_is_the_same_wherever_the_seeds_begin(tmp_path):
    block = BLOCK | {"model": ["linear"], "metric": ["attribution_error"]}
    second = tables(tmp_path / "both", block, seeds=2)["scores"]
    alone = tables(tmp_path / "one", block, first_seed=1)["scores"]
    assert set(alone["seed"]) == {1}
    second = second[second["seed"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, second)


def test_the_split_of_a_real_run_says_what_cannot_be_known(several):
    found = variance(several["scores"]).set_index("method")
    assert found.loc["saliency", "sd_method"] == 0
    assert found.loc["random", "sd_method"] > 0
    assert found["sd_draw"].isna().all()  # one draw
    assert found["sd_rows"].gt(0).all()
    assert section(found.reset_index()) == []


# ---- components -----------------------------------------------------------------------------------------


def design(*sizes):
    """Levels of a nested design: for each condition and draw, how often each of its models is explained."""
    rows, draws, models = [], itertools.count(), itertools.count()
    for condition, members in enumerate(sizes):
        for counts in members:
            draw = next(draws)
            for count in counts:
                rows += [(condition, draw, next(models))] * count
    return np.array(rows).T


def planted(levels, sds, simulations, rng):
    """Observations whose components are known, a simulation a column; conditions differ by a lot."""
    total = np.arange(levels[0].max() + 1)[:, None][levels[0]] * 10.0 + np.zeros((1, simulations))
    for level, sd in zip((*levels[1:], np.arange(levels.shape[1])), sds, strict=True):
        total += sd * rng.standard_normal((level.max() + 1, simulations))[level]
    return total


BALANCED = design(*[[[2, 2]] * 4] * 3)
UNBALANCED = design([[2, 2], [1], [3, 1, 1]], [[2, 1], [4, 1]], [[1, 1], [2, 3], [1], [2]])


@pytest.mark.parametrize("levels", [BALANCED, UNBALANCED], ids=["balanced", "unbalanced"])
@pytest.mark.parametrize("sds", [(0.3, 0.2, 0.1), (0.1, 0.2, 0.4), (0.0, 0.0, 0.3)])
def test_components_are_estimated_without_bias(levels, sds):
    """The mean over 4,000 simulations is within four of its standard errors, about one time in 16,000 not."""
    rng = np.random.default_rng(0)
    found = nested(planted(levels, sds, 4000, rng), levels)
    error = found.std(1, ddof=1) / math.sqrt(4000)
    assert np.abs(found.mean(1) - np.square(sds)).max() < 1e-9 + 4 * error.max()
    assert (np.abs(found.mean(1) - np.square(sds)) < 1e-9 + 4 * error).all()


def test_components_of_a_balanced_design_are_those_of_the_analysis_of_variance():
    values = np.random.default_rng(1).normal(size=(24, 5))
    levels = design(*[[[2, 2]] * 3] * 2)
    cube = values.reshape(2, 3, 2, 2, 5)
    within = cube.var(3, ddof=1).mean((0, 1, 2))
    models = 2 * cube.mean(3).var(2, ddof=1).mean((0, 1))
    draws = 4 * cube.mean((2, 3)).var(1, ddof=1).mean(0)
    wanted = [(draws - models) / 4, (models - within) / 2, within]
    np.testing.assert_allclose(nested(values, levels), wanted, atol=1e-12)


def test_what_cannot_be_told_apart_is_in_the_level_above():
    values = np.random.default_rng(2).normal(size=(12, 3))
    one_method = nested(values, design(*[[[1, 1]] * 3] * 2))
    assert np.isnan(one_method[2]).all()
    cube = values.reshape(2, 3, 2, 3)
    np.testing.assert_allclose(one_method[1], cube.var(2, ddof=1).mean((0, 1)))
    one_model = nested(values, design(*[[[2]] * 3] * 2))
    assert np.isnan(one_model[1]).all()
    np.testing.assert_allclose(one_model[2], cube.var(2, ddof=1).mean((0, 1)))
    total = nested(values, design(*[[[1]] * 6] * 2))
    assert np.isnan(total[1:]).all()
    np.testing.assert_allclose(total[0], values.reshape(2, 6, 3).var(1, ddof=1).mean(0))


# ---- tables ---------------------------------------------------------------------------------------------


def scores(values, errors=0.1, **changed):
    """Rows of scores.csv from skills [problems, noises, seeds, model seeds, method seeds, cells, methods]."""
    names = ("parameters", "noise", "seed", "model_seed", "method_seed", "model", "method")
    index = pd.MultiIndex.from_product([range(n) for n in values.shape], names=names)
    frame = pd.DataFrame({"skill": values.ravel()}, index=index).reset_index()
    for name in ("parameters", "noise", "model", "method"):
        frame[name] = frame[name].map("{:03d}".format)
    frame["skill_error"] = errors
    frame = frame.assign(dataset="d", metric="m", family=lead.RANKED_BY, status="ok", reason="", version="1")
    return frame.assign(value=frame["skill"], chance=0.0, ceiling=1.0, rows=9, nan_rows=0, **changed)


SDS = {"sd_problem": 0.5, "sd_data": 0.3, "sd_model": 0.2, "sd_method": 0.1}


def simulated(problems=6, noises=2, seeds=4, methods=120):
    """Skills with these components, and cells that differ by a constant; methods are simulations."""
    rng = np.random.default_rng(4)
    shape = [problems, noises, seeds, 2, 3, 2, methods]
    total = rng.normal(size=(noises, 1, 1, 1, 1, 1)) + np.arange(2.0)[:, None] + np.zeros(shape)
    for levels, sd in zip((1, 3, 4, 5), SDS.values(), strict=True):
        total += sd * rng.normal(size=[*shape[:levels], *[1] * (6 - levels), methods])
    return total


def test_planted_components_are_found_in_a_table():
    found = variance(scores(simulated()))
    assert list(found.columns) == list(COLUMNS)
    for column, sd in SDS.items():
        estimated = found[column] ** 2
        error = estimated.std(ddof=1) / math.sqrt(len(found))
        assert estimated.mean() == pytest.approx(sd**2, abs=4 * error), column
        assert error < 0.15 * sd**2, column  # else the test could not fail
    draw = SDS["sd_data"] ** 2 + SDS["sd_model"] ** 2 / 2 + SDS["sd_method"] ** 2 / 6
    assert (found["sd_draw"] ** 2).mean() == pytest.approx(draw, rel=0.05)
    assert set(found["seeds_now"]) == {4}
    assert set(found["problems"]) == {6}
    assert set(found["draws"]) == {6 * 2 * 4}
    assert np.isposinf(found["seeds_to_halve_like"]).mean() > 0.9  # problems are nearly all of that spread


def test_the_skill_is_that_of_the_leaderboard_and_rows_go_best_first():
    table = scores(simulated(methods=4))
    found = variance(table)
    means = lead.clustered(lead.shared(lead.skills(table, lead.RANKED_BY)))
    assert found["skill"].tolist() == pytest.approx(sorted(means, reverse=True))
    assert found["method"].tolist() == list(means.sort_values(ascending=False).index)


def test_with_one_seed_of_models_and_methods_the_total_alone_is_known():
    table = scores(simulated(methods=5))
    alone = table[(table["model_seed"] == 0) & (table["method_seed"] == 0)]
    found = variance(alone)
    assert found[["sd_data", "sd_model", "sd_method"]].isna().all(axis=None)
    assert found["sd_draw"].gt(0).all()
    shown = display(found)
    assert "draws" in shown
    assert not {"data", "models", "methods"} & set(shown)
    one_model = variance(table[table["model_seed"] == 0])
    assert one_model[["sd_data", "sd_model"]].isna().all(axis=None)
    assert one_model["sd_method"].gt(0).all()


def test_cells_that_a_method_lacks_are_no_ones():
    table = scores(simulated(methods=3))
    lacking = table.drop(table[(table["method"] == "001") & (table["seed"] == 3)].index)
    found = variance(lacking)
    assert set(found["seeds_now"]) == {3}
    whole = variance(table[table["seed"] < 3])
    pd.testing.assert_frame_equal(found, whole)


def test_the_error_of_rows_goes_along_in_all_cells_of_a_draw():
    """Cells with errors 0.1 and 0.3 have a mean with 0.2, not 0.16; of cells without one nothing is known."""
    values = simulated(problems=3, methods=2)
    table = scores(values)
    table["skill_error"] = np.where(table["model"] == "000", 0.1, 0.3)
    assert variance(table)["sd_rows"].tolist() == pytest.approx([0.2, 0.2])
    table.loc[table["model"] == "001", "skill_error"] = np.nan
    assert variance(table)["sd_rows"].tolist() == pytest.approx([0.1, 0.1])
    assert variance(table.assign(skill_error=np.nan))["sd_rows"].isna().all()
    found = variance(table.assign(skill_error=9.0))
    assert found["sd_rows"].tolist() == found["sd_data"].tolist()  # a part is no more than the whole


# ---- how many seeds -------------------------------------------------------------------------------------


def draws(*by_problem):
    """A table of one method, one condition a problem, from the skills of its seeds."""
    return scores(np.array(by_problem, dtype=float)[:, None, :, None, None, None, None])


@pytest.mark.parametrize(("seeds", "wanted"), [(2, 3), (3, 5), (4, 9), (10, 33)])
def test_seeds_that_halve_the_interval_by_students_t(seeds, wanted):
    """One condition: t(n - 1) / sqrt(n) is 8.98, 2.484, 1.59, 0.715 now; 2.48, 1.241, 0.77, 0.355 then."""
    (found,) = variance(draws(np.arange(seeds)))["seeds_to_halve"]
    assert found == wanted


def test_with_that_many_seeds_the_interval_is_half_as_wide_in_the_mean():
    """What the number promises, tried: three problems, three seeds now."""
    rng = np.random.default_rng(5)

    def width(seeds):
        values = rng.normal(size=(3, 1, seeds, 1, 1, 1, 2000))
        table = values.reshape(3 * seeds, -1)
        problem = np.repeat(np.arange(3), seeds)
        weight = np.full(3 * seeds, 1 / 3 / seeds)
        found = estimates(lead.Sample(table, problem, problem, weight))
        return float(np.median(found.high_here - found.low_here))

    now = variance(scores(rng.normal(size=(3, 1, 3, 1, 1, 1, 200))))["seeds_to_halve"]
    promised = int(now.median())
    assert width(promised) / width(3) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("part", "wanted"), [(0.0, 8), (1 / 6, 16), (0.3, 80), (1 / 3 + 1e-6, math.inf), (1.0, math.inf)]
)
def test_seeds_that_halve_the_interval_over_problems(part, wanted):
    """Variances: `part` of problems, 1 of a mean of two draws; wanted is 2 / ((1 + part) / 4 - part)."""
    means = math.sqrt(1 + part) * np.array([-1.0, 0.0, 1.0])
    found = variance(draws(*[(mean - 1, mean + 1) for mean in means])).iloc[0]
    assert found["seeds_to_halve_like"] == wanted
    assert found["sd_problem"] == pytest.approx(math.sqrt(part), abs=1e-7)
    assert found["share_problem"] == pytest.approx(part / (1 + part), abs=1e-9)
    shown = display(variance(draws(*[(mean - 1, mean + 1) for mean in means])))
    assert shown["to halve, like these"].tolist() == ["never" if math.isinf(wanted) else str(wanted)]


def test_what_does_not_spread_cannot_be_halved():
    found = variance(draws((1, 1), (1, 1), (1, 1))).iloc[0]
    assert found["sd_draw"] == found["sd_problem"] == 0
    assert math.isnan(found["seeds_to_halve"])
    assert math.isnan(found["seeds_to_halve_like"])


def test_two_problems_say_nothing_of_others_and_one_seed_nothing_of_draws():
    two = variance(draws((0, 1), (2, 4))).iloc[0]
    assert two["seeds_to_halve"] > 2
    assert math.isnan(two["seeds_to_halve_like"])
    assert math.isnan(two["sd_problem"])
    one = variance(draws((0,), (2,), (5,)))
    assert one[["sd_draw", "sd_problem", "seeds_to_halve", "seeds_to_halve_like"]].isna().all(axis=None)
    assert section(one) == []


# ---- as it is read --------------------------------------------------------------------------------------


def test_a_table_without_a_ranked_cell_is_empty():
    found = variance(scores(simulated(problems=1, methods=2), status="skipped").assign(skill=np.nan))
    assert found.empty
    assert list(found.columns) == list(COLUMNS)
    assert section(found) == []


def test_the_section_says_how_to_read_it_and_escapes_names():
    table = scores(simulated(methods=2))
    table["method"] = table["method"].map({"000": "<script>|", "001": "$b$"})
    title, how, markdown, told = section(variance(table))
    assert title == "## Where the spread comes from"
    assert "upper bound" in how
    assert r"&lt;script&gt;\|" in markdown
    assert "<script>" not in markdown
    rows = {len(line.replace(r"\|", "").split("|")) for line in markdown.splitlines()}
    assert len(rows) == 1
    assert "of 2 methods: problems differ" in told
