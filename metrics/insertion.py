"""Insertion."""

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
def insertion(evidence: Evidence, *, points: Annotated[int, Ge(1)] = 128) -> Scores:
    """How much of the prediction is missing while features are inserted: mean |f(x) - f(b with top k of x)|.

    Features come into the baseline b in the order of falling |a|, ties at random; the mean runs over the
    share inserted, 0 to 1, by trapezoids.  Features of one unit come together, units by their sum of |a|.
    Lower is better, unlike the paper's area: a regression output has no direction in which it should rise.

    points: steps along the curve; all counts 0..d where d is at most this.

    Unit of the output; 0 to infinity, the ceiling is above 0; lower is better.
    Source: Petsiuk, Das and Saenko 2018, arXiv 1806.07421.
    """
    return gap_to_end(evidence, points, insert=True)
