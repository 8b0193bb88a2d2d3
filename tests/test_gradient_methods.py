"""Methods by gradients, and the controls beside them, against closed forms and each other."""

import copy
import dataclasses
import math
import warnings

import pytest
import torch
from torch import nn

from assay.benchmarks import perturb
from assay.benchmarks.explaining import PROMISE, completeness_error, explainer, value_of
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.perturb import difference
from assay.benchmarks.plugin import METHODS, Case, NotApplicable, Note, Remark
from assay.benchmarks.spec import setting
from assay.benchmarks.truth import explained_output, integrated_gradients

torch.set_num_threads(1)
load_plugins()
PATHS = ["integrated_gradients", "guided_ig", "idgi", "adversarial_gradient_integration"]
NOISY = ["smooth_grad", "smooth_grad_squared", "var_grad"]
DRAWN = [*NOISY, "expected_gradients", "gradient_shap", "repeated_evaluation", "untrained_gradient"]
LAYERED = ["guided_backprop", "deconvolution", "lrp", "untrained_gradient"]
ALL = sorted({*PATHS, *DRAWN, *LAYERED, "input_magnitude"})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed))


def network(*shape, activation=nn.GELU, outputs=1, seed=0, bias=True):
    """Random weights, large enough for the activations to bend."""
    layers = nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(math.prod(shape), 16, bias=bias), activation(), nn.Linear(16, 16, bias=bias)),
        *(activation(), nn.Linear(16, outputs, bias=bias)),
    )
    for i, parameter in enumerate(layers.parameters()):
        parameter.data = 0.4 * draw(*parameter.shape, seed=100 * seed + i)
    return layers.eval().requires_grad_(False)


def linear(outputs=1, features=7):
    layer = nn.Linear(features, outputs)
    layer.weight.data, layer.bias.data = draw(outputs, features, seed=8), draw(outputs, seed=9)
    return nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)


class Formula(nn.Module):
    """A function of rows, as a model."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)[:, None]


def case(*shape, rows=6, baseline=0.3, **changed):
    shape = shape or (7,)
    given = {
        "model": network(*shape),
        "x": draw(rows, *shape, seed=1),
        "target": torch.zeros(rows, dtype=torch.int64),
        "baseline": torch.as_tensor(baseline).expand(shape).clone(),
        "background": draw(10, *shape, seed=2),
        "groups": None,
        "rng": generator(),
    }
    return Case(**given | changed)


def classified(*shape, **changed):
    """Three classes, each row's target one of them."""
    shape = shape or (7,)
    return case(*shape, model=network(*shape, outputs=3), target=torch.arange(6) % 3, **changed)


def in_double(given):
    changed = {name: getattr(given, name).double() for name in ("x", "baseline", "background")}
    return dataclasses.replace(given, model=copy.deepcopy(given.model).double(), **changed)


def run(name, given, seed=0, **parameters):
    """The map, without what is said of it."""
    with warnings.catch_warnings():
        for kind in (Note, Remark):  # all other warnings are errors, as in all tests
            warnings.simplefilter("ignore", kind)
        given = dataclasses.replace(given, rng=generator(seed))
        return explainer(setting(METHODS[name], parameters))(given)


def said(kind, name, given, **parameters):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        explainer(setting(METHODS[name], parameters))(given)
    return [str(w.message) for w in caught if issubclass(w.category, kind)]


def gradient(given, x=None):
    f = explained_output(given.model, given.target)
    x = (given.x if x is None else x).clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def off(found, wanted):
    return ((found - wanted).norm() / wanted.norm()).item()


