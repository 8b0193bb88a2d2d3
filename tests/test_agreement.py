"""Metrics that hold a map against a reference: the exact attribution, or the map of another method."""

import math
from dataclasses import replace
from functools import cache
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, pearsonr, rankdata, spearmanr

from assay import metrics
from assay.benchmarks import concordance, ranking
from assay.benchmarks.plugin import METRICS, Case, Evidence
from assay.benchmarks.sharing import of_map

torch.set_num_threads(1)
METRICS.discover(metrics)
CORRELATIONS = ("kendall_tau", "spearman", "pearson", "cosine")
TOPS = ("feature_agreement", "rank_agreement", "sign_agreement", "signed_rank_agreement", "top_k_jaccard")
ALL = (*CORRELATIONS, *TOPS, "pairwise_rank_agreement", "rank_biased_overlap")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def evidence(a, b, *, relevant=None, as_truth=False):
    """The map `a` against `b`, another method's or the truth; without a mask the first three are relevant."""
    a, b = (torch.as_tensor(v, dtype=torch.float64) for v in (a, b))
    feature, x = a.shape[1:], torch.zeros_like(a)
    case = Case(
        model=torch.nn.Flatten(),
        x=x,
        target=torch.zeros(len(a), dtype=torch.int64),
        baseline=x[0],
        background=x[:1],
        groups=None,
        rng=generator(),
    )
    mask = torch.arange(a[0].numel()).view(1, *feature) < 3 if relevant is None else torch.as_tensor(relevant)
    maps = {"truth": b, "other": None} if as_truth else {"truth": None, "other": b}
    made = {"empty": x.flatten(1)[:, 0], "explain": lambda _: a, "rng": generator()}
    return Evidence(case=case, attribution=a, masks={"relevant": mask}, **maps, **made)


def score(metric, a, b, *, relevant=None, as_truth=False, **parameters):
    return METRICS[metric].function(evidence(a, b, relevant=relevant, as_truth=as_truth), **parameters)


def one(metric, a, b, **given):
    """The score of a single row."""
    return score(metric, [a], [b], **given).item()


# ---- the twins: one row in, one number out, averaged over every breaking of the ties ---------------------


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else math.nan


@cache
def orders(row):
    """Every falling order of |row|; each is as likely as any other."""
    return sorted(
        {tuple(sorted(start, key=lambda i: -abs(row[i]))) for start in permutations(range(len(row)))}
    )


def over_orders(agree, a, b):
    return mean(agree(p, q) for p in orders(a) for q in orders(b))


def top(mask, k):
    return min(k, len(mask)) if k else sum(mask)


def feature_agreement(a, b, mask, k=0):
    k = top(mask, k)
    return over_orders(lambda p, q: mean(i in q[:k] for i in p[:k]), a, b)


def rank_agreement(a, b, mask, k=0):
    k = top(mask, k)
    return over_orders(lambda p, q: mean(p[place] == q[place] for place in range(k)), a, b)


def sign_agreement(a, b, mask, k=0):
    k = top(mask, k)
    return over_orders(lambda p, q: mean(i in q[:k] and np.sign(a[i]) == np.sign(b[i]) for i in p[:k]), a, b)


def signed_rank_agreement(a, b, mask, k=0):
    k = top(mask, k)

    def agree(p, q):
        return mean(i == j and np.sign(a[i]) == np.sign(b[i]) for i, j in zip(p[:k], q[:k], strict=True))

    return over_orders(agree, a, b)


def top_k_jaccard(a, b, mask, k=0):
    k = top(mask, k)
    return over_orders(
        lambda p, q: len({*p[:k]} & {*q[:k]}) / len({*p[:k]} | {*q[:k]}) if k else math.nan, a, b
    )


def pairwise_rank_agreement(a, b, mask):
    pairs = [*combinations(range(len(a)), 2)]
    return over_orders(
        lambda p, q: mean((p.index(i) < p.index(j)) == (q.index(i) < q.index(j)) for i, j in pairs), a, b
    )


def rank_biased_overlap(a, b, mask, p=0.9):
    d = len(a)

    def agree(one, two):
        shares = [len({*one[:k]} & {*two[:k]}) / k for k in range(1, d + 1)]
        return (1 - p) * sum(p**k * share for k, share in enumerate(shares)) + shares[-1] * p**d

    return over_orders(agree, a, b)


