"""Relative input stability."""

from math import inf
from typing import Annotated

from annotated_types import Ge, Gt

from ..benchmarks.neighbours import Nearby, distance, ratio, size, stability, standardised
from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.sharing import variant_of


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
def relative_input_stability(
    evidence: Evidence,
    *,
    radius: Annotated[float, Gt(0)] = 0.05,
    draws: Annotated[int, Ge(1)] = 10,
    floor: Annotated[float, Gt(0)] = 1e-3,
) -> Scores:
    """Relative change of the map over that of the input: max (|a' - a| / |a|) / max(|x' - x| / |x|, floor).

    Only neighbours x' for which the model predicts the class of x count; for regression all do.  Norms are
    divided by norms: element by element, as the paper prints it, one feature near 0 would decide the score.
    Columns are first standardised by the background's means and deviations, so that neither their units nor
    their origins matter.
    A randomised method draws anew at the neighbours, as its user would see: its sampling noise counts.

    radius: of the L-infinity ball, in each feature's standard deviations in the background, since the columns
        of a table have different scales; a feature that is constant there is not moved.
    draws: neighbours, uniform in the ball.
    floor: a smaller change of the input counts as this one: nothing may be divided by almost nothing.

    No unit; 0 (the map stays) to infinity; lower is better.  NaN where no neighbour keeps the class, where a
    zero map changes, or where x is the background's mean.
    Source: Agarwal et al. 2022, arXiv 2203.06877.
    """
    nearby, case = Nearby(radius, draws), evidence.case
    x = standardised(case, case.x)
    near = standardised(case, variant_of(evidence, nearby).x)
    return stability(evidence, nearby, ratio(distance(x, near), size(x)), floor)