# ---- all of them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_map_has_a_number_for_every_feature_of_an_image(name):
    given = classified(2, 3, 3)
    before = copy.deepcopy(given.model.state_dict())
    found = run(name, given)
    assert found.shape == given.x.shape
    assert (found != 0).any() or name == "var_grad"
    assert all(torch.equal(v, before[k]) for k, v in given.model.state_dict().items())
    one = dataclasses.replace(given, x=given.x[:1], target=given.target[:1])
    assert run(name, one).shape == one.x.shape
    if name not in DRAWN and name != "adversarial_gradient_integration":
        torch.testing.assert_close(run(name, one), found[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_row_s_map_does_not_hang_on_what_the_other_rows_are(name):
    given = classified()
    x = given.x.clone()
    x[1:] = 3 * x[1:] - 1
    found, other = run(name, given), run(name, dataclasses.replace(given, x=x))
    torch.testing.assert_close(found[0], other[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"untrained_gradient"}))  # draws other weights in float64
def test_in_double_precision_the_map_is_the_same(name):
    given = classified()
    assert off(run(name, given), run(name, in_double(given))) < 1e-4


SAME_DRAWS = sorted(set(ALL) - {*NOISY, "gradient_shap", "untrained_gradient"})


@pytest.mark.parametrize("name", ALL)
def test_no_more_rows_are_in_the_model_at_once_than_fit(name, monkeypatch):
    given = classified()
    whole, sizes = run(name, given), []
    monkeypatch.setattr(perturb, "NUMBERS", 4 * 7)
    monkeypatch.setattr(perturb, "FEWEST", 1)
    handle = given.model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    found = run(name, given)
    handle.remove()
    # predictions of all rows are made at once, there being nothing behind them
    assert sizes.count(6) <= 1
    assert max(s for s in [0, *sizes] if s != 6) <= 4
    if name in {*SAME_DRAWS, "untrained_gradient"}:
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)
    else:  # captum's draws come in another order
        assert off(found, whole) < 0.6


# ---- the path -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [nn.GELU, nn.Tanh, nn.Softplus])
def test_integrated_gradients_are_the_exact_ones(activation):
    given = case(model=network(7, activation=activation))
    precise = in_double(given)
    f = explained_output(precise.model, precise.target)
    wanted = integrated_gradients(f, precise.x, precise.baselines)
    assert off(run("integrated_gradients", given), wanted) < 1e-6


def wave(x):
    """Slow in one feature, and fast in the other."""
    return torch.sin(3 * x[:, 0]) + torch.sin(40 * x[:, 1])


def test_integrated_gradients_take_more_steps_for_the_rows_that_need_them():
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    given = case(2, rows=3, x=x, model=Formula(wave), baseline=0.0)
    wanted = torch.stack([torch.sin(3 * x[:, 0]), torch.sin(40 * x[:, 1])], 1).double()
    torch.testing.assert_close(run("integrated_gradients", given), wanted, rtol=0, atol=1e-5)
    rows = []
    given.model.register_forward_hook(lambda _, __, outputs: rows.append(len(outputs)))
    assert said(Remark, "integrated_gradients", given) == ["16 to 32 steps"]
    assert sum(rows) < 3 * 16 + 32 + 10  # one of three rows went on
    only = dataclasses.replace(given, x=x[:1], target=given.target[:1])
    assert said(Remark, "integrated_gradients", only) == ["16 steps"]


def test_integrated_gradients_say_when_the_most_steps_were_too_few():
    given = case(model=network(7, activation=nn.ReLU))
    (few,) = said(Remark, "integrated_gradients", given, max_steps=20)
    assert few.startswith("16 to 20 steps, and 6 of 6 rows miss their sum by up to ")
    assert said(Remark, "integrated_gradients", given, max_steps=4)[0].startswith("4 steps, and 6 of")
    errors = [
        completeness_error(run("integrated_gradients", given, max_steps=n), given, "baseline")
        for n in (16, 512)
    ]
    assert errors[1] < errors[0] / 5


def test_integrated_gradients_do_not_double_for_the_rounding_of_a_large_output():
    small = network(7)
    given = case(model=Formula(lambda x: small(x)[:, 0] + 1000))
    assert said(Remark, "integrated_gradients", given) == ["16 steps"]


def quadratic(x):
    return 3 * x[:, 0] ** 2 + 2 * x[:, 0] * x[:, 1] - x[:, 2]


