"""Metrics that show a method another case: other classes, weights, functions, shifts and seeds."""

import copy
import itertools
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from torch import nn

from assay.benchmarks import variants
from assay.benchmarks.evaluation import run_unit
from assay.benchmarks.grid import REGISTRIES, plan
from assay.benchmarks.linear_task import linear_problem
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.network_task import network_case
from assay.benchmarks.perturb import empty_output
from assay.benchmarks.plugin import METHODS, METRICS, Case, Evidence, NotApplicable
from assay.benchmarks.randomness import rng_for, seeded
from assay.benchmarks.registry import load_file
from assay.benchmarks.shared import Store
from assay.benchmarks.sharing import variant_of
from assay.benchmarks.suite import Suite
from assay.metrics.input_invariance import _Shifted
from assay.metrics.linearity import _Another, _Both
from assay.metrics.mprt import _Redrawn
from assay.metrics.symmetry import _Alike, _pairs

torch.set_num_threads(1)
load_plugins()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def network(*widths, activation=nn.Tanh, bias=True, seed=0):
    """Linear layers of these widths in float64, with an element-wise function between them."""
    layers = [nn.Flatten()]
    for i, (size, width) in enumerate(itertools.pairwise(widths)):
        layer = nn.Linear(size, width, bias=bias, dtype=torch.float64)
        for j, part in enumerate(layer.parameters()):
            part.data = draw(*part.shape, seed=100 * seed + 10 * i + j) / size**0.5
        layers += [layer, activation()]
    return nn.Sequential(*layers[:-1]).eval().requires_grad_(False)


class Gated(nn.Module):
    """No stack of layers: the product of two features and a tanh."""

    def forward(self, x):
        x = x.flatten(1)
        out = x[:, 0] * x[:, 1] + torch.tanh(x @ torch.arange(1.0, x.shape[1] + 1, dtype=x.dtype) / 20)
        return torch.stack([out, -out / 2], 1)


def case_of(model, *shape, rows=6, shared=True, **changes):
    feature = shape or (7,)
    given = {
        "model": model,
        "x": draw(rows, *feature, seed=1),
        "target": torch.zeros(rows, dtype=torch.int64),
        "baseline": draw(*feature, seed=2) / 3,
        "background": draw(9, *feature, seed=3),
        "groups": None,
        "rng": generator(),
    } | changes
    case = Case(**given)
    return replace(case, shared=Store(case, "unit").lend(case.model)) if shared else case


def judged(method, case, **changes):
    """What a metric sees of a method."""
    given = {
        "case": case,
        "attribution": method(case).detach().double(),
        "masks": {"relevant": torch.ones(1, *case.baseline.shape, dtype=torch.bool)},
        "truth": None,
        "empty": empty_output(case),
        "other": None,
        "explain": method,
        "rng": generator(5),
    }
    return Evidence(**given | changes)


def score(metric, method, case, parameters=None, **changes):
    found = METRICS[metric].function(judged(method, case, **changes), **(parameters or {}))
    assert found.dtype == torch.float64
    facts = METRICS[metric].facts
    low, high = sorted((facts["best"], facts["worst"]))
    assert ((found >= low) & (found <= high) | found.isnan()).all()
    return found


def gradient(case):
    x = case.x.clone().requires_grad_()
    return torch.autograd.grad(case.output(x).sum(), x)[0]


def times_input(case):
    return gradient(case) * case.x


def path(case, baseline=None):
    """Integrated gradients by 64 Gauss-Legendre nodes."""
    start = case.baseline if baseline is None else baseline
    total = torch.zeros_like(case.x)
    for t, w in zip(*np.polynomial.legendre.leggauss(64), strict=True):
        total += w / 2 * gradient(replace(case, x=start + (t + 1) / 2 * (case.x - start)))
    return total * (case.x - start)


def path_from_zero(case):
    return path(case, torch.zeros_like(case.baseline))


def sizes(case):
    return gradient(case).abs()


def ones(case):
    return torch.ones_like(case.x)


def input_size(case):
    return case.x.abs()


def by_position(case):
    return gradient(case) * torch.arange(1, case.baseline.numel() + 1).view(case.baseline.shape)


def noise(case):
    return torch.randn(case.x.shape, generator=case.rng, dtype=torch.float64)


def plugged(name, **parameters):
    """A method of the benchmark, without what it says of itself."""

    def explain(case):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return METHODS[name].function(case, **parameters).detach()

    return explain


TREES = network_case(3, ("trees",))
FLAT = [network(7, 2), network(7, 9, 2), network(7, 9, 8, 3, activation=nn.GELU)]
MODELS = [*FLAT, network(7, 9, 2, bias=False), Gated()]


# ---- how alike two maps are -----------------------------------------------------------------------------


@pytest.mark.parametrize(("ranks", "peer"), [(False, pearsonr), (True, spearmanr)])
def test_a_correlation_equals_scipy(ranks, peer):
    a, b = draw(8, 2, 3), torch.randint(-2, 3, (8, 2, 3), generator=generator()).double()
    b[:, 0, 0], b[:, 0, 1] = 3, -3  # scipy warns about constants
    found = variants.correlation(a, b, ranks=ranks)
    want = [peer(p, q).statistic for p, q in zip(a.flatten(1).numpy(), b.flatten(1).numpy(), strict=True)]
    np.testing.assert_allclose(found, want, atol=1e-12)


