"""Local Lipschitz estimate."""

from math import inf
from typing import Annotated

from annotated_types import Ge, Gt

from ..benchmarks.neighbours import Nearby, distance, ratio, size, standardised
from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.sharing import explained_again, variant_of


@metric(
    version=1,
    paper="https://arxiv.org/abs/1806.08049",
    family="robustness",
    best=0.0,
    worst=inf,
    needs="explain",
    ceiling="none",
    claims="sign",
    caveat="A map that ignores its input scores best.",
)
def local_lipschitz(
    evidence: Evidence,
    *,
    radius: Annotated[float, Gt(0)] = 0.05,
    draws: Annotated[int, Ge(1)] = 10,
    relative: bool = False,
) -> Scores:
    """Steepest slope of the map near the row: max |a(x + d) - a(x)| / |d|, Euclidean norms.

    d is counted in each feature's standard deviations in the background, like the radius, so that the units
    of columns do not matter.  Rows are not divided by what other rows score.
    A randomised method draws anew at the neighbours, as its user would see: its sampling noise counts.

    radius: of the L-infinity ball, in each feature's standard deviations in the background, since the columns
        of a table have different scales; a feature that is constant there is not moved.
    draws: neighbours, uniform in the ball.
    relative: divide by |a(x)| too: methods whose maps differ in size can then be compared, and a map
        times a number scores the same.

    Unit of the map for one standard deviation, or none if relative; 0 (the map stays) to infinity; lower is
    better.  NaN, if relative, where a zero map changes.
    Source: Alvarez-Melis and Jaakkola 2018, arXiv 1806.08049.
    """
    nearby, case = Nearby(radius, draws), evidence.case
    change = distance(evidence.attribution, explained_again(evidence, nearby))
    step = distance(standardised(case, case.x), standardised(case, variant_of(evidence, nearby).x))
    slope = ratio(change, step).amax(1, keepdim=True)
    return (ratio(slope, size(evidence.attribution)) if relative else slope).squeeze(1)
