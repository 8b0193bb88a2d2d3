"""Metrics of robustness: against slow twins, captum, closed forms, and the faults that others have."""

import math
from dataclasses import replace

import pytest
import torch
from captum.attr import Saliency
from captum.metrics import sensitivity_max
from scipy.stats import kendalltau
from torch import nn

from assay import methods, metrics
from assay.benchmarks.explaining import explainer
from assay.benchmarks.neighbours import Ball, Nearby, Opening, kept, placed
from assay.benchmarks.perturb import Predicted, empty_output
from assay.benchmarks.plugin import METHODS, METRICS, Case, Evidence, NotApplicable
from assay.benchmarks.shared import Store
from assay.benchmarks.sharing import explained_again, of_map, variant_of
from assay.benchmarks.spec import setting

torch.set_num_threads(1)
METRICS.discover(metrics)
METHODS.discover(methods)
SENSITIVE = ("max_sensitivity", "average_sensitivity", "local_lipschitz")
STABLE = tuple(f"relative_{what}_stability" for what in ("input", "output", "representation"))
NEAR = Nearby(0.05, 10)  # what all metrics read by default
SHAPES = [(5,), (1,), (1, 2, 3)]


def score(metric, e, **parameters):
    return METRICS[metric].function(e, **parameters)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def network(width, outputs=3, activation=nn.GELU, scale=1.0, hidden=12):
    """Two hidden layers; float64."""
    sizes = ((width, hidden), (hidden, hidden), (hidden, outputs))
    layers = [nn.Linear(*size).double() for size in sizes]
    for i, layer in enumerate(layers):
        layer.weight.data = scale * draw(*layer.weight.shape, seed=20 + i) / math.sqrt(layer.in_features)
        layer.bias.data = draw(*layer.bias.shape, seed=30 + i) / 2
    net = nn.Sequential(nn.Flatten(), layers[0], activation(), layers[1], activation(), layers[2])
    return net.eval().requires_grad_(False)


