"""Every check of methods, on a method that is wrong in just that way."""

import dataclasses

import pytest
import torch

from assay.benchmarks import promises
from assay.benchmarks.coalitions import Alone, Everything, Sampled, fits, table, unit_count
from assay.benchmarks.network_task import DUMMY, TWINS, in_units, network_case, permuted, shaped
from assay.benchmarks.plugin import NotApplicable
from assay.benchmarks.registry import Plugin
from assay.benchmarks.shapley import by_enumeration, by_regression, spread_over_features
from assay.benchmarks.variants import side_by_side

FACTS = {
    "needs": (),
    "estimand": "none",
    "value": "baseline",
    "promises": (),
    "signed": True,
    "cost": "unknown",
}


def plugin(function, **facts):
    return Plugin("method", function.__name__, function, "1", "https://example.org", FACTS | facts)


def gradient(case):
    x = case.x.clone().requires_grad_()
    return torch.autograd.grad(case.output(x).sum(), x)[0]


def enumerated(case):
    return spread_over_features(case, by_enumeration(table(case, Everything())))


def sampled(case, *, budget: int = 100):
    found = table(case, Sampled(budget))
    return spread_over_features(case, by_enumeration(found) if found.exhaustive else by_regression(found))


def ablated(case):
    found = table(case, Alone())
    return spread_over_features(case, found.whole[:, None] - found.outputs)


def ablated_to_background(case):
    found = table(case, Alone(), "marginal")
    return spread_over_features(case, (found.whole[:, None] - found.outputs).abs())


ALL = ("dummy", "symmetry", "linearity")
GOOD = [
    plugin(gradient, estimand="gradient", promises=ALL),
    plugin(gradient, estimand="gradient", promises=ALL, needs=("linear",)),
    plugin(enumerated, estimand="shapley", promises=("complete", *ALL)),
    plugin(enumerated, estimand="shapley", promises=("complete", *ALL), needs=("linear",)),
    plugin(enumerated, estimand="shapley", promises=("complete", *ALL), needs=("trees",)),
    plugin(sampled, estimand="shapley", promises=("complete",)),
    plugin(ablated, estimand="ablation", promises=ALL),
    plugin(ablated_to_background, estimand="ablation", value="marginal", signed=False),
]


def fails(check, function, match, **facts):
    with pytest.raises((AssertionError, ValueError), match=match):
        check(plugin(function, **facts))


@pytest.mark.parametrize("check", promises.METHOD_CHECKS)
@pytest.mark.parametrize("good", GOOD, ids=lambda good: "_".join((good.name, *good.facts["needs"])))
def test_a_good_method_passes(check, good):
    check(good)


def test_one_that_serves_nothing():
    def refuses(case):
        raise NotApplicable("never")

    fails(promises.explains_a_small_network, refuses, "refuses the small models")


def test_one_that_serves_classifiers_alone_is_checked_on_these():
    def classes_only(case):
        if case.model(case.x).shape[1] == 1:
            raise NotApplicable("needs classes")
        return 0 * case.x + case.x[:1]  # and is wrong there

    promises.explains_a_small_network(plugin(classes_only))
    (case,) = promises._cases(plugin(classes_only))
    assert case.model(case.x).shape[1] == 3


def test_one_that_spoils_what_it_is_given():
    def input_(case):
        case.x[0] = 0
        return case.x.clone()

    def weights(case):
        next(case.model.parameters()).mul_(2)
        return case.x.clone()

    def mode(case):
        case.model.train()
        return case.x.clone()

    def hooks(case):
        case.model.register_forward_hook(lambda *_: None)
        return case.x.clone()

    def asks(case):
        case.x.requires_grad_()
        return gradient(case)

    wrong = {
        input_: "its input",
        weights: "weights",
        mode: "mode",
        hooks: "hooks",
        asks: "requires_grad of its",
    }
    for function, what in wrong.items():
        fails(promises.keeps_shape_and_inputs, function, f"changed .*{what}")


def test_one_that_needs_several_rows():
    def spread(case):
        return case.x / case.x.std(0)

    fails(promises.keeps_shape_and_inputs, spread, "finite numbers")