@pytest.mark.parametrize("ranks", [False, True])
def test_constant_maps_are_like_each_other_and_unlike_all_else(ranks):
    """0.1 summed thrice is not 0.3: the mean of a constant map must not leave a rest to correlate."""
    a = torch.tensor([[0.1, 0.1, 0.1], [0.0, 0.0, 0.0], [0.1, 0.1, 0.1]], dtype=torch.float64)
    b = torch.tensor([[7.0, 7.0, 7.0], [0.1, 0.1, 0.1], [1.0, 2.0, 4.0]], dtype=torch.float64)
    assert variants.correlation(a, b, ranks=ranks).tolist() == [1, 1, 0]
    assert variants.correlation(b, a, ranks=ranks).tolist() == [1, 1, 0]
    assert variants.correlation(a[:, :1], b[:, :1], ranks=ranks).isnan().all()


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_a_correlation_sees_no_scale(scale):
    a, b = draw(8, 5), draw(8, 5, seed=1)
    torch.testing.assert_close(variants.correlation(scale * a, b), variants.correlation(a, b))


def relative_gap(a, b):
    gap, p, q = (math.sqrt(sum(v * v for v in m)) for m in ([x - y for x, y in zip(a, b, strict=True)], a, b))
    return 2 * gap / (p + q) if p + q else 0.0


def test_a_relative_gap_equals_its_twin():
    a, b = draw(5, 4), draw(5, 4, seed=1)
    a[1], b[1], a[2], b[3], b[4] = 0, 0, 0, a[3], -a[4]
    found = variants.relative_gap(a, b).tolist()
    assert found == pytest.approx([relative_gap(*pair) for pair in zip(a.tolist(), b.tolist(), strict=True)])
    assert found[1:] == pytest.approx([0, 2, 0, 2])
    assert variants.relative_gap(a, b * torch.nan).isnan().all()  # and not alike


# ---- models made of others ------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [(7, 2), (7, 9, 2), (7, 9, 8, 3)])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.GELU, nn.ReLU, nn.Softplus])
def test_networks_side_by_side_are_their_sum_and_of_their_kind(widths, activation, bias):
    f, g = (network(*widths, activation=activation, bias=bias, seed=s) for s in (0, 1))
    both, x = variants.side_by_side(f, g, 0.5), draw(6, 7)
    torch.testing.assert_close(both(x), 0.5 * (f(x) + g(x)))
    assert [type(layer) for layer in both] == [type(layer) for layer in f]
    assert not any(m.training for m in both.modules())
    assert not {id(p) for net in (f, g) for p in net.parameters()} & {id(p) for p in both.parameters()}


def test_a_network_that_is_built_of_another_goes_on_counting_its_rows():
    net, seen = network(7, 9, 2), []
    net.register_forward_hook(lambda _, __, outputs: seen.append(len(outputs)))
    variants.side_by_side(net, net)(draw(6, 7))
    assert seen == [6]