class Lines(nn.Module):
    """W x, without layers."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        return x.flatten(1) @ self.weight.T


def bent(case):
    """A map that bends, row by row, and needs no model."""
    return torch.sin(3 * case.x.double()) + case.x.double().flatten(1).sum(1).view(
        -1, *[1] * (case.x.ndim - 1)
    )


def gradient(case):
    x = case.x.clone().requires_grad_()
    outputs = case.model(x).gather(1, case.target[:, None])
    return torch.autograd.grad(outputs.sum(), x)[0].double()


def evidence(explain=bent, *, rows=8, feature=(5,), **given):
    """Evidence about the map that `explain` makes of the case; `given` replaces fields of the case."""
    width = math.prod(feature)
    scale = torch.linspace(0.2, 3.0, width, dtype=torch.float64).view(feature)  # columns of different scales
    about = {
        "model": network(width),
        "x": draw(rows, *feature, seed=12) * scale,
        "target": torch.arange(rows) % 3,
        "baseline": torch.full(feature, 0.25, dtype=torch.float64),
        "background": draw(30, *feature, seed=13) * scale + 0.5,
        "groups": None,
        "rng": generator(),
    } | given
    case = Case(**about)
    return Evidence(
        case=case,
        attribution=explain(case),
        masks={"relevant": torch.arange(width).view(1, *feature) < 2},
        truth=None,
        empty=empty_output(case),
        other=None,
        explain=explain,
        rng=generator(5),
    )


def by_method(name, e, **parameters):
    """The same evidence about the map of a registered method."""
    explain = explainer(setting(METHODS[name], parameters))
    return replace(e, explain=explain, attribution=explain(e.case), memo={})


# ---- the twins: one row in, one number out --------------------------------------------------------------


def flat(tensor):
    return tensor.flatten().tolist()


def norm(values):
    return math.sqrt(sum(v * v for v in values))


def gap(a, b):
    return norm([p - q for p, q in zip(a, b, strict=True)])


def relative(change, size):
    if change == 0:
        return 0.0
    return change / size if size else math.nan


def highest(values):
    return math.nan if not values or any(math.isnan(v) for v in values) else max(values)


def neighbours(e, row, nearby=NEAR):
    near = variant_of(e, nearby).x
    return [near[row * nearby.draws + j] for j in range(nearby.draws)]


def map_at(e, row, x):
    return flat(e.explain(replace(e.case, x=x[None], target=e.case.target[row : row + 1])))


def in_deviations(e, x):
    columns = list(zip(*(flat(row) for row in e.case.background), strict=True))
    means = [sum(c) / len(c) for c in columns]
    spreads = [math.sqrt(sum((v - m) ** 2 for v in c) / len(c)) for c, m in zip(columns, means, strict=True)]
    return [(v - m) / s if s else 0.0 for v, m, s in zip(flat(x), means, spreads, strict=True)]


def changes(e, row):
    """The relative change of the map at each neighbour."""
    a = map_at(e, row, e.case.x[row])
    return [relative(gap(map_at(e, row, x), a), norm(a)) for x in neighbours(e, row)]


def max_sensitivity(e, row):
    return highest(changes(e, row))


def average_sensitivity(e, row):
    found = changes(e, row)
    return sum(found) / len(found)


def local_lipschitz(e, row, relative=False):
    a, at = map_at(e, row, e.case.x[row]), in_deviations(e, e.case.x[row])
    found = [gap(map_at(e, row, x), a) / gap(in_deviations(e, x), at) for x in neighbours(e, row)]
    return max(found) / (norm(a) if relative else 1.0)


def outputs(e, x):
    return flat(e.case.model(x[None]))


def representation(e, x):
    for layer in list(e.case.model)[:-1]:
        x = layer(x[None])[0] if not isinstance(layer, nn.Flatten) else x.flatten()
    return flat(x)


def stability(e, row, of, floor=1e-3):
    a, at = map_at(e, row, e.case.x[row]), of(e, e.case.x[row])
    own = outputs(e, e.case.x[row])
    found = []
    for x in neighbours(e, row):
        new = outputs(e, x)
        if new.index(max(new)) == own.index(max(own)):
            change = relative(gap(of(e, x), at), norm(at))
            found.append(relative(gap(map_at(e, row, x), a), norm(a)) / max(change, floor))
    return highest(found)


def relative_input_stability(e, row, **parameters):
    return stability(e, row, in_deviations, **parameters)


def relative_output_stability(e, row, **parameters):
    return stability(e, row, outputs, **parameters)


def relative_representation_stability(e, row, **parameters):
    return stability(e, row, representation, **parameters)


STABILITY = (relative_input_stability, relative_output_stability, relative_representation_stability)
TWINS = [
    (max_sensitivity, {}),
    (average_sensitivity, {}),
    *((local_lipschitz, {"relative": r}) for r in (False, True)),
    *((twin, {"floor": floor}) for twin in STABILITY for floor in (1e-3, 0.03)),
]


@pytest.mark.parametrize(("twin", "parameters"), TWINS)
@pytest.mark.parametrize("feature", SHAPES)
def test_a_metric_equals_its_twin(twin, parameters, feature):
    e = evidence(feature=feature)
    found = score(twin.__name__, e, **parameters)
    assert found.dtype == torch.float64
    want = [twin(e, row, **parameters) for row in range(8)]
    assert found.tolist() == pytest.approx(want, rel=1e-9, abs=1e-12, nan_ok=True)
    assert found.nan_to_num().max() > 0


@pytest.mark.parametrize("metric", [*SENSITIVE, *STABLE, "attribution_attack"])
def test_radius_draws_and_budget_are_heard(metric):
    e = evidence()
    name = "budget" if metric == "attribution_attack" else "draws"
    assert not torch.equal(score(metric, e), score(metric, e, radius=0.3))
    assert not torch.equal(score(metric, e), score(metric, e, **{name: 40}))


# ---- neighbours -----------------------------------------------------------------------------------------


def test_neighbours_fill_the_ball_in_each_feature_s_own_scale():
    """A single radius for all columns would move a narrow one beyond its range and a wide one not at all."""
    background = draw(30, 4, seed=3) * torch.tensor([1e-3, 1.0, 50.0, 0.0], dtype=torch.float64)
    e = evidence(feature=(4,), background=background)
    near = variant_of(e, Nearby(0.5, 200))
    moves = (near.x - e.case.x.repeat_interleave(200, 0)) / background.std(0, correction=0).clamp_min(1e-9)
    assert (moves[:, 3] == 0).all()  # constant in the background
    assert moves.abs().amax(0)[:3].tolist() == pytest.approx([0.5] * 3, rel=0.01)
    assert (moves[:, :3].abs() <= 0.5 + 1e-9).all()
    assert moves[:, :3].mean(0).tolist() == pytest.approx([0] * 3, abs=0.03)
    assert moves[:, :3].var(0).tolist() == pytest.approx([0.5**2 / 3] * 3, rel=0.1)  # uniform
    assert near.target.tolist() == e.case.target.repeat_interleave(200).tolist()


def test_nothing_is_near_where_nothing_varies():
    e = evidence(background=torch.ones(3, 5, dtype=torch.float64))
    for metric in (*SENSITIVE, *STABLE, "attribution_attack"):
        with pytest.raises(NotApplicable, match="spread"):
            score(metric, e)


@pytest.mark.parametrize("metric", ["max_sensitivity", "local_lipschitz", *STABLE])
def test_the_unit_and_the_origin_of_a_column_do_not_matter(metric):
    """Input times gradient, from the baseline, is the same in metres and in feet, and so is its score."""

    def product(case):
        return gradient(case) * (case.x - case.baseline)

    e = evidence(product)
    unit, origin = torch.tensor([[1e3, 1.0, 1.0, 0.02, 1.0], [0.0, 7.0, 0.0, -3.0, 0.0]], dtype=torch.float64)
    net = network(5)
    net[1].bias.data -= net[1].weight @ (origin / unit)
    net[1].weight.data /= unit
    moved = {name: getattr(e.case, name) * unit + origin for name in ("x", "baseline", "background")}
    again = evidence(product, model=net, **moved)
    torch.testing.assert_close(score(metric, again), score(metric, e), rtol=1e-6, atol=0)


# ---- closed forms ---------------------------------------------------------------------------------------

WEIGHT = torch.tensor([[2.0, -1.0, 0.5, 0.0, 3.0], [-1.0, 1.0, 1.0, 0.5, 0.0]], dtype=torch.float64)


def two_lines(explain, **given):
    return evidence(explain, model=Lines(WEIGHT), target=torch.arange(8) % 2, **given)


@pytest.mark.parametrize("metric", [*SENSITIVE, *STABLE[:2]])
def test_the_gradient_of_a_linear_model_does_not_change(metric):
    assert score(metric, two_lines(gradient)).tolist() == [0] * 8


def test_input_times_gradient_of_a_linear_model_by_hand():
    """a(x + d) - a(x) = w d, so that the sensitivity is |w d| / |w x| whatever else holds."""
    e = two_lines(lambda case: WEIGHT[case.target] * case.x)
    w, x = WEIGHT[e.case.target], e.case.x
    d = variant_of(e, NEAR).x.view(8, 10, 5) - x[:, None]
    want = (w[:, None] * d).norm(dim=2) / (w * x).norm(dim=1, keepdim=True)
    torch.testing.assert_close(score("max_sensitivity", e), want.amax(1))
    torch.testing.assert_close(score("average_sensitivity", e), want.mean(1))
    steep = (w[:, None] * d).norm(dim=2) / (d / e.case.background.std(0, correction=0)).norm(dim=2)
    torch.testing.assert_close(score("local_lipschitz", e), steep.amax(1))


@pytest.mark.parametrize("radius", [0.02, 0.2])
def test_max_sensitivity_equals_captum_s_on_the_same_neighbours(radius):
    """captum repeats each row too, and takes Euclidean norms; it divides by 1 where the map is zero."""
    e = by_method("gradient", evidence())
    near = variant_of(e, Nearby(radius, 10)).x.requires_grad_()
    want = sensitivity_max(
        Saliency(e.case.model).attribute,
        e.case.x.clone().requires_grad_(),
        perturb_func=lambda _: near,
        n_perturb_samples=10,
        target=e.case.target,
        abs=False,
    )
    torch.testing.assert_close(score("max_sensitivity", e, radius=radius), want, rtol=1e-5, atol=0)


# ---- what is undefined ----------------------------------------------------------------------------------


def test_a_zero_map_that_stays_is_stable_and_one_that_changes_has_no_relative_change():
    """0 / 0 is not NaN, and 1 / 0 is not infinite: one such row would else decide a mean."""

    def zero(case):
        return torch.zeros_like(case.x)

    def zero_at_the_rows(case):
        return torch.zeros_like(case.x) if len(case.x) == 8 else torch.ones_like(case.x)

    for metric in (*SENSITIVE, *STABLE):
        assert score(metric, evidence(zero)).tolist() == [0] * 8
        undefined = score(metric, evidence(zero_at_the_rows))
        assert undefined.isfinite().all() if metric == "local_lipschitz" else undefined.isnan().all()
    assert score("local_lipschitz", evidence(zero_at_the_rows), relative=True).isnan().all()


class Step(nn.Module):
    """Two classes; the second where the first feature exceeds a limit."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def forward(self, x):
        rest = x.flatten(1)[:, 1:].sum(1)
        over = (x.flatten(1)[:, 0] > self.limit).double()
        return torch.stack([3 + rest / 100, 6 * over + rest / 100], 1)


