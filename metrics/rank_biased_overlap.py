"""Rank-biased overlap of two maps."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt, Lt
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import Places, of_both, ranks_of


@metric(
    version=1,
    paper="https://doi.org/10.1145/1852102.1852106",
    family="ground truth",
    best=1.0,
    worst=0.0,
    needs=("reference",),
    claims=("scale", "sign", "ties"),
)
def rank_biased_overlap(evidence: Evidence, *, p: Annotated[float, Gt(0), Lt(1)] = 0.9) -> Scores:
    """Overlap of the k top features of the map and of the reference, averaged over k with weights that fall.

    RBO = p^d + (1 - p) sum_k p^(k - 1) X_k / k over k = 1..d, where X_k features are in both tops of k by
    size: the extrapolated form, in which the two agree beyond the last of d features as wholly as there.
    The reference is the exact attribution, or another method's.  The expected value where ties are broken at
    random in each of the two apart: where the exact attribution has ties, nobody reaches 1.

    p: how far down a reader goes; the first ten places carry 86% of the weight at 0.9.

    No unit; above 0, to 1; higher is better.  Source: Webber, Moffat and Zobel 2010, equation 32; ties as in
    the RBO^a of Corsi and Urbano 2024, arXiv 2406.07121.
    """
    own, other = of_both(evidence, _Reach(p))
    overlap = torch.minimum(own.weight, other.weight)  # the later one's, where they cannot meet
    if own.tied or other.tied:
        a, b = own.places, other.places
        meet = torch.minimum(a.end, b.end) > torch.maximum(a.start, b.start)
        which = torch.nonzero((meet & ((a.ties > 1) | (b.ties > 1))).flatten()).squeeze(1)
        start, end = (
            [v.flatten()[which].long() for v in pair] for pair in ((a.start, b.start), (a.end, b.end))
        )
        overlap.view(-1)[which] = _overlap(torch.stack(start), torch.stack(end), _tails(p, overlap.shape[1]))
    return (overlap.sum(1) + p ** overlap.shape[1]).clamp_max(1.0)


@dataclass(frozen=True, slots=True)
class _Reached:
    """A map's places, and for every feature the weight of the tops that it is in, ties in expectation."""

    places: Places
    tied: bool
    weight: Float[Tensor, "n d"]


@dataclass(frozen=True, slots=True)
class _Reach:
    """The reading of that."""

    p: float

    def read(self, evidence: Evidence, _: Generator) -> _Reached:
        """The chance to be in the top of k rises by 1 / ties from its first place on, up to its last."""
        places = ranks_of(evidence, sizes=True)
        start, end = places.start.long(), places.end.long()
        alone, times_k, _ = _tails(self.p, start.shape[1])
        first, last = alone.take(start), alone.take(end)
        rise = times_k.take(start) - times_k.take(end) - start * (first - last)
        weight = first.where(places.ties == 1, rise / places.ties + last)
        return _Reached(places, bool((places.ties > 1).any()), weight)


def _tails(p: float, width: int) -> Float[Tensor, "3 places"]:
    """The weights of all k beyond each place: alone, times k, and times k^2.

    Added from the small end, so that differences of two of them keep their digits far down.
    """
    k = torch.arange(1, width + 1, dtype=torch.float64)
    weight = (1 - p) * p ** (k - 1) / k * torch.stack([k**0, k, k**2])
    return torch.nn.functional.pad(weight.flip(1).cumsum(1).flip(1), (0, 1))


def _overlap(
    start: Int[Tensor, "2 t"], end: Int[Tensor, "2 t"], tails: Float[Tensor, "3 places"]
) -> Float[Tensor, " t"]:
    """Weight of the tops that a feature is in with both maps, by its chance (k - start) / ties in each map.

    From the later start to the first end both chances rise; from there to the last end one does, and beyond
    it the feature is in for certain.
    """
    (a, b), (a_end, b_end) = start, end  # one by one: torch is slow to reduce an axis of two
    later, first, last = torch.maximum(a, b), torch.minimum(a_end, b_end), torch.maximum(a_end, b_end)
    at_first, beyond = [v.take(first) for v in tails], tails[0].take(last)
    both = [v.take(later) - w for v, w in zip(tails, at_first, strict=True)]
    product = (both[2] - (a + b) * both[1] + a * b * both[0]) / ((a_end - a) * (b_end - b))
    one = a.where(a_end > b_end, b)
    rise = (at_first[1] - tails[1].take(last) - one * (at_first[0] - beyond)) / (last - one)
    return product + rise + beyond