class Doubling(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked():
    net = network(7, 9, 2)
    net[1].register_forward_pre_hook(lambda *_: None)
    return net


def scaled(layer):
    return nn.utils.parametrizations.weight_norm(layer)


NOT_DENSE = {
    "a module of another kind": Gated,
    "a subclass that does more": lambda: Doubling(*network(7, 9, 2)),
    "an end that is not linear": lambda: nn.Sequential(*network(7, 9, 2), nn.Softmax(1)),
    "an element-wise end": lambda: nn.Sequential(*network(7, 9, 2), nn.Tanh()),
    "a layer that mixes rows or units": lambda: nn.Sequential(
        nn.Flatten(), nn.LayerNorm(7, dtype=torch.float64), *network(7, 9, 2)[1:]
    ),
    "a layer whose hook may compute its weights": hooked,
    "a layer whose weight is computed": lambda: nn.Sequential(scaled(network(7, 2)[1])),
    "no layer with weights": lambda: nn.Sequential(nn.Flatten()),
}


@pytest.mark.parametrize("what", NOT_DENSE)
def test_only_a_plain_network_is_rebuilt(what):
    assert variants.dense_network(case_of(NOT_DENSE[what](), shared=False)) is None


def test_what_is_plain():
    for net in (*FLAT, nn.Sequential(*network(7, 9, 2)[1:]), nn.Sequential(*network(7, 2), nn.Dropout(0.5))):
        assert variants.dense_network(case_of(net, shared=False)) is net
    along_the_last_axis = nn.Sequential(nn.Linear(7, 2, dtype=torch.float64), nn.Flatten())
    assert variants.dense_network(case_of(along_the_last_axis, 3, 7, shared=False)) is None


# ---- the model parameter randomisation test -------------------------------------------------------------


@pytest.mark.parametrize("method", [ones, input_size])
@pytest.mark.parametrize("model", FLAT)
def test_a_map_that_ignores_the_model_is_worst_in_mprt(model, method):
    assert score("mprt", method, case_of(model)).tolist() == pytest.approx([1.0] * 6)


def test_the_gradient_of_a_random_network_is_as_unlike_as_noise_in_mprt():
    """By chance, |Spearman| of 40 features is about sqrt(2 / (39 pi)) = 0.13; the last layer alone redrawn
    leaves more of it."""
    case = case_of(network(40, 60, 60, 60, 2, activation=nn.ReLU), 40, rows=30)
    noisy = score("mprt", noise, case).mean()
    assert noisy == pytest.approx(math.sqrt(2 / (39 * math.pi)), abs=0.03)
    assert noisy - 0.03 < score("mprt", gradient, case).mean() < 0.3


def test_a_map_of_the_first_layer_shows_in_all_stages_but_the_last():
    """The cascade goes from the top down: begun at the bottom, the score would be noise throughout."""

    def first_weights(case):
        return case.model[1].weight.abs().sum(0).expand_as(case.x).clone()

    case = case_of(network(7, 9, 8, 3))
    found = score("mprt", first_weights, case, {"draws": 1}).tolist()
    last = variants_of_mprt(case, [(3, 0)])[0].model
    noise_ = abs(spearmanr(first_weights(case)[0], first_weights(replace(case, model=last))[0]).statistic)
    assert found == pytest.approx([(2 + noise_) / 3] * 6)


def variants_of_mprt(case, which):
    return [variant_of(judged(ones, case), _Redrawn(*some)) for some in which]


def layers(net):
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("shared", [True, False])
def test_the_weights_are_drawn_from_the_top_down_and_anew_for_every_draw(shared):
    """One draw is not enough: several must differ, also where nothing keeps what is shared."""
    net = network(7, 9, 8, 3)
    before = copy.deepcopy(net.state_dict())
    one, two, all_, other = variants_of_mprt(case_of(net, shared=shared), [(1, 0), (2, 0), (3, 0), (3, 1)])
    kept = [
        [torch.equal(a.weight, b.weight) for a, b in zip(layers(net), layers(c.model), strict=True)]
        for c in (one, two, all_, other)
    ]
    assert kept == [[True, True, False], [True, False, False], [False] * 3, [False] * 3]
    assert torch.equal(layers(one.model)[2].weight, layers(all_.model)[2].weight)  # a cascade
    assert not torch.equal(layers(other.model)[2].weight, layers(all_.model)[2].weight)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(m.training for m in all_.model.modules())


def mprt(e, draws, tops):
    """One layer reset at a time, one row at a time, by scipy."""
    each = []
    for k, top in itertools.product(range(draws), tops):
        model = copy.deepcopy(e.case.model)
        with seeded(rng_for("redrawn", str(e.rng.initial_seed()), str(k))):
            for layer in layers(model)[::-1][:top]:
                layer.reset_parameters()
        again = gradient(replace(e.case, model=model)).flatten(1)
        pairs = zip(e.attribution.flatten(1).tolist(), again.tolist(), strict=True)
        each.append([abs(spearmanr(np.abs(p), np.abs(q)).statistic) for p, q in pairs])
    return np.mean(each, 0)


@pytest.mark.parametrize(("depth", "tops"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 3, 4]), (6, [2, 3, 5, 6])])
def test_mprt_equals_its_twin_and_takes_four_stages_at_most(depth, tops):
    net = network(6, *[9] * (depth - 1), 2)
    e = judged(gradient, case_of(net, 1, 2, 3))
    np.testing.assert_allclose(METRICS["mprt"].function(e, draws=2), mprt(e, 2, tops), atol=1e-12)
    assert len([key for key in e.memo if key[0] == "again"]) == 2 * len(tops)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(7, dtype=torch.float64))

    def forward(self, x):
        return (x * self.scale)[:, :2]


def test_a_model_whose_weights_cannot_be_drawn_anew_is_not_judged_by_mprt():
    """Left as they are, trained weights would show through."""
    for model, why in [
        (Gated(), "this model has none"),
        (TREES.model, "this model has none"),
        (linear_problem().oracle, "this model has none"),
        (Odd(), "Odd has no reset_parameters"),
        (nn.Sequential(Odd(), nn.Linear(2, 2, dtype=torch.float64)), "Odd has no"),
    ]:
        case = case_of(model, *((5,) if model is not Odd else (7,)), shared=False)
        with pytest.raises(NotApplicable, match=why):
            METRICS["mprt"].function(replace(judged(ones, case_of(network(7, 2), shared=False)), case=case))


def test_attention_and_what_a_norm_has_counted_are_drawn_anew_too():
    layer = nn.TransformerEncoderLayer(7, 1, 5, batch_first=True, dtype=torch.float64)
    norm = nn.BatchNorm1d(7, dtype=torch.float64)
    norm.running_mean += 3
    model = nn.Sequential(norm, nn.Unflatten(1, (1, 7)), layer, nn.Flatten()).eval()
    (found,) = variants_of_mprt(case_of(model), [(99, 0)])
    state, other = model.state_dict(), found.model.state_dict()
    assert not torch.equal(state["2.self_attn.in_proj_weight"], other["2.self_attn.in_proj_weight"])
    assert other["0.running_mean"].abs().max() == 0
    assert score("mprt", gradient, case_of(model)).isfinite().all()


