"""Relative output stability."""

from math import inf
from typing import Annotated

from annotated_types import Ge, Gt

from ..benchmarks.neighbours import Nearby, at_and_near, distance, ratio, size, stability
from ..benchmarks.perturb import Predicted
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
def relative_output_stability(
    evidence: Evidence,
    *,
    radius: Annotated[float, Gt(0)] = 0.05,
    draws: Annotated[int, Ge(1)] = 10,
    floor: Annotated[float, Gt(0)] = 1e-3,
) -> Scores:
    """Relative change of the map over that of the outputs: max (|a' - a| / |a|) / max(|h' - h| / |h|, floor).

    Only neighbours x' for which the model predicts the class of x count; for regression all do.  Norms are
    divided by norms: element by element, as the paper prints it, one feature near 0 would decide the score.
    h is all outputs of the model, of a classifier its logits.  The paper does not divide by |h|: its score
    has the unit of 1 / h, which a regression's target may be given in any of.
    A randomised method draws anew at the neighbours, as its user would see: its sampling noise counts.

    radius: of the L-infinity ball, in each feature's standard deviations in the background, since the columns
        of a table have different scales; a feature that is constant there is not moved.
    draws: neighbours, uniform in the ball.
    floor: a smaller change of the outputs counts as this one: nothing may be divided by almost nothing.

    No unit; 0 (the map stays) to infinity; lower is better.  NaN where no neighbour keeps the class, where a
    zero map changes, or where the outputs change from 0.
    Source: Agarwal et al. 2022, arXiv 2203.06877.
    """
    nearby = Nearby(radius, draws)
    h, near = at_and_near(evidence, nearby, Predicted())
    return stability(evidence, nearby, ratio(distance(h, near), size(h)), floor)
