"""Iterative removal of features."""

from math import inf
from typing import Annotated

import torch
from annotated_types import Ge

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.sharing import of_map
from ..benchmarks.thresholds import Curve, class_outputs, of_class


@metric(
    version=1,
    paper="https://arxiv.org/abs/2003.08747",
    family="faithfulness",
    best=1.0,
    worst=-inf,
    needs=("model",),
    ceiling="ablation",
    claims=("scale", "sign", "ties"),
)
def irof(evidence: Evidence, *, points: Annotated[int, Ge(1)] = 128) -> Scores:
    """Area over the curve of p(class | x without top k) / p(class | x), k over units on an axis from 0 to 1.

    p is the softmax of the outputs at the class explained.  Units, which are the paper's segments, go in the
    order of falling |a|, ties at random, and are replaced by the baseline; areas are trapezoids.  On an axis
    from 0 to 1 the area does not grow with the number of units.  Nothing is clipped: where removing units
    makes the class likelier than it was, the area is below 0.

    points: steps along the curve; all counts 0..d where d is at most this.

    No unit; up to 1, and for the predicted of C classes not below 1 - C; higher is better.  Regressions are
    refused.  Source: Rieger and Hansen 2020, arXiv 2003.08747.
    """
    found = of_map(evidence, Curve(points))
    log_p = of_class(class_outputs(found).log_softmax(2), evidence.case.target)
    return 1 - torch.trapezoid((log_p - log_p[:, :1]).exp(), found.share, dim=1)