# ---- another class --------------------------------------------------------------------------------------


def opposed(weight):
    """Logits -m and m."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(len(weight), 2, bias=False, dtype=torch.float64))
    net[1].weight.data = torch.stack([-weight, weight])
    return net.eval().requires_grad_(False)


def likeliest(case):
    return replace(case, target=case.model(case.x).argmax(1), shared=None)


CLASSES = ["random_logit", "class_sensitivity"]


@pytest.mark.parametrize("metric", CLASSES)
@pytest.mark.parametrize("end", [(), (nn.Softmax(1),)])
def test_the_exact_maps_of_two_classes_are_each_other_s_negative(metric, end):
    """The faulty similarity, of sizes, would call every one of these methods blind to the class."""
    case = likeliest(case_of(nn.Sequential(*opposed(draw(7)), *end)))
    for method in (gradient, times_input, path):
        assert score(metric, method, case).tolist() == pytest.approx([-1] * 6)
    for method in (sizes, ones, input_size):
        assert score(metric, method, case).tolist() == pytest.approx([1] * 6)


@pytest.mark.parametrize("metric", CLASSES)
def test_a_random_map_hangs_on_no_class(metric):
    case = likeliest(case_of(network(7, 4), rows=600))
    found = score(metric, noise, replace(case, rng=generator(8)))
    assert abs(found.mean()) < 4 / math.sqrt(6 * 600)  # the deviation of both is 1 / sqrt(d - 1)
    sized = score(metric, lambda c: noise(c).abs(), replace(case, rng=generator(9)))
    assert abs(sized.mean()) < 4 / math.sqrt(6 * 600)  # a cosine would be 2 / pi


def test_class_sensitivity_is_of_the_least_likely_class_and_random_logit_of_any_other():
    case = likeliest(case_of(network(7, 9, 4), rows=200))
    outputs, weight = case.model(case.x), []
    least, drawn = (variant_of(judged(ones, case), variants.OtherClass(flag)) for flag in (True, False))
    assert torch.equal(least.target, outputs.argmin(1))
    assert (drawn.target != case.target).all()
    step = (drawn.target - case.target) % 4
    assert step.bincount().tolist() == pytest.approx([0, 67, 67, 67], abs=25)
    rows = range(20)
    for flag, peer, metric in ((least, pearsonr, CLASSES[1]), (drawn, spearmanr, CLASSES[0])):
        maps = gradient(case), gradient(replace(case, target=flag.target))
        want = [peer(maps[0][i], maps[1][i]).statistic for i in rows]
        np.testing.assert_allclose(score(metric, gradient, case)[:20], want, atol=1e-12)
        weight.append(want)
    assert weight[0] != weight[1]


@pytest.mark.parametrize("metric", CLASSES)
def test_where_there_are_no_classes_there_is_none_to_compare(metric):
    with pytest.raises(NotApplicable, match="single output"):
        score(metric, gradient, case_of(network(7, 9, 1)))


# ---- symmetry -------------------------------------------------------------------------------------------


def alike(case, i, j):
    return variant_of(judged(ones, case), _Alike(i, j))


@pytest.mark.parametrize("shape", [(7,), (1, 7), (7, 1)])
@pytest.mark.parametrize("model", MODELS)
def test_the_two_features_are_alike_in_all_that_a_method_sees(model, shape):
    case = case_of(model, *shape)
    found = alike(case, 1, 4)
    order = torch.tensor([0, 4, 2, 3, 1, 5, 6])
    for seen in (found.x, found.baseline[None], found.background):
        assert torch.equal(seen.flatten(1)[:, 1], seen.flatten(1)[:, 4])
    kept = [0, 1, 2, 3, 5, 6]
    assert torch.equal(found.x.flatten(1)[:, kept], case.x.flatten(1)[:, kept])
    swapped = case.x.flatten(1)[:, order].view(case.x.shape)
    torch.testing.assert_close(found.model(case.x), (model(case.x) + model(swapped)) / 2)
    torch.testing.assert_close(found.model(swapped), found.model(case.x))
    assert (type(found.model) is nn.Sequential) == (not isinstance(model, Gated))


FAIR = [gradient, times_input, path, sizes, ones, plugged("exact_shapley"), plugged("deep_lift")]
BY_LAYERS = [
    *(plugged(name) for name in ("lrp", "guided_backprop", "deconvolution")),
    plugged("deep_lift", rule="captum"),
]


@pytest.mark.parametrize("model", MODELS)
def test_methods_that_treat_features_alike_are_symmetric(model):
    for method in FAIR:
        assert score("symmetry", method, case_of(model), {"pairs": 7}).max() < 1e-9


def test_methods_that_go_by_layers_are_shown_layers():
    case = case_of(network(7, 9, 8, 2, activation=nn.ReLU))
    for method in BY_LAYERS:
        assert score("symmetry", method, case).max() < 1e-9


@pytest.mark.parametrize("model", MODELS)
def test_a_method_that_goes_by_position_is_not_symmetric_by_this_much(model):
    """a_i = (i + 1) g and a_j = (j + 1) g: 2 |i - j| / (i + j + 2), averaged over the pairs drawn."""
    case = case_of(model)
    pairs = _pairs(case, 4, generator(5))
    want = sum(2 * abs(i - j) / (i + j + 2) for i, j in pairs) / 4
    assert score("symmetry", by_position, case, {"pairs": 4}).tolist() == pytest.approx([want] * 6)


def test_a_random_map_s_symmetry_in_closed_form():
    """Of two normal numbers: 2 where the signs differ; else 2 |p - q| / (p + q), on average 4 ln 2 / pi."""
    found = score("symmetry", noise, case_of(network(7, 2), rows=4000, rng=generator(3)), {"pairs": 1})
    assert found.mean() == pytest.approx((2 + 4 * math.log(2) / math.pi) / 2, abs=4 * 0.7 / math.sqrt(4000))


def test_what_rounding_leaves_is_no_asymmetry():
    """Features that are worth nothing and get some 1e-9 each are at odds relative to each other alone."""
    case = case_of(network(7, 2), groups=torch.tensor([0, 1, 2, 3, 4, 5, 5]))
    rest = torch.tensor([1e-9] * 5 + [0, 0], dtype=torch.float64) * draw(6, 7)
    assert score("symmetry", lambda _: rest + 10 * (torch.arange(7) > 4), case).tolist() == [0] * 6
    assert score("symmetry", lambda _: rest, replace(case, shared=None)).min() > 0.1


def test_pairs_are_of_features_that_are_their_own_unit_and_none_comes_twice():
    case = case_of(network(7, 2))
    every = _pairs(case, 100, generator())
    assert len(every) == len({frozenset(pair) for pair in every}) == 7
    assert {i for i, _ in every} == set(range(7))
    assert len(_pairs(case, 3, generator())) == 3
    grouped = replace(case, groups=torch.tensor([5, 5, 0, 1, 9, 9, 9]))
    assert sorted(map(sorted, _pairs(grouped, 100, generator()))) == [[2, 3]]  # nor its reverse
    with pytest.raises(NotApplicable, match="fewer than two"):
        _pairs(replace(case, groups=torch.zeros(7, dtype=torch.int64)), 5, generator())
    with pytest.raises(NotApplicable, match="fewer than two"):
        score("symmetry", gradient, case_of(network(1, 2), 1))


# ---- linearity ------------------------------------------------------------------------------------------


def functions(case):
    e = judged(ones, case)
    return variant_of(e, _Another()), variant_of(e, _Both())


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("model", [*MODELS, TREES.model])
def test_the_other_function_is_of_the_size_of_the_first_and_the_third_is_their_sum(model, shared):
    case = TREES if model is TREES.model else case_of(model, shared=shared)
    before = copy.deepcopy(model.state_dict())
    other, both = functions(case)
    torch.testing.assert_close(both.model(case.x), model(case.x) + other.model(case.x), atol=1e-6, rtol=1e-6)
    away = [m(case.background) - m(case.baseline[None]) for m in (other.model, model)]
    torch.testing.assert_close(away[0].norm(), away[1].norm())
    assert not torch.allclose(other.model(case.x), model(case.x))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    if variants.dense_network(case):
        assert type(other.model) is type(both.model) is nn.Sequential
        assert [type(m) for m in other.model] == [type(m) for m in model]


def test_features_of_another_scale_count_alike_in_the_other_function():
    scale = torch.tensor([1e-3, 1, 1, 1, 1, 1, 1e3], dtype=torch.float64)
    case = case_of(network(7, 9, 2))
    wide = replace(case, x=case.x * scale, background=case.background * scale, baseline=case.baseline * scale)
    other, _ = functions(replace(wide, shared=None))
    share = (gradient(other) * scale).abs().mean(0)
    assert share.max() / share.min() < 30


@pytest.mark.parametrize("model", MODELS)
def test_what_is_linear_in_the_function_is_found_to_be(model):
    for method in (gradient, times_input, path, plugged("feature_ablation"), plugged("exact_shapley")):
        assert score("linearity", method, case_of(model)).max() < 1e-9
    for method in (sizes, lambda c: gradient(c) ** 3, input_size):
        assert score("linearity", method, case_of(model)).mean() > 0.05


def test_rules_of_layers_add_up_on_networks_side_by_side():
    """Rules of each unit do; LRP's, which share out the output and so the sum of two, do but for the bias."""
    case = case_of(network(7, 9, 8, 2, activation=nn.ReLU))
    for name, given in (("deep_lift", {"rule": "captum"}), ("deep_lift", {}), ("guided_backprop", {})):
        assert score("linearity", plugged(name, **given), case).max() < 1e-9


