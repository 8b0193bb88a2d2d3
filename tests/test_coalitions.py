"""Which coalitions a design draws, what they weigh, and the model's outputs under them."""

import dataclasses
import math
import time
from itertools import combinations, product

import pytest
import torch
from torch import nn

from assay.benchmarks import coalitions as module
from assay.benchmarks.coalitions import (
    Alone,
    Everything,
    Sampled,
    Walks,
    all_coalitions,
    fits,
    table,
    unit_count,
    units_of,
)
from assay.benchmarks.plugin import Case
from assay.benchmarks.shapley import spread_over_features

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


def case(width, rows=4, groups=None, seed=0):
    return Case(
        model=Net(width),
        x=draw(rows, width, seed=3),
        target=torch.arange(rows) % 2,
        baseline=torch.full((width,), 0.3).double(),
        background=draw(5, width, seed=4),
        groups=groups,
        rng=generator(seed),
    )


def sets(coalitions):
    """Each coalition as a set of units."""
    return [frozenset(c.nonzero()[:, 0].tolist()) for c in coalitions]


def mass_of_sizes(coalitions, weights):
    """[units + 1]: the weight that all coalitions of a size have together."""
    units = coalitions.shape[1]
    return torch.zeros(units + 1).double().index_add_(0, coalitions.sum(1), weights.double())


# ---- units ----------------------------------------------------------------------------------------------

GROUPS = torch.tensor([7, 7, 3, 9, 3])


def test_units_are_numbered_without_gaps():
    assert units_of(case(5, groups=GROUPS)).tolist() == [1, 1, 0, 2, 0]
    assert units_of(case(5)).tolist() == [0, 1, 2, 3, 4]
    assert [unit_count(case(5, groups=GROUPS)), unit_count(case(5))] == [3, 5]


def test_a_unit_s_value_is_handed_out_in_equal_shares():
    given = case(5, groups=GROUPS)
    values = draw(4, 3, seed=9)
    found = spread_over_features(given, values)
    torch.testing.assert_close(found.sum(1), values.sum(1))
    torch.testing.assert_close(found[:, 0], values[:, 1] / 2)
    torch.testing.assert_close(found[:, [2, 3]], values[:, [0, 2]] / torch.tensor([2, 1]))


def test_what_fits():
    assert [fits(10, 1024), fits(10, 1023), fits(11, 2048), fits(200, 2048)] == [True, False, True, False]
    assert not fits(64, 2**62)  # nobody lists that many


# ---- designs that list ----------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [1, 2, 3, 7])
def test_everything_is_every_subset_in_binary_order_and_every_size_weighs_the_same(units):
    found, weights = Everything().draw(units, generator())
    assert found.tolist() == [list(c) for c in product((False, True), repeat=units)]
    assert torch.equal(found, all_coalitions(units))
    torch.testing.assert_close(
        mass_of_sizes(found, weights), torch.full_like(weights[: units + 1], 1 / (units + 1))
    )
    size = found.sum(1)
    for s in range(units + 1):  # and within a size, every coalition
        assert weights[size == s].unique().numel() == 1


@pytest.mark.parametrize("units", [1, 2, 6])
def test_alone_takes_one_unit_away_at_a_time_in_their_order(units):
    found, weights = Alone().draw(units, generator())
    assert sets(found) == [frozenset(range(units)) - {i} for i in range(units)]
    assert weights.tolist() == [1 / units] * units


# ---- sampled coalitions ---------------------------------------------------------------------------------

# small budgets, odd ones, just below and at all coalitions, odd and even numbers of units
PLANS = [(3, 4), (3, 5), (3, 7), (4, 4), (4, 5), (4, 7), (4, 15), (5, 12), (6, 40), (7, 127), (8, 100)]
PLANS += [(9, 501), (10, 600), (12, 500), (12, 4095), (13, 2048), (30, 2048), (31, 64), (110, 7), (110, 2048)]


@pytest.mark.parametrize(("units", "budget"), PLANS)
def test_sampled_coalitions_are_pairs_within_the_budget_whose_weights_make_1(units, budget):
    for seed in range(3):
        found, weights = Sampled(budget).draw(units, generator(seed))
        half = len(found) // 2
        assert len(found) == len(weights) == 2 * max(1, (budget - 2) // 2) <= budget - 2
        assert torch.equal(found[half:], ~found[:half])
        assert torch.equal(weights[half:], weights[:half])
        assert found.any(1).all()
        assert not found.all(1).any()
        assert (weights > 0).all()
        assert weights.dtype == torch.float64
        assert weights.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("units", "budget"), [(1, 2), (1, 4), (2, 4), (2, 5), (3, 8), (11, 2048)])
def test_where_all_coalitions_fit_the_budget_they_are_all_there(units, budget):
    (found, weights), (every, wanted) = (
        Sampled(budget).draw(units, generator()),
        Everything().draw(units, generator()),
    )
    assert torch.equal(found, every)
    assert torch.equal(weights, wanted)


