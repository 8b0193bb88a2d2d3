"""Every metric against a slow and obvious twin, against peers, and against closed-form answers."""

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from assay import metrics
from assay.benchmarks.perturb import empty_output
from assay.benchmarks.plugin import METRICS, Case, Evidence

METRICS.discover(metrics)


def score(metric, evidence, **parameters):
    fresh = {"memo": {}, "reference_memo": {}}  # what was read of another map
    return METRICS[metric].function(replace(evidence, **fresh), **parameters)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


class Curved(torch.nn.Module):
    """Two outputs, w.x + c tanh(v.x) and 2 w.x - c tanh(v.x)."""

    def __init__(self, weight, curvature):
        super().__init__()
        self.weight, self.curvature = weight.flatten(), curvature

    def forward(self, x):
        linear = x.flatten(1) @ self.weight
        bend = self.curvature * torch.tanh(x.flatten(1) @ self.weight.square())
        return torch.stack([linear + bend, 2 * linear - bend], dim=1)


def evidence(a, *, relevant=None, truth=None, other=None, **case):
    """Evidence about the map `a` on a model with fixed weights; `case` replaces fields of the case."""
    feature = a.shape[1:]
    given = {
        "model": Curved(draw(*feature, seed=11), 0.5),
        "x": draw(*a.shape, seed=12),
        "target": torch.arange(len(a)) % 2,
        "baseline": torch.full(feature, 0.25, dtype=torch.float64),
        "background": draw(4, *feature, seed=13),
        "groups": None,
        "rng": generator(),
    } | case
    if relevant is None:
        relevant = torch.arange(a[0].numel()).view(1, *feature) < 2
    return Evidence(
        case=Case(**given),
        attribution=a,
        masks={"relevant": relevant},
        truth=truth,
        empty=empty_output(Case(**given)),
        other=other,
        explain=lambda _: a,
        rng=generator(),
    )


# ---- the twins: one row in, one number out --------------------------------------------------------------


def mean(values):
    return sum(values) / len(values) if values else math.nan


def orders(row):
    """Falling order of |row| under every breaking of ties, each as often as it is likely."""
    for start in permutations(range(len(row))):
        yield sorted(start, key=lambda i: -abs(row[i]))


def uscore(a, t, mask):
    norm_a, norm_t = sum(map(abs, a)), sum(map(abs, t))
    scores = []
    for i in range(len(a)):
        if mask[i]:
            p = a[i] / norm_a if norm_a else 0.0
            q = t[i] / norm_t if norm_t else 0.0
            scores.append(1 - abs(p - q) / (abs(p) + abs(q) + 1e-7))
    return mean(scores)


def functional_precision(a, t, mask, k=0):
    size = min(k, len(a)) if k else sum(mask)
    return mean([mean([mask[i] for i in order[:size]]) for order in orders(a)])


def attribution_mass(a, t, mask):
    if not any(a):
        return mean(mask)
    return sum(abs(v) for v, m in zip(a, mask, strict=True) if m) / sum(map(abs, a))


def auroc(a, t, mask):
    yes = [abs(v) for v, m in zip(a, mask, strict=True) if m]
    no = [abs(v) for v, m in zip(a, mask, strict=True) if not m]
    return mean([(p > q) + 0.5 * (p == q) for p in yes for q in no])


def average_precision(a, t, mask):
    if all(mask) or not any(mask):
        return math.nan
    scores = []
    for order in orders(a):
        hits = [mask[i] for i in order]
        scores.append(mean([sum(hits[: j + 1]) / (j + 1) for j in range(len(a)) if hits[j]]))
    return mean(scores)


def attribution_error(a, t, mask, norm="l2", rescale=False):
    power = {"l1": 1, "l2": 2}[norm]

    def size(v):
        return sum(abs(p) ** power for p in v) ** (1 / power)

    if rescale and any(a):
        factor = sum(p * q for p, q in zip(a, t, strict=True)) / sum(p * p for p in a)
        a = [max(factor, 0.0) * p for p in a]
    scale = size(a) + size(t)
    return 2 * size([p - q for p, q in zip(a, t, strict=True)]) / scale if scale else 0.0


def kendall_tau(a, b, mask):
    surplus = untied_a = untied_b = 0
    for i in range(len(a)):
        for j in range(i):
            sign_a, sign_b = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
            surplus += sign_a * sign_b
            untied_a += sign_a != 0
            untied_b += sign_b != 0
    return surplus / math.sqrt(untied_a * untied_b) if untied_a * untied_b else math.nan


