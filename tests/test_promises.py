"""Every check of methods, on a method that is wrong in just that way."""

import pytest
import torch

from assay.benchmarks import promises
from assay.benchmarks.network_task import DUMMY, TWINS, network_case, permuted, summed
from assay.benchmarks.plugin import NotApplicable
from assay.benchmarks.registry import Plugin

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


def fails(check, function, match, **facts):
    with pytest.raises((AssertionError, ValueError), match=match):
        check(plugin(function, **facts))


@pytest.mark.parametrize("check", promises.METHOD_CHECKS)
def test_a_good_method_passes(check):
    check(plugin(gradient, estimand="gradient", promises=("dummy", "symmetry", "linearity")))


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

    promises.hits_its_estimand(plugin(from_baseline, estimand="shapley"))
    fails(promises.hits_its_estimand, from_baseline, "misses", estimand="shapley", value="marginal")

    def from_background(case):
        return gradient(case) * (case.x - case.background.mean(0))

    promises.hits_its_estimand(plugin(from_background, estimand="shapley", value="marginal"))


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


def test_a_sum_of_networks_is_that():
    f, g = (network_case(3, seed=seed) for seed in (0, 1))
    assert not torch.allclose(f.model(f.x), g.model(f.x))
    torch.testing.assert_close(summed(f.model, g.model)(f.x), f.model(f.x) + g.model(f.x))


def test_the_trees_do_not_use_the_dummy():
    case = network_case(3, ("trees",))
    other = case.x.clone()
    other[:, DUMMY] = 5.0
    assert torch.equal(case.model(case.x), case.model(other))
    assert case.model(case.x).shape == (6, 3)
