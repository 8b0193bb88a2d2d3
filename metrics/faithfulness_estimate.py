"""Faithfulness estimate."""

from ..benchmarks.coalitions import Alone
from ..benchmarks.effects import Removals
from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.sharing import of_map


@metric(
    version=1,
    paper="https://arxiv.org/abs/1806.07538",
    family="faithfulness",
    best=1.0,
    worst=-1.0,
    needs=("model",),
    ceiling="best",
    claims=("exact", "scale"),
    chance=0.0,
)
def faithfulness_estimate(evidence: Evidence) -> Scores:
    """Correlation of the units' attributions with what the output loses without each alone.

    Pearson's correlation of a_i and f(x) - f(x without i), within the row, over the units, each of which is
    replaced by the baseline while all others stay.  Signs count.  An exact ablation scores 1 on any model.

    No unit; -1 to 1, chance is 0; higher is better.  NaN where the map, or what is lost, does not vary over
    the units, as of a constant map or a single unit.
    Source: Alvarez-Melis and Jaakkola 2018, arXiv 1806.07538.
    """
    return of_map(evidence, Removals(Alone())).correlation()
