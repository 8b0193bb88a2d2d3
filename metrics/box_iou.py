"""Intersection over union of the box around the top features and the box around the relevant ones."""

from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import chance_in_top, over_space, random_order


@metric(
    version=1,
    paper="https://arxiv.org/abs/2406.12150",
    family="ground truth",
    best=1.0,
    worst=0.0,
    claims=("exact", "scale", "sign"),
    caveat="one stray feature in the top stretches the box; read it beside top_iou",
)
def box_iou(evidence: Evidence, *, orders: Annotated[int, Ge(1)] = 8) -> Scores:
    """|B and C| / |B or C| of the box B around the top places by |a|, and the box C around the relevant ones.

    The last two axes of the features are space; |a| is summed over the others, and a place is relevant if
    any feature there is.  B is around as many places as are relevant.  A box has the whole of its outermost
    places inside: around one place it has area 1.

    orders: where the top has ties, so many random orders of them are drawn and their scores averaged.

    No unit; 0 to 1; higher is better.  NaN where no feature is relevant.  Source: ChaosMining, arXiv
    2406.12150, without the blur that it applies first.

    Raises:
        NotApplicable: the features are not laid out in a plane.
    """
    size = over_space(evidence.attribution.abs())
    relevant = over_space(evidence.relevant) > 0
    count, flat = relevant.flatten(1).sum(1), size.flatten(1)
    chance = chance_in_top(flat, count)
    drawn = ((chance > 0) & (chance < 1)).any()
    scores = []
    for _ in range(orders if drawn else 1):
        top = random_order(flat, evidence.rng) < count[:, None]
        scores.append(_iou(_box(top.view(size.shape)), _box(relevant)))
    return torch.stack(scores).mean(0).where(count > 0, torch.nan)


def _box(mask: Bool[Tensor, "n height width"]) -> Int[Tensor, "n 2 2"]:
    """First place of every axis, and the one after the last; all places where there is none."""
    ends = []
    for axis in (2, 1):
        there = mask.any(axis).long()
        ends.append(torch.stack([there.argmax(1), there.shape[1] - there.flip(1).argmax(1)], 1))
    return torch.stack(ends, 1)


def _iou(a: Int[Tensor, "n 2 2"], b: Int[Tensor, "n 2 2"]) -> Float[Tensor, " n"]:
    shared = torch.stack([torch.maximum(a[..., 0], b[..., 0]), torch.minimum(a[..., 1], b[..., 1])], -1)
    both, own, other = (box.diff(dim=-1).clamp_min(0).prod(1).squeeze(1) for box in (shared, a, b))
    return both.double() / (own + other - both)