def test_one_whose_randomness_is_its_own():
    state = torch.Generator().manual_seed(0)

    def own(case):
        return torch.randn(case.x.shape, generator=state)

    fails(promises.same_seed_same_attribution, own, "two runs from one seed differ")


def test_one_that_looks_at_the_other_rows():
    def whitened(case):
        return case.x - case.x.mean(0)

    def permuted_column(case):  # captum's FeaturePermutation, in short
        return case.x - case.x[torch.randperm(len(case.x))]

    for function in (whitened, permuted_column):
        fails(promises.rows_do_not_meet, function, "with the rows beside it")


def test_one_that_counts_the_rows():
    def shared(case):
        return case.x / len(case.x)

    fails(promises.rows_do_not_meet, shared, "a row alone gets another map")


def test_one_that_draws_for_all_rows_at_once_may_give_a_row_alone_another_map():
    def noise(case):
        return torch.rand(case.x.shape[::-1]).T

    promises.rows_do_not_meet(plugin(noise))


def test_one_that_prefers_the_first_columns():
    def first(case):
        return gradient(case) * torch.tensor([2.0, 1, 1, 1, 1])

    def noisy(case):
        return first(case) + 0.1 * torch.randn(case.x.shape)

    for function in (first, noisy):
        fails(promises.columns_are_alike, function, "another order")


def test_noise_alone_is_no_preference():
    def noise(case):
        return torch.randn(case.x.shape)

    promises.columns_are_alike(plugin(noise))


def test_one_that_breaks_in_double_precision():
    def single(case):
        return case.model(case.x.float())[:, :1] * case.x

    with pytest.raises(RuntimeError):
        promises.works_in_double_precision(plugin(single))


def test_one_that_misses_its_estimand():
    def half(case):
        return gradient(case) / 2

    fails(promises.hits_its_estimand, half, "misses its estimand, gradient", estimand="gradient")

    def noisy(case):
        return (gradient(case) + 0.05 * torch.randn(case.x.shape)) * 1.5

    fails(promises.hits_its_estimand, noisy, "misses its estimand, gradient", estimand="gradient")

    def from_baseline(case):
        return gradient(case) * (case.x - case.baseline)

    linear = {"needs": ("linear",)}
    for estimand in ("shapley", "ablation"):  # right on linear models alone
        promises.hits_its_estimand(plugin(from_baseline, estimand=estimand, **linear))
        fails(promises.hits_its_estimand, from_baseline, f"estimand, {estimand}", estimand=estimand)
        fails(
            promises.hits_its_estimand, from_baseline, "misses", estimand=estimand, value="marginal", **linear
        )

    def from_background(case):
        return gradient(case) * (case.x - case.background.mean(0))

    promises.hits_its_estimand(plugin(from_background, estimand="shapley", value="marginal", **linear))
    fails(promises.hits_its_estimand, from_background, "misses", estimand="shapley", value="marginal")


def test_one_that_takes_one_estimand_for_another():
    fails(promises.hits_its_estimand, ablated, "misses its estimand, shapley", estimand="shapley")
    fails(promises.hits_its_estimand, enumerated, "misses its estimand, ablation", estimand="ablation")
    fails(promises.hits_its_estimand, ablated, "misses", estimand="ablation", signed=False)
    trees = {"needs": ("trees",)}
    fails(promises.hits_its_estimand, ablated, "misses its estimand, shapley", estimand="shapley", **trees)
    fails(promises.hits_its_estimand, enumerated, "misses", estimand="ablation", **trees)


def test_one_that_is_wrong_only_where_it_samples():
    def halved(case, *, budget: int = 1000):
        exhaustive = fits(unit_count(case), budget)
        return enumerated(case) if exhaustive else sampled(case, budget=budget) / 2

    fails(promises.hits_its_estimand, halved, "misses its estimand, shapley", estimand="shapley")


def test_one_that_knows_only_flat_rows():
    def flat(case):
        return gradient(case).flatten(1)

    def by_first_axis(case):
        return gradient(case) * torch.arange(1.0, case.x.shape[1] + 1).view(1, -1, *[1] * (case.x.ndim - 2))

    def refuses(case):
        if case.x.ndim > 2:
            raise NotApplicable("explains tables")
        return gradient(case)

    fails(promises.serves_any_shape, flat, "shape of x")
    fails(promises.serves_any_shape, by_first_axis, "rows in another shape get other numbers")
    promises.serves_any_shape(plugin(refuses))


