"""Metrics that hold a map against outputs with units taken away or shaken, the same for all methods."""

import dataclasses
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import infidelity_perturb_func_decorator
from scipy.stats import pearsonr, spearmanr
from torch import nn

from assay import metrics
from assay.benchmarks import coalitions as module
from assay.benchmarks.coalitions import OfSizes, all_coalitions, table
from assay.benchmarks.effects import Effects, Gaussian, correlation
from assay.benchmarks.metering import Rows, watch
from assay.benchmarks.perturb import empty_output
from assay.benchmarks.plugin import METRICS, Case, Evidence, NotApplicable
from assay.benchmarks.shared import Store
from assay.benchmarks.sharing import of_case

torch.set_num_threads(1)
METRICS.discover(metrics)

OF_SUBSETS = ("sensitivity_n", "faithfulness_correlation", "infidelity")
CORRELATIONS = ("sensitivity_n", "faithfulness_correlation", "faithfulness_estimate")
OF_EFFECTS = ("monotonicity_correlation", "non_sensitivity", "dummy")
ALL = (*CORRELATIONS, "infidelity", *OF_EFFECTS)


def score(metric, evidence, **parameters):
    return METRICS[metric].function(evidence, **parameters)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


class Curved(nn.Module):
    """Two outputs, w.x + c tanh(v.x) + bias and 2 w.x - c tanh(v.x) + bias, with v = w^2."""

    def __init__(self, weight, curvature, bias=0.0):
        super().__init__()
        self.weight, self.curvature, self.bias = weight.flatten(), curvature, bias

    def forward(self, x):
        line = x.flatten(1) @ self.weight.to(x)
        bend = self.curvature * torch.tanh(x.flatten(1) @ self.weight.square().to(x))
        return torch.stack([line + bend, 2 * line - bend], dim=1) + self.bias


def evidence(a, key="unit", **given):
    """Evidence about the map `a`, with a store that shares what is computed of the case."""
    feature = a.shape[1:]
    given = {
        "model": Curved(draw(*feature, seed=11), 0.5),
        "x": draw(*a.shape, seed=12),
        "target": torch.arange(len(a)) % 2,
        "baseline": torch.full(feature, 0.25, dtype=torch.float64),
        "background": draw(4, *feature, seed=13),
        "groups": None,
        "rng": generator(),
    } | given
    case = Case(**given)
    case = dataclasses.replace(case, shared=Store(case, key).lend(case.model))
    return Evidence(
        case=case,
        attribution=a,
        masks={"relevant": torch.ones(1, *feature, dtype=torch.bool)},
        truth=None,
        empty=empty_output(case),
        other=None,
        explain=lambda _: a,
        rng=generator(),
    )


def about(e, a):
    """The same case with another map."""
    return dataclasses.replace(e, attribution=a, memo={})


def rows_of(e, rows):
    """The evidence about some of the rows, with nothing shared."""
    part = {"x": e.case.x[rows], "target": e.case.target[rows], "shared": None, "rng": generator()}
    case = dataclasses.replace(e.case, **part)
    return dataclasses.replace(e, attribution=e.attribution[rows], empty=e.empty[rows], case=case, memo={})


def linear(weight, x, baseline=0.5, bias=0.0, **given):
    """A linear model with its exact attribution w * (x - b)."""
    weight = torch.as_tensor(weight, dtype=torch.float64)
    x = torch.as_tensor(x, dtype=torch.float64)
    given = {"target": torch.zeros(len(x), dtype=torch.int64), "background": x} | given
    full = torch.full_like(weight, baseline)
    return evidence(weight * (x - baseline), model=Curved(weight, 0.0, bias), x=x, baseline=full, **given)


def output(case, row, x):
    return case.model(x[None])[0, case.target[row]].item()


# ---- the design -----------------------------------------------------------------------------------------


def sets(coalitions):
    return [frozenset(c.nonzero()[:, 0].tolist()) for c in coalitions]


@pytest.mark.parametrize("units", [2, 3, 4, 5, 8, 11, 12, 30, 110])
@pytest.mark.parametrize(("sizes", "each"), [(10, 100), (1, 7), (3, 2), (4, 1)])
def test_subsets_of_evenly_spaced_sizes_are_removed(units, sizes, each):
    present, weights = OfSizes(sizes, each).draw(units, generator())
    removed = (~present).sum(1)
    count = min(sizes, units - 1)
    there = removed.unique().tolist()
    # from 1 in `count` - 1 equal steps to units - 1, each to the nearest whole number
    ideal = [1 + k * (units - 2) / (count - 1) for k in range(count)] if count > 1 else [1]
    assert len(there) == count
    assert all(abs(n - i) <= 0.5 for n, i in zip(there, ideal, strict=True))
    for n in there:
        mine = removed == n
        assert mine.sum() == min(each, math.comb(units, n))
        assert weights[mine].sum().item() == pytest.approx(1 / count)
        assert weights[mine].unique().numel() == 1
        if math.comb(units, n) <= module.LISTED:
            assert len(set(sets(present[mine]))) == mine.sum()  # none twice
    assert weights.dtype == torch.float64