def cosine(a, b, mask):
    norms = math.hypot(*a) * math.hypot(*b)
    return sum(p * q for p, q in zip(a, b, strict=True)) / norms if norms else math.nan


def pearson(a, b, mask):
    if len(set(a)) == 1 or len(set(b)) == 1:
        return math.nan
    return cosine([v - mean(a) for v in a], [v - mean(b) for v in b], mask)


def spearman(a, b, mask):
    return pearson(*([sum(v < w for v in m) + sum(v == w for v in m) / 2 for w in m] for m in (a, b)), mask)


def kendall_tau(a, b, mask):
    pairs = [*combinations(range(len(a)), 2)]
    p, q = ([float(np.sign(m[i] - m[j])) for i, j in pairs] for m in (a, b))
    return cosine(p, q, mask) if pairs else math.nan


def maps(width):
    """Random maps, maps with ties of size and of sign, a zero map and constant ones."""
    ties = torch.randint(-2, 3, (5, width), generator=generator(1)).double()
    rest = torch.tensor([[0.0], [1.0], [-0.3]], dtype=torch.float64).expand(3, width)
    return torch.cat([draw(3, width, seed=2), ties, rest])


TWINS = [
    *((twin, {}) for twin in (kendall_tau, spearman, pearson, cosine, pairwise_rank_agreement)),
    *((globals()[name], {"k": k}) for name in TOPS for k in (0, 1, 2, 4, 9)),
    *((rank_biased_overlap, {"p": p}) for p in (0.5, 0.9, 0.99)),
]


@pytest.mark.parametrize(("twin", "parameters"), TWINS)
@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_metric_equals_its_twin(twin, parameters, width):
    a = maps(width)
    b = torch.cat([a.roll(4, 0).flip(1), a])
    a = a.repeat(2, 1)  # the second time against itself
    mask = torch.rand(a.shape, generator=generator(3)) < 0.5
    mask[0], mask[5] = False, True
    for as_truth in (False, True):
        got = score(twin.__name__, a, b, relevant=mask, as_truth=as_truth, **parameters)
        assert got.dtype == torch.float64
        rows = zip(*(map(tuple, v.tolist()) for v in (a, b, mask)), strict=True)
        assert got.tolist() == pytest.approx(
            [twin(*row, **parameters) for row in rows], abs=1e-9, nan_ok=True
        )


def tops(row, k):
    """Every top k of |row|, each as likely as any other."""
    size, sure = (
        sorted(map(abs, row)),
        {i for i, v in enumerate(row) if sum(abs(w) >= abs(v) for w in row) <= k},
    )
    limit = size[len(row) - k]
    some = [i for i, v in enumerate(row) if abs(v) == limit and i not in sure]
    return [sure | {*rest} for rest in combinations(some, k - len(sure))]


@pytest.mark.parametrize(("levels", "k"), [(2, 4), (3, 5), (4, 3), (5, 7)])
def test_jaccard_is_the_mean_over_all_draws_of_both_tops(levels, k):
    a, b = torch.randint(levels, (2, 30, 10), generator=generator(levels))
    want = [
        mean(len(p & q) / len(p | q) for p in tops(row, k) for q in tops(other, k))
        for row, other in zip(a.tolist(), b.tolist(), strict=True)
    ]
    assert score("top_k_jaccard", a, b, k=k).tolist() == pytest.approx(want, abs=1e-12)


def test_jaccard_of_expectations_is_not_the_expected_jaccard():
    """Two features tie for one place in both maps: the same one half of the time, 1, and 0 otherwise."""
    assert one("top_k_jaccard", [1, 1], [1, 1], k=1) == pytest.approx(1 / 2)
    assert one("feature_agreement", [1, 1], [1, 1], k=1) == pytest.approx(1 / 2)
    # and not (1/2) / (2 - 1/2) = 1/3, the ratio of the expected sizes


