"""Our scores beside Quantus' (0.6): equal, row by row, where its definition is sound; else both numbers.

Whatever a metric draws is drawn once, by us, and handed to Quantus: subsets, neighbours, classes, models.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from torch import nn

from assay import metrics
from assay.benchmarks.coalitions import OfSizes, table
from assay.benchmarks.effects import Gaussian
from assay.benchmarks.neighbours import Nearby
from assay.benchmarks.perturb import empty_output
from assay.benchmarks.plugin import METRICS, Case, Evidence
from assay.benchmarks.shared import Store
from assay.benchmarks.sharing import of_case, variant_of
from assay.benchmarks.variants import OtherClass
from assay.metrics.mprt import _Redrawn

quantus = pytest.importorskip(
    "quantus",
    reason="Quantus, or a system library of its OpenCV, is missing: pip install '.[peers]'",
    exc_type=ImportError,
)
similarity = pytest.importorskip("quantus.functions.similarity_func")
METRICS.discover(metrics)
D = 12  # features, unless said otherwise
OFF = {
    "normalise": False,
    "return_aggregate": False,
    "disable_warnings": True,
    "display_progressbar": False,
}


@pytest.fixture(autouse=True)
def quantus_casts_to_double(monkeypatch):
    """Quantus hands models `torch.Tensor(x)`, of the default type; numpy 2.4 has no `trapz`."""
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# ---- one problem, both packages -------------------------------------------------------------------------


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(*widths, activation=nn.ReLU, seed=0):
    layers = [nn.Flatten()]
    for i, (size, width) in enumerate(itertools.pairwise(widths)):
        layer = nn.Linear(size, width, dtype=torch.float64)
        for j, part in enumerate(layer.parameters()):
            part.data = draw(*part.shape, seed=100 * seed + 10 * i + j) * (2 / size) ** 0.5
        layers += [layer, activation()]
    return nn.Sequential(*layers[:-1]).eval().requires_grad_(False)


def weighted(*weight):
    """A model of one output, the weighted sum of the features."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(len(weight), 1, bias=False, dtype=torch.float64))
    net[1].weight.data = torch.tensor([weight], dtype=torch.float64)
    return net.eval().requires_grad_(False)


class Constant(nn.Module):
    """One class 1, the other 0, whatever x is."""

    def forward(self, x):
        return torch.eye(2, dtype=x.dtype)[:1].expand(len(x), 2)


def gradient(model, x, target):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(model(x).gather(1, target[:, None]).sum(), x)[0]


def cube(_model, x, _target):
    """A map of which all entries have one size where those of x do."""
    return x**3


def evidence(model=None, *, map_of=None, relevant=None, method=gradient, **changes):
    """A map of 16 rows; gradient * (x - baseline), unless `map_of` makes another of the case."""
    model = (model or network(D, 20, 20, 3)).eval()
    x = changes.pop("x", draw(16, D, seed=50))
    width = x.shape[1]
    given = {
        "model": model,
        "x": x,
        "target": model(x).argmax(1),
        "baseline": draw(width, seed=51) / 2,
        "background": draw(7, width, seed=52),
        "groups": None,
        "rng": torch.Generator().manual_seed(0),
    } | changes
    case = Case(**given)
    case = replace(case, shared=Store(case, "unit").lend(case.model))
    map_of = map_of or (lambda c: gradient(model, x, c.target) * (x - c.baseline))
    a = map_of(case)
    if relevant is None:
        relevant = draw(len(x), width, seed=53) > 0.3
        relevant[:, 0], relevant[:, 1] = True, False
    return Evidence(
        case=case,
        attribution=a,
        masks={"relevant": relevant},
        truth=None,
        empty=empty_output(case),
        other=None,
        explain=lambda c: method(c.model, c.x, c.target),
        rng=torch.Generator().manual_seed(0),
    )


def about(e, a):
    """The same problem, another map."""
    return replace(e, attribution=a, memo={})


def with_gradient(model=None, method=gradient, **changes):
    def made(case):
        return method(case.model, case.x, case.target)

    return evidence(model, map_of=made, method=method, **changes)


def ours(name, e, **parameters):
    return METRICS[name].function(e, **parameters).numpy()


