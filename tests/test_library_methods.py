"""The methods that shap and captum compute, against exact answers, against ours, and as they are called."""

import copy
import dataclasses
import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import Lime
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from torch import nn

from assay.benchmarks.coalitions import Everything, play, unit_count, units_of
from assay.benchmarks.explaining import attribute, explainer
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.perturb import difference
from assay.benchmarks.plugin import METHODS, MODELS, Case, NotApplicable, Problem
from assay.benchmarks.randomness import seeded
from assay.benchmarks.shapley import by_enumeration
from assay.benchmarks.spec import setting
from assay.benchmarks.trees import TreeEnsemble

torch.set_num_threads(1)
load_plugins()
GAMES = ["shap_exact", "shap_kernel", "shap_permutation", "partition_shap"]  # that play the units' game
CAPTUM = ["captum_kernel_shap", "captum_lime", "captum_shapley_sampling"]
MODEL = setting(MODELS["mlp"], {})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed))


def network(*shape, outputs=1):
    width = math.prod(shape)
    layers = [nn.Linear(width, 16), nn.GELU(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, outputs)]
    model = nn.Sequential(nn.Flatten(), *layers)
    for i, parameter in enumerate(model.parameters()):
        parameter.data = 0.4 * draw(*parameter.shape, seed=i)
    return model.eval().requires_grad_(False)


def case(*shape, rows=2, baseline=0.3, others=8, **changed):
    shape = shape or (6,)
    given = {
        "model": network(*shape),
        "x": draw(rows, *shape, seed=1),
        "target": torch.zeros(rows, dtype=torch.int64),
        "baseline": torch.full(shape, baseline),
        "background": draw(others, *shape, seed=2),
        "groups": None,
        "rng": generator(),
    }
    return Case(**given | changed)


def run(name, given, seed=4, **parameters):
    """What the method returns; a warning that it lets through is an error here."""
    return explainer(setting(METHODS[name], parameters))(dataclasses.replace(given, rng=generator(seed)))


def exact(given, value="baseline"):
    """Shapley values by enumeration, [rows, units]."""
    return by_enumeration(play(given, Everything(), value, generator()))


def of_units(found, given):
    """Sums over the features of each unit."""
    units = units_of(given).flatten()
    return torch.zeros(len(found), unit_count(given)).double().index_add(1, units, found.flatten(1))


def error(found, wanted):
    return ((found - wanted).norm() / wanted.norm()).item()


class Pairs(nn.Module):
    """Products of all pairs of features: its Shapley values follow from any order and its reverse."""

    def forward(self, x):
        flat = x.flatten(1)
        return (flat.sum(1, keepdim=True) ** 2 + flat[:, :1]) / 2


CLASSES = {"model": network(6, outputs=3), "target": torch.tensor([2, 0])}
TIED = {"groups": torch.tensor([5, 1, 1, 8, 5, 3])}
IMAGE = {"groups": torch.tensor([[[0, 0, 3], [1, 1, 3]], [[0, 2, 3], [2, 1, 3]]])}
GIVEN = {
    "regression": lambda: case(),
    "classes": lambda: case(**CLASSES),
    "units": lambda: case(**TIED),
    "units of an image": lambda: case(2, 2, 3, **IMAGE),
    "one row": lambda: case(rows=1),
    "double": lambda: as_double(case()),
}


def as_double(given):
    parts = ("x", "baseline", "background")
    return dataclasses.replace(
        given,
        model=copy.deepcopy(given.model).double(),
        **{part: getattr(given, part).double() for part in parts},
    )


# ---- Shapley values of a game ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["baseline", "marginal"])
@pytest.mark.parametrize("kind", GIVEN)
@pytest.mark.parametrize("name", ["shap_exact", "shap_kernel"])
def test_where_all_coalitions_fit_shap_and_we_have_the_exact_values(name, kind, value):
    given = GIVEN[kind]()
    found, wanted = run(name, given, value=value), exact(given, value)
    torch.testing.assert_close(of_units(found, given), wanted, rtol=0, atol=1e-6)
    ours = run("exact_shapley" if name == "shap_exact" else "kernel_shap", given, value=value)
    torch.testing.assert_close(found, ours, rtol=0, atol=1e-6)


