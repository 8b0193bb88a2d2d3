"""Shares of draws that reach a skill, and the mean of the middle half."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from assay.benchmarks.profiles import THRESHOLDS, interquartile_mean, performance_profile


def blocks(**methods):
    count = len(next(iter(methods.values())))
    names = ["dataset", "parameters", "noise", "seed"]
    index = pd.MultiIndex.from_tuples([("d", f"f={i // 2}", "", i % 2) for i in range(count)], names=names)
    return pd.DataFrame({m: np.asarray(v, dtype=float) for m, v in methods.items()}, index=index)


def test_interquartile_mean_is_that_of_the_middle_half_and_outliers_do_not_move_it():
    found = interquartile_mean(blocks(a=[0, 1, 2, 3, 4, 5, 6, 7], b=[-99, 1, 2, 3, 4, 5, 6, 99]))
    assert found.to_dict() == {"a": 3.5, "b": 3.5}
    assert interquartile_mean(blocks(a=[0.0, 0.3, 0.9])).to_dict() == {"a": pytest.approx(0.4)}


def test_best_first_and_nothing_of_nothing():
    assert [*interquartile_mean(blocks(a=[0, 1], b=[2, 3])).index] == ["b", "a"]
    assert interquartile_mean(blocks(a=[])).empty


def test_share_is_of_draws_at_or_above_the_threshold():
    found = performance_profile(blocks(a=[0.1, 0.2, 0.3, 0.4], b=[1, 1, 1, 1]), np.array([0.0, 0.3, 0.5]))
    assert found["method"].tolist() == ["a"] * 3 + ["b"] * 3
    assert found["threshold"].tolist() == [0, 0.3, 0.5] * 2
    assert found["share"].tolist() == [1, 0.5, 0, 1, 1, 1]
    assert performance_profile(blocks(a=[0.1 + 0.2]), np.array([0.3 + 1e-12]))["share"].tolist() == [1]


def test_band_is_wilsons_and_has_a_width_where_all_draws_agree():
    found = performance_profile(blocks(a=[1.0] * 10), np.array([0.5]))
    z2 = norm.ppf(0.975) ** 2
    assert found["low"][0] == pytest.approx(10 / (10 + z2))
    assert found["high"][0] == pytest.approx(1)


def test_profile_falls_and_lies_in_its_band():
    values = np.random.default_rng(0).normal(0.5, 0.3, 40)
    found = performance_profile(blocks(a=values))
    assert found["threshold"].tolist() == THRESHOLDS.tolist()
    assert (found["share"].diff().dropna() <= 0).all()
    assert ((found["low"] <= found["share"]) & (found["share"] <= found["high"])).all()


def test_without_draws_there_is_no_share():
    assert performance_profile(blocks(a=[]), np.array([0.5]))[["share", "low", "high"]].isna().all(axis=None)


def test_band_holds_the_share_that_fixed_conditions_have():
    """12 conditions with means of their own, 2 draws of each: at least 93% of 200 tables."""
    rng = np.random.default_rng(3)
    centre = rng.normal(0.5, 0.2, 12).repeat(2)
    thresholds = np.array([0.3, 0.5, 0.7])
    truth = norm.sf((thresholds[:, None] - centre) / 0.15).mean(1)
    tables = rng.normal(centre, 0.15, (200, 24))
    found = [performance_profile(blocks(a=values), thresholds) for values in tables]
    held = np.array([(f["low"] <= truth) & (truth <= f["high"]) for f in found])
    assert (held.mean(0) > 0.93).all()