@pytest.mark.parametrize("model", MODELS)
def test_a_map_that_is_always_the_same_misses_its_double_by_two_thirds(model):
    """2 |1 - 2| / (1 + 2)."""
    assert score("linearity", ones, case_of(model)).tolist() == pytest.approx([2 / 3] * 6)
    assert score("linearity", lambda c: 0 * c.x, case_of(model)).tolist() == [0] * 6


def test_a_function_that_never_changes_is_a_sum_too():
    net = network(7, 9, 2)
    net[3].weight.zero_()
    assert score("linearity", gradient, case_of(net)).tolist() == [0] * 6
    same = case_of(network(7, 9, 2))
    no_scale = replace(same, background=same.baseline[None].clone(), shared=None)
    assert score("linearity", path, no_scale).max() < 1e-9
    at_baseline = replace(same, x=same.baseline.expand(6, 7).clone(), shared=None)
    assert score("linearity", path, at_baseline).tolist() == [0] * 6


# ---- input invariance -----------------------------------------------------------------------------------


def shifted(case):
    return variant_of(judged(ones, case), _Shifted())


FIRST = {
    "linear": (lambda: network(7, 9, 2), True),
    "linear without a bias": (lambda: network(7, 9, 2, bias=False), True),
    "linear, then a norm": (
        lambda: nn.Sequential(*network(7, 9), nn.LayerNorm(9, dtype=torch.float64), *network(9, 2)),
        True,
    ),
    "a function of each feature": (
        lambda: nn.Sequential(nn.Flatten(), nn.Tanh(), *network(7, 9, 2)[1:]),
        False,
    ),
    "linear, with a hook": (hooked, False),
    "none": (Gated, False),
}