def test_neighbours_of_another_class_are_left_out_one_by_one():
    """NaN if any draw changes the class would leave no row near a boundary; all draws would cross it."""
    x = torch.tensor([[0.01, 1.0], [-3.0, 1.0], [0.01, 2.0]], dtype=torch.float64)
    background = draw(50, 2, seed=3)

    def jump(case):  # a map that is 100 times as large on the other side
        return torch.where(case.x[:, :1] > 0, case.x + 5, 100 * (case.x + 5))

    e = evidence(
        jump,
        feature=(2,),
        model=Step(0.0),
        x=x,
        target=torch.tensor([1, 0, 1]),
        background=background,
        baseline=torch.zeros(2, dtype=torch.float64),
    )
    flips = variant_of(e, NEAR).x[:, 0].view(3, 10) <= 0
    assert 0 < flips[0].sum() < 10
    assert flips[1].all()  # its own class
    assert 0 < flips[2].sum() < 10
    for twin in STABILITY[:2]:
        found = score(twin.__name__, e)
        assert found.tolist() == pytest.approx([twin(e, row) for row in range(3)])
        assert found.isfinite().all()
    assert score("relative_input_stability", e).max() < 10 < score("max_sensitivity", e).max()


def test_a_row_none_of_whose_neighbours_keeps_its_class_has_no_stability():
    class Odd(nn.Module):
        def forward(self, x):  # one class at the row itself alone
            at_home = (x.flatten(1) == 1.0).all(1).double()
            return torch.stack([at_home, 1 - at_home], 1)

    x = torch.ones(2, 5, dtype=torch.float64)
    x[1] = 2.0
    e = evidence(model=Odd(), x=x, target=torch.tensor([0, 1]))
    assert score("relative_input_stability", e).isnan().tolist() == [True, False]


