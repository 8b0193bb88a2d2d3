"""Easy and hard features: both say the class by their rule, and the oracle is exact."""

import copy
import itertools
import math

import pytest
import torch

from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import MODELS
from assay.benchmarks.randomness import seeded
from assay.benchmarks.registry import AssayError
from assay.datasets.easy_hard import easy_hard

torch.set_num_threads(1)
load_plugins()
REGIONS = ("relevant", "shortcut", "distractor")


def draw(seed=0, **parameters):
    return easy_hard(torch.Generator().manual_seed(seed), **parameters)


def block(problem, region, rows=slice(None)):
    return problem.x[rows][:, problem.masks[region][0]]


def says(bits, rule):
    """The class that each row's bits say, one row at a time."""
    out = []
    for row in bits.sign().int().tolist():
        if rule == "linear":
            assert len(set(row)) == 1
        out.append(
            {"linear": row[0], "threshold": sum(row), "xor": math.prod(row), "parity": math.prod(row)}[rule]
        )
    return torch.tensor(out) > 0


@pytest.mark.parametrize("position", ["easy_first", "hard_first", "shuffled"])
@pytest.mark.parametrize(
    ("easy", "hard", "bits"),
    [("linear", "parity", 4), ("linear", "xor", 3), ("linear", "threshold", 5), ("threshold", "parity", 3)],
)
def test_each_rule_says_its_class(easy, hard, bits, position):
    problem = draw(easy=easy, hard=hard, bits=bits, position=position, noise_sd=0.0, train=1_000)
    assert torch.equal(says(block(problem, "relevant"), hard), problem.y > 0)
    assert torch.equal(says(block(problem, "shortcut"), easy), problem.says > 0)
    assert torch.equal(problem.aligned, (problem.says == problem.y)[problem.test])
    assert problem.aligned.double().mean() == 0.5
    assert problem.oracle is None
    assert torch.stack([problem.masks[name] for name in REGIONS]).sum(0).eq(1).all()
    k = 2 if hard == "xor" else bits
    assert [int(problem.masks[name].sum()) for name in REGIONS] == [k, k, 6]
    names = dict(zip(REGIONS, ("hard", "easy", "noise"), strict=True))
    for region, name in names.items():
        assert all(
            column.startswith(name) == bool(there)
            for column, there in zip(problem.columns, problem.masks[region][0], strict=True)
        )


@pytest.mark.parametrize(("position", "first"), [("easy_first", "shortcut"), ("hard_first", "relevant")])
def test_position_is_which_comes_first(position, first):
    assert draw(position=position).masks[first][0].nonzero().flatten().tolist() == [0, 1, 2]
    shuffled = draw(position="shuffled", distractors=30).masks["shortcut"][0].nonzero().flatten()
    assert shuffled.max() > 6


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_the_shortcut_is_as_strong_as_stated(correlation):
    problem = draw(correlation=correlation, train=20_000)
    agrees = (problem.says == problem.y)[problem.train].double().mean().item()
    assert agrees == pytest.approx((1 + correlation) / 2, abs=0.015)
    assert problem.facts["association"] == correlation


@pytest.mark.parametrize("rule", ["parity", "threshold"])
def test_bits_are_even_among_those_that_the_rule_allows(rule):
    problem = draw(hard=rule, noise_sd=0.0, train=40_000)
    bits = (block(problem, "relevant", problem.train) > 0).long()
    code = (bits * torch.tensor([1, 2, 4])).sum(1)
    for label in (0, 1):
        share = torch.bincount(code[problem.y[problem.train] == label], minlength=8) / 20_000
        assert sorted(share.tolist()) == pytest.approx([0.0] * 4 + [0.25] * 4, abs=0.01)
    each = block(problem, "shortcut").mean(0)
    assert each.abs().max() < 0.02  # and a column of either region alone has the same law


