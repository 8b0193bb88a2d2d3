"""Building blocks of every metric that ranks features: ties are averaged over, never settled by position."""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Generator, Tensor

from .perturb import NUMBERS, outputs_under
from .plugin import Case, Evidence, Scores


def tie_bounds(a: Shaped[Tensor, "n d"]) -> tuple[Int[Tensor, "n d"], Int[Tensor, "n d"]]:
    """How many entries of its row are smaller than each entry, and how many are not larger.

    Their difference, at least 1, is the number of entries that share the value.
    """
    rising, order = a.contiguous().sort(dim=1)  # a strided row would make searchsorted warn
    # looking sorted values up and moving the answers home is four times faster than looking `a` up
    smaller, not_larger = torch.empty_like(order), torch.empty_like(order)
    smaller.scatter_(1, order, torch.searchsorted(rising, rising))
    not_larger.scatter_(1, order, torch.searchsorted(rising, rising, right=True))
    return smaller, not_larger


def average_ranks(a: Shaped[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rising ranks 1..d along the last axis; entries that tie share the mean of their ranks."""
    smaller, not_larger = tie_bounds(a)
    return (smaller + not_larger + 1).double() / 2


def top_size(k: int, relevant: Bool[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """Size of every row's top: `k`, at most d; 0 stands for the row's number of relevant features."""
    return relevant.sum(1) if k == 0 else torch.full((len(relevant),), min(k, relevant.shape[1]))


def chance_in_top(score: Float[Tensor, "n d"], k: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """Probability that an entry is among the k largest of its row when ties are broken at random."""
    smaller, not_larger = tie_bounds(score)
    larger = score.shape[1] - not_larger
    # a group of ties fills the places that the larger entries leave; each member has an equal claim
    return ((k[:, None] - larger).double() / (not_larger - smaller)).clamp(0, 1)


def expected_hits(
    score: Float[Tensor, "n d"], mask: Bool[Tensor, "n d"], k: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Expected number of mask members among the k largest scores when ties are broken at random."""
    return (chance_in_top(score, k) * mask).sum(1)


def random_order(a: Float[Tensor, "n d"], rng: Generator) -> Int[Tensor, "n d"]:
    """Falling rank of |a| in its row, 0 for the largest; ties are broken at random by `rng`.

    The draw of row i depends on the state of `rng` and on i and d, never on what the rows hold.
    """
    shuffle = torch.rand(a.shape, generator=rng, dtype=torch.float64).argsort(dim=1)
    falling = a.abs().gather(1, shuffle).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(a.shape[1]).expand_as(shuffle)
    return torch.empty_like(shuffle).scatter_(1, shuffle.gather(1, falling), places)


def unit_order(
    a: Float[Tensor, "n *feature"], groups: Int[Tensor, "*feature"] | None, rng: Generator
) -> tuple[Int[Tensor, "n *feature"], int]:
    """Every feature's falling rank, and how many ranks there are.

    Without groups a feature is ranked by |a|.  With groups the units are ranked, by the sum of |a| over
    the features of each, and all features of a unit carry its rank, so that they move together.
    """
    size = a.abs().flatten(1)
    if groups is None:
        return random_order(size, rng).view(a.shape), size.shape[1]
    names, unit = groups.flatten().unique(return_inverse=True)
    mass = size.new_zeros(len(a), len(names)).index_add_(1, unit, size)
    return random_order(mass, rng)[:, unit].view(a.shape), len(names)


def curve(
    case: Case, rank: Int[Tensor, "n *feature"], counts: Int[Tensor, " m"], *, insert: bool
) -> Float[Tensor, "n m"]:
    """The explained output with only the `counts` top ranks present (`insert`), or with only them absent."""
    step = max(1, NUMBERS // rank.numel())  # masks of large inputs do not fit in memory at once
    limits = counts.view(-1, *[1] * (rank.dim() - 1)).split(step)
    top = (rank[:, None] < limit for limit in limits)
    return torch.cat([outputs_under(case, mask if insert else ~mask) for mask in top], dim=1).double()


def gap_to_end(evidence: Evidence, points: int, *, insert: bool) -> Scores:
    """Mean distance of the deletion or insertion curve from its own last point, in the output's units.

    Mean over the share of features moved: trapezoids on an x axis from 0 to 1, both endpoints included.
    All counts 0..d are evaluated where d <= points, else `points` + 1 evenly spaced ones.
    """
    rank, units = unit_order(evidence.attribution, evidence.case.groups, evidence.rng)
    counts = torch.linspace(0, units, min(points, units) + 1, dtype=torch.float64).round().long()
    outputs = curve(evidence.case, rank, counts, insert=insert)
    return torch.trapezoid((outputs - outputs[:, -1:]).abs(), counts.double() / units, dim=1)