def test_all_neighbours_count_for_a_regression():
    e = evidence(model=network(5, outputs=1), target=torch.zeros(8, dtype=torch.int64))
    found = score("relative_input_stability", e)
    assert found.tolist() == pytest.approx([relative_input_stability(e, row) for row in range(8)])
    assert score("relative_output_stability", e).isfinite().all()


def test_norms_are_divided_and_not_elements():
    """Element by element, a feature whose share goes from 1e-9 to 2e-9 would count as a change by 100%."""

    def nearly_constant(case):
        a = torch.ones_like(case.x)
        a[:, 0] = 1e-9 if len(case.x) == 8 else 2e-9
        return a

    assert score("relative_input_stability", evidence(nearly_constant)).max() < 1e-6


def test_nothing_is_divided_by_almost_nothing():
    """Where the outputs do not change at all, what they changed by is the floor."""

    class Flat(nn.Module):
        def forward(self, x):
            return torch.ones(len(x), 1, dtype=x.dtype) + 0 * x.flatten(1)[:, :1]

    e = evidence(model=Flat(), target=torch.zeros(8, dtype=torch.int64))
    sensitivity = score("max_sensitivity", e)
    for floor in (1e-3, 0.1):
        torch.testing.assert_close(score("relative_output_stability", e, floor=floor), sensitivity / floor)