@pytest.mark.parametrize("units", [2, 3, 4, 5, 6])
def test_all_subsets_are_there_where_there_are_no_more(units):
    """Of the middle size too, which the table of pairs lists by half."""
    present, _ = OfSizes(10, 100).draw(units, generator())
    wanted = {frozenset(c) for n in range(1, units) for c in combinations(range(units), n)}
    assert len(present) == len(wanted)
    assert set(sets(present)) == wanted


def test_one_unit_has_no_subset_to_remove_and_two_have_two():
    with pytest.raises(NotApplicable, match="one unit"):
        OfSizes().draw(1, generator())
    present, weights = OfSizes().draw(2, generator())
    assert sorted(present.tolist()) == [[False, True], [True, False]]
    assert weights.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("listed", [1, 20_000])
def test_every_subset_of_a_size_is_as_likely(monkeypatch, listed):
    """Whether the subsets are listed or not; of 6 units 3 is the middle size, the third of 1, 2, 3, 4, 5."""
    monkeypatch.setattr(module, "LISTED", listed)
    draws = [OfSizes(5, 4).draw(6, generator(seed))[0] for seed in range(500)]
    middle = [s for d in draws for s in sets(d) if len(s) == 3]
    counts = [middle.count(s) for s in set(middle)]
    assert len(counts) == 20
    assert max(abs(c - 100) for c in counts) < 4.5 * math.sqrt(100)


def test_a_design_hangs_on_its_generator_alone():
    first, other = (OfSizes(3, 5).draw(20, generator(seed))[0] for seed in (0, 1))
    assert torch.equal(first, OfSizes(3, 5).draw(20, generator(0))[0])
    assert not torch.equal(first, other)


def test_thousands_of_units_are_no_burden():
    present, _ = OfSizes(4, 3).draw(10_000, generator())
    assert (~present).sum(1).unique().tolist() == [1, 3334, 6666, 9999]


# ---- the twins: one row in, one number out --------------------------------------------------------------


def mean(values):
    return sum(values) / len(values) if values else math.nan


def pearson(a, b):
    a, b = ([v - mean(side) for v in side] for side in (a, b))
    if any(max(map(abs, side)) < 1e-13 for side in (a, b)):  # the numbers are about 1: this is rounding
        return math.nan
    return sum(p * q for p, q in zip(a, b, strict=True)) / math.sqrt(
        sum(v * v for v in a) * sum(v * v for v in b)
    )


def names(case):
    """The unit of every feature, in the order of the features."""
    flat = range(case.baseline.numel()) if case.groups is None else case.groups.flatten().tolist()
    order = sorted(set(flat))
    return [order.index(name) for name in flat]


def without(case, row, units):
    x, flat = case.x[row].flatten().clone(), case.baseline.flatten()
    for i, unit in enumerate(names(case)):
        if unit in units:
            x[i] = flat[i]
    return x.view(case.baseline.shape)


def loss_of(e, row, units):
    """The map's sum over the units, and what the output loses without them, by one model call."""
    flat = e.attribution[row].flatten().tolist()
    said = sum(v for v, unit in zip(flat, names(e.case), strict=True) if unit in units)
    case = e.case
    return said, output(case, row, case.x[row]) - output(case, row, without(case, row, units))


def removed_by_size(e, sizes, each):
    found = {}
    for present in sets(table(e.case, OfSizes(sizes, each)).coalitions):
        gone = frozenset(names(e.case)) - present
        found.setdefault(len(gone), []).append(gone)
    return found


def sensitivity_n(e, row, sizes=10, each=100):
    found = removed_by_size(e, sizes, each).values()
    scores = [pearson(*zip(*(loss_of(e, row, s) for s in some), strict=True)) for some in found]
    return mean([s for s in scores if not math.isnan(s)])


def faithfulness_correlation(e, row, share=0.2, sizes=10, each=100):
    found = removed_by_size(e, sizes, each)
    nearest = min(sorted(found), key=lambda n: abs(n - share * len(set(names(e.case)))))
    return pearson(*zip(*(loss_of(e, row, s) for s in found[nearest]), strict=True))


def faithfulness_estimate(e, row):
    return pearson(*zip(*(loss_of(e, row, {u}) for u in sorted(set(names(e.case)))), strict=True))


