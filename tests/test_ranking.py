"""Ranking and what follows from it: ties, invariances, undefined rows, and the faults of other suites."""

from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from assay import metrics
from assay.benchmarks.perturb import empty_output
from assay.benchmarks.plugin import METRICS, Case, Evidence, NotApplicable
from assay.benchmarks.ranking import (
    average_ranks,
    chance_in_top,
    expected_hits,
    random_order,
    tie_bounds,
    top_size,
    unit_order,
)

TIED = torch.tensor(
    [
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, 3.0, 1.0, 2.0, 3.0],
        [5.0, 4.0, 3.0, 2.0, 1.0],
        [0.0, -0.0, 1.0, 1.0, 1.0],
        [2.0, 2.0, 2.0, -2.0, 7.0],
    ],
    dtype=torch.float64,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def tied(rows, width, levels):
    return torch.randint(levels, (rows, width), generator=generator(rows)).double() - levels // 2


def tops(scores, k):
    """The top k under every breaking of ties, each as often as it is likely."""
    orders = permutations(range(len(scores)))
    return [tuple(sorted(order, key=lambda i: -scores[i])[:k]) for order in orders]


@pytest.mark.parametrize("width", [1, 2, 7, 110])
@pytest.mark.parametrize("levels", [1, 3, 10_000])
def test_average_ranks_are_those_of_scipy(width, levels):
    a = tied(6, width, levels)
    np.testing.assert_array_equal(average_ranks(a), rankdata(a, axis=1))


def test_tie_bounds_count_smaller_and_not_larger():
    smaller, not_larger = tie_bounds(TIED)
    for row, low, high in zip(TIED.tolist(), smaller.tolist(), not_larger.tolist(), strict=True):
        assert low == [sum(other < value for other in row) for value in row]
        assert high == [sum(other <= value for other in row) for value in row]


@pytest.mark.parametrize("k", [0, 1, 2, 3, 5])
def test_chance_in_top_counts_all_tie_breakings(k):
    chance = chance_in_top(TIED, torch.full((len(TIED),), k))
    for row, got in zip(TIED.tolist(), chance.tolist(), strict=True):
        drawn = tops(row, k)
        want = [sum(i in top for top in drawn) / len(drawn) for i in range(len(row))]
        assert got == pytest.approx(want)
    assert chance.sum(1).tolist() == pytest.approx([k] * len(TIED))


def test_expected_hits_counts_all_tie_breakings_with_another_k_in_each_row():
    mask = torch.tensor([True, False, True, False, False]).expand_as(TIED)
    k = torch.tensor([1, 2, 3, 4, 2])
    got = expected_hits(TIED, mask, k).tolist()
    for row, size, hits in zip(TIED.tolist(), k.tolist(), got, strict=True):
        drawn = tops(row, size)
        assert hits == pytest.approx(sum(i in (0, 2) for top in drawn for i in top) / len(drawn))


def test_top_size_is_k_cut_to_the_width_or_the_number_of_relevant_features():
    relevant = torch.tensor([[True, False, True], [False, False, False]])
    assert top_size(0, relevant).tolist() == [2, 0]
    assert top_size(2, relevant).tolist() == [2, 2]
    assert top_size(9, relevant).tolist() == [3, 3]


def test_random_order_is_a_falling_rank_of_the_size():
    a = tied(40, 25, 9)
    rank = random_order(a, generator())
    assert torch.equal(rank.sort(1).values, torch.arange(25).expand(40, 25))
    sizes = torch.empty_like(a).scatter_(1, rank, a.abs())
    assert (sizes.diff(dim=1) <= 0).all()


def test_random_order_breaks_ties_evenly_and_independently_in_each_row():
    rank = random_order(torch.tensor([[1.0, -1.0, 1.0, 2.0]]).expand(6000, 4), generator())
    seen = Counter(map(tuple, rank.tolist()))
    assert set(seen) == {(*order, 0) for order in permutations((1, 2, 3))}
    assert all(abs(count - 1000) < 150 for count in seen.values())  # 5 standard deviations


def test_random_order_of_a_row_depends_on_nothing_but_the_generator_and_its_place():
    a = tied(30, 12, 3)
    rank = random_order(a, generator(5))
    assert torch.equal(rank, random_order(a, generator(5)))
    assert not torch.equal(rank, random_order(a, generator(6)))
    assert torch.equal(rank[:7], random_order(a[:7], generator(5)))
    changed = torch.cat([a[:7], -3 * a[7:].flip(1)])
    assert torch.equal(rank[:7], random_order(changed, generator(5))[:7])


