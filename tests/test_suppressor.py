"""Suppressors: the law that is drawn is the one that is claimed, and our methods meet their closed forms."""

import copy
import math
import warnings
from itertools import permutations

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import nn

from assay.benchmarks.gaussian import TwoClasses, given, shapley_values
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import METHODS, Case
from assay.datasets.suppressor import suppressor

torch.set_num_threads(1)
load_plugins()
RHOS = [0.0, 0.3, -0.6, 0.95]


def draw(seed=0, **parameters):
    return suppressor(torch.Generator().manual_seed(seed), **parameters)


def law_by_hand(rho, s1, s2):
    mean = torch.tensor([1.0, 0.0], dtype=torch.float64)
    covariance = [[s1 * s1, rho * s1 * s2], [rho * s1 * s2, s2 * s2]]
    return TwoClasses(mean, torch.tensor(covariance, dtype=torch.float64))


def law_of(problem):
    return problem.counterfactual.law


def optimal_case(law, dtype):
    """The optimal linear model, as a network, and rows to explain."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(len(law.mean), 1, bias=False)).to(dtype)
    with torch.no_grad():
        net[1].weight.copy_(law.weights)
    rng = torch.Generator().manual_seed(5)
    x = law.draw(torch.arange(60) % 2, rng).to(dtype)
    return Case(
        model=net.eval().requires_grad_(False),
        x=x[:20],
        target=torch.zeros(20, dtype=torch.int64),
        baseline=torch.zeros(x.shape[1], dtype=dtype),
        background=x[20:],
        groups=None,
        rng=rng,
    )


def explained(case, name, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what methods say of themselves
        return METHODS[name].function(case, **parameters).detach().double()


# The law


@pytest.mark.parametrize(("rho", "s1", "s2"), [(0.7, 1.0, 1.0), (-0.5, 0.8, 0.5)])
def test_rows_have_the_law_of_the_paper(rho, s1, s2):
    problem = draw(rho=rho, signal_sd=s1, suppressor_sd=s2, train=60_000)
    x, y = problem.x.double(), 2 * problem.y - 1
    noise = x - torch.stack([y.double(), torch.zeros(len(y))], 1)
    exact = torch.tensor([[s1 * s1, rho * s1 * s2], [rho * s1 * s2, s2 * s2]])
    assert (torch.cov(noise.T) - exact).abs().max() < 0.02
    assert noise.mean(0).abs().max() < 0.02
    assert (x[:, 1] * y).mean().abs() < 4 * s2 / math.sqrt(len(x))  # tells nothing of the class
    assert problem.facts["association"] == 0
    assert problem.y.double().mean() == 0.5
    assert problem.oracle is None
    assert problem.aligned is None
    assert problem.masks["relevant"].tolist() == [[True, False]]
    assert problem.masks["distractor"].tolist() == [[False, True]]
    assert problem.columns == ("signal_1", "suppressor_1")


@pytest.mark.parametrize("rho", RHOS)
def test_weights_and_accuracy_of_the_paper(rho):
    s1, s2 = 0.8, 0.5
    problem = draw(rho=rho, signal_sd=s1, suppressor_sd=s2)
    ratio = -rho * s1 / s2
    alpha = 1 / math.sqrt(1 + ratio**2)
    assert law_of(problem).weights.tolist() == pytest.approx([alpha, alpha * ratio], abs=1e-12)
    facts = problem.facts
    assert facts["suppressor_share[gradient]"] == pytest.approx(abs(ratio) / (1 + abs(ratio)))
    assert facts["suppressor_share[pattern]"] == 0
    assert facts["bayes_accuracy"] == pytest.approx(scipy.stats.norm.cdf(1 / (s1 * math.sqrt(1 - rho * rho))))
    assert facts["bayes_accuracy_without"] == pytest.approx(scipy.stats.norm.cdf(1 / s1))


@pytest.mark.parametrize(("signals", "suppressors"), [(3, 3), (2, 5), (4, 2), (1, 3)])
def test_more_dimensions(signals, suppressors):
    rho, s1, s2 = 0.6, 0.9, 2.0
    problem = draw(
        rho=rho, signal_sd=s1, suppressor_sd=s2, signals=signals, suppressors=suppressors, train=40_000
    )
    law = law_of(problem)
    shares = torch.zeros(signals, suppressors, dtype=torch.float64)
    for i in range(signals):
        own = [j for j in range(suppressors) if (i - j) % min(signals, suppressors) == 0]
        shares[i, own] = len(own) ** -0.5
    a = torch.full((signals,), signals**-0.5, dtype=torch.float64)
    expected = torch.cat([a, -rho * s1 / s2 * shares.T @ a])
    assert torch.allclose(law.weights, expected / expected.norm(), atol=1e-12)
    two = draw(rho=rho, signal_sd=s1, suppressor_sd=s2).facts["bayes_accuracy"]
    assert problem.facts["bayes_accuracy"] == pytest.approx(two, abs=1e-12)
    assert law.covariance.diagonal().tolist() == pytest.approx([s1 * s1] * signals + [s2 * s2] * suppressors)
    x, y = problem.x.double(), problem.y
    found = (((x @ law.weights) > 0) == y).double().mean().item()
    assert found == pytest.approx(two, abs=0.01)
    within = x - (2 * y - 1)[:, None] * law.mean
    assert (torch.cov(within.T) - law.covariance).abs().max() < 0.03 * s2 * s2


def test_at_rho_0_the_suppressor_is_of_no_use():
    facts = draw(rho=0.0).facts
    assert facts["bayes_accuracy"] == facts["bayes_accuracy_without"]
    assert facts["suppressor_share[gradient]"] == facts["suppressor_share[permutation]"] == 0


# Closed forms


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rho", RHOS)
def test_our_methods_meet_the_closed_forms(rho, dtype):
    law = law_by_hand(rho, 0.8, 0.5)
    case = optimal_case(law, dtype)
    forms = law.explanations(case.x.double(), case.background.double().mean(0))
    alpha = 1 / math.sqrt(1 + (rho * 0.8 / 0.5) ** 2)
    w = alpha * torch.tensor([1.0, -rho * 0.8 / 0.5], dtype=torch.float64)
    by_hand = {"gradient": w.expand(20, 2)} | dict.fromkeys(
        ("input_x_gradient", "integrated_gradients", "exact_shapley", "lrp"), w * case.x.double()
    )
    for name, expected in by_hand.items():
        assert torch.allclose(forms[name], expected, atol=1e-12), name
        found = explained(case, name)
        assert (found - expected).abs().max() < 1e-6, name
    found = explained(case, "exact_shapley", value="marginal")
    assert (found - forms["exact_shapley(value=marginal)"]).abs().max() < 1e-6
    assert (found - w * (case.x - case.background.mean(0)).double()).abs().max() < 1e-6


@pytest.mark.parametrize(("signals", "suppressors"), [(3, 3), (2, 4)])
def test_our_methods_meet_the_closed_forms_in_more_dimensions(signals, suppressors):
    law = law_of(draw(rho=0.7, signals=signals, suppressors=suppressors))
    case = optimal_case(law, torch.float64)
    forms = law.explanations(case.x)
    for name in ("gradient", "input_x_gradient", "integrated_gradients", "exact_shapley"):
        assert (explained(case, name) - forms[name]).abs().max() < 1e-6, name
    share = (law.weights[signals:].abs().sum() / law.weights.abs().sum()).item()
    facts = draw(rho=0.7, signals=signals, suppressors=suppressors).facts
    assert facts["suppressor_share[gradient]"] == pytest.approx(share)


def test_pattern_and_permutation_against_sampled_rows():
    law = law_by_hand(0.6, 0.8, 0.5)
    n = 400_000
    x = law.draw(torch.arange(n) % 2, torch.Generator().manual_seed(0)).double()
    forms, output = law.explanations(x[:3]), x @ law.weights
    slope = torch.cov(torch.cat([x, output[:, None]], 1).T)[:2, 2] / output.var()
    assert (forms["pattern"][0] - slope).abs().max() < 0.01
    assert forms["pattern"][0, 1] == 0
    assert (forms["pattern_attribution"].sum(1) - output[:3]).abs().max() < 1e-12
    assert not forms["pattern_attribution"][:, 1].any()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    moved = (law.weights * (x - x[order])).square().mean(0)
    assert (forms["permutation"][0] / moved - 1).abs().max() < 0.02
    sizes = x.abs().mean(0)
    assert (law.sizes / sizes - 1).abs().max() < 0.01


def test_expectations_against_quadrature():
    rho, s1, s2 = 0.6, 0.8, 0.5
    law = law_by_hand(rho, s1, s2)
    x = torch.tensor([[0.4, -0.7], [-1.5, 0.2]], dtype=torch.float64)
    w = law.weights.tolist()
    joint = [scipy.stats.multivariate_normal([y, 0], law.covariance.numpy()) for y in (-1, 1)]

    def mean(weigh, place, known):
        """E of the missing feature, given the known one."""

        def at(t):
            point = (known, t) if place == 1 else (t, known)
            return sum(law_.pdf(point) for law_ in joint)

        ways = [scipy.integrate.quad(lambda t, p=p: t**p * at(t), -9, 9, points=[0])[0] for p in (0, 1)]
        return weigh * ways[1] / ways[0]

    forms = law.explanations(x)
    for row, (x1, x2) in enumerate(x.tolist()):
        first, second = w[0] * x1 + mean(w[1], 1, x1), w[1] * x2 + mean(w[0], 0, x2)
        assert forms["m_plot"][row].tolist() == pytest.approx([first, second], abs=1e-7)
        assert second == pytest.approx(0, abs=1e-7)  # the suppressor alone tells nothing
        whole = w[0] * x1 + w[1] * x2
        halves = [(first + whole - second) / 2, (second + whole - first) / 2]
        assert forms["conditional_shapley"][row].tolist() == pytest.approx(halves, abs=1e-7)
    assert forms["conditional_shapley"][:, 1].abs().min() > 0.01


def test_shapley_values_against_all_orders():
    draws = np.random.default_rng(0)
    worth = {frozenset(s): draws.normal() for s in [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]}
    expected = np.zeros(3)
    for order in permutations(range(3)):
        for place, feature in enumerate(order):
            before = frozenset(order[:place])
            expected[feature] += (worth[before | {feature}] - worth[before]) / 6
    game = lambda known: torch.tensor([worth[frozenset(known.nonzero()[:, 0].tolist())]])  # noqa: E731
    assert shapley_values(lambda known: game(known).double(), 3)[0].tolist() == pytest.approx(expected)


def test_the_law_given_some_features_against_regression():
    factor = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariance = factor @ factor.T
    known = torch.tensor([True, False, True, False])
    weights, spread = given(covariance, known)
    noise = torch.randn(400_000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = noise @ factor.T
    slopes = torch.linalg.lstsq(x[:, known], x).solution.T
    assert (weights[:, known] - slopes).abs().max() < 0.01
    assert not weights[:, ~known].any()
    assert ((x - x @ weights.T).std(0) - spread).abs().max() < 0.01
    assert spread[known].tolist() == [0, 0]


# The counterfactual


@pytest.mark.parametrize("region", ["relevant", "distractor"])
def test_a_region_is_redrawn_from_its_marginal_law(region):
    problem = draw(rho=0.8, train=40_000, signals=2, suppressors=3)
    x, y = problem.x[problem.test], 2 * problem.y[problem.test] - 1
    found = problem.counterfactual(region, torch.Generator().manual_seed(3))
    mask = problem.masks[region][0]
    assert torch.equal(found[:, ~mask], x[:, ~mask])
    assert (found[:, mask] != x[:, mask]).all()
    error = found.std(0) / math.sqrt(len(x))
    assert ((found * y[:, None]).mean(0)[mask] < 4 * error[mask]).all()
    assert (torch.cov(found[:, mask].T) - torch.cov(x[:, mask].T)).abs().max() < 0.1
    across = torch.corrcoef(found.T)[mask][:, ~mask]
    assert across.abs().max() < 4 / math.sqrt(len(x))
    again = copy.deepcopy(problem).counterfactual(region, torch.Generator().manual_seed(3))
    assert torch.equal(found, again)


def test_an_unknown_region_is_refused():
    with pytest.raises(ValueError, match=r"'shortcut' cannot be redrawn; it must be .*relevant, distractor"):
        draw().counterfactual("shortcut", torch.Generator())
