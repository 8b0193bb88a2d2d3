"""Sparseness."""

import torch

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import ranks_of


@metric(
    version=1,
    paper="https://arxiv.org/abs/1810.06583",
    family="complexity",
    best=1.0,
    worst=0.0,
    ceiling="none",
    claims=("scale", "sign"),
)
def sparseness(evidence: Evidence) -> Scores:
    """Gini index of |a|: sum_i (2 r_i - d - 1) |a_i| / ((d - 1) sum_i |a_i|), r_i the rising rank of |a_i|.

    The index of the paper times d / (d - 1), so that a map of one feature alone scores 1 whatever d is.
    Features may stand in any order.  A zero map counts as a constant one.

    No unit; 0 (all sizes equal) to 1 (one feature carries all; with d = 1 always); higher is sparser.
    Source: Chalasani et al. 2020, arXiv 1810.06583; Hurley and Rickard 2009.
    """
    size = evidence.attribution.abs().flatten(1)
    width = size.shape[1]
    total = (width - 1) * size.sum(1)
    weight = 2 * ranks_of(evidence, sizes=True).average - width - 1
    if width == 1:
        return torch.ones_like(total)
    return ((weight * size).sum(1) / total).where(total > 0, 0.0).clamp(0, 1)