def test_jaccard_of_large_ties_keeps_its_digits_and_is_the_same_in_parts(monkeypatch):
    """All of 3000 features tie in both maps: the hits are hypergeometric."""
    d, k = 3000, 40
    ways = [math.comb(k, hits) * math.comb(d - k, k - hits) / math.comb(d, k) for hits in range(k + 1)]
    want = sum(chance * hits / (2 * k - hits) for hits, chance in enumerate(ways))
    zero = torch.zeros(1, d)
    assert score("top_k_jaccard", zero, zero, k=k).item() == pytest.approx(want, rel=1e-10)
    a, b = torch.randint(3, (2, 200, 12), generator=generator(4))
    whole = score("top_k_jaccard", a, b, k=4)
    monkeypatch.setattr(concordance, "NUMBERS", 60)
    torch.testing.assert_close(score("top_k_jaccard", a, b, k=4), whole, atol=1e-15, rtol=0)


@pytest.mark.parametrize("p", [0.5, 0.9, 0.999])
def test_overlap_with_ties_equals_its_sum_over_all_tops(p):
    """X_k in expectation is the sum of products of the chances to be in the top k."""
    width, levels = 90, (3, 12, 10**6)
    for level, other in ((x, y) for x in levels for y in levels):
        a, b = (
            torch.randint(n, (6, width), generator=generator(s)).double()
            for s, n in enumerate((level, other))
        )
        k = torch.arange(1, width + 1)
        chances = [[ranking.chance_in_top(m, n.expand(6)) for n in k] for m in (a, b)]
        both = torch.stack([(v * w).sum(1) for v, w in zip(*chances, strict=True)], 1)
        want = ((1 - p) * p ** (k.double() - 1) * both / k).sum(1) + p**width
        torch.testing.assert_close(score("rank_biased_overlap", a, b, p=p), want, atol=1e-11, rtol=0)


# ---- metric = peer --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 3, 8, 31])
@pytest.mark.parametrize("levels", [2, 5, 10**6])
def test_correlations_equal_those_of_scipy(width, levels):
    """Eighty-four random rows for each of twelve kinds, with many ties and with none."""
    a, b = torch.randint(-levels, levels, (2, 84, width), generator=generator(width)).double()
    a[:, 0], a[:, 1], b[:, 0], b[:, 1] = -1.5, 1.5, 0.5, -0.5  # scipy warns about constants
    for metric, peer in (("kendall_tau", kendalltau), ("spearman", spearmanr), ("pearson", pearsonr)):
        want = [peer(p, q).statistic for p, q in zip(a.numpy(), b.numpy(), strict=True)]
        np.testing.assert_allclose(score(metric, a, b), want, atol=1e-9)


@pytest.mark.parametrize("width", [1, 2, 3, 8, 63, 64, 65, 128, 300])
def test_counting_pairs_in_bits_equals_counting_them_by_sorting(width, monkeypatch):
    kinds = [torch.randint(n, (3, width), generator=generator(n)) for n in (1, 4, 2**40, 2**41)]
    for sizes in (False, True):
        for a, b in ((x.double() - 4, y.double() - 4) for x in kinds for y in kinds):
            e = evidence(a, b)
            assert of_map(e, concordance.Paired(sizes)).first is not None
            bits = concordance.order(e, sizes=sizes)
            with monkeypatch.context() as patch:
                patch.setattr(concordance, "PACKED", -1)
                e = evidence(a, b)
                assert of_map(e, concordance.Paired(sizes)).first is None
                merged = concordance.order(e, sizes=sizes)
            assert torch.equal(bits.surplus, merged.surplus)
            assert torch.equal(torch.stack(bits.untied), torch.stack(merged.untied))


def test_pairs_are_packed_alike_in_one_block_and_in_many(monkeypatch):
    a, b = torch.randint(6, (2, 40, 31), generator=generator())
    whole = score("kendall_tau", a, b)
    monkeypatch.setattr(concordance, "NUMBERS", 200)
    assert torch.equal(score("kendall_tau", a, b), whole)


# ---- once for all ---------------------------------------------------------------------------------------