def theirs(name, e, *, explain=None, feature=(1, -1), **settings):
    """Quantus' scores of the same rows, map and model."""
    case = e.case
    shape = (len(case.x), *feature)

    def explained(model, inputs, targets, **_):
        x = torch.as_tensor(np.asarray(inputs)).view(case.x.shape)
        found = e.explain(replace(case, model=model, x=x, target=torch.as_tensor(targets), shared=None))
        return found.numpy().reshape(inputs.shape)

    given = {
        "model": case.model,
        "x_batch": case.x.numpy().reshape(shape),
        "y_batch": case.target.numpy(),
        "a_batch": e.attribution.numpy().reshape(shape).copy(),  # some of them write into it
        "s_batch": e.relevant.numpy().reshape(shape),
        "channel_first": True,
        "softmax": False,
        "batch_size": len(case.x),
        "explain_func": explain or explained,
    }
    return _plain(getattr(quantus, name)(**OFF | settings)(**given))


def _plain(found):
    if isinstance(found, dict):
        return {name: np.asarray(values, float) for name, values in found.items()}
    return np.asarray(found, float)


def write(arr, indices, vector, **_):
    """A perturb_func: those entries become the vector's."""
    out, rows = arr.copy(), np.arange(len(arr))[:, None]
    out[rows, indices] = np.broadcast_to(vector, arr.shape)[rows, indices]
    return out


def to_baseline(e):
    return {"perturb_func": write, "perturb_func_kwargs": {"vector": e.case.baseline.numpy()}}


def in_turn(inputs):
    """A perturb_func that hands out given inputs [draws, n, d], whatever it is asked."""
    left = iter(inputs)
    return lambda arr, **_: next(left).numpy().reshape(arr.shape)


def neighbours(e, nearby):
    """Our neighbours of the rows, draw by draw."""
    near = variant_of(e, nearby).x
    return near.view(len(e.case.x), nearby.draws, -1).transpose(0, 1)


def same(found, wanted):
    assert np.shape(found) == np.shape(wanted)
    assert np.std(wanted) > 0  # of constants, any two things are alike
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-12)


# ---- where the definition is sound ----------------------------------------------------------------------

SIZES = {"abs": True}
ALIKE = {  # ours, theirs, their settings, what theirs is multiplied by
    "attribution_mass": ({}, "RelevanceMassAccuracy", SIZES, 1),
    "functional_precision": ({}, "RelevanceRankAccuracy", SIZES, 1),
    "functional_precision of 4": ({"k": 4}, "TopKIntersection", SIZES | {"k": 4}, 1),
    "auroc": ({}, "AUC", SIZES, 1),
    "pointing_game": ({}, "PointingGame", SIZES, 1),
    "complexity": ({}, "Complexity", SIZES, 1 / np.log(D)),  # nats; ours is a share of the largest entropy
    "sparseness": ({}, "Sparseness", SIZES, D / (D - 1)),  # ours is 1 for a single feature, whatever D is
    "effective_complexity": ({"eps": 0.05}, "EffectiveComplexity", SIZES | {"eps": 0.05}, 1 / D),  # a count
}


@pytest.mark.parametrize("what", ALIKE)
def test_scores_of_the_map_alone_are_quantus_s(what):
    """The largest |a| of every row is 1, as our eps is a share of it; nothing else here sees scale."""
    e = evidence()
    e = about(e, e.attribution / e.attribution.abs().amax(1, keepdim=True))
    parameters, name, settings, factor = ALIKE[what]
    same(ours(what.split()[0], e, **parameters), factor * theirs(name, e, **settings))


def test_auroc_with_ties_is_quantus_s():
    e = evidence()
    tied = about(e, e.attribution.sign() * (e.attribution.abs() * 3).round())
    assert max(len(set(row)) for row in tied.attribution.abs().tolist()) < D
    same(ours("auroc", tied), theirs("AUC", tied, **SIZES))


def led(model):
    """The model behind one more feature, in front, that it does not see."""

    class Led(nn.Module):
        def forward(self, x):
            return model(x.flatten(1)[:, 1:])

    return Led().eval()