def test_shap_s_kernel_keeps_more_than_ten_units():
    given = case(12, rows=1)
    torch.testing.assert_close(run("shap_kernel", given, budget=2**12), exact(given), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [*GAMES, *CAPTUM])
@pytest.mark.parametrize("kind", GIVEN)
def test_a_map_has_the_shape_of_its_rows_and_a_unit_s_features_share_alike(name, kind):
    given = GIVEN[kind]()
    found, units = run(name, given, budget=40) if name != "shap_exact" else run(name, given), units_of(given)
    assert found.shape == given.x.shape
    assert found.abs().sum() > 0 or name == "captum_lime"
    for unit in range(unit_count(given)):
        of_one = found[:, units == unit]
        torch.testing.assert_close(of_one, of_one[:, :1].expand_as(of_one))


@pytest.mark.parametrize("value", ["baseline", "marginal"])
def test_one_order_there_and_back_is_enough_for_a_function_of_pairs(value):
    given = case(model=Pairs())
    for name in ("shap_permutation", "permutation_shap"):
        found = run(name, given, budget=2 * 6 + 1, value=value)
        torch.testing.assert_close(found, exact(given, value), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["classes", "units of an image"])
@pytest.mark.parametrize(
    ("name", "budget", "most"),
    [
        ("shap_permutation", 2000, 0.06),
        ("captum_shapley_sampling", 3000, 0.1),
        ("captum_kernel_shap", 2000, 0.1),
    ],
)
def test_with_many_samples_the_exact_values_are_reached(name, kind, budget, most):
    given = GIVEN[kind]()
    faster = {"at_once": 100} if name in CAPTUM else {}
    found, wanted = of_units(run(name, given, budget=budget, **faster), given), exact(given)
    assert error(found, wanted) < most
    assert error(found, wanted) > 1e-6  # it samples


@pytest.mark.parametrize(
    ("ours", "theirs", "budget"),
    [
        ("kernel_shap", "shap_kernel", 300),
        ("kernel_shap", "captum_kernel_shap", 300),
        ("permutation_shap", "shap_permutation", 125),
        ("shapley_sampling", "captum_shapley_sampling", 240),
    ],
)
def test_at_one_budget_ours_is_as_near_to_the_exact_values_as_theirs(ours, theirs, budget):
    """And theirs no further off than another estimate of the same: nothing but luck is between them."""
    given = case(10, rows=3)
    wanted, faster = exact(given), {"at_once": 100} if theirs in CAPTUM else {}
    mine, other = (
        np.mean([error(run(name, given, seed, budget=budget, **more), wanted) for seed in range(5)])
        for name, more in ((ours, {}), (theirs, faster))
    )
    assert mine < 1.2 * other
    assert other < 0.35


def test_a_budget_is_what_a_row_takes():
    given = case(12, rows=3)
    for name in ("shap_kernel", "shap_permutation", "partition_shap", *CAPTUM):
        found = attribute(setting(METHODS[name], {"budget": 101}), MODEL, given, "key")
        assert found.status == "ok", found.reason
        least = 60 if "permutation" in name or "sampling" in name else 98  # orders are not cut
        assert least * 3 <= found.model_rows <= 104 * 3, (name, found.model_rows)


@pytest.mark.parametrize("name", CAPTUM)
@pytest.mark.parametrize("kind", ["classes", "one row"])
def test_how_many_coalitions_go_together_is_nothing_but_speed(name, kind):
    given = GIVEN[kind]()
    first, second = (run(name, given, budget=50, at_once=n) for n in (1, 16))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)
    assert error(run(name, dataclasses.replace(given, x=2 * given.x), budget=50), first) > 1e-3


# ---- the explained output -------------------------------------------------------------------------------

ADDITIVE = [*GAMES, *CAPTUM, "linear_shap", "deep_shap", "shap_gradient"]