def test_every_map_is_sorted_once_for_all_metrics_and_all_maps_that_it_meets(monkeypatch):
    three, kept = [draw(4, 9, seed=s) for s in range(3)], [{}, {}, {}]
    pairs = [*permutations(range(3), 2)]
    want = {(i, j, m): score(m, three[i], three[j]) for i, j in pairs for m in ALL}
    sorts, sort = [], ranking._sorted_bounds
    monkeypatch.setattr(ranking, "_sorted_bounds", lambda a: sorts.append(a) or sort(a))
    for i, j, metric in want:
        e = replace(evidence(three[i], three[j]), memo=kept[i], reference_memo=kept[j])
        assert torch.equal(METRICS[metric].function(e), want[i, j, metric])
    assert len(sorts) == 3 * 2  # of each map, by value and by size


# ---- the six of OpenXAI, by hand and with its faults ----------------------------------------------------

OWN = (0.9, -0.7, 0.5, 0.3, 0.1)  # falling: 0, 1, 2, 3, 4
OTHER = (0.8, 0.6, 0.2, 0.5, -0.4)  # falling: 0, 1, 3, 4, 2
BY_HAND = [
    ("feature_agreement", 2, 1.0),  # {0, 1} and {0, 1}
    ("feature_agreement", 3, 2 / 3),  # {0, 1, 2} and {0, 1, 3}
    ("feature_agreement", 4, 3 / 4),  # {0, 1, 2, 3} and {0, 1, 3, 4}
    ("rank_agreement", 3, 2 / 3),  # 0 and 1 hold their places
    ("rank_agreement", 5, 2 / 5),
    ("sign_agreement", 2, 1 / 2),  # 1 has another sign
    ("sign_agreement", 4, 2 / 4),  # 0 and 3
    ("sign_agreement", 5, 3 / 5),  # 0, 2 and 3
    ("signed_rank_agreement", 2, 1 / 2),  # 0
    ("signed_rank_agreement", 5, 1 / 5),
    ("top_k_jaccard", 3, 2 / 4),
]


@pytest.mark.parametrize(("metric", "k", "want"), BY_HAND)
def test_tops_by_hand(metric, k, want):
    assert one(metric, OWN, OTHER, k=k) == pytest.approx(want)
    assert one(metric, OTHER, OWN, k=k) == pytest.approx(want)


def test_orders_by_hand():
    # sizes of OTHER in the order of OWN's: .8 .6 .2 .5 .4; out of order are (.2, .5) and (.2, .4)
    assert one("pairwise_rank_agreement", OWN, OTHER) == pytest.approx(8 / 10)
    # values: ranks 5 1 4 3 2 and 5 4 2 3 1, whose squared differences sum to 0 + 9 + 4 + 0 + 1
    assert one("spearman", OWN, OTHER) == pytest.approx(1 - 6 * 14 / (5 * 24))
    # overlaps 1, 2, 2, 3, 5 of tops 1 to 5, weighed by (1 - p) p^(k - 1), and p^5 beyond
    want = 0.5 * (1 + 0.5 + 0.25 * 2 / 3 + 0.125 * 3 / 4 + 0.0625) + 0.5**5
    assert one("rank_biased_overlap", OWN, OTHER, p=0.5) == pytest.approx(want)
    assert one("rank_biased_overlap", (2, 1), (1, 2), p=0.7) == pytest.approx(0.7)  # p^2 + (1 - p) p


def by_column(row, k):
    """What a stable sort makes of ties."""
    return sorted(range(len(row)), key=lambda i: -abs(row[i]))[:k]


def test_a_zero_map_scores_chance_wherever_the_relevant_columns_are():
    """Ties broken by column order give FA 1 where the truth's top comes first, and 1/3 or 0 elsewhere."""
    zero, first, last = (0.0,) * 6, (3.0, 2.0, 1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0, 2.0, 3.0)
    faulty = [len({*by_column(zero, 3)} & {*by_column(truth, 3)}) / 3 for truth in (first, last)]
    assert faulty == [1.0, 0.0]
    for truth in (first, last):
        assert one("feature_agreement", zero, truth, k=3) == pytest.approx(3 / 6)
        assert one("rank_agreement", zero, truth, k=3) == pytest.approx(1 / 6)
        # of 20 tops 1, 9, 9, 1 hit 3, 2, 1, 0 of the three: 1, 2 / 4, 1 / 5, 0
        assert one("top_k_jaccard", zero, truth, k=3) == pytest.approx((1 + 9 / 2 + 9 / 5) / 20)
        assert one("sign_agreement", zero, truth, k=3) == 0  # it names no sign
        assert one("signed_rank_agreement", zero, truth, k=3) == 0