def infidelity(e, row, scale=True, sizes=10, each=100, sd=None):
    """With an `sd` that of noise, else that of removals."""
    case, pairs = e.case, []
    if sd is None:
        for some in removed_by_size(e, sizes, each).values():
            pairs += [(*loss_of(e, row, s), 1 / len(some)) for s in some]
    else:
        for noise in of_case(case, Gaussian(sd, each)).noise:
            said = (e.attribution[row] * noise).sum().item()
            x = case.x[row]
            pairs += [(said, output(case, row, x) - output(case, row, x - noise), 1)]
    power = sum(w * s * s for s, _, w in pairs)
    beta = 1.0 if not scale else sum(w * s * c for s, c, w in pairs) / power if power else 0.0
    whole = sum(w * c * c for _, c, w in pairs)
    return sum(w * (beta * s - c) ** 2 for s, c, w in pairs) / whole if whole > 1e-26 else math.nan


def changes(e, row):
    """For every unit, the changes of the output as all background rows in turn lend it."""
    case, found = e.case, {}
    for unit in sorted(set(names(case))):
        mine = torch.tensor([u == unit for u in names(case)]).view(case.baseline.shape)
        rows = [torch.where(mine, other, case.x[row]) for other in case.background]
        found[unit] = [output(case, row, case.x[row]) - output(case, row, x) for x in rows]
    return found


def sizes_of(e, row):
    sums = {}
    for value, unit in zip(e.attribution[row].flatten().tolist(), names(e.case), strict=True):
        sums[unit] = sums.get(unit, 0.0) + abs(value)
    return [sums[unit] for unit in sorted(sums)]


def ranks(values):
    """1 + how many are smaller + half of how many others are equal; rounding makes nothing unequal."""
    return [sum((v > w + 1e-14) + 0.5 * (abs(v - w) <= 1e-14) for w in values) + 0.5 for v in values]


def monotonicity_correlation(e, row, draws=10):
    effects = [mean([c * c for c in some]) for some in changes(e, row).values()]
    return pearson(ranks(sizes_of(e, row)), ranks(effects))


def at_baseline(e, row, unit):
    flat = zip(e.case.x[row].flatten(), e.case.baseline.flatten(), names(e.case), strict=True)
    return all(x == b for x, b, u in flat if u == unit)


def non_sensitivity(e, row, draws=10, tolerance=1e-5):
    size, faults = sizes_of(e, row), []
    for unit, some in changes(e, row).items():
        zero, there = size[unit] <= tolerance * max(size), any(abs(c) > 1e-12 for c in some)
        faults.append(zero == there and not (zero and at_baseline(e, row, unit)))
    return mean(faults)


def dummy(e, row, draws=10):
    rows = range(len(e.case.x))
    used = {unit for r in rows for unit, some in changes(e, r).items() if any(abs(c) > 1e-12 for c in some)}
    size = sizes_of(e, row)
    if len(used) == len(size):
        return math.nan
    return sum(s for unit, s in enumerate(size) if unit not in used) / sum(size) if sum(size) else 0.0


TWINS = [
    *((twin, {}) for twin in (sensitivity_n, faithfulness_correlation, faithfulness_estimate, infidelity)),
    (sensitivity_n, {"sizes": 2, "each": 3}),
    (faithfulness_correlation, {"share": 0.7, "sizes": 3, "each": 4}),
    (infidelity, {"scale": False, "sizes": 3, "each": 4}),
    *((infidelity, {"sd": 0.5, "scale": s, "each": 9}) for s in (True, False)),
    *((twin, {}) for twin in (monotonicity_correlation, non_sensitivity, dummy)),
    (non_sensitivity, {"tolerance": 0.3}),
]

SHAPES = {
    "two features": ((2,), None),
    "five features": ((5,), None),
    "any shape": ((1, 2, 3), None),
    "units": ((7,), torch.tensor([9, 2, 2, 5, 9, 9, 3])),
    "units of any shape": ((1, 2, 3), torch.tensor([[[4, 0, 0], [1, 4, 2]]])),
}


