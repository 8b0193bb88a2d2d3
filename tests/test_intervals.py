"""The arithmetic of intervals where it is known in closed form; whether they cover: test_simulation.py."""

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from assay.benchmarks.intervals import (
    Noise,
    Sample,
    better,
    drawn,
    draws,
    estimates,
    half_width,
    holm,
    of_places,
    over_problems,
    p_value,
    rank_interval,
    visible,
)

RNG = np.random.default_rng(0)


def one_condition(values):
    """Draws of one condition of one problem."""
    count = len(values)
    codes = np.zeros(count, dtype=int)
    return Sample(np.asarray(values, dtype=float).reshape(count, -1), codes, codes, np.full(count, 1 / count))


def test_the_interval_of_one_condition_is_that_of_a_mean_of_draws():
    values = RNG.normal(size=7)
    found = estimates(one_condition(values))
    low, high = scipy_stats.t.interval(0.95, 6, values.mean(), scipy_stats.sem(values))
    assert (found.low_here[0], found.high_here[0]) == pytest.approx((low, high))
    assert np.isnan(found.low[0])  # of other problems one problem says nothing


def test_the_interval_over_problems_is_that_of_the_mean_of_their_means():
    values = RNG.normal(size=(12, 1))
    problem = np.repeat([0, 1, 2, 3], 3)
    found = estimates(Sample(values, problem, problem, np.full(12, 1 / 12)))
    means = values.reshape(4, 3).mean(1)
    assert (found.low[0], found.high[0]) == pytest.approx(
        scipy_stats.t.interval(0.95, 3, means.mean(), scipy_stats.sem(means))
    )
    assert np.isnan(half_width(over_problems(values[:2]))).all()


def test_two_conditions_have_the_sum_of_both_variances():
    """Of two means as different in size: Satterthwaite with f + 1, by hand."""
    first, second = RNG.normal(size=3), 5 * RNG.normal(size=4)
    values = np.concatenate([first, second])[:, None]
    condition = np.repeat([0, 1], [3, 4])
    weight = np.repeat([0.5 / 3, 0.5 / 4], [3, 4])
    spread = Sample(values, condition, condition, weight).noise.spread()
    parts = np.array([first.var(ddof=1) / 3 / 4, second.var(ddof=1) / 4 / 4])
    assert spread.error[0] == pytest.approx(np.sqrt(parts.sum()))
    assert spread.freedom[0] == pytest.approx(parts.sum() ** 2 / (parts**2 / [3, 4]).sum())


def test_a_condition_that_was_drawn_once_is_taken_to_be_as_noisy_as_the_others():
    condition = np.array([0, 0, 1])
    spread = Sample(
        np.array([[1.0], [3.0], [9.0]]), condition, condition, np.array([0.25, 0.25, 0.5])
    ).noise.spread()
    known = 0.5**2 * 2.0 / 2  # of the mean of the first, its variance being 2
    assert spread.error[0] ** 2 == pytest.approx(known + 0.5**2 * 2.0)


def test_one_draw_of_everything_says_nothing_of_the_noise():
    codes = np.arange(3)
    found = estimates(Sample(np.array([[0.1], [0.2], [0.6]]), codes, codes, np.full(3, 1 / 3)))
    assert np.isnan(found.low_here[0])
    assert found.low[0] < 0.3 < found.high[0]  # of the problems it does
    sample = Sample(np.array([[0.1], [0.2], [0.6]]), codes, codes, np.full(3, 1 / 3))
    assert np.isnan(np.stack(rank_interval(draws(sample, RNG)))).all()


def test_a_problem_counts_once_and_each_of_its_seeds_alike():
    """Problem 0: seed 0 has cells 1 and 3, seed 1 has 8; problem 1: 100."""
    found = drawn(
        np.array([[1.0], [3.0], [8.0], [100.0]]),
        np.array([5, 5, 5, 9]),
        np.array([2, 2, 2, 4]),
        np.array([0, 0, 1, 0]),
    )
    assert found.mean[0] == pytest.approx(((2 + 8) / 2 + 100) / 2)
    assert found.weight.sum() == pytest.approx(1)
    assert len(found.values) == 3  # the two cells of a draw are one draw


def test_a_seed_s_conditions_count_by_their_cells():
    values = np.array([[1.0], [1.0], [7.0]])
    found = drawn(values, np.zeros(3, int), np.array([0, 0, 1]), np.zeros(3, int))
    assert found.mean[0] == pytest.approx(3.0)
    assert found.by_problem[0, 0] == pytest.approx(3.0)


def test_what_is_the_same_in_every_draw_is_certain():
    spread = one_condition([[1.0, 2.0]] * 3).noise.spread()
    assert p_value(np.array([0.0, 0.1]), spread).tolist() == [1.0, 0.0]
    assert better(np.array([0.0, 0.1]), spread).tolist() == [0.5, 1.0]


