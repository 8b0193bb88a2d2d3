"""Relative representation stability."""

from math import inf
from typing import Annotated

from annotated_types import Ge, Gt

from ..benchmarks.neighbours import Nearby, Represented, at_and_near, distance, ratio, size, stability
from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://arxiv.org/abs/2203.06877",
    family="robustness",
    best=0.0,
    worst=inf,
    needs=("model", "explain"),
    ceiling="none",
    claims=("scale", "sign"),
    caveat="A map that ignores its input scores best.",
)
def relative_representation_stability(
    evidence: Evidence,
    *,
    radius: Annotated[float, Gt(0)] = 0.05,
    draws: Annotated[int, Ge(1)] = 10,
    floor: Annotated[float, Gt(0)] = 1e-3,
) -> Scores:
    """Relative change of the map over that of the model's representation of the input, at its largest.

    max (|a' - a| / |a|) / max(|L' - L| / |L|, floor), where L is what goes into the last linear layer.
    Only neighbours x' for which the model predicts the class of x count; for regression all do.  Norms are
    divided by norms: element by element, as the paper prints it, one feature near 0 would decide the score.
    A randomised method draws anew at the neighbours, as its user would see: its sampling noise counts.

    radius: of the L-infinity ball, in each feature's standard deviations in the background, since the columns
        of a table have different scales; a feature that is constant there is not moved.
    draws: neighbours, uniform in the ball.
    floor: a smaller change of L counts as this one: nothing may be divided by almost nothing.

    No unit; 0 (the map stays) to infinity; lower is better.  NaN where no neighbour keeps the class, where a
    zero map changes, or where the representation changes from 0.
    Source: Agarwal et al. 2022, arXiv 2203.06877.
    """
    nearby = Nearby(radius, draws)
    inner, near = at_and_near(evidence, nearby, Represented())
    return stability(evidence, nearby, ratio(distance(inner, near), size(inner)), floor)