# ---- representations ------------------------------------------------------------------------------------


class Skips(nn.Module):
    """Registers its last layer first, and calls it by hand."""

    def __init__(self):
        super().__init__()
        self.head, self.first = nn.Linear(4, 2).double(), nn.Linear(5, 4).double()

    def forward(self, x):
        return self.head(torch.tanh(self.first(x.flatten(1))))


def test_the_representation_is_what_the_last_linear_layer_is_given():
    net = Skips().eval().requires_grad_(False)
    e = evidence(model=net, target=torch.arange(8) % 2)
    inner = torch.tanh(net.first(e.case.x))
    near = torch.tanh(net.first(variant_of(e, NEAR).x))
    share = (near.view(8, 10, 4) - inner[:, None]).norm(dim=2) / inner.norm(dim=1, keepdim=True)
    alike = net(variant_of(e, NEAR).x).argmax(1).view(8, 10) == net(e.case.x).argmax(1)[:, None]
    found = torch.tensor([changes(e, row) for row in range(8)], dtype=torch.float64) / share.clamp_min(1e-3)
    want = found.where(alike, -math.inf).amax(1)
    torch.testing.assert_close(score("relative_representation_stability", e), want)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_a_model_without_hidden_layers_has_no_representation():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(5, 3).double())
    last = nn.Conv1d(1, 1, 3).double()  # and a linear one before it
    mixed = nn.Sequential(nn.Flatten(), nn.Linear(5, 7).double(), nn.Unflatten(1, (1, 7)), last, nn.Flatten())
    for model in (linear, Lines(WEIGHT), mixed):
        e = evidence(model=model, target=torch.zeros(8, dtype=torch.int64))
        with pytest.raises(NotApplicable, match="last linear layer"):
            score("relative_representation_stability", e)


