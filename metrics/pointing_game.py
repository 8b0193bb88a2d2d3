"""Pointing game."""

import torch

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import Top
from ..benchmarks.sharing import of_map


@metric(
    version=1,
    paper="https://arxiv.org/abs/1608.00507",
    family="ground truth",
    best=1.0,
    worst=0.0,
    claims=("exact", "scale", "sign", "ties"),
)
def pointing_game(evidence: Evidence) -> Scores:
    """Whether the feature of the largest |a| is relevant; where several are largest, the share of them.

    Without the margin of 15 pixels that the paper grants around an object.

    No unit; 0 to 1, chance is the share of relevant features; higher is better.  NaN where no feature is
    relevant: nothing can be hit.  Source: Zhang et al. 2018, arXiv 1608.00507.
    """
    relevant = evidence.relevant.flatten(1)
    hit = (of_map(evidence, Top(1)) * relevant).sum(1)
    return hit.where(relevant.any(1), torch.nan)
