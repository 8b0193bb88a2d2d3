"""Correlated columns: exact values against slow twins, and the metric that holds maps against them."""

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from assay.benchmarks.gaussian import DECAY, SINE, SIZE, SQUARE, Additive, slope, steps
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import METHODS, METRICS, Case, NotApplicable
from assay.benchmarks.truth import exact_attribution
from assay.benchmarks.yardstick import Aim, Yardstick
from assay.datasets.correlated_tabular import correlated_tabular
from assay.datasets.suppressor import suppressor

torch.set_num_threads(1)
load_plugins()
FUNCTIONS = ["linear", "additive", "piecewise"]
# what the docstring says, term by term
PIECES = [
    lambda x: 1.0 if x >= 0 else -1.0,
    lambda x: -2.0 if x < -0.5 else -1.0 if x < 0 else 1.0 if x < 0.5 else 2.0,
    lambda x: float(math.floor(2 * math.cos(math.pi * x))),
]
CURVES = [math.sin, abs, lambda x: x * x, lambda x: math.exp(-x)]


def draw(seed=0, **parameters):
    return correlated_tabular(torch.Generator().manual_seed(seed), **parameters)


def by_name(problem, values):
    """Values of columns, under their names."""
    return {name: values[..., i].double() for i, name in enumerate(problem.columns)}


# The law


@pytest.mark.parametrize("rho", [0.0, 0.6, 1.0])
def test_columns_have_the_stated_correlations(rho):
    problem = draw(rho=rho, train=60_000)
    x = by_name(problem, problem.x)
    for name, column in x.items():
        assert column.std().item() == pytest.approx(1, abs=0.02)
        for other in x:
            same = {name, other} in [{f"cause_{i}", f"companion_{i}"} for i in range(1, 5)]
            wanted = 1.0 if name == other else rho if same else 0.0
            found = torch.corrcoef(torch.stack([column, x[other]]))[0, 1].item()
            assert found == pytest.approx(wanted, abs=0.02)
    assert problem.facts["association"] == rho**2
    for kind, name in (("relevant", "cause"), ("shortcut", "companion"), ("distractor", "independent")):
        assert problem.masks[kind].tolist() == [[c.startswith(f"{name}_") for c in problem.columns]]
    assert problem.aligned is None


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_oracle_is_the_stated_function(function):
    problem = draw(function=function, train=30_000, label_sd=0.2)
    x = by_name(problem, problem.x)
    terms = {
        "linear": [lambda x, w=w: w * x for w in (4, 3, 2, 1)],
        "additive": CURVES,
        "piecewise": [*PIECES, PIECES[0]],
    }[function]
    wanted = sum(
        np.vectorize(term)(x[f"cause_{i + 1}"].numpy().astype(float)) for i, term in enumerate(terms)
    )
    found = problem.oracle(problem.x.double())[:, 0].numpy()
    ratio = found / np.where(wanted == 0, np.nan, wanted)
    assert np.nanmax(ratio) - np.nanmin(ratio) < 1e-9
    assert found.std() == pytest.approx(1, abs=0.03)
    noise = problem.y.double().numpy() - found
    assert noise.std() == pytest.approx(0.2, abs=0.005)
    assert abs(np.corrcoef(noise, found)[0, 1]) < 0.03
    assert problem.facts["snr_db"] == pytest.approx(20 * math.log10(1 / 0.2))
    assert problem.facts["best_r2"] == pytest.approx(1 / 1.04)


@pytest.mark.parametrize("region", ["relevant", "shortcut", "distractor"])
def test_a_region_is_redrawn_alone(region):
    problem = draw(train=20_000)
    x, mask = problem.x[problem.test], problem.masks[region][0]
    found = problem.counterfactual(region, torch.Generator().manual_seed(1))
    assert torch.equal(found[:, ~mask], x[:, ~mask])
    off = torch.corrcoef(torch.cat([found[:, mask], x, problem.y[problem.test][:, None]], 1).T)
    own = int(mask.sum())
    assert off[:own, own:].abs().max() < 5 / math.sqrt(len(x))
    assert (torch.cov(found[:, mask].T) - torch.eye(own)).abs().max() < 0.1
    gap = (problem.oracle(found) - problem.oracle(x)).abs().mean()
    assert (gap > 0.5) == (region == "relevant")
    again = copy.deepcopy(problem).counterfactual(region, torch.Generator().manual_seed(1))
    assert torch.equal(found, again)


def test_without_independent_columns():
    problem = draw(independent=0, causes=2)
    assert set(problem.masks) == {"relevant", "shortcut"}
    assert set(problem.columns) == {"cause_1", "cause_2", "companion_1", "companion_2"}
    with pytest.raises(ValueError, match=r"'distractor' cannot be redrawn; it must be .*relevant, shortcut"):
        problem.counterfactual("distractor", torch.Generator())


# Exact values


