"""Deletion."""

from math import inf
from typing import Annotated

from annotated_types import Ge

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.thresholds import gap_to_end


@metric(
    version=1,
    paper="https://arxiv.org/abs/1806.07421",
    family="faithfulness",
    best=0.0,
    worst=inf,
    needs=("model",),
    ceiling="ablation",
    claims=("scale", "sign", "ties"),
)
def deletion(evidence: Evidence, *, points: Annotated[int, Ge(1)] = 128) -> Scores:
    """How much of the prediction is left while features are removed: mean |f(x without top k) - f(baseline)|.

    Features go in the order of falling |a|, ties at random, and are replaced by the baseline; the mean runs
    over the share removed, 0 to 1, by trapezoids.  Features of one unit go together, units by their sum of
    |a|.  A regression output has no direction in which it should fall, hence the distance; for a class logit
    that stays above the baseline's it is the deletion curve of the paper, shifted by f(baseline).  Where
    contributions differ in sign, falling |a| is best on average over signs, not in every row.

    points: steps along the curve; all counts 0..d where d is at most this.

    Unit of the output; 0 to infinity, the ceiling is above 0; lower is better.
    Source: Petsiuk, Das and Saenko 2018, arXiv 1806.07421.
    """
    return gap_to_end(evidence, points, insert=False)
