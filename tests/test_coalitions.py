"""Outputs under masks, and what kernel SHAP and LIME make of them, against exact answers and peers."""

import dataclasses
import math
from itertools import combinations

import numpy as np
import pytest
import shap
import torch
from sklearn.linear_model import Ridge
from torch import nn

from assay.benchmarks import perturb
from assay.benchmarks.coalitions import (
    all_coalitions,
    coalition_outputs,
    fits,
    paired_coalitions,
    shapley_regression,
    shapley_weights,
    spread_over_features,
    units_of,
)
from assay.benchmarks.perturb import difference, outputs_under, random_map
from assay.benchmarks.plugin import Case
from assay.benchmarks.truth import explained_output, shapley
from assay.methods.kernel_shap import kernel_shap
from assay.methods.lime import lime

torch.set_num_threads(1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed)).double()


class Net(nn.Module):
    """Two outputs that are far from additive, in double precision."""

    def __init__(self, width):
        super().__init__()
        self.inner, self.outer = draw(width, 8, seed=1), draw(8, 2, seed=2)

    def forward(self, x):
        return torch.tanh(x.flatten(1) @ self.inner) @ self.outer


def case(width, rows=4, groups=None, seed=0, baseline=0.3):
    return Case(
        model=Net(width),
        x=draw(rows, width, seed=3),
        target=torch.arange(rows) % 2,
        baseline=torch.full((width,), baseline).double(),
        background=draw(5, width, seed=4),
        groups=groups,
        rng=generator(seed),
    )


def exact(given):
    """Shapley values of units, by enumeration in another module; [rows, units]."""
    names = units_of(given).unique()
    units = [(units_of(given) == name).nonzero()[:, 0] for name in names]
    f = explained_output(given.model, given.target)
    baseline = given.baseline.expand_as(given.x)

    def of_units(present):
        """f of rows of 0 and 1, one for each unit: makes every unit a single feature."""
        whole = torch.where(present[:, units_of(given)] > 0, given.x, baseline)
        return f(whole)

    ones = torch.ones(len(given.x), len(units)).double()
    singles = [torch.tensor([i]) for i in range(len(units))]
    return shapley(of_units, ones, torch.zeros_like(ones), singles)


def error(found, wanted):
    return ((found - wanted).norm() / wanted.norm()).item()


# ---- outputs under masks --------------------------------------------------------------------------------


def slow_outputs(given, keep):
    """One model call for every row and mask."""
    out = torch.empty(len(given.x), keep.shape[1]).double()
    for i, row in enumerate(given.x):
        for j, kept in enumerate(keep.expand(len(given.x), *keep.shape[1:])[i]):
            x = torch.where(kept, row, given.baseline)[None]
            out[i, j] = given.model(x)[0, given.target[i]]
    return out


@pytest.mark.parametrize("elements", [1, 50, 4_000_000])
@pytest.mark.parametrize("shared", [True, False])
def test_outputs_under_masks_equal_one_call_for_each(elements, shared, monkeypatch):
    monkeypatch.setattr(perturb, "ELEMENTS", elements)
    given = case(6)
    keep = torch.rand(1 if shared else 4, 9, 6, generator=generator()) < 0.5
    torch.testing.assert_close(outputs_under(given, keep), slow_outputs(given, keep), rtol=0, atol=1e-14)


def test_the_difference_is_that_to_the_baseline():
    given = case(6)
    ends = slow_outputs(given, torch.tensor([True, False])[None, :, None].expand(1, 2, 6))
    torch.testing.assert_close(difference(given), ends[:, 0] - ends[:, 1], rtol=0, atol=1e-14)


def test_a_random_map_has_the_size_of_the_difference_and_no_favourite():
    given = case(50, rows=400)
    noise = random_map(given, generator())
    torch.testing.assert_close(noise.norm(dim=1), difference(given).abs(), rtol=1e-6, atol=0)
    share = (noise / noise.norm(dim=1, keepdim=True)).mean(0)
    assert share.abs().max() < 4.5 / math.sqrt(50 * 400)  # of 50 means with deviation 1 / sqrt(50 n)
    assert torch.equal(noise, random_map(given, generator()))
    assert not torch.equal(noise, random_map(given, generator(1)))


# ---- coalitions -----------------------------------------------------------------------------------------


def test_units_are_numbered_without_gaps():
    groups = torch.tensor([7, 7, 3, 9, 3])
    assert units_of(case(5, groups=groups)).tolist() == [1, 1, 0, 2, 0]
    assert units_of(case(5)).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("units", [2, 3, 7])