def test_expected_gradients_of_a_quadratic_are_the_means_over_the_background():
    given = case(3, model=Formula(quadratic), rows=4)
    x, b = given.x[:, None].double(), given.background[None].double()
    first = 3 * (x[..., 0] ** 2 - b[..., 0] ** 2)
    way, mid = x - b, (x + b) / 2  # a product's path integrals: each way times the other's mean on it
    wanted = torch.stack(
        [first + 2 * way[..., 0] * mid[..., 1], 2 * way[..., 1] * mid[..., 0], -way[..., 2]], 2
    )
    wanted = wanted.mean(1)
    errors = [off(run("expected_gradients", given, budget=n), wanted) for n in (100, 10_000)]
    assert errors[0] < 0.1
    assert errors[1] < 1e-3
    torch.testing.assert_close(run("expected_gradients", given)[:, 2], wanted[:, 2], rtol=1e-5, atol=1e-5)


def test_expected_gradients_use_every_background_row_as_often_and_every_stretch_of_the_path():
    seen = []

    def record(x):
        seen.append(x.detach().clone())
        return x.sum(1)

    background = torch.stack(
        [torch.arange(1, 6.0), torch.zeros(5)], 1
    )  # which row, and where the path starts
    x = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    given = case(2, rows=2, x=x, model=Formula(record), background=background)
    run("expected_gradients", given, budget=20)
    points = torch.cat(seen)[-40:].view(2, 20, 2)  # the first column ends at 0, the second says how far
    place = points[..., 1]
    which = (points[..., 0] / (1 - place)).round()
    for row in range(2):
        assert which[row].unique(return_counts=True)[1].tolist() == [4] * 5
        assert (place[row] * 20).floor().tolist() == list(range(20))
    assert not torch.equal(which[0], which[1])


@pytest.mark.parametrize("name", ["expected_gradients", "gradient_shap"])
def test_on_a_linear_model_paths_from_the_background_give_the_difference_to_its_mean(name):
    given = case(model=linear(3), target=torch.arange(6) % 3)
    parameters = {"value": "marginal", "budget": 20_000} if name == "gradient_shap" else {}
    wanted = given.model[1].weight[given.target] * (given.x - given.background.mean(0))
    assert off(run(name, given, **parameters), wanted) < (0.02 if parameters else 1e-6)


def test_gradient_shap_goes_to_the_integrated_gradients_of_its_value():
    given = case()
    wanted = run("integrated_gradients", given)
    few, many = (off(run("gradient_shap", given, budget=n), wanted) for n in (50, 5000))
    assert many < few / 4
    assert many < 0.03
    marginal = run("expected_gradients", given, budget=5000)
    assert off(run("gradient_shap", given, budget=5000, value="marginal"), marginal) < 0.05
    assert off(wanted, marginal) > 0.2


# ---- the path that is guided ----------------------------------------------------------------------------


def test_guided_ig_moves_the_flat_features_first():
    """x0 x1 + x2 / 10 from (1, 0.5, 0) to (2, 2, 1): x2 has the least slope, then x0, and x1 comes last."""
    model = Formula(lambda x: x[:, 0] * x[:, 1] + 0.1 * x[:, 2])
    start, end = torch.tensor([1.0, 0.5, 0.0]), torch.tensor([[2.0, 2.0, 1.0]])
    given = case(3, rows=1, x=end, baseline=start, model=model)
    found = run("guided_ig", given, steps=700, fraction=0.01)
    # x0 goes from 1 to 2 at x1 = 0.5, x1 from 0.5 to 2 at x0 = 2
    torch.testing.assert_close(found, torch.tensor([[0.5, 3.0, 0.1]]).double(), rtol=0, atol=1e-5)
    straight = run("integrated_gradients", given)
    assert off(found, straight) > 0.3


def test_guided_ig_of_all_features_at_once_is_the_integrated_gradients():
    given = case()
    assert off(run("guided_ig", given, fraction=1.0), run("integrated_gradients", given)) < 1e-5