@pytest.mark.parametrize(("units", "budget"), PLANS)
def test_every_size_has_the_weight_of_its_law_on_average(units, budget):
    """1 / (units - 1) for each; sizes that the budget exhausts have it exactly, every time."""
    draws = [Sampled(budget).draw(units, generator(seed)) for seed in range(60)]
    mass = torch.stack([mass_of_sizes(*d) for d in draws])[:, 1:units]
    # a size is met by pairs of one weight, strata apart: no more spread than if they came independently
    law, heaviest = 1 / (units - 1), max(d[1].max().item() for d in draws)
    assert (mass.mean(0) - law).abs().max() < 4.5 * math.sqrt(2 * heaviest * law / 60) + 1e-12
    for size in range(1, units):
        listed = all(sets_of_size(d[0], size) == math.comb(units, size) for d in draws[:3])
        if listed and mass[:3, size - 1].unique().numel() == 1:
            assert mass[0, size - 1].item() == pytest.approx(law, abs=1e-12)
    # strata: a size is never further from its share than two draws' worth
    assert (mass - law).abs().max() <= 2 * 2 * heaviest


def sets_of_size(coalitions, size):
    return len({s for s in sets(coalitions[coalitions.sum(1) == size])})


@pytest.mark.parametrize(
    ("units", "budget", "exhausted"), [(12, 500, [1]), (12, 700, [1, 2]), (110, 2048, []), (6, 60, [1, 2])]
)
def test_sizes_that_the_budget_exhausts_are_listed_whole(units, budget, exhausted):
    found, weights = Sampled(budget).draw(units, generator())
    for size in exhausted:
        for s in (size, units - size):
            mine = found.sum(1) == s
            assert sorted(map(sorted, sets(found[mine]))) == [list(c) for c in combinations(range(units), s)]
            assert weights[mine].tolist() == pytest.approx(
                [1 / (units - 1) / math.comb(units, s)] * mine.sum()
            )
    others = ~sum((found.sum(1) == s) | (found.sum(1) == units - s) for s in [0, *exhausted]).bool()
    assert weights[others].max() - weights[others].min() < 1e-15  # and what is drawn weighs the same


def test_the_middle_size_is_listed_once_and_not_once_again_as_its_complement():
    """Of 4 units a budget of 14 has 6 pairs: all 4 of sizes 1 and 3, and 2 of the 3 within size 2."""
    found, weights = Sampled(14).draw(4, generator())
    assert len(set(sets(found))) == 12
    assert mass_of_sizes(found, weights)[1:4].tolist() == pytest.approx([1 / 3] * 3)
    seen = set()
    for seed in range(40):
        middle = [s for s in sets(Sampled(14).draw(4, generator(seed))[0]) if len(s) == 2]
        assert len(set(middle)) == 4
        seen |= {frozenset(middle)}
    assert len(seen) == 3  # each of the 3 pairs may be the one that is left out


@pytest.mark.parametrize(
    ("units", "budget"), [(4, 14), (6, 40), (8, 200), (10, 1000), (12, 2048), (13, 2048)]
)
def test_no_coalition_comes_twice_where_those_of_its_size_can_be_listed(units, budget):
    for seed in range(10):
        found, _ = Sampled(budget).draw(units, generator(seed))
        assert len(set(sets(found))) == len(found)


def test_no_size_is_ever_asked_for_more_than_it_has():
    """Every small plan there is: as many coalitions as weights, none twice."""
    for units in range(1, 9):
        for budget in range(4, 2**units + 3):
            found, weights = Sampled(budget).draw(units, generator(budget))
            assert len(found) == len(weights)
            assert found.unique(dim=0).shape == found.shape


def test_beyond_what_is_listed_coalitions_are_drawn_of_the_size_that_was_asked(monkeypatch):
    monkeypatch.setattr(module, "LISTED", 1)
    found, weights = Sampled(2000).draw(20, generator())
    assert mass_of_sizes(found, weights)[1:20].tolist() == pytest.approx([1 / 19] * 19, abs=4 / 2000)
    share = found[:999].double().mean(0)  # of the smaller of each pair
    assert (share - share.mean()).abs().max() < 4.5 * 0.5 / math.sqrt(999)