def test_a_difference_of_runs_that_share_no_draw_has_the_noise_of_both():
    first, second = RNG.normal(size=5), RNG.normal(size=5)
    noise = one_condition(first).noise.beside(one_condition(second).noise)
    gap = np.array([second.mean() - first.mean()])
    wanted = scipy_stats.ttest_ind(second, first, equal_var=False)
    spread = noise.spread()
    assert gap[0] / spread.error[0] == pytest.approx(wanted.statistic)
    plain = scipy_stats.t.sf(abs(gap / spread.error), spread.freedom) * 2
    assert p_value(gap, spread) == pytest.approx(plain)


def test_what_would_be_seen_is_seen_four_times_of_five():
    rng = np.random.default_rng(3)
    condition = np.repeat(np.arange(10), 3)
    noise = 0.1 * rng.normal(size=(30, 4000))
    true = visible(Sample(noise, condition, condition, np.full(30, 1 / 30)).noise.spread()).mean()
    sample = Sample(noise + true, condition, condition, np.full(30, 1 / 30))
    seen = p_value(sample.mean, sample.noise.spread()) < 0.05
    assert 0.77 < seen.mean() < 0.85
    spread = sample.noise.spread()
    assert (visible(spread, tests=20) > visible(spread)).all()


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(1).random(30) ** 3
    p[3] = p[7]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm(np.array([])).size == 0


def test_draws_have_the_percentiles_of_the_interval_and_move_methods_together():
    values = RNG.normal(size=(6, 1)) + np.array([[0.0, 0.5]]) + 1e-3 * RNG.normal(size=(6, 2))
    sample = Sample(values, np.repeat([0, 1], 3), np.repeat([0, 1], 3), np.full(6, 1 / 6))
    found, moved = estimates(sample), draws(sample, np.random.default_rng(0), 20_000)
    low, high = np.quantile(moved, [0.025, 0.975], axis=0)
    assert low == pytest.approx(found.low_here, abs=0.05)
    assert high == pytest.approx(found.high_here, abs=0.05)
    assert (moved[:, 1] > moved[:, 0]).all()  # a hard draw is hard for both
    assert [ends.tolist() for ends in rank_interval(moved)] == [[2.0, 1.0], [2.0, 1.0]]


def test_equal_methods_share_the_better_rank():
    low, high = rank_interval(np.array([[0.5, 0.5, 0.1]] * 5))
    assert low.tolist() == high.tolist() == [1.0, 1.0, 3.0]


def test_the_degrees_of_freedom_stay_between_the_least_and_the_sum():
    condition = np.repeat([0, 1], [2, 6])
    lone = np.zeros((8, 1))
    lone[0] = 1.0
    assert Noise(lone, condition).spread().freedom[0] == pytest.approx(2.0)
    even = np.ones((8, 1))
    assert 1 <= Noise(even, condition).spread().freedom[0] <= 6


def test_where_all_places_are_in_all_seeds_their_mean_is_that_of_the_draws():
    problem, condition, seed = (
        codes.ravel() for codes in np.meshgrid([0, 1], [0, 1, 2], [4, 7, 9], indexing="ij")
    )
    condition = condition + 3 * problem
    value, place = RNG.normal(size=(2, 18)), np.stack([condition, condition + 6])  # two cells a draw
    both = [np.tile(codes, 2) for codes in (problem, condition, seed)]
    mean, noise = of_places(value.ravel(), place.ravel(), *both)
    wanted = drawn(value.reshape(-1, 1), *both)
    assert mean == pytest.approx(wanted.mean[0])
    assert noise.spread().error[0] == pytest.approx(wanted.noise.spread().error[0])
    assert noise.spread().freedom[0] == pytest.approx(wanted.noise.spread().freedom[0])


def test_a_place_counts_the_same_however_many_of_its_seeds_are_known():
    """One problem, an easy place in three seeds and a hard one in one of them."""
    value = np.array([0.8, 0.9, 1.0, 0.1])
    place, seed, zero = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0]), np.zeros(4, dtype=int)
    mean, noise = of_places(value, place, zero, zero, seed)
    assert mean == pytest.approx((0.9 + 0.1) / 2)
    assert noise.spread().error[0] == pytest.approx(
        0.1 / np.sqrt(3)
    )  # the hard one moves as the easy one does


def test_places_with_one_seed_each_have_a_noise_that_nobody_knows():
    codes = np.arange(3)
    mean, noise = of_places(np.array([0.1, 0.2, 0.6]), codes, codes, codes, np.zeros(3, dtype=int))
    assert mean == pytest.approx(0.3)
    assert np.isnan(noise.spread().error[0])
