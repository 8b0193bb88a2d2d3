"""Sufficiency."""

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
    best=0.0,
    worst=inf,
    needs=("model",),
    ceiling="ablation",
    claims=("scale", "sign", "ties"),
)
def sufficiency(evidence: Evidence, *, points: Annotated[int, Ge(1)] = 128) -> Scores:
    """How far the top features alone are from the prediction: mean over shares of |f(x) - f(only top k)|.

    The shares are 1, 5, 10, 20 and 50% of the units, rounded to the nearest number, one at least; units come
    into the baseline in the order of falling |a|, ties at random.  A distance, unlike the paper's difference
    of class probabilities: a regression output has no direction in which it should fall short.

    points: steps along the curve that the shares are read from; all counts where units are at most so many,
        else a share is read at the nearest step.

    Unit of the output; 0 to infinity; lower is better.  Source: DeYoung et al. 2020, arXiv 1911.03429.
    """
    found = of_map(evidence, Curve(points, insert=True))
    gap = (found.explained - found.explained[:, -1:]).abs()
    return gap[:, found.at_shares].mean(1)