@pytest.mark.parametrize("name", [name for name in ADDITIVE if name != "captum_lime"])
def test_on_a_linear_model_the_weights_of_the_row_s_own_output_times_the_difference(name):
    layer = nn.Linear(12, 3).requires_grad_(False)
    model = nn.Sequential(nn.Flatten(), layer).eval()
    given = case(2, 2, 3, rows=4, model=model, target=torch.tensor([2, 0, 1, 2]), **IMAGE)
    weight = layer.weight[given.target].view(given.x.shape)
    wanted = (weight * (given.x - given.baselines)).double()
    parameters = {"value": "baseline"} if name == "shap_gradient" else {}
    found = run(name, given, **parameters | ({"budget": 300} if name in CAPTUM else {}))
    torch.testing.assert_close(of_units(found, given), of_units(wanted, given), rtol=0, atol=2e-5)


def test_captum_s_lime_is_captum_s_lime():
    given = case(**CLASSES)
    found = run("captum_lime", given, budget=200)
    with seeded(generator(4)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = Lime(given.model).attribute(
            given.x, given.baselines, target=given.target, n_samples=200, perturbations_per_eval=7
        )
    torch.testing.assert_close(found, wanted.double(), rtol=0, atol=1e-5)
    assert found.abs().sum() > 0


# ---- LIME -----------------------------------------------------------------------------------------------


def captum_ridge(given, coalitions, weight, samples, penalty):
    """captum's Lime on given coalitions of one row, with our kernel's weight of each."""

    def perturb(_, **__):
        yield from (z[None].long() for z in coalitions)

    def nearness(_, __, z, **___):
        return weight(z[0].double())

    lime = Lime(given.model, SkLearnRidge(alpha=penalty), nearness, perturb)
    units = units_of(given)[None]
    return lime.attribute(
        given.x, given.baselines, target=given.target, feature_mask=units, n_samples=samples
    )


def near(z, width=0.25):
    return float(torch.exp(-(((1 - z.mean().sqrt()) / width) ** 2) / 2))


@pytest.mark.parametrize("kind", ["one row", "units"])
@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_our_lime_is_captum_s_with_the_paper_s_sampling_and_a_ridge(kind, penalty):
    """Every coalition once, weighed by how often a budget of draws of uniform size would have it."""
    given = GIVEN[kind]()
    given = dataclasses.replace(given, x=given.x[:1], target=given.target[:1])
    count = unit_count(given)
    coalitions = [torch.tensor(bits) for bits in itertools.product((0, 1), repeat=count)]
    uniform = {s: 2048 / (math.comb(count, s) * (count + 1)) for s in range(count + 1)}

    def weight(z):
        return uniform[int(z.sum())] * near(z)

    wanted = captum_ridge(given, coalitions, weight, 2**count, penalty)
    sizes = units_of(given).flatten().bincount()[units_of(given)]
    found = run("lime", given, penalty=penalty)
    torch.testing.assert_close(found * sizes, wanted.double(), rtol=0, atol=1e-6)


def test_our_lime_samples_what_captum_s_does_with_the_paper_s_sampling():
    given, rng, samples = case(10, rows=1), generator(9), 2000

    def uniform_sizes():
        for _ in range(samples):
            size = int(torch.randint(11, (1,), generator=rng))
            z = torch.zeros(10)
            z[torch.randperm(10, generator=rng)[:size]] = 1
            yield z

    wanted = run("lime", given, budget=2**10, penalty=1e-6)  # all coalitions
    ours = error(run("lime", given, budget=300, penalty=1e-6), wanted)
    theirs = captum_ridge(given, uniform_sizes(), near, samples, 1e-6)
    assert ours < 0.2
    assert error(theirs, wanted) < 0.2


# ---- trees ----------------------------------------------------------------------------------------------


def fitted(name, classes, **parameters):
    """Trees that were fitted to interactions of five of six columns."""
    x = draw(400, 6)
    signals = torch.stack([x[:, 0] * x[:, 1] + x[:, 2], x[:, 3].abs() - x[:, 0], x[:, 4].sign()], 1)
    problem = Problem(
        x=x,
        y=signals.sum(1) if classes == 1 else signals[:, :classes].argmax(1),
        task="regression" if classes == 1 else "classification",
        n_train=300,
        n_validation=50,
        n_explained=4,
        baseline=torch.zeros(6),
        background=x[:20],
        masks={"relevant": torch.tensor([[True] * 5 + [False]])},
    )
    with seeded(generator()):
        return MODELS[name].function(problem, generator(), **{"trees": 10} | parameters), problem


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("name", ["boosted_trees", "random_forest"])
def test_tree_shap_is_exact(name, classes):
    model, _ = fitted(name, classes)
    target = torch.arange(6) % classes
    given = case(rows=6, model=model, target=target)
    for value in ("baseline", "marginal"):
        wanted = exact(given, value)
        assert (wanted[:, :3].abs().mean(0) > 0.01).all()
        torch.testing.assert_close(run("tree_shap", given, value=value), wanted, rtol=0, atol=1e-5)
    image = case(2, 3, rows=6, model=model, target=target)
    torch.testing.assert_close(run("tree_shap", image).flatten(1), exact(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["boosted_trees", "random_forest"])
def test_tree_shap_is_exact_in_double_precision(name):
    model, _ = fitted(name, 1)
    given = dataclasses.replace(as_double(case(rows=4)), model=model)
    found, wanted = run("tree_shap", given, value="marginal"), exact(given, "marginal")
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_a_tree_of_which_shap_would_crash_is_refused():
    rows = draw(17_000, 1).double()
    forest = RandomForestRegressor(1, bootstrap=False, random_state=0)
    forest.fit(rows.numpy(), draw(17_000, seed=1).numpy())
    assert forest.estimators_[0].tree_.node_count > 2**15
    with pytest.raises(NotApplicable, match="crashes"):
        run("tree_shap", case(1, model=TreeEnsemble(forest, "regression").eval()))


@pytest.mark.parametrize("name", ["tree_shap", "linear_shap"])
def test_the_whole_background_counts(name):
    """shap would keep 100 of its rows."""
    model = (
        fitted("boosted_trees", 1)[0] if name == "tree_shap" else nn.Sequential(nn.Flatten(), nn.Linear(6, 1))
    )
    given = case(model=model.requires_grad_(False), others=150)
    found = run(name, given, value="marginal")
    torch.testing.assert_close(found, exact(given, "marginal"), rtol=0, atol=1e-5)


def test_tree_shap_does_not_play_units():
    model, _ = fitted("boosted_trees", 1)
    with pytest.raises(NotApplicable, match="plays features"):
        run("tree_shap", case(model=model, **TIED))
    alone = case(model=model, groups=torch.tensor([5, 4, 3, 2, 1, 0]))
    assert torch.equal(run("tree_shap", alone), run("tree_shap", case(model=model)))


@pytest.mark.parametrize("classes", [1, 3])
def test_a_forest_answers_as_scikit_learn_s_own(classes):
    model, problem = fitted("random_forest", classes, leaf=4, features=0.5)
    x, y = problem.x[:300].double().numpy(), problem.y[:300].numpy()
    kind = RandomForestRegressor if classes == 1 else RandomForestClassifier
    seed = model.fitted.random_state
    peer = kind(n_estimators=10, min_samples_leaf=4, max_features=0.5, random_state=seed).fit(x, y)
    rows = problem.x[350:]
    wanted = peer.predict(rows.numpy())[:, None] if classes == 1 else peer.predict_proba(rows.numpy())
    found = model(rows)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-6)


# ---- linear models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["baseline", "marginal"])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_shap_is_exact_of_features_and_of_units(value, bias):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=bias)).eval().requires_grad_(False)
    given = case(2, 2, 3, model=model, target=torch.tensor([2, 1]))
    tied = dataclasses.replace(given, **IMAGE)
    for one in (given, tied, as_double(tied)):
        found = of_units(run("linear_shap", one, value=value), one)
        torch.testing.assert_close(found, exact(one, value), rtol=0, atol=2e-6)


def test_methods_that_read_a_model_refuse_others():
    for name in ("linear_shap", "tree_shap"):
        with pytest.raises(NotApplicable, match="reads the"):
            run(name, case())


# ---- networks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classes", "double", "one row"])
def test_deep_shap_averages_over_the_background_and_adds_up(kind):
    given = GIVEN[kind]()
    found = run("deep_shap", given, value="marginal")
    each = [run("deep_shap", dataclasses.replace(given, baseline=row)) for row in given.background]
    torch.testing.assert_close(found, torch.stack(each).mean(0), rtol=0, atol=1e-6)
    wanted = difference(given, "marginal").double()
    torch.testing.assert_close(found.flatten(1).sum(1), wanted, rtol=0, atol=1e-5)
    assert error(run("deep_shap", given), found) > 0.1


def paths(given, value):
    """Integrated gradients by the midpoint rule, averaged over what is absent."""
    found = torch.zeros_like(given.x)
    fillers = given.baseline[None] if value == "baseline" else given.background
    for start in fillers:
        for t in (torch.arange(200) + 0.5) / 200:
            x = (start + t * (given.x - start)).requires_grad_()
            found += torch.autograd.grad(given.output(x).sum(), x)[0] * (given.x - start)
    return found.double() / (200 * len(fillers))


@pytest.mark.parametrize("kind", ["classes", "double"])
@pytest.mark.parametrize("value", ["baseline", "marginal"])
def test_shap_s_gradients_go_to_the_average_of_paths(kind, value):
    given = GIVEN[kind]()
    wanted = paths(given, value)
    few, many = (error(run("shap_gradient", given, budget=n, value=value), wanted) for n in (50, 5000))
    assert many < 0.04
    assert many < few / 3  # a tenth, on average
    assert torch.equal(run("shap_gradient", given), run("shap_gradient", given, value="marginal"))


# ---- Owen values ----------------------------------------------------------------------------------------


def together(pairs, rows=200):
    """A background in which the two features of each pair nearly go together, one of them turned round."""
    base = draw(rows, len(pairs), seed=3)
    found = torch.zeros(rows, 2 * len(pairs))
    for i, (first, second) in enumerate(pairs):
        found[:, first] = base[:, i]
        found[:, second] = -3 * base[:, i] + 0.01 * (i + 1) * draw(rows, seed=i)
    return found


def owen(given, blocks):
    """What each feature adds, averaged over the orders that keep blocks together."""
    f = given.output
    orders = [
        list(itertools.chain(*order))
        for whole in itertools.permutations(blocks)
        for order in itertools.product(*(itertools.permutations(block) for block in whole))
    ]
    found = torch.zeros_like(given.x)
    for order in orders:
        x, before = given.baselines.clone(), f(given.baselines)
        for feature in order:
            x[:, feature] = given.x[:, feature]
            found[:, feature] += (f(x) - before) / len(orders)
            before = f(x)
    return found.double()


@pytest.mark.parametrize("pairs", [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))])
def test_partition_shap_gives_the_owen_values_of_the_background_s_clusters(pairs):
    given = case(4, background=together(pairs))
    wanted = owen(given, pairs)
    torch.testing.assert_close(run("partition_shap", given), wanted, rtol=0, atol=1e-6)
    assert error(exact(given), wanted) > 0.01  # or any tree would do