# ---- rows, units, sharing -------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [*SENSITIVE, *STABLE, "attribution_attack"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_row_s_score_does_not_hang_on_the_rows_beside_it(metric, rows):
    """The batch's largest Lipschitz estimate is no scale for that of a row."""
    e = by_method("gradient", evidence(rows=20))
    part = replace(e.case, x=e.case.x[:rows], target=e.case.target[:rows], rng=generator())
    alone = replace(e, case=part, attribution=e.attribution[:rows], empty=e.empty[:rows], memo={})
    torch.testing.assert_close(score(metric, alone), score(metric, e)[:rows], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", [*SENSITIVE, *STABLE, "attribution_attack"])
@pytest.mark.parametrize("factor", [7.0, -1.0])
def test_a_method_s_map_and_a_multiple_of_it_score_as_claimed(metric, factor):
    e = evidence()
    other = replace(e, attribution=factor * e.attribution, explain=lambda case: factor * bent(case), memo={})
    claim = "scale" if factor > 0 else "sign"
    alike = torch.allclose(score(metric, other), score(metric, e), rtol=1e-9)
    assert alike == (claim in METRICS[metric].facts["claims"])
    if metric == "local_lipschitz":
        torch.testing.assert_close(score(metric, other), abs(factor) * score(metric, e))
        torch.testing.assert_close(score(metric, other, relative=True), score(metric, e, relative=True))


def test_all_metrics_read_one_explanation_of_the_neighbours():
    calls = []

    def counted(case):
        calls.append(len(case.x))
        return bent(case)

    e = evidence(counted)
    calls.clear()
    for metric in (*SENSITIVE, *STABLE):
        score(metric, e)
    assert calls == [8 * 10]
    for by in ("kendall", "cosine", "top_k"):
        score("attribution_attack", e, by=by)
    assert calls == [8 * 10] + 4 * [8 * 5]  # one attack, in four rounds


def test_all_methods_share_the_neighbours_and_what_the_model_says_of_them():
    given = evidence().case
    given = replace(given, shared=Store(given, "unit").lend(given.model))
    found, rows = [], []
    given.shared.store.case.model.register_forward_hook(lambda _, x, __: rows.append(len(x[0])))
    for explain in (bent, gradient):
        e = replace(evidence(), case=given, explain=explain, attribution=explain(given), memo={})
        for metric in STABLE:
            score(metric, e)
        found.append(variant_of(e, NEAR))
    assert torch.equal(found[0].x, found[1].x)
    store = found[0].shared.store
    assert store is found[1].shared.store
    assert len(store.found) == 2  # outputs and representations
    assert sum(rows) == 2 * 8  # of the rows themselves, once each


def test_a_randomised_method_draws_anew_at_the_neighbours():
    e = by_method("random", evidence())
    assert score("average_sensitivity", e).min() > 0.5
    drawn = explained_again(e, NEAR)
    assert len(drawn.unique(dim=0)) == 8 * 10


@pytest.mark.parametrize("metric", ["max_sensitivity", "local_lipschitz", *STABLE, "attribution_attack"])
def test_features_of_float32_models_are_moved_too(metric):
    e = evidence()
    tensors = {name: getattr(e.case, name).float() for name in ("x", "baseline", "background")}
    single = evidence(model=network(5).float(), **tensors)
    torch.testing.assert_close(score(metric, single), score(metric, e), rtol=0.05, atol=0.02)


# ---- the attack -----------------------------------------------------------------------------------------


def attacked(e, **parameters):
    """What the attack tried: inputs and maps."""
    score("attribution_attack", e, **parameters)
    (tried,) = [v for key, v in e.memo.items() if type(key).__name__ == "_Attack"]
    return tried


def sizes(e, x, norm_):
    """Of the moves to these inputs, in deviations."""
    moves = ((x - e.case.x[:, None]) / e.case.background.std(0, correction=0)).flatten(2)
    return moves.abs().amax(2) if norm_ == "linf" else moves.square().mean(2).sqrt()


@pytest.mark.parametrize("norm_", ["linf", "l2"])
@pytest.mark.parametrize("feature", [(5,), (1, 2, 3)])
def test_the_attack_stays_in_the_ball_and_keeps_the_class(norm_, feature):
    model = network(math.prod(feature), scale=3.0)  # steep: many moves to the edge would change the class
    e = by_method("gradient", evidence(rows=60, feature=feature, model=model))
    tried = attacked(e, norm=norm_, radius=0.3)
    assert tried.x.shape == tried.maps.shape == (60, 20, *feature)
    size = sizes(e, tried.x, norm_)
    assert (size <= 0.3 + 1e-9).all()
    assert (size > 0.3 - 1e-9).float().mean() > 0.5
    assert (size < 0.29).any()
    predicted = model(tried.x.flatten(0, 1)).argmax(1).view(60, 20)
    assert (predicted == model(e.case.x).argmax(1)[:, None]).all()
    crossed = placed(e.case, Ball(norm_, 0.3).to_edge(draw(60, 5, math.prod(feature))))
    assert (model(crossed.flatten(0, 1)).argmax(1).view(60, 5) != predicted[:, :5]).any()


def test_the_attack_keeps_most_of_a_regression_s_output():
    model = network(5, outputs=1, scale=2.0)
    e = by_method("gradient", evidence(model=model, target=torch.zeros(8, dtype=torch.int64)))
    tried = attacked(e, radius=0.5)
    change = (model(tried.x.flatten(0, 1)).view(8, 20) - model(e.case.x)).abs()
    room = 0.1 * model(e.case.background).std(correction=0)
    assert change.max() <= room * (1 + 1e-9)
    assert change.max() > 0.8 * room  # it uses what it has


def test_a_move_is_cut_to_the_longest_that_keeps_the_class():
    """The class ends at 0.4 of the way: by halves, between 12/32 and 13/32 of it."""
    e = evidence(
        feature=(2,),
        rows=1,
        model=Step(0.4),
        x=torch.zeros(1, 2, dtype=torch.float64),
        target=torch.zeros(1, dtype=torch.int64),
        background=torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64),
        baseline=torch.zeros(2, dtype=torch.float64),
    )
    moves = torch.tensor([[[1.0, 0.0], [0.3, 1.0], [-1.0, 1.0], [100.0, 0.0]]], dtype=torch.float64)
    want = [[12 / 32, 0], [0.3, 1], [-1, 1], [0, 0]]  # the last one is longer than 32 times what is left
    assert kept(e.case, moves)[0].tolist() == want