def maps(*feature):
    """Random maps, maps with ties, a zero map and constant ones; some unused features among them."""
    ties = torch.randint(-2, 3, (3, *feature), generator=generator(1)).double()
    rest = torch.tensor([0.0, 1.0, -0.3], dtype=torch.float64).view(3, *[1] * len(feature))
    return torch.cat([draw(3, *feature, seed=2), ties, rest.expand(3, *feature)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("twin", "parameters"), TWINS)
def test_a_metric_equals_its_twin(twin, parameters, shape):
    feature, groups = SHAPES[shape]
    a, weight = maps(*feature), draw(*feature, seed=11)
    weight.view(-1)[-1] = 0  # not used
    x = draw(*a.shape, seed=12)
    x[:2].flatten(1)[:, 0] = 0.25  # at the baseline
    e = evidence(a, groups=groups, model=Curved(weight, 0.5), x=x)
    noise = {"perturbation": "gaussian"} if "sd" in parameters else {}
    scores = score(twin.__name__, e, **parameters, **noise)
    assert scores.dtype == torch.float64
    want = [twin(e, i, **parameters) for i in range(len(a))]
    assert scores.tolist() == pytest.approx(want, abs=1e-9, nan_ok=True)
    assert score(twin.__name__, rows_of(e, slice(1)), **parameters).shape == (1,)


def test_the_correlations_equal_scipy_s():
    e = evidence(maps(6)[:3])
    found = table(e.case, OfSizes())
    said, done = e.attribution @ (~found.coalitions).double().T, found.whole[:, None] - found.outputs
    both = zip(said.numpy(), done.numpy(), strict=True)
    np.testing.assert_allclose(correlation(said, done), [pearsonr(p, q).statistic for p, q in both])
    effects = of_case(e.case, Effects(10)).square
    both = zip(e.attribution.abs().numpy(), effects.numpy(), strict=True)
    want = [spearmanr(p, q).statistic for p, q in both]
    np.testing.assert_allclose(score("monotonicity_correlation", e), want)


# ---- closed-form answers: the linear model whose exact attribution is w * (x - baseline) ------------------

WEIGHT = [2.0, -1.0, 0.5, 0.7, 0.0, 0.0]
BEST = dict.fromkeys(CORRELATIONS, 1.0) | dict.fromkeys(("infidelity", "non_sensitivity", "dummy"), 0.0)


@pytest.mark.parametrize("name", BEST)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [0.0, 300.0])
def test_the_exact_attribution_scores_best_and_noise_does_not(name, precision, bias):
    e = linear(WEIGHT, draw(50, 6), bias=bias)
    tensors = {n: getattr(e.case, n).to(precision) for n in ("x", "baseline", "background")}
    e = dataclasses.replace(e, case=dataclasses.replace(e.case, **tensors, shared=None))
    good, bad = (score(name, about(e, a)) for a in (e.attribution, draw(50, 6, seed=1)))
    # a float32 of 300 is off by 2e-5; an output that loses about 1 by so much, its square by less still
    near = 1e-3 if precision == torch.float32 else 1e-12
    torch.testing.assert_close(good, torch.full_like(good, BEST[name]), atol=near, rtol=0)
    assert (good - bad).abs().mean() > 0.3


@pytest.mark.parametrize("name", BEST)
def test_claims_that_are_declared_hold_and_no_others(name):
    e = evidence(draw(20, 6, seed=1), model=Curved(torch.tensor(WEIGHT, dtype=torch.float64), 0.5))
    plain, larger, negated = (score(name, about(e, f * e.attribution)) for f in (1, 1e-170, -1))
    claims = METRICS[name].facts["claims"]
    assert ("scale" in claims) == torch.allclose(plain, larger, rtol=1e-9, equal_nan=True)
    assert ("sign" in claims) == torch.allclose(plain, negated, rtol=1e-9, equal_nan=True)
    assert "exact" in claims


@pytest.mark.parametrize("name", CORRELATIONS)
def test_a_negated_map_scores_the_negative(name):
    e = linear(WEIGHT, draw(20, 6))
    torch.testing.assert_close(score(name, about(e, -e.attribution)), torch.full((20,), -1.0).double())


@pytest.mark.parametrize("name", CORRELATIONS)
def test_random_maps_score_0_on_average(name):
    """By symmetry: noise and its negative are as likely, and score opposite."""
    assert METRICS[name].facts["chance"] == 0
    e = evidence(draw(400, 6, seed=1))
    found = score(name, e)
    assert found.mean().abs() < 4.5 * found.std() / 20


@pytest.mark.parametrize("name", [*CORRELATIONS, "infidelity"])
def test_the_exact_attribution_of_units_scores_best_however_it_is_spread_over_their_features(name):
    groups = torch.tensor([3, 3, 1, 1, 1, 8])
    e = linear(WEIGHT, draw(20, 6), groups=groups)
    first = torch.tensor([0, 2, 5])  # a unit's whole value on its first feature: 0 for the others
    whole = torch.zeros(20, 6, dtype=torch.float64)
    for unit, feature in zip((3, 1, 8), first.tolist(), strict=True):
        whole[:, feature] = e.attribution[:, groups == unit].sum(1)
    for a in (e.attribution, whole):
        torch.testing.assert_close(score(name, about(e, a)), torch.full((20,), BEST[name]).double())


@pytest.mark.parametrize("name", [*CORRELATIONS, "monotonicity_correlation"])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1 / 3])
def test_a_constant_map_has_no_correlation_though_its_sums_differ_by_rounding(name, value):
    e = evidence(torch.full((3, 37), value, dtype=torch.float64))
    assert score(name, e).isnan().all()
    e.attribution[:, 0] += 1e-6  # and this one does vary
    assert not score(name, about(e, e.attribution)).isnan().any()