def test_units_cluster_by_their_features():
    pairs = ((0, 2), (1, 3))
    given = case(8, background=together(pairs).repeat_interleave(2, 1), groups=torch.arange(8) // 2)
    found = of_units(run("partition_shap", given), given)
    game = case(4, model=_Pairwise(given), x=torch.ones(2, 4), baseline=0.0)
    torch.testing.assert_close(found, owen(game, pairs), rtol=0, atol=1e-6)


def test_a_unit_of_many_features_is_no_nearer_for_that():
    """Units 0 and 1 correlate by 0.6, 0 and the three columns of unit 2 by 0.3 each."""
    a, b, c = draw(3, 500, seed=5)
    background = torch.stack([a, 0.6 * a + 0.8 * b, *[0.3 * a + 0.95 * c] * 3], 1)
    given = case(5, background=background, groups=torch.tensor([0, 1, 2, 2, 2]))
    game = case(3, model=_Pairwise(given), x=torch.ones(2, 3), baseline=0.0)
    found = of_units(run("partition_shap", given), given)
    torch.testing.assert_close(found, owen(game, ((0, 1), (2,))), rtol=0, atol=1e-6)


class _Pairwise(nn.Module):
    """A case's model as a function of which of its units are present, row by row."""

    def __init__(self, given):
        super().__init__()
        self.given = given

    def forward(self, present):
        kept = present[:, units_of(self.given)] > 0
        return self.given.model(torch.where(kept, self.given.x, self.given.baselines))


def test_constant_columns_cluster_with_none():
    background = together(((0, 1), (2, 3)))
    background[:, 2], background[:, 3] = 0.1, 7.0
    given = case(4, background=background)
    found = run("partition_shap", given)
    assert error(found, owen(given, ((0, 1), (2,), (3,)))) < 0.2
    torch.testing.assert_close(found.sum(1), difference(given).double(), rtol=0, atol=1e-6)
    given = case(4, background=background[:1])  # nothing varies
    torch.testing.assert_close(
        run("partition_shap", given).sum(1), difference(given).double(), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("value", ["baseline", "marginal"])
@pytest.mark.parametrize("name", [*GAMES, "captum_shapley_sampling"])
def test_one_unit_gets_all_and_two_are_played_out(name, value):
    if name in CAPTUM and value == "marginal":
        return
    parameters = {} if name == "shap_exact" else {"budget": 400 if name in CAPTUM else 60}
    parameters |= {} if name in CAPTUM else {"value": value}
    one = case(3, groups=torch.zeros(3, dtype=torch.int64))
    found = run(name, one, **parameters)
    torch.testing.assert_close(found.sum(1), difference(one, value).double(), rtol=0, atol=1e-5)
    two = case(3, groups=torch.tensor([4, 2, 4]))
    gap = of_units(run(name, two, **parameters), two) - exact(two, value)
    assert gap.abs().max() < (5e-3 if name in CAPTUM else 1e-6)


def test_a_small_budget_leaves_sums_whole():
    given = case(2, 2, 3)
    for budget in (4, 9, 30, 500):
        found = run("partition_shap", given, budget=budget)
        torch.testing.assert_close(found.sum((1, 2, 3)), difference(given).double(), rtol=0, atol=1e-6)


# ---- what they refuse -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "width", "why"),
    [
        ("shap_exact", {}, 17, "at most 16 units, and this has 17"),
        ("shap_permutation", {"budget": 12}, 6, "takes 13 model rows, and the budget is 12"),
        ("captum_shapley_sampling", {"budget": 6}, 6, "takes 7 model rows, and the budget is 6"),
        ("shap_kernel", {"budget": 14}, 6, "takes 15 coalitions, and the budget is 14"),
        ("captum_kernel_shap", {}, 1, "here is only one"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(name, parameters, width, why):
    found = attribute(setting(METHODS[name], parameters), MODEL, case(width), "key")
    assert found.status == "skipped"
    assert why in found.reason


def test_the_least_budget_that_is_taken_serves():
    given = case()
    for name, budget in (("shap_permutation", 13), ("captum_shapley_sampling", 7)):
        found = run(name, given, budget=budget)
        torch.testing.assert_close(found.sum(1), difference(given).double(), rtol=0, atol=1e-6)
    given = case(30)
    wanted = run("kernel_shap", given, budget=20_000)
    assert error(run("shap_kernel", given, budget=75), wanted) < 1


@pytest.mark.parametrize("name", ["shap_permutation", "shap_kernel", "shap_gradient", *CAPTUM])
def test_a_map_hangs_on_its_generator(name):
    given = case(12)
    function = explainer(setting(METHODS[name], {"budget": 50}))
    first, second = (function(dataclasses.replace(given, rng=generator(seed))) for seed in (1, 2))
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(function(dataclasses.replace(given, rng=generator(1))), first)
