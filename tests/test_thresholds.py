"""Metrics that take features away as a map ranks them: twins, answers by hand, the faults of other suites."""

import math
from dataclasses import replace
from itertools import permutations, product
from statistics import NormalDist

import numpy as np
import pytest
import torch

from assay import metrics
from assay.benchmarks import perturb
from assay.benchmarks.metering import counted
from assay.benchmarks.perturb import empty_output
from assay.benchmarks.plugin import METRICS, Case, Evidence, NotApplicable
from assay.benchmarks.shared import Store
from assay.benchmarks.sharing import of_case, of_map
from assay.benchmarks.thresholds import (
    Curve,
    Noisy,
    child,
    falling,
    falling_value,
    latin_normal,
    moved,
    share_counts,
    spaced,
)

METRICS.discover(metrics)
torch.set_num_threads(1)
ANY = (
    "deletion",
    "insertion",
    "comprehensiveness",
    "sufficiency",
    "naopc",
    "pgi",
    "pgu",
    "monotonicity",
    "road",
)
CLASSES = ("irof", "minimal_subset")
MINE = (*ANY, *CLASSES)
FLOAT = {"dtype": torch.float64}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


class Curved(torch.nn.Module):
    """Outputs w.x + c tanh(v.x) and c tanh(v.x) - w.x, and as many more as asked for."""

    def __init__(self, weight, curvature=0.7, outputs=2):
        super().__init__()
        self.weight, self.curvature, self.outputs = weight.flatten(), curvature, outputs

    def forward(self, x):
        linear = x.flatten(1) @ self.weight.to(x)
        bend = self.curvature * torch.tanh(x.flatten(1) @ self.weight.roll(1).to(x))
        return torch.stack([linear + bend, bend - linear, 0.3 * bend - 0.2][: self.outputs], dim=1)


def evidence(a, **given):
    """Evidence about the map `a` on a model that bends; what is given replaces fields of the case."""
    feature = a.shape[1:]
    case = {
        "model": Curved(draw(*feature, seed=11), outputs=3),
        "x": draw(*a.shape, seed=12),
        "target": None,
        "baseline": torch.full(feature, 0.25, **FLOAT),
        "background": draw(6, *feature, seed=13),
        "groups": None,
        "rng": generator(),
    } | given
    if case["target"] is None:
        case["target"] = case["model"](case["x"]).argmax(1)
    case = Case(**case)
    mask = torch.ones(1, *feature, dtype=torch.bool)
    made = {
        "empty": empty_output(case),
        "explain": lambda _: a,
        "rng": generator(),
        "masks": {"relevant": mask},
    }
    return Evidence(case=case, attribution=a, truth=None, other=None, **made)


def linear(weight, x, baseline=0.0, **given):
    """The model w.x, its exact attribution, and one output."""
    weight, x = torch.tensor(weight, **FLOAT), torch.as_tensor(x, **FLOAT)
    start = torch.full_like(weight, baseline)
    model = Curved(weight, curvature=0.0, outputs=1)
    return evidence(weight * (x - start), model=model, x=x, baseline=start, **given)


def with_map(e, a):
    return replace(e, attribution=torch.as_tensor(a, **FLOAT).expand(e.attribution.shape), memo={})


def score(metric, e, **parameters):
    return METRICS[metric].function(replace(e, rng=generator(), memo={}), **parameters)


# ---- the twins: one row in, one number out --------------------------------------------------------------


def parts(e):
    """The features of every unit."""
    groups = range(e.case.baseline.numel()) if e.case.groups is None else e.case.groups.flatten().tolist()
    groups = list(groups)
    return [[i for i, g in enumerate(groups) if g == name] for name in sorted(set(groups))]


def order_of(e, row, signed=False):
    """The features of every unit, the unit that matters most first; the map has no ties."""
    a = e.attribution[row].flatten().tolist()
    return sorted(parts(e), key=lambda unit: -sum(a[i] if signed else abs(a[i]) for i in unit))


def outputs_at(e, x):
    return e.case.model(x[None])[0].tolist()


def way(e, row, counts, *, insert=False, signed=False):
    """The model's outputs, one call a count, with the first units moved by hand."""
    order, found = order_of(e, row, signed), []
    for count in counts:
        start, end = (e.case.baseline, e.case.x[row]) if insert else (e.case.x[row], e.case.baseline)
        x, moving = start.clone().flatten(), end.flatten()
        for unit in order[:count]:
            for i in unit:
                x[i] = moving[i]
        found.append(outputs_at(e, x.view(start.shape)))
    return found


def explained(e, row, counts, **how):
    return [outputs[e.case.target[row]] for outputs in way(e, row, counts, **how)]


def grid(units, points):
    if units <= points:
        return list(range(units + 1))
    return [round(units * j / points) for j in range(points + 1)]


def area(counts, values):
    steps = range(1, len(counts))
    return sum((values[j] + values[j - 1]) / 2 * (counts[j] - counts[j - 1]) for j in steps) / counts[-1]


def at_shares(units, counts):
    """The evaluated count nearest to 1, 5, 10, 20 and 50% of the units; one unit at least."""
    wanted = [max(1, math.floor(units * percent / 100 + 0.5)) for percent in (1, 5, 10, 20, 50)]
    return [min(counts[1:], key=lambda c, w=w: abs(c - w)) for w in wanted]


def comprehensiveness(e, row, points):
    counts = grid(len(parts(e)), points)
    whole, *gone = explained(e, row, [0, *at_shares(len(parts(e)), counts)])
    return sum(abs(whole - g) for g in gone) / 5


def sufficiency(e, row, points):
    counts = grid(len(parts(e)), points)
    whole, *alone = explained(e, row, [len(parts(e)), *at_shares(len(parts(e)), counts)], insert=True)
    return sum(abs(whole - s) for s in alone) / 5