def points_of(name, given, **parameters):
    """All points at which the model was evaluated."""
    seen = []
    model = copy.deepcopy(given.model)
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    run(name, dataclasses.replace(given, model=model), **parameters)
    return seen


def test_guided_ig_ends_at_the_row_to_the_bit_and_never_turns_back():
    given = case(100, rows=50)
    seen = points_of("guided_ig", given, steps=30)[-61:]  # of each step the end, then the middle
    assert torch.equal(seen[0], given.baselines)
    assert torch.equal(seen[-2], given.x)
    left = torch.stack([(given.x - p).abs() for p in seen[0:1] + seen[1::2]])
    assert (left.diff(dim=0) <= 1e-6).all()
    length = left.flatten(2).sum(2)
    wanted = length[0] * torch.linspace(1, 0, 31)[:, None]
    torch.testing.assert_close(length, wanted, rtol=1e-5, atol=1e-4)


def test_guided_ig_of_features_that_need_not_move_and_of_a_row_at_the_baseline_is_0():
    given = case()
    x = given.x.clone()
    x[:, 2], x[0] = 0.3, 0.3
    found = run("guided_ig", dataclasses.replace(given, x=x))
    assert (found[:, 2] == 0).all()
    assert (found[0] == 0).all()
    assert (found[1:, [0, 1, 3, 4, 5, 6]] != 0).all()


def test_guided_ig_moves_features_of_one_slope_together():
    layer = linear(1, 3)
    layer[1].weight.data = torch.tensor([[1.0, 1.0, -1.0]])
    given = case(3, model=Formula(lambda x: layer(x)[:, 0] ** 2), baseline=0.0, x=torch.ones(1, 3), rows=1)
    found = run("guided_ig", given)
    torch.testing.assert_close(
        found, torch.tensor([[1.0, 1.0, -1.0]]).double() * found[0, 0], rtol=0, atol=1e-6
    )


def test_guided_ig_does_not_let_rounding_choose_between_features_of_one_slope():
    given = case(4, model=network(4), baseline=0.0)
    weight = given.model[1].weight.data
    weight[:, 1] = weight[:, 0] * (1 + 1e-7 * draw(16, seed=3))
    x = given.x.clone()
    x[:, 1] = x[:, 0]
    found = run("guided_ig", dataclasses.replace(given, x=x))
    assert off(found[:, 0], found[:, 1]) < 1e-4


@pytest.mark.parametrize("name", ["integrated_gradients", "guided_ig", "idgi"])
@pytest.mark.parametrize("activation", [nn.GELU, nn.Tanh])
def test_a_path_adds_up(name, activation):
    given = case(100, model=network(100, activation=activation), rows=20)
    error = completeness_error(run(name, given), given, "baseline")
    assert error < PROMISE / 10


# ---- IDGI -----------------------------------------------------------------------------------------------


def test_idgi_on_a_linear_model_shares_the_difference_by_the_squared_weights():
    given = case(model=linear(3), target=torch.arange(6) % 3)
    squares = given.model[1].weight[given.target] ** 2
    wanted = squares / squares.sum(1, keepdim=True) * difference(given)[:, None]
    assert off(run("idgi", given), wanted) < 1e-5