def test_all_coalitions_are_all_but_two(units):
    found = {tuple(c) for c in all_coalitions(units).tolist()}
    assert len(found) == len(all_coalitions(units)) == 2**units - 2
    assert (True,) * units not in found
    assert (False,) * units not in found


def test_what_fits():
    assert [fits(10, 1024), fits(10, 1023), fits(11, 2048), fits(200, 2048)] == [True, False, True, False]


def test_the_kernel_s_weights_are_those_of_the_paper():
    """(d - 1) / (C(d, s) s (d - s)), up to one factor for all."""
    coalitions = all_coalitions(6)
    wanted = torch.tensor([5 / (math.comb(6, s) * s * (6 - s)) for s in coalitions.sum(1).tolist()])
    ratio = shapley_weights(coalitions) / wanted
    assert (ratio / ratio[0] - 1).abs().max() < 1e-6


def test_drawn_coalitions_come_with_their_complements_and_neither_empty_nor_whole():
    found = paired_coalitions(9, 501, generator())
    assert found.shape == (500, 9)
    assert torch.equal(found[:250], ~found[250:])
    assert found.any(1).all()
    assert not found.all(1).any()


@pytest.mark.parametrize("units", [2, 3, 12, 100])
def test_sizes_of_drawn_coalitions_follow_the_kernel(units):
    """Stratified: the count of every size is met to two draws of 2000, where free draws miss it by 13."""
    size = paired_coalitions(units, 4000, generator())[:2000].sum(1)
    law = torch.tensor([1 / (s * (units - s)) for s in range(1, units)]).double()
    found = size.bincount(minlength=units)[1:] / 2000
    assert (found - law / law.sum()).abs().max() < 2 / 2000


def test_every_unit_is_as_likely_in_a_coalition():
    found = paired_coalitions(20, 8000, generator())[:4000].double()
    assert (found.mean(0) - 0.5).abs().max() < 4.5 * 0.5 / math.sqrt(4000)


def test_outputs_of_coalitions_are_those_of_their_features():
    given = case(5, groups=torch.tensor([7, 7, 3, 9, 3]))
    coalitions = torch.tensor([[True, False, False], [False, True, True]])  # of the units 3, 7 and 9
    keep = torch.tensor([[False, False, True, False, True], [True, True, False, True, False]])
    outputs, whole, empty = coalition_outputs(given, coalitions)
    torch.testing.assert_close(outputs, slow_outputs(given, keep[None]), rtol=0, atol=1e-14)
    torch.testing.assert_close(whole - empty, difference(given), rtol=0, atol=1e-14)


def test_a_unit_s_value_is_handed_out_in_equal_shares():
    given = case(5, groups=torch.tensor([7, 7, 3, 9, 3]))
    values = draw(4, 3, seed=9)
    found = spread_over_features(given, values)
    torch.testing.assert_close(found.sum(1), values.sum(1))
    torch.testing.assert_close(found[:, 0], values[:, 1] / 2)
    torch.testing.assert_close(found[:, [2, 3]], values[:, [0, 2]] / torch.tensor([2, 1]))


def test_the_fit_is_the_constrained_least_squares():
    """Against the normal equations with a Lagrange multiplier, solved as one linear system."""
    z = paired_coalitions(5, 60, generator())
    weights, outputs, total = torch.rand(60, generator=generator(1)).double(), draw(3, 60), draw(3, seed=5)
    found = shapley_regression(z, weights, outputs, total)
    system = torch.zeros(6, 6).double()
    system[:5, :5] = z.double().T @ (weights[:, None] * z.double())
    system[5, :5] = system[:5, 5] = 1
    right = torch.cat([z.double().T @ (weights * outputs).T, total[None]])
    torch.testing.assert_close(found, torch.linalg.solve(system, right)[:5].T, rtol=0, atol=1e-8)


# ---- kernel SHAP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 3, 6, 10])
def test_kernel_shap_on_all_coalitions_is_exact(width):
    given = case(width)
    torch.testing.assert_close(kernel_shap(given), exact(given), rtol=0, atol=1e-6)