@pytest.mark.parametrize("shape", [(7,), (1, 7)])
@pytest.mark.parametrize("what", FIRST)
def test_the_shift_is_undone_in_the_first_layer_where_that_is_linear(what, shape):
    make, folded = FIRST[what]
    model = make().eval()
    case = case_of(model, *shape)
    before = copy.deepcopy(model.state_dict())
    found = shifted(case)
    torch.testing.assert_close(found.model(found.x), model(case.x))
    torch.testing.assert_close(found.model(found.background), model(case.background))
    moves = [found.x - case.x, (found.baseline - case.baseline)[None], found.background - case.background]
    for move in moves:
        torch.testing.assert_close(move, moves[1].expand_as(move))
    assert moves[1].abs().min() > 1e-3
    assert isinstance(found.model, nn.Sequential) == folded
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("what", FIRST)
def test_what_hangs_on_where_zero_lies_is_found_out(what):
    case = case_of(FIRST[what][0]().eval())
    for method in (gradient, path, sizes, plugged("feature_ablation"), plugged("exact_shapley")):
        assert score("input_invariance", method, case).max() < 1e-9
    for method in (times_input, path_from_zero, input_size):
        assert score("input_invariance", method, case).mean() > 0.1


def test_input_times_gradient_of_a_linear_model_misses_by_this_much():
    """w x against w (x + c)."""
    case = case_of(network(7, 1))
    weight, shift = case.model[1].weight[0], shifted(case).baseline - case.baseline
    want = [relative_gap((weight * row).tolist(), (weight * (row + shift)).tolist()) for row in case.x]
    assert score("input_invariance", times_input, case).tolist() == pytest.approx(want)


# ---- what all of them share -----------------------------------------------------------------------------

AGAIN = ["mprt", *CLASSES, "symmetry", "linearity", "input_invariance"]


@pytest.mark.parametrize("metric", AGAIN)
@pytest.mark.parametrize("factor", [3.0, -1.0])
def test_a_method_times_a_number_scores_the_same(metric, factor):
    """Of these metrics all claim `scale` and `sign`."""
    assert {"scale", "sign"} <= set(METRICS[metric].facts["claims"])
    case = likeliest(case_of(network(7, 9, 3)))
    plain = score(metric, by_position, case)
    torch.testing.assert_close(score(metric, lambda c: factor * by_position(c), case), plain)


@pytest.mark.parametrize("metric", ["symmetry", "linearity", "input_invariance"])
def test_the_exact_attribution_of_a_linear_model_is_best(metric):
    def exact(case):
        return gradient(case) * (case.x - case.baseline)

    assert "exact" in METRICS[metric].facts["claims"]
    assert score(metric, exact, case_of(network(7, 2))).max() < 1e-9
    assert METRICS[metric].facts["ceiling"] == "best"


@pytest.mark.parametrize("metric", AGAIN)
@pytest.mark.parametrize("shape", [(1, 7), (7, 1, 1)])
def test_the_shape_of_the_features_is_nobody_s_business(metric, shape):
    flat, other = (likeliest(case_of(network(7, 9, 3), *s)) for s in ((7,), shape))
    torch.testing.assert_close(score(metric, by_position, flat), score(metric, by_position, other))


@pytest.mark.parametrize("metric", AGAIN)
def test_one_row_alone_scores_as_among_others(metric):
    case = likeliest(case_of(network(7, 9, 3)))
    whole = score(metric, by_position, case)
    part = score(metric, by_position, replace(case, x=case.x[:1], target=case.target[:1]))
    if metric != "random_logit":  # which draws for every row
        torch.testing.assert_close(part, whole[:1])
    assert part.shape == (1,)


@pytest.mark.parametrize("metric", AGAIN)
def test_a_method_that_cannot_explain_the_variant_does_not_apply(metric):
    case = likeliest(case_of(network(7, 9, 3)))

    def picky(given):
        if given is not case:
            raise TypeError("not this one")
        return gradient(given)

    with pytest.raises(NotApplicable, match="TypeError: not this one"):
        score(metric, picky, case)