def test_a_zero_map_orders_half_of_the_pairs():
    """Comparing with > alone calls all pairs of a zero map alike, or none, by which way round it is."""
    zero, truth = (0.0,) * 5, (5.0, 4.0, 3.0, 2.0, 1.0)
    pairs = [*combinations(range(5), 2)]
    strict = mean((zero[i] > zero[j]) == (truth[i] > truth[j]) for i, j in pairs)
    other = mean((zero[j] > zero[i]) == (truth[j] > truth[i]) for i, j in pairs)
    assert (strict, other) == (0.0, 1.0)
    assert one("pairwise_rank_agreement", zero, truth) == 0.5
    assert one("pairwise_rank_agreement", zero, zero) == 0.5


def test_ranks_are_averages_and_not_dense():
    """Dense ranks count distinct values, so that ties move all that comes after them."""
    a, b = (1.0, 1.0, 1.0, 1.0, 2.0, 3.0), (5.0, 6.0, 3.0, 4.0, 1.0, 7.0)
    dense = [rankdata(v, method="dense") for v in (a, b)]
    got = one("spearman", a, b)
    # ranks 2.5 (four times), 5, 6 and 4, 5, 2, 3, 1, 6: products of the deviations from 3.5
    # sum to -1 * (.5 + 1.5 - 1.5 - .5) + 1.5 * -2.5 + 2.5 * 2.5 = 2.5; squares to 12.5 and 17.5
    assert got == pytest.approx(2.5 / math.sqrt(12.5 * 17.5))
    assert abs(np.corrcoef(*dense)[0, 1] - got) > 0.05


# ---- what is undefined, and what does not matter --------------------------------------------------------


def test_what_cannot_be_compared_is_nan():
    zero, constant, varied = (0.0,) * 4, (0.1,) * 4, (1.0, 2.0, -3.0, 4.0)
    for metric in CORRELATIONS:
        assert math.isnan(one(metric, zero, varied))
        assert math.isnan(one(metric, varied, zero))
    for metric in (
        "kendall_tau",
        "spearman",
        "pearson",
    ):  # .1 is no binary number: its mean may differ from it
        assert math.isnan(one(metric, constant, varied))
        assert math.isnan(one(metric, constant, constant))
    assert one("cosine", constant, constant) == pytest.approx(1)
    for metric in ("kendall_tau", "spearman", "pearson", "pairwise_rank_agreement"):
        assert math.isnan(one(metric, [2.0], [3.0]))
    for metric in TOPS:
        assert math.isnan(one(metric, varied, varied, relevant=[[False] * 4]))
        assert one(metric, [2.0], [3.0], k=7) == 1
    assert one("rank_biased_overlap", [2.0], [3.0]) == pytest.approx(1)


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("scale", [1e-250, 1e250])
def test_maps_of_any_scale_are_compared(metric, scale):
    a, b = draw(6, 7), draw(6, 7, seed=1)
    torch.testing.assert_close(score(metric, a * scale, b / scale), score(metric, a, b), atol=1e-12, rtol=0)


@pytest.mark.parametrize("metric", ALL)
def test_order_layout_and_neighbouring_rows_do_not_matter(metric):
    a, b = torch.randint(-3, 4, (2, 8, 12), generator=generator()).double()
    mask = torch.arange(12)[None] < 3
    want, turn = score(metric, a, b, relevant=mask), torch.randperm(12, generator=generator(9))
    for change in (
        lambda v: v[:, turn],
        lambda v: v.unflatten(1, (1, 4, 3)),
        lambda v: v.unflatten(1, (4, 3)).transpose(1, 2),
    ):
        torch.testing.assert_close(
            score(metric, change(a), change(b), relevant=change(mask)), want, equal_nan=True
        )
    torch.testing.assert_close(score(metric, a[3:4], b[3:4], relevant=mask), want[3:4], equal_nan=True)
    torch.testing.assert_close(
        score(metric, b, a, relevant=mask), want, equal_nan=True
    )  # agreement is mutual