def test_idgi_of_a_quadratic_in_two_steps_is_as_by_hand():
    """x0^2 + x1 from 0 to (2, 2): slopes (0, 1), then (2, 1); gains 2, then 4."""
    model = Formula(lambda x: x[:, 0] ** 2 + x[:, 1])
    given = case(2, rows=1, x=torch.tensor([[2.0, 2.0]]), model=model, baseline=0.0)
    wanted = torch.tensor([[4 * 4 / 5, 2 + 4 / 5]]).double()
    torch.testing.assert_close(run("idgi", given, steps=2), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("bent", [lambda t: (t - 0.4).relu(), lambda t: -(0.6 - t).relu()])
def test_idgi_adds_up_where_the_slope_is_0_at_the_start_or_at_the_end(bent, steps):
    given = case(2, rows=1, x=torch.ones(1, 2), model=Formula(lambda x: bent(x).sum(1)), baseline=0.0)
    found = run("idgi", given, steps=steps)
    torch.testing.assert_close(found.sum(1).float(), difference(given), rtol=0, atol=1e-6)
    assert found[0, 0] == found[0, 1]


def test_idgi_of_a_constant_and_of_tiny_slopes_is_a_number():
    constant = case(2, model=Formula(lambda x: 0 * x[:, 0] + 5))
    assert (run("idgi", constant) == 0).all()
    tiny = case(2, model=Formula(lambda x: 1e-25 * x.sum(1)), baseline=0.0)
    found = run("idgi", tiny)
    torch.testing.assert_close(found.sum(1) * 1e25, tiny.x.double().sum(1), rtol=1e-4, atol=1e-5)


# ---- noise ----------------------------------------------------------------------------------------------


def bowl(x):
    """Slopes 2 x0 - 1 and 6 x1: under noise of deviation s, of variance 4 s^2 and 36 s^2."""
    return x[:, 0] ** 2 - x[:, 0] + 3 * x[:, 1] ** 2 + 100 * x[:, 2]


def test_moments_of_the_slopes_of_a_quadratic_under_noise_are_the_known_ones():
    given = case(3, rows=4, model=Formula(bowl))
    spread = (given.background.amax(0) - given.background.amin(0)).mean().double() * 0.2
    slope = gradient(given).double()
    variance = torch.tensor([4.0, 36.0, 0.0]).double() * spread**2
    found = {name: run(name, given, budget=10_000, spread=0.2) for name in NOISY}
    torch.testing.assert_close(found["smooth_grad"], slope, rtol=0, atol=0.2)
    torch.testing.assert_close(found["var_grad"], variance.expand(4, 3), rtol=0.05, atol=1e-9)
    torch.testing.assert_close(found["smooth_grad_squared"], slope**2 + variance, rtol=0.05, atol=0.5)


def test_var_grad_of_a_linear_model_is_0_and_never_negative():
    given = case(model=linear(3), target=torch.arange(6) % 3)
    assert (run("var_grad", given) == 0).all()
    for spread in (0.15, 1e-7):  # the lesser is lost in the rounding of the row
        found = run("var_grad", classified(), spread=spread)
        assert (found >= 0).all()
        assert (found > 0).any()


def test_var_grad_is_the_variance_that_the_squares_and_the_mean_leave():
    given = classified()
    mean, squares = (run(name, given, budget=4000) for name in ("smooth_grad", "smooth_grad_squared"))
    assert off(run("var_grad", given, budget=4000), squares - mean**2) < 1e-3  # the same draws


def test_squares_go_with_the_noise_to_the_squared_gradient():
    given = classified()
    assert off(run("smooth_grad_squared", given, spread=1e-5), gradient(given) ** 2) < 1e-3
    assert off(run("smooth_grad_squared", given), gradient(given) ** 2) > 0.05


# ---- ReLUs on the way back -------------------------------------------------------------------------------


def by_hand(given, rule):
    """The map of two hidden ReLU layers, row by row."""
    layers = [m for m in given.model if isinstance(m, nn.Linear)]
    first, second, last = (layer.weight for layer in layers)
    z1 = layers[0](given.x)
    z2 = layers[1](z1.relu())
    back = last[given.target]
    for z, weight in ((z2, second), (z1, first)):
        active, positive = z > 0, back > 0
        passes = {"gradient": active, "guided": active & positive, "deconvolved": positive}[rule]
        back = (back * passes) @ weight
    return back


@pytest.mark.parametrize(("name", "rule"), [("guided_backprop", "guided"), ("deconvolution", "deconvolved")])
def test_relus_let_back_through_what_they_should(name, rule):
    given = case(model=network(7, activation=nn.ReLU, outputs=3), target=torch.arange(6) % 3)
    torch.testing.assert_close(gradient(given), by_hand(given, "gradient"))
    assert off(run(name, given), by_hand(given, rule)) < 1e-6
    assert off(by_hand(given, "guided"), by_hand(given, "deconvolved")) > 0.1
    assert said(Note, name, given) == []


@pytest.mark.parametrize("name", ["guided_backprop", "deconvolution"])
@pytest.mark.parametrize("model", [linear(3), network(7, outputs=3)])
def test_without_a_relu_they_are_the_gradient_and_say_so(name, model):
    given = case(model=model, target=torch.arange(6) % 3)
    assert off(run(name, given), gradient(given)) < 1e-6
    assert said(Note, name, given) == ["is the gradient: the network has no ReLU"]


# ---- LRP ------------------------------------------------------------------------------------------------


def relevance(given, raise_by, epsilon=1e-9, positive_only=False):
    """LRP of two hidden layers by hand, in double precision."""
    given = in_double(given)
    layers = [m for m in given.model if isinstance(m, nn.Linear)]
    activation = given.model[2]
    inputs = [given.x]
    for layer in layers[:-1]:
        inputs.append(activation(layer(inputs[-1])))
    outputs = layers[-1](inputs[-1])
    back = outputs * nn.functional.one_hot(given.target, outputs.shape[1])
    for layer, a in zip(reversed(layers), reversed(inputs), strict=True):
        weight = (
            layer.weight.clamp_min(0)
            if positive_only
            else layer.weight + raise_by * layer.weight.clamp_min(0)
        )
        z = a @ weight.T + (0 if layer.bias is None else layer.bias)
        back = a * ((back / (z + epsilon * torch.where(z < 0, -1.0, 1.0))) @ weight)
    return back


RULES = [
    ({}, {"raise_by": 0.0}),
    ({"epsilon": 0.05}, {"raise_by": 0.0, "epsilon": 0.05}),
    ({"rule": "gamma"}, {"raise_by": 0.25}),
    ({"rule": "gamma", "gamma": 1.0}, {"raise_by": 1.0}),
    ({"rule": "alpha1_beta0"}, {"raise_by": 0.0, "positive_only": True}),
]


@pytest.mark.parametrize(("parameters", "wanted"), RULES)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh])
@pytest.mark.parametrize("bias", [False, True])
def test_lrp_is_what_a_walk_back_by_hand_gives(parameters, wanted, activation, bias):
    given = case(model=network(7, activation=activation, outputs=3, bias=bias), target=torch.arange(6) % 3)
    assert off(run("lrp", in_double(given), **parameters), relevance(given, **wanted)) < 1e-6


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh, nn.SiLU, nn.LeakyReLU])
def test_lrp_without_biases_hands_all_of_the_output_down(activation):
    given = case(2, 3, 3, model=network(2, 3, 3, activation=activation, bias=False))
    sums = run("lrp", given).flatten(1).sum(1)
    torch.testing.assert_close(sums.float(), given.output(given.x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
def test_lrp_of_a_relu_network_is_input_x_gradient_and_says_so(bias):
    given = case(model=network(7, activation=nn.ReLU, bias=bias))
    assert off(run("lrp", given), gradient(given) * given.x) < 1e-5
    assert said(Note, "lrp", given) == ["is input x gradient: the two maps agree on this model"]
    assert said(Note, "lrp", given, epsilon=0.1) == said(Note, "lrp", given, rule="gamma") == []
    assert off(run("lrp", case()), gradient(case()) * case().x) > 0.1
    assert said(Note, "lrp", case()) == []


def test_lrp_says_where_it_divides_by_next_to_nothing():
    (note,) = said(Note, "lrp", case(model=network(7, activation=nn.Softplus)))
    assert note.startswith("is unstable at Softplus: ")


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


def test_lrp_does_not_serve_a_layer_without_a_rule_and_names_it():
    model = nn.Sequential(nn.Flatten(), nn.Linear(7, 4), Doubled(), nn.Linear(4, 1)).eval()
    with pytest.raises(NotApplicable, match="has no rule for a layer of the kind Doubled"):
        run("lrp", case(model=model.requires_grad_(False)))


def convolutional(activation=nn.ReLU):
    model = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), activation(), nn.MaxPool2d(2), nn.Dropout(0.5)),
        *(nn.Conv2d(4, 4, 2), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    )
    for i, parameter in enumerate(model.parameters()):
        parameter.data = 0.5 * draw(*parameter.shape, seed=i)
    model[1].running_mean = draw(4, seed=50)
    return model.eval().requires_grad_(False)