class Grainy(nn.Module):
    """w.x + c in single precision, plus a ripple of all features that is as small as rounding."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = weight.float(), bias

    def forward(self, x):
        exact = (x @ self.weight + self.bias)[:, None]
        ripple = torch.sin(1000 * x).sum(1, keepdim=True) * 1e-7 * (1 + exact.abs())
        return exact + ripple


def grainy(a, weight, bias=0.0):
    single = {"x": draw(*a.shape, seed=12).float(), "baseline": torch.zeros(a.shape[1])}
    background, target = draw(30, a.shape[1], seed=13).float(), torch.zeros(len(a), dtype=torch.int64)
    model = Grainy(torch.tensor(weight), bias)
    return evidence(a, model=model, background=background, target=target, **single)


@pytest.mark.parametrize("name", [*CORRELATIONS, "infidelity", "monotonicity_correlation"])
def test_a_model_that_answers_with_rounding_alone_has_no_score(name):
    e = grainy(draw(5, 6), [0.0] * 6, bias=1000.0)
    assert score(name, e).isnan().all()
    e = grainy(draw(5, 6), [0.1, 0.2, 0.0, 0.0, 0.0, 0.0], bias=10.0)  # and one that does answer has one
    assert not score(name, e).isnan().any()


def test_units_that_answer_with_rounding_are_not_used_and_tie():
    weight = [2.0, -1.0, 0.5, 0.0, 0.0, 0.0]
    e = grainy(torch.ones(5, 6).double(), weight)
    exact = torch.tensor(weight) * e.case.x
    found = of_case(e.case, Effects(10))
    assert found.there.tolist() == [[True] * 3 + [False] * 3] * 5
    assert (found.square[:, 3:] == 0).all()
    assert (found.largest[:, 3:] > 0).any()  # there was rounding to be told from an answer
    assert score("dummy", e).tolist() == pytest.approx([0.5] * 5)
    assert score("non_sensitivity", e).tolist() == pytest.approx([0.5] * 5)
    assert score("non_sensitivity", about(e, exact.double())).tolist() == [0] * 5


# ---- one unit, and two ----------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [None, torch.tensor([5, 5, 5])])
def test_one_unit_can_be_scored_by_nothing_that_compares_units(groups):
    a = draw(4, 1 if groups is None else 3)
    e = evidence(a, groups=groups)
    for name in OF_SUBSETS:
        with pytest.raises(NotApplicable, match="one unit"):
            score(name, e)
    for name in ("faithfulness_estimate", "monotonicity_correlation", "dummy"):
        assert score(name, e).isnan().all()
    assert score("non_sensitivity", e).tolist() == [0] * 4
    line = linear([3.0], draw(4, 1))  # noise does not need a second unit: the gradient is exact
    assert score("infidelity", line, perturbation="gaussian").max() < 1e-24


def test_a_size_that_has_no_correlation_is_left_out():
    """The output needs one of two units: it misses no single one, and of the pairs only {0, 1}.

    The map 1, 1, 0 gives these pairs 2, 1 and 1.
    """

    class Either(nn.Module):
        def forward(self, x):
            return 1 - ((1 - x[:, :1]) * (1 - x[:, 1:2]))

    a = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64)
    given = {"model": Either(), "x": torch.ones_like(a), "baseline": torch.zeros_like(a[0])}
    e = evidence(a, background=draw(2, 3), **given)
    assert score("sensitivity_n", e).item() == pytest.approx(1)
    assert score("faithfulness_correlation", e).isnan().item()  # one of three is nearest to a fifth
    assert score("faithfulness_correlation", e, share=0.6).item() == pytest.approx(1)


def test_of_two_units_a_correlation_is_1_or_minus_1():
    e = linear([3.0, 1.0], [[1.5, 2.0], [0.0, 2.0]])  # contributions 3, 1.5 and -1.5, 1.5
    for name in CORRELATIONS:
        found = score(name, about(e, torch.tensor([[1.0, 2.0]] * 2).double()))
        assert found.tolist() == pytest.approx([-1, 1])


# ---- sharing --------------------------------------------------------------------------------------------


def counted(e):
    """Counts of the rows through the model that explains and through the copy that tables are made with."""
    rows = Rows()
    watch(e.case.model, rows)
    watch(e.case.shared.store.case.model, rows)
    return rows


def test_all_maps_and_metrics_of_subsets_take_one_table_s_rows():
    """9 sizes of 10 units: 10, 45, 100 five times, 45, 10 subsets, and both ends, of 4 rows."""
    e = evidence(draw(4, 10))
    rows = counted(e)
    for a in (draw(4, 10, seed=s) for s in range(3)):
        mine = about(e, a)
        for name in OF_SUBSETS:
            score(name, mine)
    assert rows.forward == (2 * (10 + 45) + 5 * 100 + 2) * 4
    for a in (draw(4, 10, seed=s) for s in range(3)):
        score("faithfulness_estimate", about(e, a))
    assert rows.forward == (2 * (10 + 45) + 5 * 100 + 2 + 10 + 2) * 4


def test_all_maps_are_shaken_alike_and_judged_by_the_same_effects():
    e = evidence(draw(4, 10))
    rows = counted(e)
    scores = [score("infidelity", about(e, e.attribution), perturbation="gaussian") for _ in range(3)]
    assert rows.forward == (100 + 1) * 4
    assert torch.equal(scores[0], scores[1])
    for a in (draw(4, 10, seed=s) for s in range(3)):
        for name in OF_EFFECTS:
            score(name, about(e, a), draws=3)
    assert rows.forward == (100 + 1 + 3 * 10 + 1) * 4


@pytest.mark.parametrize("name", ALL)
def test_a_score_hangs_on_nothing_that_was_asked_before_nor_changes_the_map(name):
    a = draw(4, 6)
    first = score(name, evidence(a))
    e = evidence(a)
    for other in reversed(ALL):
        score(other, e)
    assert torch.equal(score(name, e).nan_to_num(7), first.nan_to_num(7))
    assert torch.equal(a, draw(4, 6))


def test_a_row_s_score_does_not_depend_on_the_rows_beside_it():
    a = draw(6, 6)
    e = evidence(a, model=Curved(torch.tensor(WEIGHT, dtype=torch.float64), 0.5))
    for name in ALL:
        ways = ({"perturbation": p} for p in ("removal", "gaussian")) if name == "infidelity" else [{}]
        for way in ways:
            of_all, of_some = (score(name, rows_of(e, rows), **way) for rows in (slice(6), slice(2, 4)))
            torch.testing.assert_close(of_all[2:4], of_some)


# ---- effects --------------------------------------------------------------------------------------------


def test_effects_are_those_of_background_rows_drawn_without_repetition():
    e = evidence(draw(4, 6), background=torch.arange(20.0).double()[:, None].expand(20, 6).clone())
    asked = []
    e.case.model.register_forward_hook(lambda _, inputs, __: asked.append(inputs[0]))
    Effects(7).make(e.case, generator())
    own = set(e.case.x.flatten().tolist())
    lent = [x for x in torch.cat(asked).flatten().tolist() if x not in own]
    assert len(set(lent)) == 7
    assert all(lent.count(value) == 6 * 4 for value in set(lent))  # the same for all units and rows
    given = torch.randperm(20, generator=generator())[:7]
    few = dataclasses.replace(e.case, background=e.case.background[given])
    for drawn in (7, 8, 100):  # all where there are no more, each once
        found = Effects(drawn).make(few, generator(3))
        torch.testing.assert_close(found.square, Effects(7).make(e.case, generator()).square)


def test_the_effect_of_a_linear_model_by_hand():
    """w^2 times the mean square of x - u over the background: 4 (1 + 9) / 2 and 1 (4 + 0) / 2."""
    e = linear([2.0, -1.0], [[1.0, 2.0]], background=torch.tensor([[0.0, 4.0], [4.0, 2.0]]).double())
    found = of_case(e.case, Effects(10))
    assert found.square.tolist() == [[20, 2]]
    assert found.largest.tolist() == [[6, 2]]
    assert found.tried.all()


def test_effects_that_would_take_too_many_model_rows_are_refused(monkeypatch):
    monkeypatch.setattr("assay.benchmarks.effects.MOST_ROWS", 39)
    with pytest.raises(NotApplicable, match="4 draws for each of 10 units are 40: ask for fewer"):
        score("dummy", evidence(draw(2, 10)))
    assert score("non_sensitivity", evidence(draw(2, 10)), draws=3).shape == (2,)


def test_a_unit_at_its_baseline_may_be_0_but_must_be_if_the_model_does_not_use_it():
    e = linear([2.0, 1.0, 0.0], [[0.5, 1.0, 0.5]], background=draw(5, 3))
    assert e.attribution.tolist() == [[0, 0.5, 0]]
    assert score("non_sensitivity", e).item() == 0
    for a, faults in ([1, 1, 0], 0), ([0, 1, 1], 1), ([1, 0, 0], 1), ([1, 0, 1], 2), ([0, 0, 0], 1):
        assert score("non_sensitivity", about(e, torch.tensor([a]).double())).item() == pytest.approx(
            faults / 3
        )


def test_of_a_unit_that_no_background_row_changes_nothing_is_known():
    """A binary feature that is the same in all of them: exact maps name it, and the output never moves."""
    background = draw(5, 3)
    background[:, 0] = 1.0
    e = linear([2.0, 1.0, 0.0], [[1.0, 1.0, 1.0]], background=background)
    assert e.attribution[0, 0] == 1
    assert score("non_sensitivity", e).item() == 0
    assert score("dummy", e).item() == 0
    assert score("dummy", about(e, torch.tensor([[1.0, 2.0, 5.0]]).double())).item() == pytest.approx(5 / 8)


def test_a_unit_that_one_row_needs_is_no_dummy():
    class Gate(nn.Module):
        def forward(self, x):
            return (x[:, :1] + torch.relu(x[:, 1:2])) * 1.0

    x = torch.tensor([[1.0, -3.0, 1.0], [1.0, 3.0, 1.0]]).double()
    background = torch.tensor([[0.0, -1.0, 0.0], [2.0, -2.0, 2.0]]).double()
    given = {"model": Gate(), "x": x, "background": background, "target": torch.zeros(2, dtype=torch.int64)}
    e = evidence(torch.ones(2, 3).double(), **given)
    assert score("dummy", e).tolist() == pytest.approx([1 / 3, 1 / 3])
    assert score("non_sensitivity", e).tolist() == pytest.approx([2 / 3, 1 / 3])


def test_zero_maps():
    e = linear(WEIGHT, draw(3, 6))
    zero = about(e, torch.zeros(3, 6).double())
    assert score("dummy", zero).tolist() == [0] * 3
    assert score("non_sensitivity", zero).tolist() == pytest.approx([4 / 6] * 3)
    for perturbation in ("removal", "gaussian"):
        for scale in (True, False):
            found = score("infidelity", zero, perturbation=perturbation, scale=scale)
            assert found.tolist() == pytest.approx([1] * 3)


# ---- infidelity -----------------------------------------------------------------------------------------


def test_infidelity_with_the_best_scale_lies_between_0_and_1():
    e = evidence(draw(200, 6))
    for perturbation in ("removal", "gaussian"):
        found = score("infidelity", e, perturbation=perturbation)
        assert (found >= 0).all()
        assert (found <= 1 + 1e-12).all()
        assert found.max() - found.min() > 0.5


def test_the_perturbation_decides_whether_contributions_or_gradients_are_exact():
    """On a linear model the gradient is w, the contributions are w * (x - b)."""
    e = linear(WEIGHT, draw(20, 6))
    gradient = about(e, torch.tensor([WEIGHT] * 20, dtype=torch.float64))
    for scale in (True, False):
        assert score("infidelity", e, scale=scale).max() < 1e-24
        assert score("infidelity", gradient, scale=scale).mean() > 0.1
        assert score("infidelity", gradient, perturbation="gaussian", scale=scale).max() < 1e-24
        assert score("infidelity", e, perturbation="gaussian", scale=scale).mean() > 0.1


def test_noise_is_as_large_as_the_background_s_spread():
    background = draw(50, 3, seed=5) * torch.tensor([1.0, 100.0, 0.0])
    e = evidence(draw(2, 3), background=background)
    noise = of_case(e.case, Gaussian(0.2, 5000)).noise
    spread = 0.2 * background.std(0, correction=0)
    assert (noise.std(0) / spread)[:2].tolist() == pytest.approx([1, 1], abs=4.5 / math.sqrt(2 * 5000))
    assert (noise[:, 2] == 0).all()
    alone = evidence(draw(2, 3), background=background[:1])  # a single row has no spread
    assert score("infidelity", alone, perturbation="gaussian").isnan().all()


def test_unscaled_infidelity_punishes_scale_and_ours_does_not():
    """The trap: ten times the exact map is as faithful, and scores 81 = (10 - 1)^2 without a scale."""
    e = linear(WEIGHT, draw(20, 6))
    larger = about(e, 10 * e.attribution)
    assert score("infidelity", larger).max() < 1e-24
    assert score("infidelity", larger, scale=False).tolist() == pytest.approx([81] * 20)


def by_captum(e, perturb, count, normalize):
    """Captum's mean of (beta I.a - (f(x) - f(x - I)))^2, and that of (f(x) - f(x - I))^2: a zero map's."""
    case = e.case
    given = {"target": case.target, "n_perturb_samples": count, "normalize": normalize}
    found, of_zero = (
        captum_infidelity(case.model, perturb, case.x, a, baselines=case.baseline[None], **given)
        for a in (e.attribution, torch.zeros_like(e.attribution))
    )
    return found, of_zero


@pytest.mark.parametrize("normalize", [True, False])
def test_infidelity_of_removals_is_captum_s_divided_by_a_zero_map_s(normalize):
    """Captum's decorator divides x - x' by x - b: what is left is 1 on what is removed, else 0.

    Captum weighs perturbations alike, we weigh sizes alike: the same where every size has as many.
    """
    e = evidence(maps(12)[:4])
    present = table(e.case, OfSizes(3, 10)).coalitions
    assert (~present).sum(1).bincount().tolist() == [0, 10, 0, 0, 0, 0, 10, 0, 0, 0, 0, 10]

    @infidelity_perturb_func_decorator(multiply_by_inputs=True)
    def remove(inputs, baselines):
        return torch.where(present.repeat(4, 1), inputs, baselines)

    found, of_zero = by_captum(e, remove, 30, normalize)
    torch.testing.assert_close(score("infidelity", e, scale=normalize, sizes=3, each=10), found / of_zero)


@pytest.mark.parametrize("normalize", [True, False])
def test_infidelity_of_noise_is_captum_s_divided_by_a_zero_map_s(normalize):
    e = evidence(maps(12)[:4])
    noise = of_case(e.case, Gaussian(0.2, 30)).noise

    def shake(inputs, _):
        return noise.repeat(4, 1), inputs - noise.repeat(4, 1)

    found, of_zero = by_captum(e, shake, 30, normalize)
    ours = score("infidelity", e, perturbation="gaussian", scale=normalize, each=30)
    torch.testing.assert_close(ours, found / of_zero)


# ---- the traps that others fell into ----------------------------------------------------------------------


def test_nested_subsets_correlated_across_rows_misjudge_the_exact_map_and_ours_do_not():
    """The fault: features go by falling a; at each step a's own value, scaled by its row's largest, is held
    against all that was lost so far; the correlation runs across the rows of one batch, not within a row.
    """
    e = linear(draw(8, seed=4), draw(64, 8))
    scaled = e.attribution / e.attribution.abs().amax(1, keepdim=True)
    own = scaled.sort(1, descending=True).values
    lost = e.attribution.sort(1, descending=True).values.cumsum(1)  # exact: the model is linear
    batch = slice(0, 16)
    faulty = np.mean([pearsonr(own[batch, k], lost[batch, k]).statistic for k in range(7)])
    assert faulty < 0.8
    assert score("sensitivity_n", e).tolist() == pytest.approx([1] * 64)


def test_the_darkest_value_as_baseline_misjudges_the_exact_map_and_the_problem_s_own_does_not():
    """The fault: removed features take the row's minimum, whatever baseline the attribution is against."""
    e = linear(draw(8, seed=4), draw(64, 8))
    weight, x = e.case.model.weight, e.case.x
    removed = all_coalitions(8)[all_coalitions(8).sum(1) == 2].double()
    said, lost = e.attribution @ removed.T, (weight * (x - x.amin(1, keepdim=True))) @ removed.T
    faulty = np.mean([pearsonr(p, q).statistic for p, q in zip(said, lost, strict=True)])
    assert faulty < 0.8
    assert score("faithfulness_correlation", e).tolist() == pytest.approx([1] * 64)