def deletion(e, row, points):
    counts = grid(len(parts(e)), points)
    values = explained(e, row, counts)
    return area(counts, [abs(v - values[-1]) for v in values])


def insertion(e, row, points):
    counts = grid(len(parts(e)), points)
    values = explained(e, row, counts, insert=True)
    return area(counts, [abs(v - values[-1]) for v in values])


def mean_drop(values, counts):
    return (
        sum((values[0] - v) * (k - j) for v, j, k in zip(values[1:], counts, counts[1:], strict=False))
        / counts[-1]
    )


def naopc(e, row, points):
    """All orders, one by one."""
    units = len(parts(e))
    counts = grid(units, points)
    own = mean_drop(explained(e, row, counts, signed=True), counts)
    seen = {}
    for gone in product((False, True), repeat=units):
        x = e.case.x[row].clone().flatten()
        for unit, absent in zip(parts(e), gone, strict=True):
            x[unit] = e.case.baseline.flatten()[unit] if absent else x[unit]
        inputs = x.view(e.case.baseline.shape)
        seen[frozenset(u for u in range(units) if gone[u])] = outputs_at(e, inputs)[e.case.target[row]]
    orders = permutations(range(units))
    found = [mean_drop([seen[frozenset(order[:k])] for k in counts], counts) for order in orders]
    return (own - min(found)) / (max(found) - min(found)) if max(found) - min(found) > 1e-12 else math.nan


def monotonicity(e, row, points):
    """Units come into the baseline, the least first."""
    order = order_of(e, row)[::-1]
    units, a = len(order), e.attribution[row].flatten().abs()
    x, values = e.case.baseline.clone().flatten(), []
    for unit in [[], *order]:
        x[unit] = e.case.x[row].flatten()[unit]
        values.append(outputs_at(e, x.view(e.case.baseline.shape))[e.case.target[row]])
    effect = [abs(values[j + 1] - values[j]) for j in range(units)]
    size = [float(a[unit].sum()) for unit in order]
    if units > points:
        middle = [round(1 + (units - 2) * j / max(1, points - 1)) for j in range(points)]
        kept = {units - m + s for m in middle for s in (-1, 0, 1)}  # counts of units present
    else:
        kept = set(range(units + 1))
    pairs = [j for j in range(1, units) if {j - 1, j, j + 1} <= kept and size[j] > size[j - 1]]
    right = [0.5 if abs(effect[j] - effect[j - 1]) < 1e-13 else effect[j] > effect[j - 1] for j in pairs]
    return sum(right) / len(right) if right else math.nan


def softmax(outputs):
    top = max(outputs)
    powers = [math.exp(o - top) for o in outputs]
    return [p / sum(powers) for p in powers]


def irof(e, row, points):
    counts, target = grid(len(parts(e)), points), int(e.case.target[row])
    values = [softmax(outputs)[target] for outputs in way(e, row, counts)]
    return 1 - area(counts, [v / values[0] for v in values])


def minimal_subset(e, row, points, by="removal"):
    counts = grid(len(parts(e)), points)
    found = way(e, row, counts, insert=by == "insertion")
    own = int(np.argmax(found[-1] if by == "insertion" else found[0]))
    for count, outputs in zip(counts, found, strict=True):
        others = max(o for c, o in enumerate(outputs) if c != own)
        if (outputs[own] > others) if by == "insertion" else (outputs[own] < others):
            return count / counts[-1] if count else math.nan
    return 1.0


def gap(e, row, points, draws, sd, important):
    """Every draw and every count by hand, of the noise that all maps get."""
    noise = latin_normal(e.case, draws, child(generator()))[row]
    spread = torch.tensor(
        [float(np.std(column)) for column in e.case.background.flatten(1).T.numpy()], **FLOAT
    )
    counts, order, whole = grid(len(parts(e)), points), order_of(e, row), outputs_at(e, e.case.x[row])
    means = []
    for count in counts:
        some = [i for unit in (order[:count] if important else order[count:]) for i in unit]
        gaps = []
        for one in noise:
            x = e.case.x[row].clone().flatten()
            for i in some:
                x[i] += sd * spread[i] * one.flatten()[i]
            moved_to = outputs_at(e, x.view(e.case.baseline.shape))
            gaps.append(abs(moved_to[e.case.target[row]] - whole[e.case.target[row]]))
        means.append(sum(gaps) / len(gaps))
    return area(counts, means)


def pgi(e, row, points):
    return gap(e, row, points, 4, 0.8, important=True)


def pgu(e, row, points):
    return gap(e, row, points, 4, 0.8, important=False)


def shrunk(background):
    """Mean and covariance of the background with its correlations shrunk."""
    rows = background.flatten(1).numpy()
    n, p = rows.shape
    at, scale = rows.mean(0), rows.std(0)
    c = np.corrcoef(rows.T).reshape(p, p)
    trace, square = np.trace(c), np.trace(c @ c)
    low = (n + 1 - 2 / p) * (square - trace**2 / p)
    rho = min(1, ((1 - 2 / p) * square + trace**2) / low) if low > 1e-12 else 1
    c = (1 - max(rho, 1e-3)) * c + max(rho, 1e-3) * np.eye(p)
    return at, scale[:, None] * c * scale


def road(e, row, noise=0.3):
    """Conditional means by the covariance of what is kept, where the product has that of what is gone."""
    at, covariance = shrunk(e.case.background)
    shake = latin_normal(e.case, 1, child(generator()))[row, 0].numpy()
    order, x = order_of(e, row), e.case.x[row].numpy()
    whole, gaps = outputs_at(e, e.case.x[row])[e.case.target[row]], []
    for count in at_shares(len(order), grid(len(order), 10**6)):
        gone = sorted(i for unit in order[:count] for i in unit)
        kept = [i for i in range(len(x)) if i not in gone]
        filled = x.copy()
        cross = covariance[np.ix_(gone, kept)] @ np.linalg.inv(covariance[np.ix_(kept, kept)])
        filled[gone] = at[gone] + cross @ (x - at)[kept]
        filled[gone] += noise * e.case.background.numpy().std(0)[gone] * shake[gone]
        gaps.append(abs(whole - outputs_at(e, torch.from_numpy(filled))[e.case.target[row]]))
    return sum(gaps) / 5


