"""What a cell's rows come to, how sure a mean is, and who ranks where."""

import math

import numpy as np
import pytest

from assay.benchmarks.stats import (
    classification_quality,
    mean,
    ranks,
    regression_quality,
    relative_gap,
    score,
    split_score,
)

NAN = float("nan")


def draws(level, rows=4, spread=0.0, count=10):
    """Chance scores whose means over the rows stand around `level`, evenly spread."""
    return np.repeat(level + spread * np.linspace(-1, 1, count)[:, None], rows, 1)


def rows(*values):
    return np.array(values, dtype=float)


# ---- score ----------------------------------------------------------------------------------------------


def test_skill_of_a_metric_that_rises():
    found = score(rows(0.5, 0.7), draws(0.2, 2), rows(1.0, 1.0), rises=True)
    assert (found.value, found.chance, found.ceiling) == pytest.approx((0.6, 0.2, 1.0))
    assert found.skill == pytest.approx(0.5)
    assert (found.rows, found.nan_rows, found.verdict) == (2, 0, "ok")


def test_skill_of_a_metric_that_falls():
    found = score(rows(0.5, 0.7), draws(1.0, 2), rows(0.1, 0.3), rises=False)
    assert found.skill == pytest.approx((1.0 - 0.6) / (1.0 - 0.2))
    assert found.verdict == "ok"


@pytest.mark.parametrize(("rises", "ceiling"), [(True, 1.0), (False, 0.0)])
def test_chance_has_skill_0_the_ceiling_1_and_worse_than_chance_is_below_0(rises, ceiling):
    def skill(value):
        return score(rows(value), draws(0.5, 1), rows(ceiling), rises=rises).skill

    assert skill(0.5) == 0
    assert skill(ceiling) == 1
    assert skill(1 - ceiling) == -1


@pytest.mark.parametrize("rises", [True, False])
def test_trivial_where_ceiling_and_chance_are_the_same(rises):
    found = score(rows(1.0, 1.0), draws(1.0, 2), rows(1.0, 1.0), rises=rises)
    assert found.verdict == "trivial"
    assert math.isnan(found.skill)
    assert found.value == 1.0  # the value is told all the same


def test_trivial_reaches_three_standard_errors_of_chance():
    chance = draws(0.0, 4, spread=1.0)
    error = chance.mean(1).std(ddof=1) / math.sqrt(10)
    for gap, verdict in ((2.99 * error, "trivial"), (3.01 * error, "ok")):
        assert score(rows(0, 0, 0, 0), chance, rows(*[gap] * 4), rises=True).verdict == verdict
        assert score(rows(0, 0, 0, 0), chance, rows(*[-gap] * 4), rises=False).verdict == verdict


@pytest.mark.parametrize(("rises", "ceiling"), [(True, 0.2), (False, 0.8)])
def test_broken_where_the_metric_prefers_noise_to_truth(rises, ceiling):
    found = score(rows(0.9), draws(0.5, 1), rows(ceiling), rises=rises)
    assert found.verdict == "broken"
    assert math.isnan(found.skill)


def test_a_row_undefined_in_any_of_the_three_counts_in_none_of_them():
    chance = draws(0.0, 4)
    chance[3, 1] = NAN
    found = score(rows(NAN, 5.0, 0.5, 0.5), chance, rows(9.0, 9.0, math.inf, 1.0), rises=True)
    assert (found.value, found.chance, found.ceiling, found.skill) == (0.5, 0.0, 1.0, 0.5)
    assert (found.rows, found.nan_rows) == (1, 3)


def test_undefined_where_no_row_is_defined():
    found = score(rows(NAN, NAN), draws(0.0, 2), rows(1.0, 1.0), rises=True)
    assert (found.verdict, found.rows, found.nan_rows) == ("undefined", 0, 2)
    assert math.isnan(found.value)
    assert math.isnan(found.skill)


def test_the_error_of_a_skill_between_fixed_ends_is_that_of_a_mean():
    value = rows(0.2, 0.4, 0.9, 0.5)
    found = score(value, draws(0.1), rows(*[0.6] * 4), rises=True)
    assert found.skill_error == pytest.approx(value.std(ddof=1) / 2 / (0.6 - 0.1))
    assert score(value, draws(0.95), rows(*[0.0] * 4), rises=False).skill_error == pytest.approx(
        value.std(ddof=1) / 2 / 0.95
    )


def test_the_error_of_a_skill_is_none_where_all_rows_have_the_same():
    """Rows differ in value, chance and ceiling, and each has skill 0.3."""
    chance = np.tile([0.1, 0.4, 0.0, 0.3], (10, 1))
    ceiling = rows(1.0, 0.5, 2.0, 1.4)
    found = score(chance[0] + 0.3 * (ceiling - chance[0]), chance, ceiling, rises=True)
    assert found.skill == pytest.approx(0.3)
    assert found.skill_error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rises", [True, False])