# ---- seeds ----------------------------------------------------------------------------------------------


def simulated(models, runs, width, parts, rows=2):
    """Maps of known components: a mean, what each model adds, and what each run on it adds."""
    mean, between, within = parts
    base = mean * draw(1, 1, rows, width, seed=1)
    of_models = between * draw(models, 1, rows, width, seed=2)
    return base + of_models + within * draw(models, runs, rows, width, seed=3)


@pytest.mark.parametrize("parts", [(1, 2, 3), (3, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 1), (2, 1, 0.5)])
@pytest.mark.parametrize(("models", "runs"), [(3, 2), (2, 2), (5, 4)])
def test_the_components_of_simulated_maps_are_found(models, runs, parts):
    """Over many features the estimates settle at the truth, if they have no bias: without the correction,
    models would seem to differ by what runs differ, divided by their number."""
    found = variants.shares_of_variance(simulated(models, runs, 50_000, parts))
    mean, between, within = (p**2 for p in parts)
    total = mean + between + within
    for got, want in zip(found, (between / total, within / total), strict=True):
        assert got.tolist() == pytest.approx([want] * 2, abs=0.02)


def shares(maps):
    """Sums of squares of the nested analysis of variance, one feature at a time."""
    models, runs = maps.shape[:2]
    between = within = total = 0.0
    for k in range(maps.shape[2]):
        a = maps[:, :, k]
        mean, means = a.mean(), a.mean(1)
        ms_models = runs * sum((means - mean) ** 2) / (models - 1)
        ms_runs = sum((a[m, s] - means[m]) ** 2 for m in range(models) for s in range(runs))
        ms_runs /= models * (runs - 1)
        between += (ms_models - ms_runs) / runs
        within += ms_runs
        total += (a**2).mean()
    between = max(between, 0.0)
    total = max(total, between + within)
    return between / total, within / total


@pytest.mark.parametrize(("models", "runs"), [(3, 2), (2, 3), (4, 4)])
@pytest.mark.parametrize("width", [1, 5])
def test_shares_of_variance_equal_their_twin(models, runs, width):
    maps = simulated(models, runs, width, (1, 0.5, 1), rows=9)  # with some to be clipped at 0
    found = torch.stack(variants.shares_of_variance(maps), 1)
    np.testing.assert_allclose(found, [shares(maps[:, :, i].numpy()) for i in range(9)], atol=1e-12)
    assert (found >= 0).all()
    assert (found.sum(1) <= 1 + 1e-12).all()


def test_shares_of_variance_at_the_ends():
    a = draw(1, 1, 2, 5)
    for maps, want in [
        (a.expand(3, 2, 2, 5), (0, 0)),  # nothing varies
        (0 * a.expand(3, 2, 2, 5), (0, 0)),
        (torch.cat([a, -a], 1).expand(3, 2, 2, 5), (0, 1)),  # twice the mean square, unless held to it
        (torch.cat([a, -a], 0).expand(2, 2, 2, 5), (1, 0)),
    ]:
        for got, wanted in zip(variants.shares_of_variance(maps), want, strict=True):
            assert got.tolist() == pytest.approx([wanted] * 2)
    third = draw(1, 1, 2, 5) / 3
    assert all((s == 0).all() for s in variants.shares_of_variance(third.expand(3, 3, 2, 5)))  # exactly


def trained(problem, rng):
    """What no data are needed for: a network that hangs on the seed."""
    with seeded(rng):
        return nn.Sequential(nn.Flatten(), nn.Linear(5, 2)).eval().requires_grad_(False)


def seeds(method, train, case=None, **parameters):
    problem = linear_problem(2)
    if case is None:
        x = problem.x[problem.explained]
        model = train(problem, generator(77))
        case = Case(
            model=model,
            x=x,
            target=torch.arange(len(x)) % 2,
            baseline=problem.baseline,
            background=problem.background,
            groups=None,
            rng=generator(),
        )
        case = replace(case, shared=Store(case, "unit").lend(model))
    e = judged(method, case, problem=problem, train=train)
    names = ("model_seed_variance", "method_seed_variance")
    return [METRICS[name].function(e, **parameters) for name in names], e


def test_a_method_that_draws_nothing_varies_by_the_model_alone():
    (models, runs), _ = seeds(gradient, trained)
    assert (runs == 0).all()
    assert models.min() > 0.2
    (models, runs), _ = seeds(gradient, lambda problem, _: problem.oracle)
    assert (runs == 0).all()
    assert (models == 0).all()


def test_a_method_that_only_draws_varies_by_its_seed_alone():
    (models, runs), _ = seeds(noise, trained, models=4, seeds=4)
    assert runs.mean() == pytest.approx(1, abs=0.1)
    assert models.mean() < 0.1