def test_lrp_and_its_like_serve_convolutions():
    given = case(2, 6, 6, model=convolutional(), target=torch.arange(6) % 3)
    assert off(run("lrp", given), gradient(given) * given.x) < 1e-4
    for name in LAYERED:
        assert run(name, given).isfinite().all()
    bent = dataclasses.replace(given, model=convolutional(nn.GELU))
    assert off(run("lrp", bent), gradient(bent) * given.x) > 0.05


# ---- adversarial gradient integration ---------------------------------------------------------------------


def test_agi_of_a_linear_classifier_is_as_by_hand():
    """Every feature steps by the sign of the other class's weight less its own until the margin is gone."""
    model = linear(2)
    x = draw(40, 7, seed=1)
    given = case(model=model, x=x, target=model(x).argmax(1))
    size = 0.01 * (given.background.amax(0) - given.background.amin(0)).double()
    own, other = model[1].weight.double()[given.target], model[1].weight.double()[1 - given.target]
    away = (other - own).sign() * size
    outputs = in_double(given).model(x.double())
    margin = (outputs.gather(1, given.target[:, None]) - outputs.gather(1, 1 - given.target[:, None]))[:, 0]
    steps = (margin / ((other - own) * away).sum(1)).ceil()
    assert 5 < steps.max() < 100
    wanted = -own * away * steps[:, None]
    found = run("adversarial_gradient_integration", given)
    assert off(found, wanted) < 1e-4
    few = run("adversarial_gradient_integration", given, max_steps=3)
    assert off(few, -own * away * steps.clamp_max(3)[:, None]) < 1e-4