TWINS = {f.__name__: f for f in (deletion, insertion, comprehensiveness, sufficiency, monotonicity)}
TWINS |= {f.__name__: f for f in (irof, minimal_subset, naopc, pgi, pgu)}
SHAPES = [(1,), (2,), (6,), (1, 2, 3)]
EXTRA = {"pgi": {"draws": 4, "sd": 0.8}, "pgu": {"draws": 4, "sd": 0.8}}


@pytest.mark.parametrize("feature", SHAPES)
@pytest.mark.parametrize("points", [128, 4, 1])
@pytest.mark.parametrize("name", TWINS)
def test_a_metric_equals_its_twin(name, points, feature):
    e = evidence(draw(5, *feature))
    got = score(name, e, points=points, **EXTRA.get(name, {}))
    assert got.dtype == torch.float64
    want = [TWINS[name](e, row, points) for row in range(5)]
    assert got.tolist() == pytest.approx(want, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", TWINS)
def test_a_metric_equals_its_twin_where_units_move_together(name):
    e = evidence(draw(5, 2, 4), groups=torch.tensor([[7, 7, 1, 2], [1, 1, 5, 9]]))
    got = score(name, e, **EXTRA.get(name, {}))
    assert got.tolist() == pytest.approx([TWINS[name](e, row, 128) for row in range(5)], abs=1e-9)


def test_pairs_of_steps_are_looked_at_where_there_are_too_many():
    e = evidence(draw(3, 60))
    want = [monotonicity(e, row, 7) for row in range(3)]
    assert score("monotonicity", e, points=7).tolist() == pytest.approx(want)
    assert {round(7 * w, 9) % 1 for w in want} == {0}  # seven pairs


@pytest.mark.parametrize("name", sorted({*TWINS} - {"naopc", "pgi", "pgu"}))
def test_a_metric_equals_its_twin_where_features_are_more_than_steps(name):
    e = evidence(draw(3, 150))
    assert score(name, e).tolist() == pytest.approx([TWINS[name](e, row, 128) for row in range(3)], abs=1e-9)


@pytest.mark.parametrize("points", [128, 3])
@pytest.mark.parametrize("feature", SHAPES)
def test_the_smallest_subset_that_restores_the_class_equals_its_twin(feature, points):
    e = evidence(draw(12, *feature))
    want = [minimal_subset(e, row, points, "insertion") for row in range(12)]
    got = score("minimal_subset", e, by="insertion", points=points).tolist()
    assert got == pytest.approx(want, nan_ok=True)


@pytest.mark.parametrize("width", [1, 2, 7, 30])
def test_road_equals_its_twin(width):
    background = draw(40, width, seed=3) @ draw(width, width, seed=4) + draw(width, seed=5)
    e = evidence(draw(4, width), background=background)
    assert score("road", e, noise=0.3).tolist() == pytest.approx([road(e, row) for row in range(4)], abs=1e-9)


def test_road_equals_its_twin_where_rows_lack_different_numbers_of_features():
    groups = torch.tensor([0, 1, 1, 2, 2, 2, 3])
    first = torch.eye(4, **FLOAT)[:, groups]  # row i loses unit i first
    e = evidence(draw(4, 7) + 100 * first, groups=groups, background=draw(40, 7, seed=3) @ draw(7, 7, seed=4))
    assert score("road", e, noise=0.3).tolist() == pytest.approx([road(e, row) for row in range(4)], abs=1e-9)


# ---- the curve -------------------------------------------------------------------------------------------


def test_the_curve_is_the_same_in_one_batch_and_in_many(monkeypatch):
    e = evidence(draw(6, 2, 4))
    rank, counts = falling(e, generator()), torch.arange(9)
    whole = moved(e.case, rank, counts, insert=True)
    monkeypatch.setattr(perturb, "NUMBERS", 50)
    monkeypatch.setattr(perturb, "FEWEST", 1)
    torch.testing.assert_close(moved(e.case, rank, counts, insert=True).outputs, whole.outputs)
    for k in range(9):
        inputs = torch.where(rank < k, e.case.x, e.case.baseline)
        torch.testing.assert_close(whole.outputs[:, k], e.case.model(inputs))
        torch.testing.assert_close(whole.explained[:, k], e.case.output(inputs))
    removed = moved(e.case, 7 - rank, counts, insert=False)  # taking the others out is the same input
    torch.testing.assert_close(removed.outputs.flip(1), whole.outputs)


def test_all_metrics_read_one_curve_of_each_direction():
    e = evidence(draw(5, 9), x=draw(5, 9, seed=12).float(), baseline=torch.zeros(9))
    with counted(e.case.model) as rows:
        for metric in ("deletion", "comprehensiveness", "monotonicity", "irof", "minimal_subset"):
            METRICS[metric].function(e)
        assert rows.forward == 5 * 10
        for metric in ("insertion", "sufficiency"):
            METRICS[metric].function(e)
        METRICS["minimal_subset"].function(e, by="insertion")
        assert rows.forward == 2 * 5 * 10
        METRICS["pgi"].function(e)
        before = rows.forward
        METRICS["pgu"].function(e)
        assert rows.forward == before


def test_a_share_of_few_units_is_one_unit_and_not_none():
    """int(0.01 * 5) is 0: such a share scores 0 for every map."""
    for units in range(1, 400):
        want = [max(1, math.floor(units * p / 100 + 0.5)) for p in (1, 5, 10, 20, 50)]
        assert share_counts(units).tolist() == want
    e = linear([1.0, 1.0, 1.0, 1.0, 4.0], [[1.0, 1.0, 1.0, 1.0, 1.0]])
    assert score("comprehensiveness", e).item() == pytest.approx((4 * 4 + 6) / 5)  # 1, 1, 1, 1 and 3 units
    assert score("sufficiency", e).item() == pytest.approx((4 * 4 + 2) / 5)
    assert score("road", e, noise=0.0).item() > 0


def test_shares_are_read_at_the_nearest_counts_that_there_are():
    e = evidence(draw(2, 300))
    found = of_map(e, Curve(10))
    assert found.counts.tolist() == list(range(0, 301, 30))
    assert found.counts[found.at_shares].tolist() == [30, 30, 30, 60, 150]
    assert spaced(5, 128).tolist() == [0, 1, 2, 3, 4, 5]


def test_values_are_ranked_with_their_signs_and_ties_are_broken_at_random():
    a = torch.tensor([[3.0, -5.0, 0.0, 1e-17, -0.0]], **FLOAT)
    ranks = {tuple(falling_value(evidence(a), generator(seed))[0].tolist()) for seed in range(40)}
    assert ranks == {(0, 4, 2, 1, 3), (0, 4, 3, 1, 2)}  # zeros tie, and 1e-17 is above them
    grouped = evidence(a, groups=torch.tensor([1, 1, 0, 0, 2]))  # -2, about 0, 0
    assert falling_value(grouped, generator()).tolist() == [[2, 2, 0, 0, 1]]


@pytest.mark.parametrize(
    "metric", ["comprehensiveness", "sufficiency", "irof", "minimal_subset", "naopc", "road"]
)
def test_a_map_without_information_scores_the_mean_over_all_orders(metric):
    a = torch.tensor(list(permutations((1.0, 2.0, 3.0))), **FLOAT)
    given = {"x": draw(1, 3, seed=5), "target": None}
    every = evidence(a, **given | {"x": given["x"].expand(6, 3)})
    tied = evidence(torch.full((4000, 3), -0.1, **FLOAT), **given | {"x": given["x"].expand(4000, 3)})
    parameters = {"noise": 0.0} if metric == "road" else {}
    want, got = score(metric, every, **parameters), score(metric, tied, **parameters)
    assert got.mean().item() == pytest.approx(want.mean().item(), abs=5 * got.std().item() / 4000**0.5 + 1e-9)


# ---- what holds for all ----------------------------------------------------------------------------------


def some(name, e):
    """Cheap where it can be."""
    return score(name, e, **({"draws": 3} if name in ("pgi", "pgu") else {}))


CLAIMS = {"naopc": {"exact", "scale", "ties"}, "monotonicity": {"exact", "scale", "sign"}}


@pytest.mark.parametrize("name", MINE)
def test_the_claims_hold(name):
    e = evidence(torch.cat([draw(4, 6), torch.randint(-1, 2, (3, 6), generator=generator()).double()]))
    want, claims = some(name, e), set(METRICS[name].facts["claims"])
    assert claims == CLAIMS.get(name, {"scale", "sign", "ties"})
    for factor, claim in ((4.0, "scale"), (0.3, "scale"), (-1.0, "sign")):
        got = some(name, with_map(e, factor * e.attribution))
        same = torch.allclose(got, want, equal_nan=True, atol=1e-12)
        assert same == (claim in claims)
    if "exact" in claims:
        exact = linear([2.0, -1.0, 0.5, 0.0, 0.3], draw(40, 5))
        assert some(name, exact).tolist() == pytest.approx([METRICS[name].facts["best"]] * 40)


@pytest.mark.parametrize("name", MINE)
@pytest.mark.parametrize("feature", [(1,), (7,), (1, 2, 3)])
def test_a_score_is_float64_in_range_and_of_its_own_row_alone(name, feature):
    rows = torch.cat([draw(4, *feature), torch.zeros(1, *feature), torch.ones(1, *feature)]).double()
    e = evidence(rows, x=draw(6, *feature, seed=12).float(), baseline=torch.zeros(feature))
    low, high = sorted((METRICS[name].facts["best"], METRICS[name].facts["worst"]))
    whole, before = some(name, e), e.attribution.clone()
    assert whole.shape == (6,)
    assert whole.dtype == torch.float64
    assert (whole.isnan() | ((whole >= low) & (whole <= high))).all()
    assert torch.equal(e.attribution, before)
    for count in (1, 3):
        part = evidence(
            rows[:count], **{k: getattr(e.case, k)[:count] for k in ("x", "target")}, baseline=e.case.baseline
        )
        torch.testing.assert_close(some(name, part), whole[:count], equal_nan=True, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted({*MINE} - {"pgi", "pgu", "road"}))  # their noise is drawn by position
def test_the_order_and_the_layout_of_the_features_do_not_matter(name):
    e = evidence(draw(6, 12))
    want = score(name, e)
    order = torch.randperm(12, generator=generator(9))
    for change in (
        lambda v: v[:, order],
        lambda v: v.unflatten(1, (2, 3, 2)),
        lambda v: v.unflatten(1, (4, 3)),
    ):
        x, baseline, background = (change(v) for v in (e.case.x, e.case.baseline[None], e.case.background))
        model = Curved(e.case.model.weight, outputs=3)
        model.weight = change(model.weight[None]).flatten()
        rolled = change(e.case.model.weight.roll(1)[None]).flatten()
        model.forward = lambda x, w=model.weight, r=rolled: three(x, w, r)
        given = {"x": x, "baseline": baseline[0], "background": background, "model": model}
        torch.testing.assert_close(
            score(name, evidence(change(e.attribution), **given)), want, equal_nan=True
        )


def three(x, weight, rolled):
    linear, bend = x.flatten(1) @ weight, 0.7 * torch.tanh(x.flatten(1) @ rolled)
    return torch.stack([linear + bend, bend - linear, 0.3 * bend - 0.2], dim=1)


@pytest.mark.parametrize("name", sorted({*ANY} - {"monotonicity"}))
def test_the_exact_map_beats_noise_and_is_not_beaten_by_its_negative(name):
    e = linear([2.0, -1.0, 0.5, 0.0, 0.0, 0.0], draw(200, 6))
    sign = 1 if METRICS[name].facts["best"] > METRICS[name].facts["worst"] else -1
    good, bad, negated = (
        some(name, with_map(e, m)).mean() for m in (e.attribution, draw(200, 6, seed=1), -e.attribution)
    )
    assert sign * (good - bad) > 0.1 * bad
    assert sign * (good - negated) >= 0


@pytest.mark.parametrize("name", CLASSES)
def test_a_regression_has_no_class(name):
    with pytest.raises(NotApplicable, match="needs a class probability"):
        score(name, linear([1.0, 2.0], draw(3, 2)))


# ---- monotonicity ----------------------------------------------------------------------------------------


def test_monotonicity_tells_maps_apart_where_replacing_the_baseline_by_itself_would_not():
    """In Quantus the baseline is replaced by the baseline: exact, random and inverted maps all score 1.0."""
    e = linear(draw(40, seed=3).tolist(), draw(100, 40))
    exact, noise, inverted = (
        score("monotonicity", with_map(e, m))
        for m in (e.attribution, draw(100, 40, seed=1), 1 / e.attribution)
    )
    assert exact.tolist() == [1.0] * 100
    assert inverted.tolist() == [0.0] * 100
    assert noise.mean().item() == pytest.approx(0.5, abs=5 * noise.std().item() / 10)


def test_effects_that_tie_count_half_and_steps_that_tie_do_not_count():
    e = linear([1.0, 1.0, 1.0, 0.0, 0.0], [[1.0, 1.0, 1.0, 1.0, 1.0]])
    # by rising size: effects 0 0 | 1 1 1, and the steps 1-2 and 3-4 tie in the effect alone
    assert score("monotonicity", with_map(e, [3.0, 4.0, 5.0, 1.0, 2.0])).item() == (0.5 + 1 + 0.5 + 0.5) / 4
    assert score("monotonicity", with_map(e, [3.0, 3.0, 3.0, 1.0, 1.0])).item() == 1
    assert score("monotonicity", with_map(e, [1.0, 1.0, 1.0, 3.0, 3.0])).item() == 0
    assert score("monotonicity", with_map(e, 0.1)).isnan().all()
    assert score("monotonicity", linear([1.0], [[1.0]])).isnan().all()


def test_effects_that_differ_by_rounding_alone_tie():
    x = torch.full((1, 30), 0.1)  # in single precision the effects of equal features differ by some 1e-8
    e = evidence(torch.rand(1, 30, generator=generator(), **FLOAT), x=x, baseline=torch.zeros(30))
    e = replace(e, case=replace(e.case, model=Curved(torch.full((30,), 0.7), curvature=0.0)))
    assert of_map(replace(e, memo={}), Curve(128)).explained.diff(dim=1).abs().unique().numel() > 1
    assert score("monotonicity", e).item() == 0.5


# ---- irof and the minimal subset -------------------------------------------------------------------------


def test_irof_by_hand():
    """Logits z and -z: p = 1 / (1 + exp(-2z)); z goes 3, 1, 0 as 2 and then 1 are taken away."""
    weight = torch.tensor([2.0, 1.0], **FLOAT)
    case = {
        "model": Curved(weight, curvature=0.0),
        "x": torch.ones(1, 2, **FLOAT),
        "baseline": torch.zeros(2, **FLOAT),
    }
    p = [1 / (1 + math.exp(-2 * z)) for z in (3, 1, 0)]
    want = 1 - (p[0] / 2 + p[1] + p[2] / 2) / 2 / p[0]
    assert score("irof", evidence(weight[None], **case)).item() == pytest.approx(want)


def test_irof_does_not_grow_with_the_number_of_segments():
    """The same image in 10 segments or in 100: summed over segments, the area grows tenfold."""
    found = []
    for split in (1, 10):
        weight = torch.linspace(1, 0.1, 10, **FLOAT).repeat_interleave(split) / split
        x = torch.ones(1, len(weight), **FLOAT)
        found.append(
            score("irof", evidence(weight[None], model=Curved(weight, 0.0), x=x, baseline=0 * x[0])).item()
        )
    assert found[0] == pytest.approx(found[1], abs=0.01)


def test_irof_is_below_zero_where_removal_makes_the_class_likelier():
    e = evidence(draw(50, 6), target=torch.zeros(50, dtype=torch.int64))
    scores = score("irof", e)
    assert scores.min() < 0
    predicted = score("irof", evidence(draw(50, 6)))
    assert (predicted > 1 - 3).all()


def two_classes(margin, x):
    """Logits z and -z of a linear z."""
    weight = torch.tensor(margin, **FLOAT)
    x = torch.tensor(x, **FLOAT)
    return evidence(weight * x, model=Curved(weight, curvature=0.0), x=x, baseline=torch.zeros_like(weight))


def test_the_minimal_subset_by_hand():
    e = two_classes([3.0, -1.0, -1.0, -0.1, -0.1], [[1.0, 1.0, 1.0, 1.0, 1.0]])  # z = 0.8
    assert score("minimal_subset", e).item() == 1 / 5  # without the first, z = -2.2
    assert score("minimal_subset", with_map(e, [1.0, 2.0, 3.0, 0.1, 0.2])).item() == 3 / 5
    assert score("minimal_subset", e, by="insertion").item() == 1 / 5
    assert score("minimal_subset", with_map(e, [1.0, 3.0, 2.0, 0.1, 0.2]), by="insertion").item() == 3 / 5


def test_a_class_that_no_removal_changes_counts_as_all_units():
    """At the baseline both logits are 0: to call this a change would go by the position of the class."""
    for x in ([[1.0, 1.0, 1.0]], [[-1.0, -1.0, -1.0]]):
        assert score("minimal_subset", two_classes([3.0, 2.0, 1.0], x)).item() == 1
        assert score("minimal_subset", two_classes([3.0, 2.0, 1.0], x), by="insertion").item() == 1 / 3


def test_nothing_restores_a_class_that_the_baseline_has():
    e = two_classes([3.0, 1.0], [[1.0, 1.0], [-1.0, -1.0]])
    e = replace(e, case=replace(e.case, baseline=torch.full((2,), 0.5, **FLOAT)))
    restored = score("minimal_subset", e, by="insertion")
    assert restored.isnan().tolist() == [True, False]
    assert restored[1].item() == 1 / 2  # z goes 2, -2.5
    assert score("minimal_subset", e).tolist() == [1, 1 / 2]  # 4, 2.5, 2 and -4, 0.5


# ---- prediction gaps -------------------------------------------------------------------------------------


def test_pgi_and_pgu_cannot_be_swapped():
    """OpenXAI computed PGU under PGI's name for a while."""
    e = linear([5.0, 1.0, 0.0, 0.0], draw(30, 4))
    good, bad = with_map(e, [4.0, 3.0, 2.0, 1.0]), with_map(e, [1.0, 2.0, 3.0, 4.0])
    assert (score("pgi", good) > 1.3 * score("pgi", bad)).all()
    assert (score("pgu", good) < 0.7 * score("pgu", bad)).all()
    assert METRICS["pgi"].facts["best"] > METRICS["pgi"].facts["worst"]
    assert METRICS["pgu"].facts["best"] < METRICS["pgu"].facts["worst"]
    # noise on the top k of one order is noise on all but the top d - k of the reverse
    torch.testing.assert_close(score("pgi", good), score("pgu", bad))


def test_gaps_of_a_linear_model_are_those_of_a_normal_law():
    """|N(0, s)| has mean s sqrt(2 / pi); s is the root of the sum of (w sd spread)^2 over what is shaken."""
    e = linear([3.0, -2.0, 1.0], draw(4, 3))
    spread = torch.tensor(np.std(e.case.background.numpy(), 0))
    size = (torch.tensor([3.0, 2.0, 1.0]) * 0.4 * spread).square().tolist()
    ranked = with_map(e, [3.0, 2.0, 1.0])
    important = [math.sqrt(2 / math.pi * sum(size[:k])) for k in range(4)]
    rest = [math.sqrt(2 / math.pi * sum(size[k:])) for k in range(4)]
    counts, parameters = [0, 1, 2, 3], {"draws": 3000, "sd": 0.4}
    assert score("pgi", ranked, **parameters).tolist() == pytest.approx(
        [area(counts, important)] * 4, rel=0.03
    )
    assert score("pgu", ranked, **parameters).tolist() == pytest.approx([area(counts, rest)] * 4, rel=0.03)


def test_counts_are_whole_where_steps_do_not_divide_the_units():
    """In OpenXAI a share of the features for k crashed."""
    e = evidence(draw(2, 7))
    found = of_map(e, Noisy(3, 2, 0.5))
    assert found.share.tolist() == pytest.approx([0, 2 / 7, 5 / 7, 1])
    torch.testing.assert_close(found.important[:, -1], found.rest[:, 0])
    assert not found.important[:, 0].any()
    assert not found.rest[:, -1].any()


def test_the_noise_is_spread_over_the_quantiles_and_the_same_for_every_batch():
    case = evidence(draw(5, 3)).case
    noise = latin_normal(case, 8, generator(1))
    quantile = torch.tensor([NormalDist().cdf(v) for v in noise.flatten().tolist()]).view(noise.shape)
    strata = (quantile * 8).floor().sort(1).values
    assert torch.equal(strata, torch.arange(8.0)[:, None].expand(5, 8, 3))
    assert not torch.equal(noise[0], noise[1])
    fewer = replace(case, x=case.x[:2], target=case.target[:2])
    assert torch.equal(latin_normal(fewer, 8, generator(1)), noise[:2])


def test_features_that_do_not_vary_get_no_noise():
    background = draw(6, 3) * torch.tensor([1.0, 0.0, 1.0])
    e = linear([0.0, 5.0, 0.0], draw(4, 3), background=background)
    assert score("pgi", e).tolist() == [0.0] * 4
    with pytest.raises(NotApplicable, match="none varies"):
        score("pgu", linear([1.0, 2.0], draw(4, 2), background=torch.ones(6, 2, **FLOAT)))


# ---- the normalised curve --------------------------------------------------------------------------------

SEARCH = "assay.metrics.naopc"


@pytest.mark.parametrize("points", [128, 4])
def test_the_search_finds_the_exact_extremes_of_a_linear_model(points):
    e = linear(draw(14, seed=5).tolist(), draw(200, 14))
    assert score("naopc", e, points=points).tolist() == pytest.approx([1.0] * 200)
    assert score("naopc", with_map(e, -e.attribution), points=points).tolist() == pytest.approx([0.0] * 200)
    # an order and its reverse are as far from the two ends: the mean over all orders is the middle
    noise = score("naopc", with_map(e, draw(200, 14, seed=1)), points=points)
    assert noise.mean().item() == pytest.approx(0.5, abs=5 * noise.std().item() / 200**0.5)


def searched(e, beam):
    from assay.metrics.naopc import _Searched

    return of_case(e.case, _Searched(beam))


def test_the_search_stays_within_the_exact_extremes_and_near_them():
    from assay.benchmarks.coalitions import Everything, table
    from assay.metrics.naopc import _best_of_all, _weights

    e = evidence(draw(30, 12), model=Curved(draw(12, seed=11), curvature=3.0))
    weights = _weights(12, 128)
    found = table(e.case, Everything())
    lower, upper = -_best_of_all(found, weights, -1), _best_of_all(found, weights, 1)
    for beam in (1, 3):
        low, high = (drops @ weights for drops in searched(e, beam))
        assert (low >= lower - 1e-12).all()
        assert (high <= upper + 1e-12).all()
        assert ((high - low) / (upper - lower)).min() > 0.9
    assert (searched(e, 8)[1] @ weights).sum() >= (searched(e, 1)[1] @ weights).sum()


def test_the_search_does_not_follow_one_set_twice():
    from assay.metrics.naopc import _Beam

    beam = _Beam(evidence(draw(1, 3)).case, 2, 1, torch.arange(3))
    kept = beam._kept(torch.tensor([[1.0, 5.0, 4.0, 3.0]], **FLOAT), torch.tensor([[9, 7, 7, 8]]))
    assert kept.tolist() == [[1, 3]]


def test_the_drops_of_the_search_are_those_of_an_order():
    """They begin at 0 and end at f(x) - f(b), and the best order is no worse than any that we try."""
    e = evidence(draw(6, 20), model=Curved(draw(20, seed=11), curvature=3.0))
    worst, best = searched(e, 2)
    whole = (e.case.output(e.case.x) - e.empty).tolist()
    for drops in (worst, best):
        assert not drops[:, 0].any()
        assert drops[:, -1].tolist() == pytest.approx(whole)
    for seed in range(30):
        drop = moved(
            e.case, falling(with_map(e, draw(6, 20, seed=seed)), generator()), torch.arange(21), insert=False
        )
        area = (drop.explained[:, :1] - drop.explained).mean(1)
        assert (area <= best.mean(1)).all()
        assert (area >= worst.mean(1)).all()


class Pair(torch.nn.Module):
    """Falls by 10 when the first two features are both gone, and by a little with each of the others."""

    def forward(self, x):
        both = torch.maximum(x[:, 0], x[:, 1])
        return (10 * both + 0.1 * x[:, 2:].sum(1))[:, None]


def test_an_order_that_beats_the_search_scores_one_and_not_more():
    e = evidence(draw(1, 20), model=Pair(), x=torch.ones(1, 20, **FLOAT), baseline=torch.zeros(20, **FLOAT))
    a = torch.full((20,), 1.0, **FLOAT)
    a[:2] = 2.0
    own = 10 * 19 / 20 + 0.1 * sum(range(19)) / 20  # the pair first
    assert searched(e, 1)[1].mean() * 21 / 20 < own
    assert score("naopc", with_map(e, a), beam=1).item() == 1.0
    assert score("naopc", with_map(e, a), points=5).item() == 1.0


def test_the_extremes_are_made_once_for_all_maps():
    e = evidence(draw(4, 20), x=draw(4, 20, seed=12).float(), baseline=torch.zeros(20))
    case = replace(e.case, shared=Store(e.case, "unit").lend(e.case.model))
    e = replace(e, case=case)
    first = score("naopc", e)
    with counted(case.model) as rows:
        score("naopc", with_map(e, draw(4, 20, seed=3)))
    assert rows.forward == 4 * 21  # its own curve, and nothing else
    torch.testing.assert_close(
        score("naopc", replace(e, case=replace(case, shared=None))), first, atol=1e-5, rtol=0
    )


def test_a_search_that_takes_too_long_is_refused_and_one_that_does_not_is_not():
    with pytest.raises(NotApplicable, match=r"need [0-9,]+: give a smaller beam"):
        score("naopc", evidence(draw(1, 1500)))
    assert score("naopc", evidence(draw(1, 140)), beam=1).isfinite().all()


def test_where_all_orders_score_the_same_there_is_nothing_to_normalise():
    assert score("naopc", linear([1.0], [[2.0]])).isnan().all()
    assert score("naopc", linear([0.0, 0.0, 0.0], draw(2, 3))).isnan().all()
    weight = torch.rand(10, generator=generator()) + 0.5  # equal drops, up to rounding in single precision
    x = (0.3 / weight).expand(2, 10)
    single = evidence(draw(2, 10), model=Curved(weight, 0.0, 1), x=x, baseline=torch.zeros(10))
    assert of_map(replace(single, memo={}), Curve(128)).explained.diff(dim=1).unique().numel() > 1
    assert score("naopc", single).isnan().all()


# ---- road ------------------------------------------------------------------------------------------------


def correlated(rows, covariance, at, seed=0):
    factor = torch.linalg.cholesky(torch.tensor(covariance, **FLOAT))
    return draw(rows, len(at), seed=seed) @ factor.T + torch.tensor(at, **FLOAT)


def test_road_imputes_the_conditional_mean_of_two_features():
    """E[x1 | x2] = m1 + r s1 / s2 (x2 - m2), with r = 0.9, s = (2, 1), m = (1, -1)."""
    background = correlated(200_000, [[4.0, 1.8], [1.8, 1.0]], (1.0, -1.0))
    e = linear([3.0, 5.0], [[2.0, 1.5], [0.0, 0.0]], background=background)
    guesses = [1 + 1.8 * (1.5 + 1), 1 + 1.8 * (0 + 1)]
    want = [abs(3 * (x - g)) for x, g in zip((2.0, 0.0), guesses, strict=True)]
    got = score("road", with_map(e, [2.0, 1.0]), noise=0.0).tolist()  # every share is one of the two
    assert got == pytest.approx(want, rel=0.02)


def test_road_imputes_the_conditional_mean_of_three_features():
    """With x2 and x3 gone their means given x1 are m + c (x1 - m1) / s11; with x2 gone, by the two others."""
    covariance, at = [[2.0, 1.0, -0.5], [1.0, 1.5, 0.3], [-0.5, 0.3, 1.0]], (0.5, 0.0, -0.5)
    background = correlated(200_000, covariance, at)
    e = linear([1.0, 2.0, -3.0], [[1.5, 1.0, 2.0]], background=background)
    # given x1 - m1 = 1 and x3 - m3 = 2.5: solve [[2, -.5], [-.5, 1]] b = (1, .3), b = (1.15, 0.8 + .3) / 1.75
    alone = 1.15 / 1.75 * 1 + 1.1 / 1.75 * 2.5
    pair = (1.0 / 2 * 1, -0.5 - 0.5 / 2 * 1)
    gaps = [abs(2 * (1.0 - alone))] * 4 + [abs(2 * (1.0 - pair[0]) - 3 * (2.0 - pair[1]))]
    got = score("road", with_map(e, [1.0, 3.0, 2.0]), noise=0.0).item()
    assert got == pytest.approx(sum(gaps) / 5, rel=0.02)


def test_features_that_repeat_each_other_are_guessed_and_do_not_break_road():
    one = draw(50, 1, seed=2)
    e = linear([1.0, 1.0, 0.0], draw(4, 1).expand(4, 3), background=one.expand(50, 3).contiguous())
    small = score("road", with_map(e, [3.0, 2.0, 1.0]), noise=0.0)
    assert small.max() < 0.05 * score("comprehensiveness", with_map(e, [3.0, 2.0, 1.0])).max()
    constant = linear([1.0, 1.0], draw(4, 2), background=torch.ones(1, 2, **FLOAT))
    assert score("road", constant).tolist() == pytest.approx(
        (constant.case.x - 1).abs().gather(1, constant.attribution.abs().argmax(1)[:, None])[:, 0].tolist()
    )


def neighbours(image, gone):
    """The paper's equations for one channel, as one dense system."""
    height, width = image.shape
    cells = [(i, j) for i in range(height) for j in range(width)]
    a, b = np.eye(len(cells)), np.array([image[c] for c in cells])
    for row, (i, j) in enumerate(cells):
        if gone[i, j]:
            near = [
                (i + p, j + q, 1 / 6 if p * q == 0 else 1 / 12)
                for p in (-1, 0, 1)
                for q in (-1, 0, 1)
                if p or q
            ]
            near = [(p, q, w) for p, q, w in near if 0 <= p < height and 0 <= q < width]
            a[row, row], b[row] = sum(w for *_, w in near), 0.0
            for p, q, w in near:
                a[row, cells.index((p, q))] -= w
    return np.linalg.solve(a, b).reshape(height, width)


@pytest.mark.parametrize("feature", [(1, 2, 3), (2, 5, 4), (3, 1, 6)])
def test_road_of_an_image_solves_the_equations_of_the_neighbours(feature):
    e = evidence(draw(3, *feature))
    rank, units = falling(e, generator()), math.prod(feature)
    for row in range(3):
        whole, gaps = e.case.output(e.case.x)[row], []
        for count in at_shares(units, list(range(units + 1))):
            gone = (rank[row] < count).numpy()
            filled = [
                neighbours(x, g) if not g.all() else b
                for x, g, b in zip(e.case.x[row].numpy(), gone, e.case.baseline.numpy(), strict=True)
            ]
            x = torch.from_numpy(np.stack(filled))
            gaps.append(abs(outputs_at(e, x)[e.case.target[row]] - whole.item()))
        assert score("road", e, noise=0.0)[row].item() == pytest.approx(sum(gaps) / 5, abs=1e-7)


def test_a_channel_that_is_gone_is_the_baseline():
    weight = torch.zeros(2, 2, 2, **FLOAT)
    weight[0] = 1.0
    groups = torch.arange(2)[:, None, None].expand(2, 2, 2)
    e = evidence(
        weight[None], model=Curved(weight, 0.0), groups=groups, target=torch.zeros(1, dtype=torch.int64)
    )
    want = (e.case.x[0, 0] - 0.25).sum().abs().item()
    assert score("road", e, noise=0.0).item() == pytest.approx(want)


def test_a_smooth_image_is_restored_and_an_ablation_is_not():
    ramp = torch.linspace(0, 1, 64, **FLOAT).view(8, 8).T.expand(1, 1, 8, 8)
    a = torch.zeros(1, 1, 8, 8, **FLOAT)
    a[0, 0, 3:5, 3:5] = 1.0
    e = evidence(
        a + 1e-3 * draw(1, 1, 8, 8), model=Curved(a, 0.0), x=ramp.contiguous(), target=torch.zeros(1).long()
    )
    assert score("road", e, noise=0.0).item() < 0.1 * score("comprehensiveness", e).item()


def test_road_says_that_blurring_raises_it():
    assert "Blurring" in METRICS["road"].facts["caveat"]


def test_road_refuses_a_covariance_that_takes_too_long():
    with pytest.raises(NotApplicable, match="at most 2,048 features"):
        score("road", evidence(draw(1, 2049)))


def test_the_noise_of_road_is_the_same_for_all_maps_and_scales_with_the_background():
    e = linear([1.0, 0.0], [[1.0, 1.0]], background=draw(20, 2) * 5)
    quiet, loud = (score("road", with_map(e, [2.0, 1.0]), noise=v).item() for v in (0.0, 0.5))
    shake = latin_normal(e.case, 1, child(generator()))[0, 0, 0].item()
    spread = float(np.std(e.case.background[:, 0].numpy()))
    filled = 1.0 - score_sign(e) * quiet
    assert loud == pytest.approx(abs(1.0 - (filled + 0.5 * spread * shake)))


def score_sign(e):
    """Whether the value imputed for the first feature is below (1) or above (-1) the true one."""
    at, covariance = shrunk(e.case.background)
    guess = at[0] + covariance[0, 1] / covariance[1, 1] * (1.0 - at[1])
    return 1.0 if guess < 1.0 else -1.0