@pytest.mark.parametrize(
    ("term", "function"),
    [
        (slope(2.5), lambda x: 2.5 * x),
        (SINE, math.sin),
        (SIZE, abs),
        (SQUARE, lambda x: x * x),
        (DECAY, lambda x: math.exp(-x)),
        (steps(-2.0, (-0.5, 0.0, 0.5), (1.0, 2.0, 1.0)), PIECES[1]),
    ],
)
def test_means_against_quadrature(term, function):
    for centre in (-1.3, 0.0, 0.4):
        for spread in (0.2, 0.7, 1.0):
            law, breaks = scipy.stats.norm(centre, spread), [-0.5, 0.0, 0.5]
            ends = [centre - 9 * spread, *sorted(breaks), centre + 9 * spread]
            ends = sorted(ends)
            expected = sum(
                scipy.integrate.quad(lambda t, law=law: function(t) * law.pdf(t), a, b, epsabs=1e-12)[0]
                for a, b in itertools.pairwise(ends)
            )
            found = term.mean(*torch.tensor([[centre], [spread]], dtype=torch.float64))
            assert found.item() == pytest.approx(expected, abs=1e-7)
        at = torch.tensor([centre], dtype=torch.float64)
        none = torch.zeros((), dtype=torch.float64)
        assert term.mean(at, none).item() == term.value(at).item() == pytest.approx(function(centre))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 1.0])
def test_linear_values_against_the_formula_of_two_features(rho):
    """Of w c + 0 n: the companion gets w rho n / 2, for what it tells before the cause comes."""
    problem = draw(rho=rho)
    x, found = (by_name(problem, v) for v in (problem.x[problem.explained], problem.conditional))
    for i, weight in enumerate((4, 3, 2, 1), 1):
        w = weight / math.sqrt(16 + 9 + 4 + 1)
        told = w * rho * x[f"companion_{i}"] / 2
        assert (found[f"companion_{i}"] - told).abs().max() < 1e-6
        assert (found[f"cause_{i}"] - (w * x[f"cause_{i}"] - told)).abs().max() < 1e-6
    for i in (1, 2):
        assert not found[f"independent_{i}"].any()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_values_are_complete_and_split_within_a_pair(function):
    problem = draw(function=function, rho=0.7, causes=3, explained=50)
    x = problem.x.double()
    f = problem.oracle(x)[:, 0]
    left = f[problem.explained] - problem.conditional.sum(1)
    assert left.std() < 1e-9  # the same for all rows: E f
    assert left.mean().item() == pytest.approx(f.mean().item(), abs=5 * f.std().item() / math.sqrt(len(f)))
    found, own = by_name(problem, problem.conditional), problem.x.clone()
    for name in found:  # other causes at 0 changes nothing of a pair's share but the constants
        if name.startswith("companion"):
            assert found[name].std() > 0.01, name
    assert torch.equal(own, problem.x)


