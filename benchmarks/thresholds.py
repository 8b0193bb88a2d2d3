"""The model's outputs as units come or go in the order of a map: evaluated once for all metrics that ask."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from .coalitions import unit_count, units_of
from .perturb import outputs_of
from .plugin import Case, Evidence, NotApplicable, Scores
from .ranking import average_ranks, random_order, unit_order, unit_sums
from .sharing import of_map

Order: TypeAlias = Literal["size", "value"]
PERCENT = (1, 5, 10, 20, 50)  # of the units: ERASER's
STEADY = 8  # of the precision's steps at the largest output: outputs that differ by less are the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The model's outputs with the first units of every row's order moved."""

    units: int
    counts: Int[Tensor, " m"]  # units moved, rising
    outputs: Float[Tensor, "n m outputs"]  # float64
    explained: Float[Tensor, "n m"]  # that one of the outputs

    @property
    def share(self) -> Float[Tensor, " m"]:
        """The share of the units that was moved."""
        return self.counts.double() / self.units

    @property
    def at_shares(self) -> Int[Tensor, " shares"]:
        """Where 1, 5, 10, 20 and 50% of the units were moved, or the nearest count that there is, above 0."""
        return (self.counts[1:, None] - share_counts(self.units)).abs().argmin(0) + 1


@dataclass(frozen=True, slots=True)
class Curve:
    """Units go, or come into the baseline, in the order of falling |a|; ties at random.

    points: all counts 0..units are evaluated where units are at most so many, else so many steps.
    insert: whether they come.
    order: "size" ranks units by their sum of |a|, "value" by their sum of a.
    """

    points: int
    insert: bool = False
    order: Order = "size"

    def read(self, evidence: Evidence, rng: Generator) -> Moved:
        """All outputs of the model on the way."""
        units = unit_count(evidence.case)
        rank = falling(evidence, rng) if self.order == "size" else falling_value(evidence, rng)
        return moved(evidence.case, rank, spaced(units, self.points), insert=self.insert)