def test_kernel_shap_of_one_unit_is_the_whole_difference():
    given = case(4, groups=torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(kernel_shap(given), difference(given)[:, None].expand(4, 4) / 4)


def test_kernel_shap_of_groups_plays_the_groups():
    groups = torch.tensor([5, 1, 1, 8, 5, 3, 3, 3])
    given = case(8, groups=groups)
    found = kernel_shap(given)
    for i, name in enumerate((1, 3, 5, 8)):
        mine = found[:, groups == name]
        torch.testing.assert_close(mine.sum(1), exact(given)[:, i], rtol=0, atol=1e-6)
        torch.testing.assert_close(mine, mine[:, :1].expand_as(mine))


def test_kernel_shap_samples_converge_and_always_add_up():
    given = case(12, rows=8)
    wanted, found = exact(given), {}
    for samples in (64, 256, 1024):
        errors = []
        for seed in range(5):
            values = kernel_shap(dataclasses.replace(given, rng=generator(seed)), n_samples=samples)
            torch.testing.assert_close(values.sum(1), difference(given), rtol=0, atol=1e-10)
            errors.append(error(values, wanted))
        found[samples] = np.mean(errors)
    # four times the samples should halve the error; measured 0.20, 0.079, 0.039
    assert found[256] < found[64] / 1.6
    assert found[1024] < found[256] / 1.6
    assert found[1024] < 0.06


@pytest.mark.parametrize("samples", [2, 3, 8])
def test_kernel_shap_with_fewer_samples_than_units_still_adds_up(samples):
    given = case(12)
    torch.testing.assert_close(
        kernel_shap(given, n_samples=samples).sum(1), difference(given), rtol=0, atol=1e-6
    )


def test_pairing_is_worth_its_name():
    """On a function of pairs alone every complement cancels the odd part: exact from few samples."""
    width = 14
    weight = torch.triu(draw(width, width, seed=6), 1)

    class Pairs(nn.Module):
        def forward(self, x):
            return ((x @ weight) * x).sum(1, keepdim=True)

    given = dataclasses.replace(
        case(width, baseline=0.0), model=Pairs(), target=torch.zeros(4, dtype=torch.int64)
    )
    by_hand = torch.zeros_like(given.x)
    for i, j in combinations(range(width), 2):
        share = weight[i, j] * given.x[:, i] * given.x[:, j] / 2
        by_hand[:, i] += share
        by_hand[:, j] += share
    assert error(kernel_shap(given, n_samples=256), by_hand) < 1e-6


def test_kernel_shap_equals_that_of_the_shap_package():
    given = case(6)
    explainer = shap.KernelExplainer(
        lambda rows: given.model(torch.tensor(rows)).numpy(), given.baseline[None].numpy()
    )
    peer = explainer.shap_values(given.x.numpy(), nsamples=2**6, l1_reg=False, silent=True)
    wanted = torch.tensor(peer)[torch.arange(4), :, given.target]
    torch.testing.assert_close(kernel_shap(given), wanted, rtol=0, atol=1e-6)


# ---- LIME -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [None, torch.tensor([5, 1, 1, 8, 5, 3, 3, 3])])
@pytest.mark.parametrize(("width", "penalty"), [(0.25, 1.0), (0.6, 0.0), (0.1, 20.0)])
def test_lime_is_the_ridge_of_scikit_learn_on_the_same_masks(groups, width, penalty):
    given = case(8, groups=groups)
    units = units_of(given)
    count = int(units.max()) + 1
    present = torch.rand(300, count, generator=generator(11)) < 0.5
    masks = torch.cat([torch.ones(1, count, dtype=torch.bool), present])
    outputs = slow_outputs(given, masks[:, units][None]).numpy()
    z = masks.double().numpy()
    cosine = [row @ np.ones(count) / (np.linalg.norm(row) * np.sqrt(count)) if row.any() else 0 for row in z]
    weights = np.exp(-((1 - np.array(cosine)) ** 2) / width**2 / 2)
    fitted = [Ridge(alpha=penalty).fit(z, row, sample_weight=weights).coef_ for row in outputs]
    slopes = torch.tensor(np.array(fitted))
    found = lime(
        dataclasses.replace(given, rng=generator(11)), n_samples=300, kernel_width=width, penalty=penalty
    )
    wanted = (slopes / units.bincount())[:, units]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


def test_lime_without_a_penalty_finds_an_additive_function():
    given = case(8, baseline=0.0)
    weight = draw(8, 2, seed=6)
    layer = nn.Linear(8, 2, bias=False).double().requires_grad_(False)
    layer.weight.copy_(weight.T)
    given = dataclasses.replace(given, model=layer)
    found = lime(given, n_samples=200, penalty=0.0)
    torch.testing.assert_close(found, given.x * weight.T[given.target], rtol=0, atol=1e-9)


def test_lime_and_kernel_shap_hang_on_their_generator_alone():
    for method in (lime, kernel_shap):
        given = case(13)
        first, again, other = (method(dataclasses.replace(given, rng=generator(s))) for s in (0, 0, 1))
        torch.rand(3)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