@pytest.mark.parametrize(("hard", "bits"), [("parity", 2), ("parity", 5), ("threshold", 5), ("xor", 3)])
def test_the_oracle_is_bayes_rule_written_out(hard, bits):
    sd = 0.8
    problem = draw(hard=hard, bits=bits, noise_sd=sd, train=100)
    x = problem.x[problem.explained].double()
    found = problem.oracle(x)
    for row, odds in zip(block(problem, "relevant", problem.explained).double(), found, strict=True):
        weight = [0.0, 0.0]
        for pattern in itertools.product((-1.0, 1.0), repeat=len(row)):
            bit = torch.tensor(pattern).double()
            label = (bit.sum() if hard == "threshold" else bit.prod()) > 0
            weight[int(label)] += math.exp(-(row - bit).square().sum().item() / (2 * sd**2))
        half = math.log(weight[1] / weight[0]) / 2
        assert odds.tolist() == pytest.approx([-half, half])


def test_of_parity_the_log_odds_are_the_product_of_tanh():
    problem = draw(bits=4, noise_sd=0.7, train=100)
    x = problem.x[problem.explained].double()
    core = block(problem, "relevant", problem.explained).double()
    wanted = torch.atanh(torch.tanh(core / 0.49).prod(1))
    assert torch.allclose(problem.oracle(x)[:, 1], wanted)


@pytest.mark.parametrize(("hard", "noise_sd"), [("parity", 0.3), ("parity", 0.8), ("xor", 1.0)])
def test_the_accuracy_of_the_core_holds(hard, noise_sd):
    problem = draw(hard=hard, noise_sd=noise_sd, train=40_000)
    right = (problem.oracle(problem.x.double()).argmax(1) == problem.y).double().mean().item()
    assert problem.facts["core_accuracy"] == pytest.approx(right, abs=0.01)
    assert draw(hard="threshold").facts["core_accuracy"] == "unknown"


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("hard", ["parity", "threshold"])
def test_a_redrawn_region_says_a_class_of_its_own(hard, region):
    problem = draw(hard=hard, explained=4_000, train=100, noise_sd=0.0, correlation=1.0)
    before, y = problem.x[problem.test], problem.y[problem.test] > 0
    after = copy.deepcopy(problem).counterfactual(region, torch.Generator().manual_seed(5))
    mask = problem.masks[region][0]
    assert torch.equal(after[:, ~mask], before[:, ~mask])
    if region != "distractor":
        said = says(after[:, mask], {"relevant": hard, "shortcut": "linear"}[region])
        assert said.double().mean().item() == pytest.approx(0.5, abs=0.04)
        assert (said == y).double().mean().item() == pytest.approx(0.5, abs=0.04)


def test_networks_take_the_easy_one_first_and_the_hard_one_where_it_is_all_there_is():
    found = {}
    for correlation in (0.0, 0.95):
        problem = draw(correlation=correlation)
        rng = torch.Generator().manual_seed(0)
        with seeded(rng):
            network = MODELS["mlp"].function(problem, rng, depth=1, activation="relu")
            line = MODELS["linear"].function(problem, rng)
        for name, model in (("mlp", network), ("linear", line)):
            right = model(problem.x[problem.test]).argmax(1) == problem.y[problem.test]
            for group, rows in (("aligned", problem.aligned), ("conflicting", ~problem.aligned)):
                found[name, correlation, group] = right[rows].double().mean().item()
    assert min(found["mlp", 0.0, group] for group in ("aligned", "conflicting")) > 0.9
    assert found["mlp", 0.95, "aligned"] > found["mlp", 0.95, "conflicting"] + 0.1
    assert found["linear", 0.95, "aligned"] > 0.95
    assert found["linear", 0.95, "conflicting"] < 0.05


def test_a_sum_that_may_be_zero_is_refused():
    for parameters in ({"hard": "threshold", "bits": 4}, {"easy": "threshold", "hard": "xor"}):
        with pytest.raises(AssayError, match="a threshold cannot be of"):
            draw(**parameters)


def test_an_unknown_region_is_refused():
    with pytest.raises(ValueError, match="'hard' is none of distractor, relevant, shortcut"):
        draw().counterfactual("hard", torch.Generator())
