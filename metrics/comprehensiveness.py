"""Comprehensiveness."""

from math import inf
from typing import Annotated

from annotated_types import Ge

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.sharing import of_map
from ..benchmarks.thresholds import Curve


@metric(
    version=1,
    paper="https://arxiv.org/abs/1911.03429",
    family="faithfulness",
    best=inf,
    worst=0.0,
    needs=("model",),
    ceiling="ablation",
    claims=("scale", "sign", "ties"),
)
def comprehensiveness(evidence: Evidence, *, points: Annotated[int, Ge(1)] = 128) -> Scores:
    """How far the prediction moves without its top features: mean over shares of |f(x) - f(x without top k)|.

    The shares are 1, 5, 10, 20 and 50% of the units, rounded to the nearest number, one at least; units go
    in the order of falling |a|, ties at random, and are replaced by the baseline.  A distance, unlike the
    paper's difference of class probabilities: a regression output has no direction in which it should fall.

    points: steps along the curve that the shares are read from; all counts where units are at most so many,
        else a share is read at the nearest step.

    Unit of the output; 0 to infinity; higher is better.  Source: DeYoung et al. 2020, arXiv 1911.03429.
    """
    found = of_map(evidence, Curve(points))
    gap = (found.explained - found.explained[:, :1]).abs()
    return gap[:, found.at_shares].mean(1)