def led_by_one(e, start):
    """The problem with one more feature, which moves first: Quantus' curves lack the point of none moved."""
    ahead = torch.ones(len(start), 1, dtype=torch.float64)
    a = torch.cat([2 * e.attribution.abs().amax() * ahead, e.attribution], 1)
    x = torch.cat([ahead, start], 1)
    return evidence(led(e.case.model), x=x, target=e.case.target, map_of=lambda _: a)


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_curves_are_quantus_s(metric):
    e = evidence()
    x, b = e.case.x, e.case.baselines
    start, end = (x, b) if metric == "deletion" else (b, x)
    end = torch.cat([torch.zeros(len(x), 1, dtype=torch.float64), end], 1).numpy()
    moved = {"perturb_func": write, "perturb_func_kwargs": {"vector": end}}
    curve = theirs("PixelFlipping", led_by_one(e, start), features_in_step=1, abs=True, **moved)
    same(ours(metric, e), np.trapezoid(np.abs(curve - curve[:, -1:]), axis=1) / D)


def test_deletion_is_quantus_s_area_over_the_number_of_features():
    """Of an output that nothing takes below the baseline's, 0."""

    class Squared(nn.Module):
        def forward(self, x):
            return (x.flatten(1) ** 2 @ torch.arange(1.0, D + 1, dtype=x.dtype))[:, None]

    e = evidence(Squared(), baseline=torch.zeros(D, dtype=torch.float64))
    kwargs = {"vector": np.zeros(D + 1)}
    area = {"return_auc_per_sample": True, "perturb_func": write, "perturb_func_kwargs": kwargs}
    found = theirs("PixelFlipping", led_by_one(e, e.case.x), features_in_step=1, abs=True, **area)
    same(ours("deletion", e), found / D)


def test_completeness_is_quantus_s_difference_over_the_mean_size():
    e, seen = evidence(), []
    output = {"output_func": lambda change: (seen.append(change), change)[1]}
    theirs("Completeness", e, abs=False, **output, **to_baseline(e))
    total, (change,) = e.attribution.sum(1).numpy(), seen
    same(ours("completeness", e), 2 * np.abs(total - change) / (np.abs(total) + np.abs(change)))


def by_subsets(e, monkeypatch, design, size):
    """Quantus' faithfulness correlation over those of our subsets that have this size."""
    removed = ~table(e.case, design).coalitions
    subsets = [row.nonzero().squeeze(1).numpy() for row in removed[removed.sum(1) == size]]
    turns = (subset for subset in subsets for _ in e.case.x)
    with monkeypatch.context() as patch:
        patch.setattr(np.random, "choice", lambda *_, **__: next(turns))
        settings = {"nr_runs": len(subsets), "subset_size": size, "abs": False}
        alike = {"similarity_func": similarity.correlation_pearson}
        found = theirs("FaithfulnessCorrelation", e, **settings, **alike, **to_baseline(e))
    assert next(turns, None) is None  # it took them all
    return found


def test_faithfulness_correlation_is_quantus_s_of_the_same_subsets(monkeypatch):
    e = evidence()
    found = by_subsets(e, monkeypatch, OfSizes(5, 12), 4)
    same(ours("faithfulness_correlation", e, sizes=5, each=12, share=0.3), found)


def test_sensitivity_n_is_the_mean_of_quantus_s_faithfulness_correlations(monkeypatch):
    e, design = evidence(), OfSizes(5, 12)
    sizes = (~table(e.case, design).coalitions).sum(1).unique().tolist()
    assert sizes == [1, 4, 6, 8, 11]
    found = [by_subsets(e, monkeypatch, design, size) for size in sizes]
    same(ours("sensitivity_n", e, sizes=5, each=12), np.mean(found, 0))


def test_faithfulness_estimate_is_quantus_s():
    e = evidence()
    alike = {"similarity_func": similarity.correlation_pearson}
    found = theirs("FaithfulnessEstimate", e, features_in_step=1, abs=False, **alike, **to_baseline(e))
    same(ours("faithfulness_estimate", e), found)