def test_units_are_ranked_by_their_mass_and_move_together():
    a = torch.tensor([[[3.0, -3.0], [4.0, 0.5]], [[0.0, 1.0], [0.0, -5.0]]])
    groups = torch.tensor([[7, 7], [2, 4]])  # names need not be 0, 1, 2
    rank, units = unit_order(a, groups, generator())
    assert units == 3
    assert rank.tolist() == [[[0, 0], [1, 2]], [[1, 1], [2, 0]]]
    assert unit_order(a[:1], None, generator())[0].tolist()[0][1][0] == 0  # without groups: by feature


# ---- metrics that rank: ties, invariances, and the faults of other suites -------------------------------

METRICS.discover(metrics)
ROWWISE = ["uscore", "functional_precision", "attribution_mass", "auroc", "average_precision"]
ROWWISE += ["attribution_error", "completeness", "deletion", "insertion"]
ROWWISE += ["kendall_tau", "spearman", "feature_agreement"]
ALL = [*ROWWISE, "global_precision"]


class Bent(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        z = x * self.weight
        return torch.stack([z.flatten(1).sum(1), z.tanh().flatten(1).sum(1)], dim=1)


def evidence(*feature, rows=6):
    """Random evidence on a model that is not linear."""
    x, a, truth, other, weight = (
        torch.randn(rows, *feature, dtype=torch.float64, generator=generator(seed)) for seed in range(5)
    )
    case = {"baseline": torch.full(feature, 0.3, dtype=torch.float64), "background": x, "groups": None}
    case = Case(model=Bent(weight[:1]), x=x, target=torch.arange(rows) % 2, rng=generator(), **case)
    masks = {"relevant": torch.arange(x[0].numel()).view(1, *feature) < 3}  # they come first: the trap
    maps = {"attribution": a, "truth": truth, "other": other}
    made = {"empty": empty_output(case), "explain": lambda _: a, "rng": generator()}
    return Evidence(case=case, masks=masks, **made, **maps)


def score(metric, evidence, **parameters):
    fresh = {"memo": {}, "reference_memo": {}}  # what was read of another map
    return METRICS[metric].function(replace(evidence, rng=generator(), **fresh), **parameters)


def transformed(e, change):
    """Evidence with `change` applied to everything that has rows."""
    x, baseline = change(e.case.x), change(e.case.baseline[None])[0]
    case = replace(e.case, x=x, baseline=baseline, background=x, model=Bent(change(e.case.model.weight)))
    masks = {name: change(mask) for name, mask in e.masks.items()}
    parts = {name: change(getattr(e, name)) for name in ("attribution", "truth", "other")}
    return replace(e, case=case, masks=masks, **parts)


@pytest.mark.parametrize("metric", ALL)
def test_the_order_and_the_layout_of_the_features_do_not_matter(metric):
    e = evidence(12)
    want = score(metric, e)
    order = torch.randperm(12, generator=generator(9))
    torch.testing.assert_close(score(metric, transformed(e, lambda v: v[:, order])), want)
    torch.testing.assert_close(score(metric, transformed(e, lambda v: v.unflatten(1, (2, 3, 2)))), want)
    strided = transformed(e, lambda v: v.unflatten(1, (4, 3)).transpose(1, 2))
    torch.testing.assert_close(score(metric, strided), want)


@pytest.mark.parametrize("metric", ROWWISE)
def test_a_row_is_scored_the_same_in_any_batch(metric):
    e = evidence(12)
    want = score(metric, e)
    for rows in (slice(2, 3), slice(1, 5)):
        case = replace(e.case, x=e.case.x[rows], target=e.case.target[rows])
        parts = {name: getattr(e, name)[rows] for name in ("attribution", "truth", "other", "empty")}
        torch.testing.assert_close(score(metric, replace(e, case=case, **parts)), want[rows])


@pytest.mark.parametrize("metric", ALL)
def test_inputs_are_left_as_they_were(metric):
    e, untouched = evidence(2, 4), evidence(2, 4)
    score(metric, e)
    for name in ("attribution", "truth", "other", "empty"):
        assert torch.equal(getattr(e, name), getattr(untouched, name))
    assert torch.equal(e.masks["relevant"], untouched.masks["relevant"])
    assert torch.equal(e.case.x, untouched.case.x)
    assert torch.equal(e.case.baseline, untouched.case.baseline)


@pytest.mark.parametrize("metric", ALL)
def test_a_score_stays_in_the_range_that_the_metric_declares(metric):
    low, high = sorted((METRICS[metric].facts["best"], METRICS[metric].facts["worst"]))
    for rows, feature in ((1, (1,)), (1, (5,)), (20, (2, 4))):
        scores = score(metric, evidence(*feature, rows=rows))
        assert scores.shape == (1 if metric == "global_precision" else rows,)
        assert scores.dtype == torch.float64
        assert (scores.isnan() | ((scores >= low) & (scores <= high))).all()


@pytest.mark.parametrize("metric", ["functional_precision", "global_precision", "attribution_mass"])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_a_constant_map_scores_the_share_of_relevant_features_though_they_come_first(metric, value):
    e = evidence(110, rows=7)  # breaking ties by position scores 1
    scale = torch.rand(7, 1, dtype=torch.float64, generator=generator())  # must not break them by rounding
    scores = score(metric, replace(e, attribution=(value * scale).expand(7, 110)))
    assert scores.tolist() == pytest.approx([3 / 110] * len(scores))


def test_two_zero_maps_agree_by_chance():
    e = evidence(12)
    zero = torch.zeros_like(e.attribution)
    e = replace(e, attribution=zero, other=zero)
    assert score("feature_agreement", e).tolist() == pytest.approx([3 / 12] * 6)
    assert score("kendall_tau", e).isnan().all()
    assert score("spearman", e).isnan().all()


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_a_curve_without_information_is_the_mean_over_all_orders(metric):
    e = evidence(3, rows=4000)
    case = replace(e.case, x=e.case.x[:1].expand(4000, 3), target=torch.ones(4000, dtype=torch.int64))
    e = replace(e, truth=None, other=None, empty=empty_output(case))
    drawn = score(metric, replace(e, case=case, attribution=torch.zeros_like(e.attribution)))
    every = torch.tensor(list(permutations((1.0, 2.0, 3.0))), dtype=torch.float64)
    case = replace(case, x=case.x[:6], target=case.target[:6])
    want = score(metric, replace(e, case=case, attribution=every, empty=empty_output(case)))
    error = drawn.std().item() / 4000**0.5
    assert drawn.mean().item() == pytest.approx(want.mean().item(), abs=5 * error)
    assert torch.isclose(drawn[:, None], want).any(1).all()


def test_sizes_are_scored_against_the_size_of_the_truth():
    e = evidence(40, rows=200)  # ChaosMining compares |gradient| with a signed derivative
    size = e.truth.abs()
    right, wrong = (score("uscore", replace(e, attribution=size, truth=t)) for t in (size, e.truth))
    torch.testing.assert_close(right, torch.ones_like(right))
    assert wrong.mean() < 0.6


def test_a_zero_norm_is_not_nan():
    e = evidence(12)
    zero = torch.zeros_like(e.attribution)
    for a, t, want in ((zero, e.truth, 0.0), (e.truth, zero, 0.0), (zero, zero, 1.0)):
        scores = score("uscore", replace(e, attribution=a, truth=t))
        torch.testing.assert_close(scores, torch.full_like(scores, want), atol=1e-4, rtol=0)
        error = score("attribution_error", replace(e, attribution=a, truth=t))
        assert error.tolist() == [2 - 2 * want] * 6


def test_a_truth_near_zero_does_not_blow_the_error_up():
    e = evidence(12)
    assert score("attribution_error", replace(e, truth=1e-9 * e.truth)).max() <= 2
    flipped = score("attribution_error", replace(e, attribution=-3 * e.truth), rescale=True)
    assert flipped.tolist() == [2] * 6  # a negative factor would call it perfect
    scaled = score("attribution_error", replace(e, attribution=3 * e.truth), rescale=True)
    assert scaled.max() < 1e-12


def test_a_mask_of_none_or_of_all_is_undefined_where_it_must_be():
    e = evidence(5, rows=2)
    e = replace(e, masks={"relevant": torch.tensor([[False] * 5, [True] * 5])})
    for metric in ("uscore", "functional_precision", "feature_agreement"):
        assert score(metric, e).isnan().tolist() == [True, False]
    for metric in ("auroc", "average_precision"):
        assert score(metric, e).isnan().all()
    with pytest.raises(NotApplicable, match="one mask for all"):
        score("global_precision", e)