def test_the_error_of_a_skill_is_the_spread_over_rows_drawn_again(rises):
    """Against a bootstrap over rows whose value, chance and ceiling go along with each other."""
    rng = np.random.default_rng(0)
    level = rng.normal(size=200)
    value, ceiling = 0.6 + 0.3 * level + 0.2 * rng.normal(size=200), 1 + 0.4 * level
    chance = 0.2 + 0.2 * level + 0.3 * rng.normal(size=(10, 200))
    sign = 1 if rises else -1
    found = score(sign * value, sign * chance, sign * ceiling, rises)
    again = []
    for _ in range(2000):
        drawn = rng.integers(200, size=200)
        again.append(score(sign * value[drawn], sign * chance[:, drawn], sign * ceiling[drawn], rises).skill)
    assert found.skill_error == pytest.approx(np.std(again, ddof=1), rel=0.06)
    assert found.skill_error != pytest.approx(
        value.std(ddof=1) / math.sqrt(200) / 0.8, rel=0.3
    )  # of values alone


def test_the_error_of_a_skill_is_of_the_defined_rows_and_not_known_of_one():
    value, ceiling = rows(0.2, NAN, 0.4), rows(1.0, 1.0, 1.0)
    found = score(value, draws(0.0, 3), ceiling, rises=True)
    assert found.skill_error == pytest.approx(
        score(value[[0, 2]], draws(0.0, 2), ceiling[:2], True).skill_error
    )
    one = score(rows(NAN, 0.5), draws(0.0, 2), rows(1.0, 1.0), rises=True)
    assert one.skill == 0.5
    assert math.isnan(one.skill_error)
    trivial = score(rows(0.5, 0.7), draws(1.0, 2), rows(1.0, 1.0), rises=True)
    assert math.isnan(trivial.skill_error)
    split = split_score(rows(0.5), draws(0.2, 1), rows(1.0), True, {"right": np.array([True, False])})
    assert math.isnan(split.skill_error)  # all rows judged together
    assert math.isnan(split_score(value, draws(0.0, 3), None, True, {}).skill_error)


def test_rows_that_the_model_predicts_right_have_a_skill_of_their_own():
    value, ceiling = rows(0.9, 0.7, 0.1, NAN), rows(1.0, 1.0, 1.0, 1.0)
    chance = np.tile([0.1, 0.3, 0.0, 0.2], (10, 1))
    right = np.array([True, True, False, True])
    found = split_score(value, chance, ceiling, True, {"right": right})
    assert found.skill == score(value, chance, ceiling, True).skill
    assert found.rows_right == 2  # the third right one has no value
    assert found.skill_right == pytest.approx((0.8 - 0.2) / (1 - 0.2))
    nobody = split_score(value, chance, ceiling, True, {"right": ~np.ones(4, bool)})
    assert nobody.rows_right == 0
    assert np.isnan(nobody.skill_right)


def test_a_score_of_all_rows_together_cannot_be_split():
    one = rows(0.5)
    found = split_score(one, draws(0.2, 1), rows(1.0), True, {"right": np.array([True, False])})
    assert found == score(one, draws(0.2, 1), rows(1.0), True)
    assert found.rows_right is None


def test_mean_leaves_out_and_counts_what_is_undefined():
    assert mean(rows(1, NAN, 3, math.inf)) == (2.0, 2, 2)
    value, defined, nan_rows = mean(rows(NAN))
    assert math.isnan(value)
    assert (defined, nan_rows) == (0, 1)


# ---- models and promises --------------------------------------------------------------------------------


def test_relative_gap_is_a_share_of_the_mean_size():
    assert relative_gap(rows(1.0, -2.0), rows(1.0, -3.0)) == pytest.approx(0.5 / 2)
    assert relative_gap(rows(0.5, -0.5), rows(0.0, 0.0)) == 0.5  # nothing to be a share of


def test_quality_of_a_regression_is_r2_against_saying_the_train_mean():
    wanted, train = rows(0.0, 2.0), rows(0.5, 1.5, 1.0)
    assert regression_quality(wanted, wanted, train) == {"mae": 0, "mae_of_mean": 1, "quality": 1}
    assert regression_quality(rows(1.0, 1.0), wanted, train)["quality"] == 0
    assert regression_quality(rows(1.0, 1.0), wanted, rows(5.0))["quality"] == pytest.approx(1 - 1 / 17)
    assert math.isnan(regression_quality(rows(1.0), rows(1.0), train)["quality"])


def test_quality_of_a_classifier_is_the_share_of_the_way_from_the_mode_to_perfect():
    wanted, train = np.array([0, 0, 0, 1]), np.array([1, 0, 0])
    found = classification_quality(np.array([0, 0, 1, 1]), wanted, train)
    assert found == {"accuracy": 0.75, "accuracy_of_mode": 0.75, "quality": 0}
    assert classification_quality(wanted, wanted, train)["quality"] == 1
    assert math.isnan(classification_quality(wanted[:3], wanted[:3], train)["quality"])


# ---- ranks ----------------------------------------------------------------------------------------------


def test_ranks_fall_with_the_value_and_ties_share_the_better_one():
    assert ranks(rows(0.1, 0.9, 0.5, 0.5, -1)).tolist() == [4, 1, 2, 2, 5]


def test_a_method_without_a_value_has_no_rank_and_takes_none():
    found = ranks(rows(0.1, NAN, 0.5))
    assert found[[0, 2]].tolist() == [2, 1]
    assert math.isnan(found[1])


def test_values_that_differ_by_rounding_tie():
    assert ranks(rows(0.3, 0.1 + 0.2, 0.3 - 1e-6)).tolist() == [1, 1, 3]
    assert ranks(np.array([])).tolist() == []