def test_monotonicity_correlation_is_quantus_s_of_the_same_background_rows():
    """Quantus divides by f(x)^2, which within a row moves no rank."""
    e = evidence()
    fillers = itertools.cycle(e.case.background.numpy())  # one a call: a feature's samples come in a row

    def fill(arr, indices, **_):
        return write(arr, indices, next(fillers))

    settings = {"nr_samples": len(e.case.background), "features_in_step": 1, "abs": True}
    alike = {"similarity_func": similarity.correlation_spearman}
    found = theirs("MonotonicityCorrelation", e, perturb_func=fill, **settings, **alike)
    same(ours("monotonicity_correlation", e, draws=99), found)


@pytest.mark.parametrize("perturbation", ["removal", "gaussian"])
def test_infidelity_is_quantus_s_divided_by_that_of_a_map_of_nothing(perturbation):
    """Quantus' map multiplies x - x': what is removed is x - b, of which ours already is a multiple.

    Quantus refuses a zero map.  It calls `perturb_func` once for each sample and place of a block.
    """
    e = evidence()
    x, b = e.case.x, e.case.baseline
    if perturbation == "removal":
        keep = table(e.case, OfSizes(3, 8)).coalitions
        e = about(e, gradient(e.case.model, x, e.case.target) * (x - b))
        near, slope = torch.where(keep[:, None], x, b), e.attribution / (x - b)
        parameters = {"sizes": 3, "each": 8}
    else:
        near, slope = x - of_case(e.case, Gaussian(0.2, 24)).noise[:, None], e.attribution
        parameters = {"each": 24}
    assert len(near) == 2 * D
    settings = {"loss_func": "mse", "perturb_patch_sizes": [1], "n_perturb_samples": 2, "abs": False}
    found, of_nothing = (
        theirs("Infidelity", about(e, a), feature=(1, 1, -1), perturb_func=in_turn(near), **settings)
        for a in (slope, 1e-12 * slope)
    )
    same(ours("infidelity", e, perturbation=perturbation, scale=False, **parameters), found / of_nothing)


NEARBY = Nearby(0.2, 8)
ONE_DEVIATION = torch.cat([torch.ones(1, D), -torch.ones(1, D)]).double()  # a background


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("max_sensitivity", "MaxSensitivity"),
        ("average_sensitivity", "AvgSensitivity"),
        ("local_lipschitz", "LocalLipschitzEstimate"),  # in the input's unit; ours in standard deviations
    ],
)
def test_robustness_is_quantus_s_at_the_same_neighbours(metric, name):
    e = with_gradient(network(D, 20, 20, 3, activation=nn.Tanh), background=ONE_DEVIATION)
    given = {"nr_samples": NEARBY.draws, "perturb_func": in_turn(neighbours(e, NEARBY)), "abs": False}
    same(ours(metric, e, radius=NEARBY.radius, draws=NEARBY.draws), theirs(name, e, **given))


def test_max_sensitivity_is_captum_s_at_the_same_neighbours():
    e = with_gradient(network(D, 20, 20, 3, activation=nn.Tanh))
    case, near = e.case, variant_of(e, NEARBY).x  # those of a row stand together, as captum's do

    def explained(inputs, target):
        (x,) = inputs if isinstance(inputs, tuple) else (inputs,)
        with torch.enable_grad():
            return (gradient(case.model, x, target),)

    given = {"n_perturb_samples": NEARBY.draws, "target": case.target}
    found = sensitivity_max(explained, case.x, perturb_func=lambda _: near, **given)
    same(ours("max_sensitivity", e, radius=NEARBY.radius, draws=NEARBY.draws), found.numpy())


