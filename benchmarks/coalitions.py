"""Coalitions of units that all rows share, and the model's outputs under them.

A design says which coalitions; `table` has the outputs under them, computed once for all methods of a unit.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from .perturb import MEMORY, absent, outputs_under, rows_at_once
from .plugin import Case, NotApplicable
from .sharing import of_case
from .terms import Value

Coalitions: TypeAlias = Bool[Tensor, "m units"]
BLOCK = 20_000_000  # numbers of masks at one time
MOST_UNITS = 16  # whose coalitions are enumerated
MOST_ROWS = 2**18  # model rows for that, for a row explained
LISTED = 20_000  # coalitions of one size that are listed to draw from without repetition


@runtime_checkable
class Design(Protocol):
    """Which coalitions; a frozen dataclass, so that equal designs share one table."""

    def draw(self, units: int, rng: Generator) -> tuple[Coalitions, Float[Tensor, " m"]]:
        """The coalitions and the weight of each, which sum to 1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Outputs of every row under coalitions that all rows share; float64."""

    coalitions: Coalitions
    weights: Float[Tensor, " m"]  # sum to 1
    outputs: Float[Tensor, "n m"]
    whole: Float[Tensor, " n"]  # with everything present
    empty: Float[Tensor, " n"]  # with nothing present
    rows: int  # model rows that it took

    @property
    def exhaustive(self) -> bool:
        """Whether every coalition is here, in binary order."""
        return _everything(self.coalitions)


def table(case: Case, design: Design, value: Value = "baseline") -> Table:
    """The outputs under a design's coalitions; the shared ones where they are of this case."""
    if isinstance(design, Sampled) and fits(unit_count(case), design.budget):
        design = Everything()  # one table for all whose budget it fits
    return of_case(case, Played(design, value))


@dataclass(frozen=True, slots=True)
class Played:
    """The recipe for a table."""

    design: Design
    value: Value

    def make(self, case: Case, rng: Generator) -> Table:
        """The table."""
        return play(case, self.design, self.value, rng)

    def __repr__(self) -> str:  # what is drawn hangs on it: tables of both value functions share coalitions
        return repr(self.design)


