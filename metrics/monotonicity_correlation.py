"""Monotonicity correlation."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.effects import Effects, correlation
from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import average_ranks, unit_sums
from ..benchmarks.sharing import of_case


@metric(
    version=1,
    paper="https://arxiv.org/abs/2007.07584",
    family="faithfulness",
    best=1.0,
    worst=-1.0,
    needs=("model",),
    ceiling="ablation",
    claims=("scale", "sign"),
)
def monotonicity_correlation(evidence: Evidence, *, draws: Annotated[int, Ge(1)] = 10) -> Scores:
    """Rank correlation of |a| with the mean square change of the output as each unit alone is redrawn.

    Spearman's correlation, within the row, over the units, of |a_i| and the mean of
    (f(x) - f(x with unit i of a background row))^2; ties share their average rank.  Units go by their sum of
    |a|.  The change is not divided by f(x)^2, as some do: a factor of the whole row moves no rank, and is
    infinite where f(x) is 0.  Redrawing a unit is not what exact attributions against one baseline measure,
    so these need not score 1.

    draws: background rows, the same for all rows and units; all where there are no more.

    No unit; -1 to 1; higher is better.  NaN where |a| or the change is the same for all units, as of a single
    unit.  Source: Nguyen and Rodriguez Martinez 2020, arXiv 2007.07584.
    """
    size = unit_sums(evidence.attribution.abs(), evidence.case.groups)
    return correlation(*map(average_ranks, (size, of_case(evidence.case, Effects(draws)).square)))
