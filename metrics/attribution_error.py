"""Symmetric relative error of the attribution."""

from typing import Literal

import torch

from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://doi.org/10.1016/0169-2070(93)90079-3",
    family="ground truth",
    best=0.0,
    worst=2.0,
    needs=("truth",),
    claims=("exact",),
)
def attribution_error(
    evidence: Evidence, *, norm: Literal["l1", "l2"] = "l2", rescale: bool = False
) -> Scores:
    """Distance between attribution and truth over the mean of their norms: 2 |a - t| / (|a| + |t|).

    Equals the plain relative error |a - t| / |t| where the norms agree, and stays bounded where the truth is
    near 0: the plain one has heavy tails on rows near the baseline, and a few of them decide its mean.

    norm: the norm, over all features of the row.
    rescale: first multiply a by its least-squares factor, at least 0 (a negative one would call a map of
        opposite sign perfect).  With "l2" the score is then 2 tan(angle / 2), 2 from a right angle on.

    No unit; 0 to 2 (a zero map, or the opposite direction); lower is better.  Both zero: 0.
    Source: the symmetric relative error of Makridakis 1993, with norms in place of numbers.
    """
    assert evidence.truth is not None  # declared in `needs`
    a, t = evidence.attribution.double().flatten(1), evidence.truth.double().flatten(1)
    if rescale:
        power = a.square().sum(1, keepdim=True)
        factor = (a * t).sum(1, keepdim=True).clamp_min(0) / power
        a = a * factor.where(power > 0, 0.0)
    order = 1 if norm == "l1" else 2
    gap, *sizes = (torch.linalg.vector_norm(v, order, dim=1) for v in (a - t, a, t))
    scale = sizes[0] + sizes[1]
    return (2 * gap / scale).where(scale > 0, 0.0)