def play(case: Case, design: Design, value: Value, rng: Generator) -> Table:
    """Compute a table."""
    units = units_of(case)
    coalitions, weights = design.draw(unit_count(case), rng)
    _refuse_if_large(case, *coalitions.shape)
    has_ends, none = _everything(coalitions), torch.zeros_like(coalitions[:1])
    keep = coalitions if has_ends else torch.cat([none, coalitions, ~none])
    at_once, block = rows_at_once(case), max(1, BLOCK // units.numel())
    parts = [outputs_under(case, some[:, units][None], value, at_once) for some in keep.split(block)]
    outputs = torch.cat(parts, 1).double()
    fillers = 1 if value == "baseline" else len(case.background)
    return Table(
        coalitions=coalitions,
        weights=weights,
        outputs=outputs if has_ends else outputs[:, 1:-1],
        whole=outputs[:, -1],
        empty=outputs[:, 0],
        rows=keep.shape[0] * fillers * len(case.x),
    )


def _refuse_if_large(case: Case, count: int, units: int) -> None:
    """Refuse a table that would not fit beside the fits that are made from it."""
    needed = count * (units + 8 * len(case.x))
    if needed > MEMORY:
        raise NotApplicable(
            f"{count:,} coalitions of {units:,} units take {needed / 2**20:,.0f} MB, and "
            f"{MEMORY // 2**20} are allowed: give a smaller budget"
        )


def units_of(case: Case) -> Int[Tensor, "*feature"]:
    """Feature -> unit, numbered from 0 without gaps."""
    if case.groups is None:
        return torch.arange(case.baseline.numel()).view(case.baseline.shape)
    return case.groups.unique(return_inverse=True)[1]


def unit_count(case: Case) -> int:
    """How many units there are."""
    return int(units_of(case).max()) + 1


def refuse_to_enumerate(case: Case, value: Value) -> None:
    """Refuse what has too many units for all of its coalitions.

    Raises:
        NotApplicable: it has.
    """
    units = unit_count(case)
    if units > MOST_UNITS:
        raise NotApplicable(f"enumerates coalitions of at most {MOST_UNITS} units, and this has {units}")
    rows = 2**units * len(absent(case, value))
    if rows > MOST_ROWS:
        raise NotApplicable(
            f"takes at most {MOST_ROWS:,} model rows for a row explained, and this needs {rows:,}"
        )


def fits(units: int, budget: int) -> bool:
    """Whether all coalitions of so many units can be had for this budget."""
    return units < 31 and 2**units <= budget


def all_coalitions(units: int) -> Coalitions:
    """Every subset, the empty one first, in binary order: the first unit is the highest bit."""
    bits = torch.arange(units - 1, -1, -1)
    return (torch.arange(2**units)[:, None] >> bits & 1).bool()


def _everything(coalitions: Coalitions) -> bool:
    """Whether these are all coalitions, in binary order: walks may be as many and lack some."""
    count, units = coalitions.shape
    return fits(units, count) and torch.equal(coalitions, all_coalitions(units))


@dataclass(frozen=True, slots=True)
class Everything:
    """All 2^units coalitions, in binary order; every size weighs the same."""

    def draw(self, units: int, _: Generator) -> tuple[Coalitions, Float[Tensor, " m"]]:
        """The coalitions and their weights."""
        coalitions = all_coalitions(units)
        count = torch.tensor([math.comb(units, s) for s in range(units + 1)], dtype=torch.float64)
        return coalitions, 1 / (count[coalitions.sum(1)] * (units + 1))


@dataclass(frozen=True, slots=True)
class Alone:
    """One unit absent at a time, in the order of the units."""

    def draw(self, units: int, _: Generator) -> tuple[Coalitions, Float[Tensor, " m"]]:
        """The coalitions and their weights."""
        return ~torch.eye(units, dtype=torch.bool), torch.full((units,), 1 / units, dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class Sampled:
    """Subsets of every size alike, each with its complement, as many as the budget has model rows a row.

    Everything where that fits the budget.  Sizes that the budget exhausts are listed; the others are drawn
    from strata, so that none is over-represented by luck.  The pairs cancel the odd part of the sampling
    error (Covert & Lee 2021, arXiv 2012.01536); equal sizes are the leverage scores of the Shapley
    regression (Musco & Witter 2024, arXiv 2410.01917), and what LIME draws.
    """

    budget: int

    def draw(self, units: int, rng: Generator) -> tuple[Coalitions, Float[Tensor, " m"]]:
        """The first of every pair, then the complements in the same order."""
        if fits(units, self.budget):
            return Everything().draw(units, rng)
        listed, size, left = _allotted(units, max(1, (self.budget - 2) // 2), rng)
        masks, weights = [_listed(units, s) for s in listed], []
        mass = 2 / (units - 1)  # of a size and its complement's
        for mask, s in zip(masks, listed, strict=True):
            weights += [_equal(len(mask), mass if 2 * s < units else mass / 2)]
        for s in size.unique().tolist():
            masks.append(_some(units, s, int((size == s).sum()), rng))
        weights += [_equal(len(size), left)]
        drawn, weight = torch.cat(masks), torch.cat(weights) / 2
        return torch.cat([drawn, ~drawn]), torch.cat([weight, weight])


def _allotted(units: int, pairs: int, rng: Generator) -> tuple[list[int], Int[Tensor, " m"], float]:
    """The sizes to be listed whole, the sizes of the pairs to be drawn, and the weight these share."""
    sizes = torch.arange(1, units // 2 + 1)
    share = torch.where(2 * sizes == units, 0.5, 1.0).double()  # half of the middle size are complements
    of = sizes.double()
    log_count = math.lgamma(units + 1) - torch.lgamma(of + 1) - torch.lgamma(units - of + 1)
    count = share * log_count.clamp(max=60).exp().round()
    whole = torch.zeros(len(sizes), dtype=torch.bool)
    left = pairs
    while True:
        mass = share.where(~whole, 0.0)
        more = ~whole & (left * mass >= count * mass.sum())
        if not more.any():
            break
        whole |= more
        left = pairs - int(count[whole].sum())
    edges = mass.cumsum(0) / mass.sum()
    # one uniform draw per stratum of the size distribution: no size is over- or under-represented by luck
    at = (torch.arange(left) + torch.rand(left, generator=rng, dtype=torch.float64)) / left
    size = sizes[torch.searchsorted(edges, at.clamp(max=1 - 1e-12))]
    return sizes[whole].tolist(), size, float(mass.sum() / share.sum())


def _equal(count: int, mass: float) -> Float[Tensor, " m"]:
    """The mass in equal shares."""
    return torch.full((count,), mass / max(1, count), dtype=torch.float64)


def _listed(units: int, size: int) -> Coalitions:
    """All subsets of this size; of the middle size, which complements have too, those with the first unit."""
    members = torch.tensor(list(itertools.combinations(range(units), size)))
    if 2 * size == units:
        members = members[members[:, 0] == 0]
    return torch.zeros(len(members), units, dtype=torch.bool).scatter_(1, members, True)


def _some(units: int, size: int, count: int, rng: Generator) -> Coalitions:
    """Random subsets of this size; no two the same where they can be listed."""
    if _listable(units, size):
        listed = _listed(units, size)
        return listed[torch.randperm(len(listed), generator=rng)[:count]]
    rank = torch.rand(count, units, generator=rng).argsort(1).argsort(1)
    return rank < size


def _listable(units: int, size: int) -> bool:
    """Whether there are few enough subsets of this size to list."""
    # by logarithms: of thousands of units the number itself takes milliseconds
    log_count = math.lgamma(units + 1) - math.lgamma(size + 1) - math.lgamma(units - size + 1)
    return log_count <= math.log(LISTED)


@dataclass(frozen=True, slots=True)
class OfSizes:
    """Random subsets of units absent, of a few sizes evenly spaced from 1 to all units but one.

    A size's subsets are all as likely, and none comes twice where they can be listed; sizes weigh the same.

    sizes: how many, at most; each: subsets of every size, all where there are no more.
    """

    sizes: int = 10
    each: int = 100

    def draw(self, units: int, rng: Generator) -> tuple[Coalitions, Float[Tensor, " m"]]:
        """The coalitions, those with the fewest absent first; not applicable to one unit."""
        if units < 2:
            raise NotApplicable("takes some units away and leaves some, and this has one unit")
        sizes = torch.linspace(1, units - 1, min(self.sizes, units - 1), dtype=torch.float64).round()
        removed = [self._of(units, size, rng) for size in sizes.long().tolist()]
        return ~torch.cat(removed), torch.cat([_equal(len(some), 1 / len(removed)) for some in removed])

    def _of(self, units: int, size: int, rng: Generator) -> Coalitions:
        if 2 * size > units:
            return ~self._of(units, units - size, rng)  # what has fewer members is listed sooner
        if 2 * size < units or not _listable(units, size):
            return _some(units, size, self.each, rng)
        half = _listed(units, size)  # the others of the middle size are their complements
        every = torch.cat([half, ~half])
        return every[torch.randperm(len(every), generator=rng)[: self.each]]


@dataclass(frozen=True, slots=True)
class Walks:
    """Units that come one by one in random orders: the coalitions of 1 to units - 1 on the way.

    paired: every order is also walked backwards (Mitchell et al. 2022, arXiv 2104.12199).
    """

    orders: int
    paired: bool = False

    def draw(self, units: int, rng: Generator) -> tuple[Coalitions, Float[Tensor, " m"]]:
        """The coalitions, walk after walk."""
        place = torch.rand(self.orders, units, generator=rng).argsort(1)  # when each unit comes
        walks = place[:, None] <= torch.arange(units - 1)[:, None]
        if self.paired:
            walks = torch.cat([walks, ~walks.flip(1)])
        walks = walks.flatten(0, 1)
        return walks, torch.full((len(walks),), 1 / max(1, len(walks)), dtype=torch.float64)