@pytest.mark.parametrize("metric", ALL)
def test_maps_are_left_as_they_were(metric):
    e = evidence(draw(3, 2, 4), draw(3, 2, 4, seed=1))
    METRICS[metric].function(e)
    assert torch.equal(e.attribution, draw(3, 2, 4))
    assert torch.equal(e.reference, draw(3, 2, 4, seed=1))


@pytest.mark.parametrize("metric", TOPS)
def test_a_top_beyond_the_last_feature_is_all_of_them(metric):
    a, b = draw(5, 4), draw(5, 4, seed=1)
    assert torch.equal(score(metric, a, b, k=9), score(metric, a, b, k=4))


# ---- the exact attribution, noise and the reverse -------------------------------------------------------

EXACT = (*CORRELATIONS, *TOPS)


def linear(rows=400):
    """Exact attributions w * (x - b) of a linear model of three relevant features among nine."""
    weight = torch.tensor([2.0, -1.0, 0.5, *[0.0] * 6], dtype=torch.float64)
    return weight * (draw(rows, 9, seed=5) - 0.5)


@pytest.mark.parametrize("metric", ALL)
def test_the_exact_attribution_is_best_and_noise_is_at_chance(metric):
    truth, noise = linear(), draw(400, 9, seed=6)
    facts = METRICS[metric].facts
    exact, chance, negated = (score(metric, a, truth) for a in (truth, noise, -truth))
    assert ("exact" in facts["claims"]) == (metric in EXACT)
    if metric in EXACT:
        torch.testing.assert_close(exact, torch.ones_like(exact))
    else:  # six features of no effect tie in the truth
        assert exact.max() < 1
    assert (exact >= negated - 1e-12).all()
    known = {"feature_agreement": 3 / 9, "rank_agreement": 1 / 9, "sign_agreement": 3 / 18}
    known |= {"signed_rank_agreement": 1 / 18, "cosine": 0.0}
    want = known.get(metric, facts["chance"])
    if want is not None:
        assert chance.mean().item() == pytest.approx(want, abs=5 * chance.std().item() / 20)
    assert exact.mean() > chance.mean() + 0.1


def test_sizes_of_noise_have_a_cosine_but_no_correlation():
    """Which is why chance is declared for all correlations but for the cosine."""
    truth, noise = linear().abs(), draw(400, 9, seed=6).abs()
    for metric in ("kendall_tau", "spearman", "pearson"):
        found = score(metric, noise, truth)
        assert found.mean().item() == pytest.approx(0, abs=5 * found.std().item() / 20)
    assert score("cosine", noise, truth).mean() > 0.3


# ---- the claims -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ALL)
def test_a_metric_claims_what_holds_and_only_that(metric):
    claims = METRICS[metric].facts["claims"]
    a, b = draw(40, 6), draw(40, 6, seed=1)
    want = score(metric, a, b)
    assert ("scale" in claims) == torch.allclose(score(metric, 7.3 * a, b), want)
    assert ("sign" in claims) == torch.allclose(score(metric, -a, b), want)


ORDERS = [*permutations(range(1, 6))]
SIGNS = [[1 if bits >> i & 1 else -1 for i in range(5)] for bits in range(32)]


@pytest.mark.parametrize("metric", ALL)
def test_a_metric_claims_ties_where_they_score_the_mean_over_their_breakings(metric):
    """Ties of size between values of either sign, and zeros, which become values of either sign."""
    other = torch.tensor((1.0, 5.0, 3.0, -2.0, 4.0)).expand(32 * 120, 5)
    nudges = torch.tensor([[n * s for n, s in zip(p, signs, strict=True)] for p in ORDERS for signs in SIGNS])
    held = []
    for row in ((2.0, -2.0, 0.0, 0.0, 0.0), (2.0, -2.0, 1.0, 1.0, 0.0), (0.3,) * 5, (0.0,) * 5):
        broken = torch.tensor(row, dtype=torch.float64) + 1e-9 * nudges
        got = one(metric, row, other[0].tolist())
        held.append(got == pytest.approx(score(metric, broken, other).mean().item(), abs=1e-7))
    assert ("ties" in METRICS[metric].facts["claims"]) == all(held)
