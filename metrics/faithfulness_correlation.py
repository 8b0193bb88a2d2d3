"""Faithfulness correlation."""

from typing import Annotated

from annotated_types import Ge, Gt, Lt

from ..benchmarks.coalitions import OfSizes, unit_count
from ..benchmarks.effects import Removals
from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.sharing import of_map


@metric(
    version=1,
    paper="https://arxiv.org/abs/2005.00631",
    family="faithfulness",
    best=1.0,
    worst=-1.0,
    needs=("model",),
    ceiling="ablation",
    claims=("exact", "scale"),
    chance=0.0,
)
def faithfulness_correlation(
    evidence: Evidence,
    *,
    share: Annotated[float, Gt(0), Lt(1)] = 0.2,
    sizes: Annotated[int, Ge(1)] = 10,
    each: Annotated[int, Ge(2)] = 100,
) -> Scores:
    """Correlation of the map's sum over random units with what the output loses without them.

    Pearson's correlation of sum a_S and f(x) - f(x without S), within the row, over random subsets S of one
    size, which are replaced by the problem's baseline: `sensitivity_n` at a single n, from the same outputs.

    share: of the units that are removed; the nearest size that `sensitivity_n` has is taken.
    sizes, each: as there; equal ones cost nothing more.

    No unit; -1 to 1, chance is 0; higher is better.  NaN where the sums, or what is lost, do not vary, as
    the sums of a constant map.  Not applicable to a single unit; of two, each row scores 1 or -1.
    Source: Bhatt, Weller and Moura 2020, arXiv 2005.00631.
    """
    pairs = of_map(evidence, Removals(OfSizes(sizes, each)))
    there = pairs.sizes.unique()  # rising: of two that are as near, the smaller
    nearest = there[(there - share * unit_count(evidence.case)).abs().argmin()]
    return pairs.correlation(pairs.sizes == nearest)