def at_random(e, ball, count, seed):
    """Maps at as many moves to random points of the ball, which keep the class."""
    noise = ball.radius * (2 * torch.rand(len(e.case.x), count, 5, generator=generator(seed)).double() - 1)
    near = placed(e.case, kept(e.case, ball.within(noise)))
    again = replace(e.case, x=near.flatten(0, 1), target=e.case.target.repeat_interleave(count))
    return e.explain(again).view(near.shape)


def similarity(a, b, by, k):
    """One pair of rows; no ties."""
    a, b = flat(a), flat(b)
    if by == "kendall":
        return kendalltau(a, b).statistic
    if by == "cosine":
        return sum(p * q for p, q in zip(a, b, strict=True)) / (norm(a) * norm(b))
    tops = [set(sorted(range(len(v)), key=lambda i: -abs(v[i]))[:k]) for v in (a, b)]
    return len(tops[0] & tops[1]) / k


BY = [("kendall", 0), ("cosine", 0), ("top_k", 2), ("top_k", 4)]


@pytest.mark.parametrize(("by", "k"), BY)
def test_the_score_is_the_lowest_similarity_of_all_that_was_tried(by, k):
    e = by_method("gradient", evidence())
    found = score("attribution_attack", e, by=by, k=k, radius=0.5)
    tried = attacked(e, by=by, k=k, radius=0.5)
    pairs = zip(e.attribution, tried.maps, strict=True)
    want = [min(similarity(a, b, by, k) for b in maps) for a, maps in pairs]
    assert found.tolist() == pytest.approx(want, abs=1e-9)
    assert found.min() < 1
    again = [e.explain(replace(e.case, x=tried.x[:, j])) for j in range(20)]
    torch.testing.assert_close(torch.stack(again, 1), tried.maps)


@pytest.mark.parametrize("norm_", ["linf", "l2"])
@pytest.mark.parametrize("name", ["gradient", "input_x_gradient", "feature_ablation"])
def test_the_attack_finds_more_than_a_random_move(norm_, name):
    e = by_method(name, evidence(rows=60, model=network(5, scale=1.5)))
    maps = at_random(e, Ball(norm_, 0.3), 1, seed=1)[:, 0]
    for by, k in BY[:3]:
        once = torch.tensor([similarity(a, b, by, k) for a, b in zip(e.attribution, maps, strict=True)])
        found = score("attribution_attack", e, by=by, k=k, norm=norm_, radius=0.3)
        assert found.mean() < once.mean() - 1e-3
        assert (found <= once + 1e-9).float().mean() > 0.9


@pytest.mark.parametrize("activation", [nn.GELU, nn.Softplus, nn.ReLU])
@pytest.mark.parametrize("norm_", ["linf", "l2"])
def test_the_attack_on_the_gradient_finds_more_than_as_many_random_moves(activation, norm_):
    """The directions are the model's own: among 30 features, chance does not find them."""
    model = network(30, scale=1.5, activation=activation, hidden=40)
    scale = {"x": draw(40, 30, seed=1), "background": draw(30, 30, seed=2), "target": torch.arange(40) % 3}
    e = by_method("gradient", evidence(rows=40, feature=(30,), model=model, **scale))
    noise = draw(40, 20, 30, seed=3)
    noise = Ball(norm_, 0.1).to_edge(noise.sign() if norm_ == "linf" else noise)  # corners change most
    near = placed(e.case, kept(e.case, noise))
    again = replace(e.case, x=near.flatten(0, 1), target=e.case.target.repeat_interleave(20))
    maps = e.explain(again).view(near.shape)
    cosine = nn.functional.cosine_similarity(maps, e.attribution[:, None], dim=2).amin(1)
    found = score("attribution_attack", e, by="cosine", norm=norm_)
    assert (1 - found).mean() > 1.5 * (1 - cosine).mean()