def test_one_that_does_not_play_units():
    def features(case):  # units are none of its business
        return by_enumeration(table(dataclasses.replace(case, groups=None), Everything())).float()

    def alone(case):
        found = table(dataclasses.replace(case, groups=None), Alone())
        return (found.whole[:, None] - found.outputs).float()

    def whole_units(case):  # every feature gets all of its unit's, as captum's do
        units = torch.arange(5) if case.groups is None else case.groups.unique(return_inverse=True)[1]
        return by_enumeration(table(case, Everything())).float()[:, units]

    def not_finite(case):
        return gradient(case) / (case.groups is None)

    for function, estimand in ((features, "shapley"), (whole_units, "shapley"), (alone, "ablation")):
        promises.hits_its_estimand(plugin(function, estimand=estimand))
        fails(promises.plays_units, function, f"misses the {estimand} values of units", estimand=estimand)
    promises.keeps_its_promises(plugin(whole_units, promises=("complete",)))
    fails(promises.plays_units, whole_units, "sums miss", promises=("complete",))
    fails(promises.plays_units, not_finite, "finite numbers")


def test_one_may_refuse_units():
    def refuses(case):
        if case.groups is not None:
            raise NotApplicable("plays features")
        return gradient(case)

    promises.plays_units(plugin(refuses, estimand="shapley", promises=("complete",)))


def test_one_that_breaks_its_promises():
    def flat(case):
        return torch.ones_like(case.x)

    def times_input(case):
        return gradient(case) * case.x

    def position(case):
        return gradient(case) * torch.arange(1.0, 6)

    def squared(case):
        return gradient(case) ** 2

    def biased(case):
        found = gradient(case)
        found[:, DUMMY] = 0.01
        return found

    wrong = [
        (times_input, "complete", "sums miss"),
        (flat, "dummy", "does not use"),
        (biased, "dummy", "not use"),
    ]
    wrong += [(position, "symmetry", "cannot tell apart"), (squared, "linearity", "sum of the attributions")]
    for function, promise, match in wrong:
        fails(promises.keeps_its_promises, function, match, promises=(promise,))
    fails(promises.keeps_its_promises, squared, "sum of", promises=("linearity",), needs=("linear",))


# ---- the models that all this is tried on ---------------------------------------------------------------


@pytest.mark.parametrize("needs", [(), ("linear",)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_small_models_are_as_described(needs, outputs):
    case = network_case(outputs, needs)
    found = gradient(case)
    assert (found[:, DUMMY] == 0).all()
    torch.testing.assert_close(found[:, TWINS[0]], found[:, TWINS[1]])
    assert (case.x[:, TWINS[0]] == case.x[:, TWINS[1]]).all()
    moved, order = permuted(case)
    torch.testing.assert_close(moved.model(moved.x), case.model(case.x))
    assert not torch.equal(order, torch.arange(5))


@pytest.mark.parametrize("needs", [(), ("linear",), ("trees",)])
def test_the_small_models_take_rows_of_another_shape(needs):
    case = network_case(3, needs)
    other = shaped(case)
    assert (other.x.shape, other.baseline.shape, other.background.shape) == ((6, 1, 5), (1, 5), (20, 1, 5))
    assert torch.equal(other.model(other.x), case.model(case.x))


def test_units_are_fewer_than_features():
    assert unit_count(in_units(network_case(1))) == 3


def test_the_budget_of_the_checks_does_not_fit_all_coalitions_of_features():
    assert not fits(unit_count(network_case(1)), promises.BUDGET)


@pytest.mark.parametrize("needs", [(), ("linear",)])
def test_a_sum_of_models_is_that(needs):
    f, g = (network_case(3, needs, seed=seed) for seed in (0, 1))
    assert not torch.allclose(f.model(f.x), g.model(f.x))
    torch.testing.assert_close(side_by_side(f.model, g.model)(f.x), f.model(f.x) + g.model(f.x))


def test_the_trees_do_not_use_the_dummy():
    case = network_case(3, ("trees",))
    other = case.x.clone()
    other[:, DUMMY] = 5.0
    assert torch.equal(case.model(case.x), case.model(other))
    assert case.model(case.x).shape == (6, 3)