@pytest.mark.parametrize("what", ["input", "output", "representation"])
def test_relative_stability_is_quantus_s_where_the_entries_of_a_row_have_one_size(what):
    """Quantus divides entry by entry, we divide norms: the same where x, a and the layer are +-c in a row.

    |(a - a') / a| is then sqrt(D) |a - a'| / |a|, and the roots cancel.  Quantus does not divide the change
    of the outputs by their size.  It returns NaN where the class changes; here it does not.
    """
    x = draw(16, D, seed=60).sign() * (1 + torch.rand(16, 1, generator=torch.Generator().manual_seed(1)))
    net = network(D, D, 3, activation=nn.Tanh)
    net[1].weight.data, net[1].bias.data = torch.eye(D).roll(3, 0).double() / 2, torch.zeros(D).double()
    e = with_gradient(net, method=cube, x=x, background=ONE_DEVIATION)
    near = Nearby(0.02, 8)
    given = {"nr_samples": near.draws, "perturb_func": in_turn(neighbours(e, near)), "abs": False}
    if what == "representation":
        given["layer_names"] = ["2"]
    found = theirs(f"Relative{what.capitalize()}Stability", e, **given)
    if what == "output":
        found = found * net(x).norm(dim=1).numpy() / D**0.5
    same(ours(f"relative_{what}_stability", e, radius=near.radius, draws=near.draws, floor=1e-12), found)


def test_mprt_is_the_mean_of_quantus_s_layers_for_the_same_models():
    """Quantus asks for a map of its own redrawn models, one layer more at a time, and gets those of ours."""
    e = with_gradient(network(D, 20, 20, 20, 3))
    found = []
    for drawn in range(2):
        models = iter([e.case.model, *(variant_of(e, _Redrawn(top, drawn)).model for top in (1, 2, 3, 4))])

        def explain(inputs, targets, models=models, **_):
            x = torch.as_tensor(inputs)[:, 0]
            return gradient(next(models), x, torch.as_tensor(targets)).numpy()[:, None]

        settings = {"layer_order": "top_down", "similarity_func": similarity.correlation_spearman}
        layers = theirs("MPRT", e, explain=explain, abs=True, **settings)
        assert list(layers) == ["original", "7", "5", "3", "1"]
        np.testing.assert_allclose(layers.pop("original"), 1)
        found += layers.values()
    same(ours("mprt", e, draws=2), np.abs(found).mean(0))


def test_random_logit_is_quantus_s_with_the_same_classes(monkeypatch):
    e = with_gradient(network(D, 20, 20, 4))
    other = variant_of(e, OtherClass(least_likely=False)).target
    place = other - (other > e.case.target).long()  # among the classes other than the row's
    monkeypatch.setattr(np.random, "randint", lambda *_: place.numpy())
    alike = {"similarity_func": similarity.correlation_spearman}
    same(ours("random_logit", e), theirs("RandomLogit", e, num_classes=4, abs=False, **alike))


def test_non_sensitivity_is_quantus_s_share_of_features():
    """One background row, the baseline: then the two replace a feature by the same."""
    net = network(D, 20, 3)
    net[1].weight.data[:, :5] = 0  # the output responds to the other seven
    e = evidence(net)
    e = evidence(net, background=e.case.baseline[None])
    a = e.attribution.clone()
    assert (a[:, :5] == 0).all()
    a[::2, 3] = 0.5
    a[::3, 7:9] = 0
    e = about(e, a)
    found = theirs("NonSensitivity", e, eps=1e-9, features_in_step=1, abs=True, **to_baseline(e))
    same(ours("non_sensitivity", e), found / D)


# ---- where it is not: both numbers ----------------------------------------------------------------------


def linear(width=20, rows=64, **changes):
    """The exact contributions of a linear model."""
    weight = draw(width, seed=70)
    given = {"x": draw(rows, width, seed=71), "map_of": lambda c: weight * (c.x - c.baseline)}
    return evidence(weighted(*weight.tolist()), **given | changes)


def test_sensitivity_n_of_exact_contributions_is_1_and_quantus_s_about_a_half():
    """Quantus correlates across rows, one number a step: the loss of k features with the k-th's a alone."""
    e = linear()
    found = theirs("SensitivityN", e, features_in_step=1, n_max_percentage=0.8, abs=False, **to_baseline(e))
    assert found.shape == (16,)  # steps, of 64 rows
    assert 0.4 < found.mean() < 0.8  # 0.60
    np.testing.assert_allclose(ours("sensitivity_n", e), 1)