def test_a_relu_is_smooth_to_the_attack_alone():
    model = network(5, activation=nn.ReLU)
    e = by_method("gradient", evidence(model=model))
    score("attribution_attack", e)
    assert [type(layer) for layer in model].count(nn.ReLU) == 2
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("norm_", ["linf", "l2"])
def test_models_without_a_gradient_are_attacked_at_random(norm_):
    e = evidence(model=Step(0.0), target=torch.zeros(8, dtype=torch.int64))
    found = score("attribution_attack", e, norm=norm_, radius=0.5)
    assert found.max() < 1
    assert (sizes(e, attacked(e, norm=norm_, radius=0.5).x, norm_) <= 0.5 + 1e-9).all()


def test_models_whose_gradient_has_none_are_attacked_at_random():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.square()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return 2 * ctx.saved_tensors[0] * grad

    class Squares(nn.Module):
        def forward(self, x):
            return Once.apply(x.flatten(1)).sum(1, keepdim=True)

    e = evidence(gradient, model=Squares(), target=torch.zeros(8, dtype=torch.int64))
    assert score("attribution_attack", e, by="cosine").max() < 1


def test_a_map_that_does_not_change_is_alike_and_one_without_order_has_no_tau():
    still = two_lines(gradient)
    assert score("attribution_attack", still).tolist() == pytest.approx([1] * 8)
    assert score("attribution_attack", still, by="cosine").tolist() == pytest.approx([1] * 8)
    assert (
        score("attribution_attack", still, by="top_k", k=3).tolist() == [1] * 8
    )  # none ties with the fourth
    constant = evidence(lambda case: torch.ones_like(case.x))
    assert score("attribution_attack", constant).isnan().all()
    assert score("attribution_attack", constant, by="cosine").tolist() == pytest.approx([1] * 8)
    assert score("attribution_attack", constant, by="top_k", k=2).tolist() == pytest.approx([2 / 5] * 8)
    zero = evidence(lambda case: torch.zeros_like(case.x))
    assert score("attribution_attack", zero, by="cosine").isnan().all()


def test_one_undefined_try_does_not_hide_the_others():
    """A map that vanishes at some of the inputs tried has no angle there; the lowest of the rest counts."""

    def vanishing(case):
        return bent(case) * ((1e4 * case.x.sum(1, keepdim=True)).floor() % 2)

    e = evidence(vanishing)
    e = replace(e, attribution=bent(e.case))
    found = score("attribution_attack", e, by="cosine")
    assert found.isfinite().all()
    assert (attacked(e, by="cosine").maps == 0).flatten(2).all(2).any()


@pytest.mark.parametrize("feature", SHAPES)
@pytest.mark.parametrize("budget", [4, 9, 20])
def test_the_attack_works_on_any_shape_and_budget(feature, budget):
    e = evidence(feature=feature, rows=2)
    tried = attacked(e, by="cosine", budget=budget)
    assert tried.x.shape == (2, 4 * (budget // 4), *feature)
    assert score("attribution_attack", e, by="top_k", k=9).tolist() == [1, 1]  # more than there are features
    if feature == (1,):
        assert score("attribution_attack", e).isnan().all()  # one feature has no order


def test_the_opening_of_an_attack_is_shared_by_all_methods():
    e = evidence()
    opening = Opening(Ball("linf", 0.1), 5)
    first, again = (variant_of(replace(e, attribution=draw(8, 5, seed=s)), opening).x for s in (1, 2))
    assert torch.equal(first, again)


def test_predictions_are_made_for_every_row():
    e = evidence(feature=(1, 2, 3))
    torch.testing.assert_close(Predicted().make(e.case, generator()), e.case.model(e.case.x))


def test_a_reading_is_made_once():
    e = evidence()
    tried = attacked(e)
    (key,) = [key for key in e.memo if type(key).__name__ == "_Attack"]
    assert of_map(e, key) is tried
