"""Intersection over union of the box around the top features and the box around the relevant ones."""

from typing import Annotated, Final

import torch
from annotated_types import Ge, Lt
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import chance_in_top, over_space, random_order

STEPS: Final = 2.0**40  # of a row's largest value, to which what is blurred is rounded


@metric(
    version=1,
    paper="https://arxiv.org/abs/2406.12150",
    family="ground truth",
    best=1.0,
    worst=0.0,
    claims=("exact", "scale", "sign"),
    caveat="without trim one stray feature in the top stretches the box; read it beside top_iou",
)
def box_iou(
    evidence: Evidence,
    *,
    orders: Annotated[int, Ge(1)] = 8,
    sigma: Annotated[float, Ge(0)] = 0.0,
    trim: Annotated[float, Ge(0), Lt(0.5)] = 0.0,
) -> Scores:
    """|B and C| / |B or C| of the box B around the top places by |a|, and the box C around the relevant ones.

    The last two axes of the features are space; |a| is summed over the others, and a place is relevant if
    any feature there is.  B is around as many places as are relevant.  A box has the whole of its outermost
    places inside: around one place it has area 1.

    orders: where the top has ties, so many random orders of them are drawn and their scores averaged.
    sigma: deviation, in places, of a Gaussian blur of |a|; never of a, where signs would cancel.  A wide one
        costs even the exact map a little: the corners leave the top.
    trim: share of the places that lies beyond each of the two quantiles, along every axis, that the box goes
        by.  It reaches beyond them by trim / (1 - 2 trim) of their distance: by as much as holds that share
        if places are spread evenly, so that a box of places is its own box.  Fewer strays widen it by no
        more than 1 / (1 - 2 trim).  0 is the plain box.

    No unit; 0 to 1; higher is better.  NaN where no feature is relevant.  Source: ChaosMining, arXiv
    2406.12150, which blurs with 6 places of 224; trim is ours.

    Raises:
        NotApplicable: the features are not laid out in a plane.
    """
    size = over_space(evidence.attribution.abs())
    relevant = over_space(evidence.relevant) > 0
    size = _blurred(size, sigma) if sigma else size
    count, flat = relevant.flatten(1).sum(1), size.flatten(1)
    chance = chance_in_top(flat, count)
    drawn = ((chance > 0) & (chance < 1)).any()
    aim, scores = _box(relevant, trim), []
    for _ in range(orders if drawn else 1):
        top = random_order(flat, evidence.rng) < count[:, None]
        scores.append(_iou(_box(top.view(size.shape), trim), aim))
    return torch.stack(scores).mean(0).where(count > 0, torch.nan)


def _blurred(size: Float[Tensor, "n height width"], sigma: float) -> Float[Tensor, "n height width"]:
    """Each row by itself, mirrored at its edges; ties that differ by rounding alone are ties again."""
    wide = torch.from_numpy(gaussian_filter(size.numpy(), (0, sigma, sigma)))
    largest = wide.amax((1, 2), keepdim=True)
    return (wide * (STEPS / largest.where(largest > 0, 1))).round()


def _box(mask: Bool[Tensor, "n height width"], trim: float) -> Float[Tensor, "n 2 2"]:
    """Where it begins and ends along every axis; nothing is in it where there is no place."""
    ends = []
    for axis in (2, 1):
        there = mask.sum(axis)
        first, last = _quantile(there, trim), there.shape[1] - _quantile(there.flip(1), trim)
        more = trim / (1 - 2 * trim) * (last - first)
        ends.append(torch.stack([first - more, last + more], 1))
    return torch.stack(ends, 1)


def _quantile(count: Int[Tensor, "n places"], share: float) -> Float[Tensor, " n"]:
    """Where so much of the row lies behind, if every place's count is spread evenly over it."""
    aim, behind = share * count.sum(1).double(), count.cumsum(1)
    place = (behind > aim[:, None]).int().argmax(1, keepdim=True)  # the first beyond it; 0 in an empty row
    own = count.gather(1, place).squeeze(1)
    before = behind.gather(1, place).squeeze(1) - own
    return place.squeeze(1) + (aim - before) / own.clamp_min(1)


def _iou(a: Float[Tensor, "n 2 2"], b: Float[Tensor, "n 2 2"]) -> Float[Tensor, " n"]:
    shared = torch.stack([torch.maximum(a[..., 0], b[..., 0]), torch.minimum(a[..., 1], b[..., 1])], -1)
    both, own, other = (box.diff(dim=-1).clamp_min(0).prod(1).squeeze(1) for box in (shared, a, b))
    return both / (own + other - both)