def test_other_models_are_explained_for_the_same_classes_on_the_same_rows():
    seen = []

    def watching(case):
        seen.append(case)
        return gradient(case)

    _, e = seeds(watching, trained, models=3, seeds=2)
    assert len(seen) == 6  # both metrics read the same maps
    assert all(torch.equal(c.target, e.case.target) and torch.equal(c.x, e.case.x) for c in seen)
    weights = [tuple(c.model[1].weight.flatten().tolist()) for c in seen]
    assert [weights.count(w) for w in weights] == [2] * 6
    assert len({c.rng.initial_seed() for c in seen[1:]}) == 5
    assert seen[0].model is seen[1].model is e.case.model


def test_a_model_that_is_trained_cannot_spoil_the_problem():
    def spoiling(problem, rng):
        problem.x.zero_()
        return trained(problem, rng)

    _, e = seeds(gradient, trained)
    again = judged(gradient, replace(e.case, shared=None), problem=e.problem, train=spoiling)
    METRICS["model_seed_variance"].function(again)
    assert e.problem.x.abs().sum() > 0


@pytest.mark.parametrize("lacking", ["problem", "train"])
def test_without_a_way_to_train_there_are_no_seeds(lacking):
    _, e = seeds(gradient, trained)
    bare = replace(e, **{lacking: None}, memo={}, explain=lambda _: pytest.fail("explained in vain"))
    for name in ("model_seed_variance", "method_seed_variance"):
        with pytest.raises(NotApplicable, match="not known how"):
            METRICS[name].function(bare)


# ---- a run ----------------------------------------------------------------------------------------------

COUNTING = """
import torch
from torch import nn
from assay.benchmarks.plugin import model

TRAINED = []

@model(paper="https://example.org", has=("gradient", "layers"))
def counting(problem, rng, /):
    TRAINED.append(rng.initial_seed())
    net = nn.Sequential(nn.Flatten(), nn.Linear(problem.x[0].numel(), 8), nn.Tanh(), nn.Linear(8, 1))
    x, y = problem.x[problem.train], problem.y[problem.train]
    steps = torch.optim.LBFGS(net.parameters(), max_iter=60)

    def loss():
        steps.zero_grad()
        found = (net(x)[:, 0] - y).square().mean()
        found.backward()
        return found

    steps.step(loss)
    return net.eval().requires_grad_(False)
"""


@pytest.fixture
def counting(tmp_path):
    file = tmp_path / "counting.py"
    file.write_text(COUNTING)
    load_file(file)
    yield REGISTRIES["model"]["counting"].function.__globals__["TRAINED"]
    for registry in REGISTRIES.values():
        registry._plugins.pop("counting", None)


DATA = "symbolic[formula='sin(a) + a * b',columns=3,rows=400,explained=10]"


def run(methods, metrics, model="counting"):
    block = {"dataset": [DATA], "model": [model], "method": methods, "metric": metrics}
    ((unit, cells),) = plan(Suite.model_validate({"name": "toy", "seeds": 1, "grid": [block]})).items()
    return {(r.row["method"], r.row["metric"]): r.row for r in run_unit(unit, cells) if r.table == "scores"}


SEEDS = ["model_seed_variance", "method_seed_variance"]


def test_models_of_other_seeds_are_trained_once_for_all_methods(counting):
    found = run(["gradient", "smooth_grad", "constant"], SEEDS)
    assert {row["status"] for row in found.values()} == {"ok"}
    assert len(counting) == len(set(counting)) == 3  # the unit's own, and two more
    assert found["gradient", SEEDS[1]]["value"] == 0
    assert found["gradient", SEEDS[0]]["value"] > 0
    assert found["smooth_grad", SEEDS[1]]["value"] > 0
    counting.clear()
    alone = run(["smooth_grad"], SEEDS)
    assert len(counting) == 3
    assert [alone["smooth_grad", s]["value"] for s in SEEDS] == [
        found["smooth_grad", s]["value"] for s in SEEDS
    ]


def test_a_run_scores_methods_as_they_deserve(counting):
    metrics = [name for name in AGAIN if name not in CLASSES]
    found = run(["gradient", "input_x_gradient", "constant", "random"], [*metrics, *CLASSES])
    value = {key: row["value"] for key, row in found.items() if row["status"] == "ok"}
    assert {row["status"] for (_, metric), row in found.items() if metric in CLASSES} == {"skipped"}
    assert value["constant", "mprt"] == pytest.approx(1)
    assert value["gradient", "mprt"] < 0.9
    for metric in ("symmetry", "linearity", "input_invariance"):
        assert value["gradient", metric] < 1e-4
        assert value["random", metric] > 0.5
    assert value["input_x_gradient", "input_invariance"] > 0.1
    assert len(counting) == 1
    for metric in metrics:
        alone = run(["random"], [metric])
        assert alone["random", metric]["value"] == value["random", metric], metric


def test_the_known_function_has_no_weights_and_never_varies():
    found = run(["gradient", "random"], ["mprt", "symmetry", "linearity", *SEEDS], model="oracle")
    assert found["gradient", "mprt"]["status"] == "skipped"
    assert found["gradient", "symmetry"]["value"] < 1e-4
    assert found["gradient", "linearity"]["value"] < 1e-4
    assert [found["gradient", s]["value"] for s in SEEDS] == [0, 0]
    assert found["random", SEEDS[1]]["value"] > 0.7