@pytest.mark.parametrize("units", [12, 20, 110])
def test_every_unit_is_as_likely_in_a_coalition_of_any_size(units):
    drawn = [Sampled(500).draw(units, generator(seed))[0] for seed in range(20)]
    found = torch.cat(drawn)
    size = found.sum(1)
    for s in (1, 2, units // 2, units - 1):
        mine = found[size == s].double()
        share, error = s / units, math.sqrt(s / units * (1 - s / units) / len(mine))
        assert (mine.mean(0) - share).abs().max() < 4.5 * error


def test_a_design_hangs_on_its_generator_alone():
    for design in (Sampled(100), Walks(5), Walks(3, paired=True)):
        first, other = design.draw(13, generator(0)), design.draw(13, generator(1))
        torch.rand(3)
        assert torch.equal(first[0], design.draw(13, generator(0))[0])
        assert not torch.equal(first[0], other[0])
        assert torch.equal(first[1].sort()[0], first[1].sort()[0])


def test_thousands_of_units_are_no_burden():
    """Sizes and their numbers by logarithms: C(10000, 5000) is never formed."""
    start = time.process_time()
    found, weights = Sampled(64).draw(10_000, generator())
    assert time.process_time() - start < 1
    assert found.shape == (62, 10_000)
    assert weights.sum().item() == pytest.approx(1)
    size = found[:31].sum(1).sort()[0]
    # one draw from each of 31 strata of the sizes 1 to 5000
    assert ((size - 1) * 31 // 5000).tolist() == list(range(31))


# ---- walks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [2, 3, 9])
@pytest.mark.parametrize("paired", [False, True])
def test_walks_are_chains_that_grow_by_one_unit_and_pairs_are_walked_backwards(units, paired):
    found, weights = Walks(6, paired).draw(units, generator())
    walks = found.view(-1, units - 1, units)
    assert len(walks) == (12 if paired else 6)
    assert torch.equal(walks.sum(2), torch.arange(1, units).expand(len(walks), -1))
    assert (walks[:, 1:] >= walks[:, :-1]).all()  # nobody leaves
    assert weights.tolist() == [1 / len(found)] * len(found)
    if paired:
        orders = [arrivals(walk) for walk in walks]
        assert [o[::-1] for o in orders[:6]] == orders[6:]


def arrivals(walk):
    """The order in which units come."""
    ends = torch.cat([torch.zeros_like(walk[:1]), walk, torch.ones_like(walk[:1])])
    return (ends[1:] & ~ends[:-1]).int().argmax(1).tolist()


def test_every_order_is_as_likely():
    walks = Walks(6000).draw(3, generator())[0].view(-1, 2, 3)
    orders = [tuple(arrivals(walk)) for walk in walks]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert max(abs(c - 1000) for c in counts) < 4.5 * math.sqrt(1000 * 5 / 6)


def test_a_walk_of_one_unit_has_no_step():
    found, weights = Walks(4).draw(1, generator())
    assert found.shape == (0, 1)
    assert weights.shape == (0,)


# ---- tables ---------------------------------------------------------------------------------------------

DESIGNS = [Everything(), Alone(), Sampled(6), Walks(3), Walks(2, paired=True)]


def slow_row(given, row, kept, filler):
    """The explained output of one row with the units outside `kept` taken from the filler."""
    x = given.x[row].clone()
    for feature, unit in enumerate(units_of(given).tolist()):
        if unit not in kept:
            x[feature] = filler[feature]
    return given.model(x[None])[0, given.target[row]].item()


@pytest.mark.parametrize("design", DESIGNS, ids=str)
@pytest.mark.parametrize("value", ["baseline", "marginal"])
def test_a_table_holds_the_outputs_of_its_coalitions_and_of_both_ends(design, value):
    given = case(5, groups=GROUPS)
    found = table(given, design, value)
    fillers = given.baseline[None] if value == "baseline" else given.background
    assert found.outputs.dtype == torch.float64
    for row in range(4):

        def output(kept, row=row):
            return sum(slow_row(given, row, kept, f) for f in fillers) / len(fillers)

        wanted = [output(kept) for kept in sets(found.coalitions)]
        assert found.outputs[row].tolist() == pytest.approx(wanted, abs=1e-12)
        assert found.whole[row].item() == pytest.approx(output({0, 1, 2}), abs=1e-12)
        assert found.empty[row].item() == pytest.approx(output(set()), abs=1e-12)


@pytest.mark.parametrize("value", ["baseline", "marginal"])
@pytest.mark.parametrize(
    ("design", "each"),
    [(Everything(), 2**6), (Sampled(64), 2**6), (Sampled(63), 62), (Alone(), 8), (Walks(4), 22)],
    ids=str,
)
def test_a_table_takes_no_more_model_rows_than_it_says(design, each, value):
    """All coalitions have both ends among them; other designs need two rows more."""
    asked = []
    given = case(6)
    given.model.register_forward_hook(lambda _, inputs, __: asked.append(len(inputs[0])))
    found = table(given, design, value)
    assert sum(asked) == found.rows == each * 4 * (1 if value == "baseline" else 5)


def test_only_a_table_of_all_coalitions_is_exhaustive():
    """Many walks of few units are as many coalitions as there are, and yet not all, nor in binary order."""
    given = case(3)
    assert table(given, Everything()).exhaustive
    assert table(given, Sampled(8)).exhaustive
    for design in (Sampled(7), Alone(), Walks(4), Walks(10)):
        assert not table(given, design).exhaustive, design
    assert table(case(1), Sampled(4)).exhaustive


def test_a_table_of_its_own_is_drawn_from_the_case_s_generator():
    first, again, other = (table(case(13, seed=s), Sampled(50)).coalitions for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_features_may_have_any_shape():
    flat = case(6)
    square = dataclasses.replace(
        flat,
        x=flat.x.view(4, 2, 3),
        baseline=flat.baseline.view(2, 3),
        background=flat.background.view(5, 2, 3),
    )
    for value in ("baseline", "marginal"):
        first, second = (table(c, Everything(), value) for c in (flat, square))
        torch.testing.assert_close(first.outputs, second.outputs)
    assert units_of(square).tolist() == [[0, 1, 2], [3, 4, 5]]
