"""Friedman, Nemenyi and Holm-Wilcoxon: against published numbers, brute force and simulation."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scikit_posthocs import posthoc_nemenyi_friedman
from scipy.stats import friedmanchisquare, rankdata, studentized_range, wilcoxon
from statsmodels.stats.multitest import multipletests

from assay.benchmarks.intervals import holm
from assay.benchmarks.significance import (
    MOST,
    compare_many,
    letters,
    section,
    signed_rank,
    surely_above,
)
from assay.benchmarks.stats import levels

# Demsar 2006, table 6: AUC of C4.5, with m, with cf, with both, on 14 data sets;
# the paper ranks the two 0.975 of its thirteenth row 2 and 3, by digits that it does not print
C45 = """\
0.763 0.768 0.771 0.798
0.599 0.591 0.590 0.569
0.954 0.971 0.968 0.967
0.628 0.661 0.654 0.657
0.882 0.888 0.886 0.898
0.936 0.931 0.916 0.931
0.661 0.668 0.609 0.685
0.583 0.583 0.563 0.625
0.775 0.838 0.866 0.875
1.000 1.000 1.000 1.000
0.940 0.962 0.965 0.962
0.619 0.666 0.614 0.669
0.972 0.981 0.9751 0.975
0.957 0.978 0.946 0.970"""


def blocks(values, methods=None, seeds=1):
    """Draws from an array of conditions x methods, every seed of a condition alike."""
    values = np.repeat(np.asarray(values, dtype=float), seeds, axis=0)
    index = [("d", f"function={i // seeds}", "columns=1", i % seeds) for i in range(len(values))]
    names = ["dataset", "parameters", "noise", "seed"]
    columns = methods or [f"m{j}" for j in range(values.shape[1])]
    return pd.DataFrame(values, index=pd.MultiIndex.from_tuples(index, names=names), columns=columns)


@pytest.fixture(scope="module")
def demsar():
    values = [[float(v) for v in line.split()] for line in C45.splitlines()]
    return compare_many(blocks(values, ["c", "m", "cf", "m+cf"]))


def test_published_ranks_and_critical_difference(demsar):
    assert demsar.blocks == 14
    assert demsar.mean_ranks.round(3).to_dict() == {"m+cf": 1.964, "m": 2.0, "cf": 2.893, "c": 3.143}
    assert [*demsar.mean_ranks.index] == ["m+cf", "m", "cf", "c"]
    assert demsar.critical_difference == pytest.approx(1.25, abs=0.005)


def test_published_statistics(demsar):
    """The paper has 9.28 and 3.69 without the correction for ties: 78 of 14 x 60."""
    assert demsar.friedman_statistic * (1 - 78 / 840) == pytest.approx(9.28, abs=0.005)
    plain = demsar.friedman_statistic * (1 - 78 / 840)
    assert 13 * plain / (14 * 3 - plain) == pytest.approx(3.69, abs=0.005)
    corrected = demsar.friedman_statistic
    assert demsar.iman_davenport == pytest.approx(13 * corrected / (14 * 3 - corrected))
    assert demsar.friedman_p < 0.05
    assert demsar.iman_davenport_p < demsar.friedman_p


def test_published_signed_ranks(demsar):
    """Table 2 of the paper compares c with m: R+ = 93, R- = 12."""
    pair = demsar.pairs.set_index(["a", "b"]).loc[("m", "c")]
    assert [*pair[["wins", "ties", "losses"]]] == [10, 2, 2]
    assert pair["rank_biserial"] == pytest.approx((93 - 12) / 105)


def test_published_cliques(demsar):
    """1.964 and 3.143 differ by less than 1.25, so that all are one group."""
    assert demsar.cliques == [["m+cf", "m", "cf", "c"]]
    assert set(letters(demsar)) == {"a"}


def one_pair(difference):
    (p,), (effect,) = signed_rank(np.asarray(difference, dtype=float)[:, None])
    return float(p), float(effect)


def brute(difference):
    """Two-sided p over all signs of the ranks of what is not zero."""
    rank = rankdata(np.abs(np.round(difference, 9)))
    rank = rank[np.abs(difference) > 1e-9]
    seen = rank[difference[np.abs(difference) > 1e-9] > 0].sum()
    sums = np.array([rank @ s for s in itertools.product([0, 1], repeat=len(rank))])
    return min(1, 2 * min((sums <= seen + 1e-9).mean(), (sums >= seen - 1e-9).mean()))


@pytest.mark.parametrize("seed", range(6))
def test_signed_rank_counts_all_signs_with_ties_and_zeros(seed):
    difference = np.random.default_rng(seed).integers(-2, 5, 9).astype(float)
    assert one_pair(difference)[0] == pytest.approx(brute(difference))


@pytest.mark.parametrize("n", [5, 20, 50])
def test_signed_rank_is_scipys_exact_one_without_ties_and_the_normal_one_of_many(n):
    rng = np.random.default_rng(n)
    difference = rng.normal(0.2, 1, n)
    assert one_pair(difference)[0] == pytest.approx(wilcoxon(difference, method="exact").pvalue)
    more = rng.normal(0.2, 1, 51)
    assert one_pair(more)[0] == pytest.approx(wilcoxon(more, method="asymptotic").pvalue)


def test_effect_is_one_where_a_method_always_wins_and_none_where_nothing_differs():
    assert one_pair(np.arange(1.0, 8)) == (pytest.approx(2 / 2**7), 1.0)
    assert one_pair(-np.arange(1.0, 8))[1] == -1.0
    assert one_pair(np.full(7, 1e-12)) == (1.0, 0.0)


def test_friedman_is_scipys_and_rounding_breaks_no_tie():
    values = np.random.default_rng(1).integers(0, 4, (10, 5)).astype(float)
    values[:, 4] = values[:, 3]
    found = compare_many(blocks(values + np.linspace(0, 1e-11, 5)))
    assert found.friedman_statistic == pytest.approx(friedmanchisquare(*values.T).statistic)
    assert found.pairs.set_index(["a", "b"]).loc[("m3", "m4"), "ties"] == 10


def test_equal_methods_are_equal_and_perfect_order_is_certain():
    same = compare_many(blocks(np.ones((5, 3))))
    assert (same.friedman_p, same.iman_davenport_p) == (1.0, 1.0)
    assert (same.pairs["p_holm"] == 1).all()
    sure = compare_many(blocks(np.tile([3.0, 2.0, 1.0], (5, 1))))
    assert sure.friedman_statistic == pytest.approx(10)
    assert sure.iman_davenport_p == 0


def test_seeds_of_a_condition_are_one_block():
    values = np.random.default_rng(0).normal(size=(8, 4))
    once, thrice = (compare_many(blocks(values, seeds=n)) for n in (1, 3))
    assert once.blocks == thrice.blocks == 8
    assert once.friedman_p == thrice.friedman_p
    pd.testing.assert_frame_equal(once.pairs, thrice.pairs)


@pytest.mark.parametrize("shape", [(2, 5), (5, 2), (0, 5)])
def test_too_few_blocks_or_methods_say_nothing(shape):
    assert compare_many(blocks(np.zeros(shape), [f"m{j}" for j in range(shape[1])])) is None


def test_neighbouring_groups_share_letters_and_distant_methods_do_not():
    """Ten methods always in the same order over 12 blocks: runs are as long as the critical difference."""
    found = compare_many(blocks(np.tile(-np.arange(10.0), (12, 1))))
    reach = int(np.ceil(found.critical_difference))  # ranks are whole numbers
    assert found.cliques == [[f"m{j}" for j in range(i, i + reach)] for i in range(10 - reach + 1)]
    shown = letters(found)
    for i, j in itertools.combinations(range(10), 2):
        together = set(shown[f"m{i}"].split()) & set(shown[f"m{j}"].split())
        assert bool(together) == (j - i < found.critical_difference)


def test_family_wise_error_of_holm_under_no_difference():
    """Three equal methods, noise of its own size in each of 12 blocks: any pair called in at most 5%.

    Of 150 tables; three standard errors of a share of 5% are 5.3 percentage points.
    """
    rng = np.random.default_rng(5)
    called = 0
    for _ in range(150):
        values = rng.standard_t(3, (12, 3)) * rng.uniform(0.1, 2, (12, 1))
        p = [one_pair(values[:, a] - values[:, b])[0] for a, b in itertools.combinations(range(3), 2)]
        called += bool((holm(np.array(p)) <= 0.05).any())
    assert 0 < called / 150 <= 0.05 + 0.053


def test_p_of_pairs_are_those_of_their_blocks_corrected_by_holm():
    values = np.random.default_rng(7).normal(size=(9, 4))
    found = compare_many(blocks(values))
    p = [one_pair(values[:, int(a[1])] - values[:, int(b[1])])[0] for a, b in found.pairs[["a", "b"]].values]
    assert found.pairs["p_wilcoxon"].tolist() == p
    assert found.pairs["p_holm"].tolist() == multipletests(p, method="holm")[1].tolist()


def test_a_method_that_is_better_everywhere_is_found():
    values = np.random.default_rng(2).normal(size=(20, 4)) + np.array([3.0, 0, 0, 0])
    found = compare_many(blocks(values))
    assert set(surely_above(found)["m0"]) == {"m1", "m2", "m3"}
    assert found.mean_ranks.index[0] == "m0"


def test_a_reader_is_told_where_no_pair_can_be_told_apart():
    """6 methods, 15 pairs: with 8 blocks 15 / 128 is above 5%, with 10 blocks 15 / 512 is below."""
    order = -np.arange(6.0)
    for count, possible in ((8, False), (10, True)):
        found = compare_many(blocks(np.tile(order, (count, 1))))
        text = "\n".join(section(found))
        assert found.smallest_p == pytest.approx(15 * 2.0 ** (1 - count))
        assert ("no pair of these can be told apart" in text) != possible
        assert (found.pairs["p_holm"] <= 0.05).any() == possible
    assert "| 1       | m0       | 1.00        |" in text
    assert "| 2-6 " in text


def test_names_from_outside_are_text():
    names = ["<script>alert(1)</script>", "a|b", "$x$"]
    text = "\n".join(section(compare_many(blocks(np.random.default_rng(0).normal(size=(5, 3)), names))))
    assert "<script>" not in text
    assert "a\\|b" in text


def test_pairs_are_those_of_the_best_and_all_else_is_of_all():
    """Of 83 methods, the last three are ranked and not paired; the table and its last sentence say so."""
    rng = np.random.default_rng(3)
    values = rng.normal(0, 0.1, (12, MOST + 3)) - np.arange(MOST + 3)
    found = compare_many(blocks(values))
    best = [f"m{j}" for j in range(MOST)]
    assert [*found.mean_ranks.index] == [*best, *(f"m{MOST + j}" for j in range(3))]
    assert list(zip(found.pairs["a"], found.pairs["b"], strict=True)) == list(itertools.combinations(best, 2))
    assert found.critical_difference == pytest.approx(
        studentized_range.ppf(0.95, MOST + 3, np.inf) / np.sqrt(2) * np.sqrt((MOST + 3) * (MOST + 4) / 72)
    )
    assert "the last 3 were not paired" in section(found)[-1]
    assert "not paired" not in section(compare_many(blocks(values[:, :MOST])))[-1]


@pytest.mark.parametrize("digits", [1, 9])
def test_nemenyi_is_that_of_scikit_posthocs(digits):
    values = np.random.default_rng(4).normal(size=(9, 6)).round(digits)
    found = compare_many(blocks(values))
    wanted = posthoc_nemenyi_friedman(values).to_numpy()
    for a, b, p in found.pairs[["a", "b", "p_nemenyi"]].itertuples(index=False):
        assert p == pytest.approx(wanted[int(a[1]), int(b[1])], abs=1e-6)


def test_pairs_together_are_pairs_alone():
    """With ties and zeros, pairs that are all zero among them, of few blocks and of many."""
    rng = np.random.default_rng(8)
    for count in (8, 60):
        together = rng.integers(-2, 3, (count, 40)).astype(float)
        together[:, ::7] = 0
        p, effect = signed_rank(together)
        assert [*zip(p, effect, strict=True)] == [one_pair(own) for own in together.T]


@pytest.mark.parametrize("shape", [(7,), (4, 7)])
def test_levels_are_in_order_and_rounding_makes_none(shape):
    values = np.random.default_rng(1).integers(0, 4, shape).astype(float)
    found = levels(values + np.random.default_rng(2).uniform(0, 1e-10, shape), 1e-9)
    wanted = np.array([np.unique(row, return_inverse=True)[1] for row in np.atleast_2d(values)])
    assert (found == wanted.reshape(shape)).all()
    assert levels(np.zeros(0), 1e-9).shape == (0,)