def feature_agreement(a, b, mask, k=0):
    size = min(k, len(a)) if k else sum(mask)
    tops = [set(order[:size]) for order in orders(b)]
    return mean([len(set(order[:size]) & top) / size for order in orders(a) for top in tops if size])


def output(e, row, x):
    return e.case.model(x[None])[0, e.case.target[row]].item()


def curve(e, row, counts, insert):
    """One model call a point, one feature moved at a time; the map has no ties."""
    case, order = e.case, next(orders(e.attribution[row].tolist()))
    gaps = []
    for count in counts:
        start, end = (case.baseline, case.x[row]) if insert else (case.x[row], case.baseline)
        x = start.clone()
        x[order[:count]] = end[order[:count]]
        gaps.append(abs(output(e, row, x) - output(e, row, end)))
    steps = range(1, len(counts))
    return sum((gaps[i] + gaps[i - 1]) / 2 * (counts[i] - counts[i - 1]) for i in steps) / counts[-1]


def completeness(e, row):
    total = sum(e.attribution[row].tolist())
    change = output(e, row, e.case.x[row]) - output(e, row, e.case.baseline)
    scale = abs(total) + abs(change)
    return 2 * abs(total - change) / scale if scale else 0.0


def maps(width):
    """Random maps, maps with ties, a zero map and constant ones."""
    ties = torch.randint(-2, 3, (4, width), generator=generator(1)).double()
    rest = torch.tensor([[0.0], [1.0], [-0.3]], dtype=torch.float64).expand(3, width)
    return torch.cat([draw(3, width, seed=2), ties, rest])


def masks(rows, width):
    """A random mask for each row; two are empty and full."""
    mask = torch.rand(rows, width, generator=generator(3)) < 0.5
    mask[0], mask[5] = False, True
    return mask


TWINS = [
    *((twin, {}) for twin in (uscore, attribution_mass, auroc, average_precision, kendall_tau)),
    *((twin, {"k": k}) for twin in (functional_precision, feature_agreement) for k in (0, 1, 3, 9)),
    *((attribution_error, {"norm": n, "rescale": r}) for n in ("l1", "l2") for r in (False, True)),
]