@dataclass(frozen=True, slots=True)
class Steps:
    """Units go one at a time in the order of falling |a|.

    points: where units are more than so many, only so many pairs of successive steps, evenly spaced.
    """

    points: int

    def read(self, evidence: Evidence, rng: Generator) -> Moved:
        """All outputs of the model before and after these steps."""
        units = unit_count(evidence.case)
        if units <= self.points:
            return of_map(evidence, Curve(self.points))
        middle = torch.linspace(1, units - 1, self.points, dtype=torch.float64).round().long()
        counts = torch.cat([middle - 1, middle, middle + 1]).unique()
        return moved(evidence.case, falling(evidence, rng), counts, insert=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Mean |f(x) - f(x with noise)|."""

    share: Float[Tensor, " m"]  # of the units that are important
    important: Float[Tensor, "n m"]  # with noise on these
    rest: Float[Tensor, "n m"]  # with noise on all others


@dataclass(frozen=True, slots=True)
class Noisy:
    """Gaussian noise on the units with the largest |a|, and the same noise on all others.

    points: steps along the share of units that are important; all counts where units are at most so many.
    draws: of the noise; a row's are spread evenly over each feature's quantiles (Latin hypercube).
    sd: of the noise, in standard deviations of each feature in the background.
    """

    points: int
    draws: int
    sd: float

    def read(self, evidence: Evidence, rng: Generator) -> Gaps:
        """The gaps at every count.

        Raises:
            NotApplicable: no feature varies in the background.
        """
        case, units = evidence.case, unit_count(evidence.case)
        noise = self.sd * spread(case) * latin_normal(case, self.draws, child(rng))
        rank, counts = falling(evidence, rng), spaced(units, self.points)
        few, all_of_them = torch.zeros_like(counts[:1]), counts[-1:]
        # noise on the ranks from `low` to below `high`: on none, on the first ones, on all but these
        low = torch.cat([few, few.expand(len(counts) - 1), counts[1:-1]])
        high = torch.cat([few, counts[1:], all_of_them.expand(len(counts) - 2)])
        ends = [v.repeat_interleave(self.draws).view(-1, *[1] * (rank.dim() - 1)) for v in (low, high)]
        draw = torch.arange(self.draws).repeat(len(low))

        def build(rows: slice, which: slice) -> Tensor:
            place = rank[rows, None]
            noisy = (place >= ends[0][which]) & (place < ends[1][which])
            x = case.x[rows, None]
            return torch.where(noisy, x + noise[rows][:, draw[which]], x)

        outputs = outputs_of(case, len(draw), build).double().unflatten(1, (-1, self.draws))
        gap = (outputs - outputs[:, :1]).abs().mean(2)
        none, top, others = gap.split([1, len(counts) - 1, len(counts) - 2], 1)
        rest = torch.cat([top[:, -1:], others, none], 1)  # with nothing important, all is the rest
        return Gaps(share=counts.double() / units, important=torch.cat([none, top], 1), rest=rest)


def spaced(units: int, points: int) -> Int[Tensor, " m"]:
    """Counts from 0 to `units`: all where they are at most `points`, else so many even steps."""
    return torch.linspace(0, units, min(points, units) + 1, dtype=torch.float64).round().long()


def share_counts(units: int) -> Int[Tensor, " shares"]:
    """How many units 1, 5, 10, 20 and 50% are: the nearest number, halves up, but one at least."""
    # in whole numbers: int(0.01 * units) is 0 for up to 99 units, and a score of nothing moved
    return torch.tensor([max(1, (percent * units + 50) // 100) for percent in PERCENT])


def falling(evidence: Evidence, rng: Generator) -> Int[Tensor, "n *feature"]:
    """Every feature's rank: its unit's place in the order of falling |a|, ties at random."""
    return unit_order(evidence.attribution, evidence.case.groups, rng)[0]


def falling_value(evidence: Evidence, rng: Generator) -> Int[Tensor, "n *feature"]:
    """The same in the order of falling a, signs and all."""
    # ranks are above 0 and tie where the sums do: shifting the sums would make and break ties
    ranks = average_ranks(unit_sums(evidence.attribution, evidence.case.groups))
    return random_order(ranks, rng)[:, units_of(evidence.case)]


def moved(case: Case, rank: Int[Tensor, "n *feature"], counts: Int[Tensor, " m"], *, insert: bool) -> Moved:
    """All outputs with only the `counts` first ranks present (`insert`), or with only them absent."""
    rank = rank.int()  # half the bytes to compare: where the network is small, this is a tenth of the time
    limits = counts.int().view(-1, *[1] * (rank.dim() - 1))

    def build(rows: slice, which: slice) -> Tensor:
        first, x = rank[rows, None] < limits[which], case.x[rows, None]
        return torch.where(first, x, case.baseline) if insert else torch.where(first, case.baseline, x)

    outputs = outputs_of(case, len(counts), build, every=True).double()
    explained = of_class(outputs, case.target)
    return Moved(units=unit_count(case), counts=counts, outputs=outputs, explained=explained)


def of_class(outputs: Float[Tensor, "n m outputs"], chosen: Int[Tensor, " n"]) -> Float[Tensor, "n m"]:
    """One of every row's outputs."""
    return outputs.gather(2, chosen[:, None, None].expand(-1, outputs.shape[1], 1)).squeeze(2)


def gap_to_end(evidence: Evidence, points: int, *, insert: bool) -> Scores:
    """Mean distance of the deletion or insertion curve from its own last point, in the output's units.

    Mean over the share of units moved: trapezoids on an x axis from 0 to 1, both endpoints included.
    """
    found = of_map(evidence, Curve(points, insert))
    gap = (found.explained - found.explained[:, -1:]).abs()
    return torch.trapezoid(gap, found.share, dim=1)


def class_outputs(found: Moved) -> Float[Tensor, "n m outputs"]:
    """The outputs, one a class.

    Raises:
        NotApplicable: there is but one.
    """
    if found.outputs.shape[2] < 2:
        raise NotApplicable("needs a class probability, and a regression has none")
    return found.outputs


def spread(case: Case) -> Float[Tensor, "*feature"]:
    """Every feature's standard deviation in the background.

    Raises:
        NotApplicable: they are all 0.
    """
    found = case.background.std(0, correction=0)
    if not found.any():
        raise NotApplicable("takes its noise from how features vary in the background, and none varies")
    return found


def child(rng: Generator) -> Generator:
    """A generator of its own, so that what it draws hangs on nothing that `rng` draws later."""
    return Generator().manual_seed(int(torch.randint(2**62, (1,), generator=rng)))


def latin_normal(case: Case, draws: int, rng: Generator) -> Float[Tensor, "n draws *feature"]:
    """Standard normal numbers; the draws of a row have one in every stratum of `draws` equal ones.

    A row's numbers depend on its place alone, not on how many rows come after it.
    """
    shape = (len(case.x), 2, draws, *case.baseline.shape)
    place, within = torch.rand(shape, generator=rng, dtype=torch.float64).unbind(1)
    quantile = (place.argsort(1) + within) / draws
    return torch.special.ndtri(quantile.clamp(1e-15, 1 - 1e-15)).to(case.x.dtype)