def test_agi_sums_over_the_other_classes_up_to_so_many():
    given = classified()
    given = dataclasses.replace(given, target=given.model(given.x).argmax(1))
    whole = run("adversarial_gradient_integration", given)
    parts = {
        tuple(run("adversarial_gradient_integration", given, seed=s, classes=1).flatten().tolist())
        for s in range(9)
    }
    assert len(parts) == 2  # one of two others, whichever is drawn
    total = sum(torch.tensor(p, dtype=torch.float64) for p in parts)
    assert off(total, whole.flatten()) < 1e-5


def test_agi_adds_up_to_what_the_output_loses_on_its_ways():
    given = classified()
    given = dataclasses.replace(given, target=given.model(given.x).argmax(1))
    seen = points_of("adversarial_gradient_integration", given, step=1e-3, max_steps=5, classes=1)
    found = run("adversarial_gradient_integration", given, step=1e-3, max_steps=5, classes=1)
    assert len(seen[-1]) == 6  # none has arrived after so short a way
    torch.testing.assert_close(
        found.sum(1).float(), given.output(given.x) - given.output(seen[-1]), rtol=0, atol=1e-3
    )
    assert (found.sum(1) != 0).all()


def test_agi_needs_other_classes_and_reports_how_many_ways_arrived():
    with pytest.raises(NotApplicable, match="needs other classes, and this is a regression"):
        run("adversarial_gradient_integration", case())
    given = classified()
    given = dataclasses.replace(given, target=given.model(given.x).argmax(1))
    (none,) = said(Remark, "adversarial_gradient_integration", given, max_steps=1, step=1e-6)
    assert none == "0% of the ways arrived at the other class"
    (some,) = said(Remark, "adversarial_gradient_integration", given)
    assert int(some.split("%")[0]) > 30