@pytest.mark.parametrize("kind", ["additive", "piecewise"])
def test_values_against_sampling_where_all_columns_are_correlated(kind):
    """The slow twin: rows of the conditional law, averaged, orders enumerated by hand."""
    terms, functions = {
        "additive": ((SINE, DECAY), (np.sin, lambda x: np.exp(-x))),
        "piecewise": ((steps(-1.0, (0.0,), (2.0,)), SIZE), (lambda x: np.where(x >= 0, 1.0, -1.0), np.abs)),
    }[kind]
    covariance = np.full((3, 3), 0.6) + 0.4 * np.eye(3)
    rows = np.array([[1.0, -0.5, 0.8], [-1.2, 0.3, 1.5]])
    draws, many = np.random.default_rng(0), 400_000

    def worth(row, known):
        hidden = [i for i in range(3) if i not in known]
        whole = np.tile(row, (many, 1))
        if hidden:
            seen = list(known)
            mean, left = np.zeros(len(hidden)), covariance[np.ix_(hidden, hidden)]
            if seen:
                pull = covariance[np.ix_(hidden, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
                mean, left = pull @ row[seen], left - pull @ covariance[np.ix_(seen, hidden)]
            whole[:, hidden] = draws.multivariate_normal(mean, left, many)
        return np.mean(functions[0](whole[:, 0]) + functions[1](whole[:, 1]))

    subsets = [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    oracle = Additive(terms, torch.tensor([0, 1]), 1.0)
    found = oracle.conditional_shapley(torch.from_numpy(rows), torch.from_numpy(covariance))
    for row, shares in zip(rows, found.numpy(), strict=True):
        v = {s: worth(row, s) for s in subsets}
        for i in range(3):
            j, k = (other for other in range(3) if other != i)
            with_i = {s: v[tuple(sorted((*s, i)))] - v[s] for s in [(), (j,), (k,), (j, k)]}
            expected = with_i[()] / 3 + with_i[j,] / 6 + with_i[k,] / 6 + with_i[j, k] / 3
            assert shares[i] == pytest.approx(expected, abs=0.015)
    assert found[:, 2].abs().min() > 0.05  # the third is in no term, and yet has a share


def test_at_rho_1_a_companion_gets_half_of_everything():
    for function in FUNCTIONS:
        problem = draw(rho=1.0, function=function)
        found = by_name(problem, problem.conditional)
        for i in range(1, 5):
            assert (found[f"cause_{i}"] - found[f"companion_{i}"]).abs().max() < 1e-6


# The metric


def unit_of(problem):
    """The oracle itself as the model."""
    oracle = copy.deepcopy(problem.oracle)
    x = problem.x[problem.explained]
    case = Case(
        model=oracle,
        x=x,
        target=torch.zeros(len(x), dtype=torch.int64),
        baseline=problem.baseline,
        background=problem.background,
        groups=problem.groups,
        rng=torch.Generator().manual_seed(0),
    )
    return Yardstick(problem, case, "unit")


def score(problem, values, value, *, of=None):
    """Of a map of the problem; or, if so wanted, of a map of it in the evidence of another problem."""
    evidence = dataclasses.replace(unit_of(problem).evidence(values, Aim()), problem=of or problem)
    return METRICS["shapley_error"].function(evidence, value=value)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_exact_values_score_0_in_their_own_game_alone(function):
    problem = draw(function=function, rho=0.8, explained=20)
    target = torch.zeros(20, dtype=torch.int64)
    exact = {v: exact_attribution(problem, target, "shapley", v) for v in ("baseline", "marginal")}
    exact["conditional"] = problem.conditional
    for value in exact:
        for own, values in exact.items():
            found = score(problem, values, value)
            if value == own:
                assert found.max() < 1e-9
            elif "conditional" in (value, own):
                assert found.mean() > 0.1
            twin = 2 * (values - exact[value]).abs().sum(1)
            twin /= values.abs().sum(1) + exact[value].abs().sum(1)
            assert torch.allclose(found, twin, atol=1e-9)


def test_at_rho_0_marginal_and_conditional_values_of_a_linear_function_meet():
    problem = draw(rho=0.0)
    problem = dataclasses.replace(problem, background=torch.cat([problem.x[:50], -problem.x[:50]]))
    marginal = exact_attribution(problem, torch.zeros(100, dtype=torch.int64), "shapley", "marginal")
    assert score(problem, marginal, "conditional").max() < 1e-6
    assert score(problem, marginal, "baseline").max() < 1e-6


def test_our_exact_shapley_method_scores_0_on_the_oracle():
    problem = draw(explained=10, causes=3, independent=1)
    unit = unit_of(problem)
    for value in ("baseline", "marginal"):
        values = METHODS["exact_shapley"].function(unit.case, value=value).double()
        assert score(problem, values, value).max() < 1e-5


def test_values_are_computed_once_for_all_methods(monkeypatch):
    from assay.benchmarks.shared import Store

    problem = draw(explained=10)
    unit = unit_of(problem)
    lent = dataclasses.replace(unit.case, shared=Store(unit.case, "unit").lend(unit.case.model))
    calls, counts, forward = [], [], Additive.forward
    monkeypatch.setattr(Additive, "forward", lambda self, x: calls.append(len(x)) or forward(self, x))
    for factor in (1.0, 2.0):
        evidence = unit.evidence(factor * problem.conditional, Aim())
        METRICS["shapley_error"].function(dataclasses.replace(evidence, case=lent))
        counts.append(len(calls))
    assert counts[0] > 0
    assert counts[1] == counts[0]


def test_the_explained_class_gives_the_sign():
    problem = draw(explained=6)
    labels = (problem.y > 0).long()
    problem = dataclasses.replace(problem, y=labels, task="classification")
    target = torch.tensor([0, 1, 0, 1, 1, 0])
    signed = problem.conditional * (2 * target - 1)[:, None]
    unit = unit_of(draw(explained=6))
    evidence = dataclasses.replace(unit.evidence(signed, Aim()), problem=problem)
    evidence = dataclasses.replace(evidence, case=dataclasses.replace(unit.case, target=target))
    found = METRICS["shapley_error"].function(evidence, value="conditional")
    assert found.max() == 0
    three = dataclasses.replace(problem, y=labels + problem.x[:, 0].gt(1).long())
    with pytest.raises(NotApplicable, match="of one output, and this has 3"):
        METRICS["shapley_error"].function(dataclasses.replace(evidence, problem=three), value="conditional")


def test_what_is_not_known_is_not_applicable():
    problem = draw(explained=6)
    values = problem.conditional
    with pytest.raises(NotApplicable, match="does not know the conditional"):
        score(dataclasses.replace(problem, conditional=None), values, "conditional")
    without = suppressor(torch.Generator().manual_seed(0))
    for value, why in (("baseline", "no oracle"), ("marginal", "no oracle"), ("conditional", "not know")):
        with pytest.raises(NotApplicable, match=why):
            score(problem, values, value, of=without)


def test_sizes_are_held_against_signs():
    problem = draw(explained=30)
    assert score(problem, problem.conditional, "conditional").max() == 0
    assert score(problem, problem.conditional.abs(), "conditional").mean() > 0.5
    assert score(problem, torch.zeros_like(problem.conditional), "conditional").tolist() == [2.0] * 30