def test_writing_into_the_baseline_misjudges_the_exact_map_and_a_fresh_one_does_not():
    """The fault: each feature's perturbed row is built in the baseline itself, by writing all the others into
    it; from the second feature on there is nothing of the baseline left, and the output loses nothing.
    """
    e = linear(draw(8, seed=4), draw(64, 8))
    model, baseline, lost = e.case.model, e.case.baseline.clone(), []
    for x in e.case.x:
        for i in range(8):
            perturbed = baseline  # not a copy
            others = torch.arange(8) != i
            perturbed[others] = x[others]
            lost.append((model(x[None]) - model(perturbed[None]))[0, 0].item())
    both = zip(e.attribution, torch.tensor(lost).view(64, 8), strict=True)
    assert np.mean([pearsonr(p, q).statistic for p, q in both]) < 0.8
    assert score("faithfulness_estimate", e).tolist() == pytest.approx([1] * 64)


def test_a_small_output_does_not_divide_the_effects():
    """The fault: effects divided by f(x)^2 are infinite, or no numbers, where f(x) is 0.

    Ours know no f(x): a constant added to the model changes nothing.
    """
    x = draw(40, 6)
    x[0, 4] = 0  # not used: any value
    weight = torch.tensor(WEIGHT, dtype=torch.float64)
    x[0] -= weight * (x[0] @ weight) / (weight @ weight)  # f(x) = 0 but for rounding
    x[1] = 0  # f(x) = 0 exactly
    e = linear(WEIGHT, x)
    effects = of_case(e.case, Effects(100)).square
    faulty = effects / e.case.output(x)[:, None].square()
    assert not faulty[1].isfinite().any()
    found = score("monotonicity_correlation", e)
    assert found.isfinite().all()
    shifted = linear(WEIGHT, x, bias=7.0)
    torch.testing.assert_close(found, score("monotonicity_correlation", shifted))


def test_monotonicity_correlation_ranks_the_effects_of_a_linear_model():
    """|w| times a common spread: the row in the middle of the background has effects w^2 times one number."""
    background = torch.tensor([[-1.0] * 6, [1.0] * 6]).double()
    e = linear(WEIGHT, torch.zeros(1, 6), background=background)
    weight = torch.tensor([WEIGHT], dtype=torch.float64)
    assert score("monotonicity_correlation", about(e, -3 * weight)).item() == pytest.approx(1)
    turned = 2 - weight.abs()
    assert score("monotonicity_correlation", about(e, turned)).item() == pytest.approx(-1)
