"""Non-sensitivity."""

from typing import Annotated

from annotated_types import Ge, Lt

from ..benchmarks.effects import Effects
from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import unit_sums
from ..benchmarks.sharing import of_case


@metric(
    version=1,
    paper="https://arxiv.org/abs/2007.07584",
    family="axiom",
    best=0.0,
    worst=1.0,
    needs=("model",),
    ceiling="best",
    claims=("exact", "scale", "sign"),
)
def non_sensitivity(
    evidence: Evidence,
    *,
    draws: Annotated[int, Ge(1)] = 10,
    tolerance: Annotated[float, Ge(0), Lt(1)] = 1e-5,
) -> Scores:
    """Share of units for which just one of two holds: their attribution is 0, the output does not respond.

    The output responds to a unit if it changes, by more than rounding, as that unit alone is replaced by that
    of any background row drawn.  Two things are no fault: 0 for a unit at its baseline though the output
    responds to it, and any attribution of a unit that no draw changes, of which nothing is known.

    draws: background rows, the same for all rows and units; all where there are no more.
    tolerance: an attribution counts as 0 up to this share of the row's largest; units go by their sum of |a|.

    No unit; 0 to 1, a zero map scores the share of units, away from their baseline, that the output responds
    to; lower is better.
    Source: Nguyen and Rodriguez Martinez 2020, arXiv 2007.07584.
    """
    case, found = evidence.case, of_case(evidence.case, Effects(draws))
    size = unit_sums(evidence.attribution.abs(), case.groups)
    zero = size <= tolerance * size.amax(1, keepdim=True)
    away = unit_sums(case.x != case.baseline, case.groups) > 0
    missed, made_up = zero & found.there & away, ~zero & ~found.there & found.tried
    return (missed | made_up).double().mean(1)