@pytest.mark.parametrize(("twin", "parameters"), TWINS)
@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_metric_equals_its_twin(twin, parameters, width):
    a = maps(width)
    b, mask = a.roll(3, 0).flip(1), masks(*a.shape)
    a, b, mask = (torch.cat(pair) for pair in ((a, a[-3:]), (b, a[-3:]), (mask, mask[-3:])))  # b = a, b = 0
    scores = score(twin.__name__, evidence(a, relevant=mask, truth=b, other=b), **parameters)
    assert scores.dtype == torch.float64
    want = [twin(*row, **parameters) for row in zip(a.tolist(), b.tolist(), mask.tolist(), strict=True)]
    assert scores.tolist() == pytest.approx(want, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("k", [0, 1, 3, 9])
def test_global_precision_is_the_precision_of_the_mean_size(k):
    a, mask = maps(6), [False, True, False, True, True, False]
    means = [mean([abs(v) for v in column]) for column in a.T.tolist()]
    got = score("global_precision", evidence(a, relevant=torch.tensor([mask])), k=k)
    assert got.tolist() == pytest.approx([functional_precision(means, None, mask, k)])


def test_completeness_equals_its_twin():
    e = evidence(maps(6))
    assert score("completeness", e).tolist() == pytest.approx([completeness(e, i) for i in range(10)])
    at_baseline = evidence(torch.zeros(2, 6, dtype=torch.float64), x=e.case.baseline.expand(2, 6))
    assert score("completeness", at_baseline).tolist() == [0, 0]


def test_completeness_holds_the_sum_against_what_absent_means_to_the_method():
    """The same map adds up against the background's mean output, and not against the baseline's."""
    e = evidence(maps(6))
    total = e.case.output(e.case.x) - empty_output(e.case, "marginal")
    complete = replace(e, attribution=(total / 6)[:, None].expand(10, 6))
    marginal = replace(complete, empty=empty_output(e.case, "marginal"))
    assert score("completeness", marginal).max() < 1e-12
    assert score("completeness", complete).mean() > 0.05


STEPS = [(128, range(8)), (7, range(8)), (3, (0, 2, 5, 7)), (1, (0, 7))]


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
@pytest.mark.parametrize(("points", "counts"), STEPS)
def test_a_curve_equals_its_twin(metric, points, counts):
    e = evidence(draw(5, 7))
    want = [curve(e, i, counts, metric == "insertion") for i in range(5)]
    assert score(metric, e, points=points).tolist() == pytest.approx(want)


# ---- metric = peer --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 3, 31, 64, 110])
@pytest.mark.parametrize("levels", [3, 10**6])
def test_agreement_equals_scipy(width, levels):
    a, b = torch.randint(-levels, levels, (2, 8, width), generator=generator(width)).double()
    a[:, 0], a[:, 1], b[:, 0], b[:, 1] = -1.5, 1.5, 0.5, -0.5  # scipy warns about constants
    for metric, peer in (("kendall_tau", kendalltau), ("spearman", spearmanr)):
        want = [peer(p, q).statistic for p, q in zip(a.numpy(), b.numpy(), strict=True)]
        np.testing.assert_allclose(score(metric, evidence(a, other=b)), want, atol=1e-12)


def test_ranking_scores_equal_sklearn():
    free, tied = draw(8, 40), torch.randint(-3, 4, (8, 40), generator=generator()).double()
    mask = torch.arange(40) % 3 == 0
    cases = [
        ("auroc", roc_auc_score, free),
        ("auroc", roc_auc_score, tied),
        ("average_precision", average_precision_score, free),  # sklearn takes all of a tie at one threshold
    ]
    for metric, peer, a in cases:
        got = score(metric, evidence(a, relevant=mask[None]))
        np.testing.assert_allclose(got, [peer(mask, row.abs()) for row in a])


# ---- closed-form answers: the linear model whose exact attribution is w * (x - baseline) ------------------


def linear(weight, x, baseline=0.5):
    weight, x = torch.tensor(weight, dtype=torch.float64), torch.tensor(x, dtype=torch.float64)
    a = weight * (x - baseline)
    e = evidence(a, relevant=weight[None] != 0, truth=a, other=a, x=x, model=Curved(weight, 0.0))
    case = replace(e.case, baseline=torch.full_like(weight, baseline), target=torch.zeros(len(a)).long())
    return replace(e, case=case, empty=empty_output(case))


ONE = ("uscore", "functional_precision", "global_precision", "attribution_mass", "auroc", "average_precision")
PERFECT = dict.fromkeys((*ONE, "kendall_tau", "spearman", "feature_agreement"), 1.0)
PERFECT |= {"attribution_error": 0.0, "completeness": 0.0}


@pytest.mark.parametrize("name", PERFECT)
def test_the_exact_attribution_scores_best_and_better_than_noise(name):
    e = linear([2.0, -1.0, 0.5, 0.0, 0.0, 0.0], draw(50, 6).tolist())
    good, bad = (score(name, replace(e, attribution=a)) for a in (e.attribution, draw(50, 6, seed=1)))
    torch.testing.assert_close(good, torch.full_like(good, PERFECT[name]), atol=1e-5, rtol=0)
    assert (good - bad).abs().mean() > 0.1


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_the_curve_of_a_linear_model_by_hand(metric):
    e = linear([3.0, 2.0, 1.0], [[1.5, 1.5, 1.5]])  # 6 of f(x) - f(b) to be moved, by 3, 2 and 1
    assert score(metric, e).item() == pytest.approx((6 / 2 + 3 + 1 + 0) / 3)
    assert score(metric, e, points=1).item() == pytest.approx(6 / 2)
    assert score(metric, replace(e, attribution=-e.attribution)).item() == pytest.approx(7 / 3)
    assert score(metric, replace(e, attribution=1 / e.attribution)).item() == pytest.approx((3 + 5 + 3) / 3)
    grouped = replace(e, case=replace(e.case, groups=torch.tensor([1, 0, 0])))
    tied = score(metric, replace(grouped, attribution=torch.tensor([[5.0, 1.0, 1.0]], dtype=torch.float64)))
    assert tied.item() == pytest.approx((6 / 2 + 3 + 0) / 2)


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_the_exact_order_beats_noise_on_average_over_signs(metric):
    e = linear([2.0, -1.0, 0.5, 0.0, 0.0, 0.0], draw(200, 6).tolist())
    good, bad = (score(metric, replace(e, attribution=a)) for a in (e.attribution, draw(200, 6, seed=1)))
    assert good.mean() < 0.8 * bad.mean()