@pytest.mark.parametrize(
    ("of", "least", "most"),
    [("exact", 1, 1), ("random", 0.4, 0.6), ("reversed", 0, 0)],
    ids=["exact: Quantus 1, ours 1", "random: Quantus 1, ours 0.5", "reversed: Quantus 1, ours 0"],
)
def test_monotonicity_tells_maps_apart_and_quantus_s_does_not(of, least, most):
    """Quantus writes the baseline onto the baseline; every row of every map is monotone then."""
    e = linear(6)
    e = about(e, {"exact": e.attribution, "random": draw(64, 6), "reversed": 1 / e.attribution}[of])
    found = theirs("Monotonicity", e, features_in_step=1, abs=True, perturb_baseline="black")
    assert found.tolist() == [1] * 64
    assert least - 1e-12 <= ours("monotonicity", e).mean() <= most + 1e-12


@pytest.mark.parametrize(
    ("name", "settings", "metric", "parameters", "values"),
    [
        ("RelevanceRankAccuracy", {}, "functional_precision", {}, {0, 0.5, 1}),
        ("TopKIntersection", {"k": 2}, "functional_precision", {"k": 2}, {0, 0.5, 1}),
        ("PointingGame", {}, "pointing_game", {}, {1}),  # any of the largest will do
    ],
    ids=["RRA 0 to 1, ours 1/3", "TopK 0 to 1, ours 1/3", "PointingGame 1, ours 1/3"],
)
def test_a_constant_map_scores_what_chance_does_and_with_quantus_where_the_mask_lies(
    name, settings, metric, parameters, values
):
    """All 15 masks of 2 features out of 6: Quantus' top 2 are the same in every row, by their position."""
    relevant = torch.zeros(15, 6, dtype=torch.bool)
    relevant[torch.arange(15)[:, None], torch.combinations(torch.arange(6))] = True
    x = draw(15, 6)
    constant = torch.arange(1.0, 16)[:, None].expand(15, 6).double()  # Quantus refuses one number throughout
    e = evidence(weighted(*[1] * 6), x=x, relevant=relevant, map_of=lambda _: constant)
    assert set(theirs(name, e, abs=True, **settings).tolist()) == values
    np.testing.assert_allclose(ours(metric, e, **parameters), 1 / 3)


def test_effective_complexity_does_not_hang_on_other_rows_and_quantus_s_does():
    """Quantus divides by the largest |a| of the batch, unless told not to."""
    e = evidence()
    scale = torch.tensor([1.0] + [1e4] * 15)[:, None]
    beside = about(e, e.attribution * scale)
    alone = replace(evidence(x=e.case.x[:1]), attribution=e.attribution[:1])
    found = [theirs("EffectiveComplexity", f, eps=1e-3, normalise=True, **SIZES)[0] for f in (alone, beside)]
    assert found == [12, 0]
    assert ours("effective_complexity", alone)[0] == ours("effective_complexity", beside)[0] > 0.8


def test_local_lipschitz_does_not_hang_on_other_rows_and_quantus_s_does():
    x = draw(16, D, seed=50) * torch.tensor([1.0] + [10.0] * 15)[:, None]
    found, own = [], []
    for rows in (1, 16):
        e = with_gradient(method=cube, x=x[:rows], background=ONE_DEVIATION)
        given = {"nr_samples": NEARBY.draws, "perturb_func": in_turn(neighbours(e, NEARBY)), "abs": False}
        found.append(theirs("LocalLipschitzEstimate", e, normalise=True, **given)[0])
        own.append(ours("local_lipschitz", e, radius=NEARBY.radius, draws=NEARBY.draws)[0])
    assert found[0] > 100 * found[1]  # 0.451 and 0.00124
    assert own[0] == pytest.approx(own[1])  # 19.1


def test_exact_contributions_are_complete_and_with_quantus_seldom_as_floats_differ():
    e = linear()
    assert theirs("Completeness", e, abs=False, **to_baseline(e)).mean() < 0.6  # 14 of 64 rows
    assert ours("completeness", e).max() < 1e-12


