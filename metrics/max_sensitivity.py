"""Largest sensitivity."""

from math import inf
from typing import Annotated

from annotated_types import Ge, Gt

from ..benchmarks.neighbours import Nearby, sensitivity
from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://arxiv.org/abs/1901.09392",
    family="robustness",
    best=0.0,
    worst=inf,
    needs="explain",
    ceiling="none",
    claims=("scale", "sign"),
    caveat="A map that ignores its input scores best.",
)
def max_sensitivity(
    evidence: Evidence, *, radius: Annotated[float, Gt(0)] = 0.05, draws: Annotated[int, Ge(1)] = 10
) -> Scores:
    """Largest relative change of the map when the input hardly changes: max |a(x + d) - a(x)| / |a(x)|.

    The norms are Euclidean, over all features.  What is explained stays the row's own output.
    A randomised method draws anew at the neighbours, as its user would see: its sampling noise counts.
    Other defaults: captum moves by 0.02 (10 draws), Quantus by 0.2 (200 draws), in the input's own unit; the
    score grows with the radius and with the draws.

    radius: of the L-infinity ball, in each feature's standard deviations in the background, since the columns
        of a table have different scales; a feature that is constant there is not moved.
    draws: neighbours, uniform in the ball.

    No unit; 0 (the map stays) to infinity; lower is better.  A zero map that stays zero scores 0; NaN where a
    zero map changes, which has no relative change.
    Source: Yeh et al. 2019, arXiv 1901.09392.
    """
    return sensitivity(evidence, Nearby(radius, draws)).amax(1)