# ---- controls -------------------------------------------------------------------------------------------


def test_input_magnitude_is_the_size_of_the_input():
    given = classified(2, 3, 3)
    assert torch.equal(run("input_magnitude", given), given.x.abs().double())


def test_untrained_gradient_is_a_gradient_of_the_architecture_and_knows_nothing_of_the_weights():
    given, other = classified(), case(model=network(7, outputs=3, seed=5), target=torch.arange(6) % 3)
    found = run("untrained_gradient", given)
    assert torch.equal(found, run("untrained_gradient", other))
    assert not torch.equal(found, run("untrained_gradient", given, seed=1))
    flat = run("untrained_gradient", case(model=linear(3), target=torch.arange(6) % 3))
    assert torch.equal(flat[0], flat[3])  # one set of weights for all rows: those of class 0
    assert (flat.abs() <= 7**-0.5).all()  # nn.Linear draws from +-1 / sqrt(inputs)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.scale * x


def test_untrained_gradient_refuses_weights_that_it_cannot_draw_anew():
    model = nn.Sequential(nn.Flatten(), nn.Linear(7, 1), Scaled()).eval().requires_grad_(False)
    with pytest.raises(NotApplicable, match="Scaled has no reset_parameters"):
        run("untrained_gradient", case(model=model))
    with pytest.raises(NotApplicable, match="this model has none"):
        run("untrained_gradient", case(model=Formula(quadratic)))


def test_repeated_evaluation_of_a_linear_model_goes_to_the_difference_to_the_background():
    given = case(model=linear(3), target=torch.arange(6) % 3)
    wanted = given.model[1].weight[given.target] * (given.x - given.background.mean(0))
    errors = [off(run("repeated_evaluation", given, budget=n), wanted) for n in (200, 20_000)]
    assert errors[1] < 0.05
    assert errors[1] < errors[0] / 4


def test_repeated_evaluation_plays_units_and_draws_their_values_together():
    groups = torch.tensor([5, 1, 1, 8, 5, 3, 3])
    given = case(groups=groups, model=linear())
    found = run("repeated_evaluation", given, budget=20_000)
    whole = (given.model[1].weight * (given.x - given.background.mean(0))).double()
    for unit in groups.unique():
        mine = groups == unit
        assert (found[:, mine] == found[:, mine][:, :1]).all()
        assert off(found[:, mine].sum(1), whole[:, mine].sum(1)) < 0.1


def test_repeated_evaluation_reports_the_standard_error_that_runs_show():
    given = case(rows=3)
    runs = torch.stack([run("repeated_evaluation", given, seed=s, budget=200) for s in range(40)])
    shown = float(runs.std(0).median()) / float(runs[0].abs().median())
    (remark,) = said(Remark, "repeated_evaluation", dataclasses.replace(given, rng=generator(0)), budget=200)
    told = int(remark.removeprefix("median standard error: ").split("%")[0]) / 100
    assert remark.endswith("% of the median size")
    assert 0.8 < told / shown < 1.25


@pytest.mark.parametrize("budget", [4, 5, 8])
def test_repeated_evaluation_keeps_and_redraws_every_unit(budget):
    """With a background far away, a unit that is always kept, or never, would show."""
    given = case(2, model=linear(1, 2), background=torch.full((3, 2), 50.0), rows=2)
    for seed in range(5):
        seen = torch.cat(points_of("repeated_evaluation", given, budget=budget, seed=seed))[
            -2 * (budget // 2 * 2) :
        ]
        kept = (seen != 50).view(2, -1, 2)
        assert (kept.sum(1) == budget // 2).all()


def test_values_are_those_that_the_methods_declare():
    values = {name: value_of(setting(METHODS[name], {})) for name in DRAWN}
    assert {name for name, value in values.items() if value == "marginal"} == {
        "expected_gradients",
        "repeated_evaluation",
    }
    assert value_of(setting(METHODS["gradient_shap"], {"value": "marginal"})) == "marginal"