def test_non_sensitivity_does_not_hang_on_the_output_s_unit_and_quantus_s_does():
    """The map is the same in both units, as Quantus divides it by the batch's largest; eps is not."""
    found, own = [], []
    for unit in (1, 1e-6):
        net = network(D, 20, 3)
        net[-1].weight.data *= unit
        net[-1].bias.data *= unit
        e = evidence(net)
        given = {"eps": 1e-5, "features_in_step": 1, "abs": True, "normalise": True}
        found.append(theirs("NonSensitivity", e, **given, **to_baseline(e)).mean())
        own.append(ours("non_sensitivity", e).mean())
    assert found == [0, 12]
    assert own == [0, 0]


def test_one_entry_near_0_does_not_decide_the_input_stability_as_it_does_quantus_s():
    """All of the map moves by a hundredth of the input, one entry by a hundredth of that."""
    found, own = [], []
    x = draw(16, D, seed=50)
    for entry in (1, 1e-3, 1e-9):

        def method(_model, z, _target, entry=entry):
            start = x.repeat_interleave(len(z) // len(x), 0) if len(z) > len(x) else x
            a = torch.linspace(1, 2, D) + (z - start) / 100
            a[:, 0] = entry + (z - start)[:, 0] / 10000
            return a

        e = with_gradient(method=method, x=x, background=ONE_DEVIATION)
        given = {"nr_samples": NEARBY.draws, "perturb_func": in_turn(neighbours(e, NEARBY)), "abs": False}
        given["return_nan_when_prediction_changes"] = False
        found.append(np.median(theirs("RelativeInputStability", e, **given)))
        scores = ours("relative_input_stability", e, radius=NEARBY.radius, draws=NEARBY.draws)
        own.append(np.nanmedian(scores))
    assert found[2] > 1e6 * found[0]  # 12885 and 0.0026
    assert own[2] == pytest.approx(own[0], rel=0.1)  # 0.0056 and 0.0055


def test_mprt_leaves_out_the_model_as_it_is_and_quantus_s_average_counts_it():
    e = with_gradient(network(100, 20, 20, 3), x=draw(16, 100))
    alike = {"abs": True, "similarity_func": similarity.correlation_spearman}
    layers = theirs("MPRT", e, **alike)
    average = theirs("MPRT", e, return_average_correlation=True, **alike)
    assert layers.pop("original").tolist() == pytest.approx([1] * 16)
    redrawn = np.mean(list(layers.values()), 0)
    np.testing.assert_allclose(average, (1 + 3 * redrawn) / 4, atol=1e-12)
    assert average.mean() > 0.25  # 0.31; of the redrawn alone, 0.08
    assert ours("mprt", e).mean() < 0.2  # 0.14, a mean of sizes


def test_removing_what_changes_nothing_scores_0_by_irof_and_1_with_quantus():
    """Quantus takes an area of K - 1 from K segments; and they are those of a picture, made of x itself."""
    e = evidence(Constant(), x=draw(4, 64), map_of=lambda _: draw(4, 64))
    found = theirs("IROF", e, feature=(1, 8, 8), abs=True, perturb_baseline=0.0)
    assert found.tolist() == pytest.approx([1] * 4)
    assert ours("irof", e).tolist() == [0] * 4


@pytest.mark.parametrize(
    "width",
    [6, 100],
    ids=["d=6: Quantus 2.1 and 5, ours 0.5 and 0", "d=100: Quantus 49.0 and 99, ours 0.5 and 0"],
)
def test_the_deletion_area_does_not_grow_with_the_number_of_features_and_quantus_s_does(width):
    """An output of 1 that goes in equal parts, and one that stays; Quantus' area runs from 1 to d."""
    area = {"features_in_step": 1, "abs": True, "return_auc_per_sample": True}
    parts = evidence(
        weighted(*[1 / width] * width),
        x=torch.ones(4, width).double(),
        baseline=torch.zeros(width).double(),
        map_of=lambda _: draw(4, width),
    )
    found = theirs("PixelFlipping", parts, **area, **to_baseline(parts))
    np.testing.assert_allclose(found, (width - 1) ** 2 / (2 * width))
    np.testing.assert_allclose(ours("deletion", parts), 0.5)
    e = evidence(Constant(), x=draw(4, width), map_of=lambda _: draw(4, width))
    assert theirs("PixelFlipping", e, **area, **to_baseline(e)).tolist() == [width - 1] * 4
    assert ours("deletion", e).tolist() == [0] * 4
