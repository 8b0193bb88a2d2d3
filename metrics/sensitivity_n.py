"""Sensitivity-n."""

from typing import Annotated

import torch
from annotated_types import Ge

from ..benchmarks.coalitions import OfSizes
from ..benchmarks.effects import Removals
from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.sharing import of_map


@metric(
    version=1,
    paper="https://arxiv.org/abs/1711.06104",
    family="faithfulness",
    best=1.0,
    worst=-1.0,
    needs=("model",),
    ceiling="ablation",
    claims=("exact", "scale"),
    chance=0.0,
)
def sensitivity_n(
    evidence: Evidence, *, sizes: Annotated[int, Ge(1)] = 10, each: Annotated[int, Ge(2)] = 100
) -> Scores:
    """Correlation of the map's sum over n units with what the output loses without them, mean over n.

    For each n, Pearson's correlation of sum a_S and f(x) - f(x without S), within the row, over random
    subsets S of n units, which are replaced by the baseline.  Signs count.  The subsets are the same for all
    rows, and for all methods.

    sizes: how many n, evenly spaced from 1 to all units but one; at most so many.
    each: subsets of each n; all of them where there are no more.

    No unit; -1 to 1, chance is 0; higher is better.  An n for which either side does not vary, as the sums of
    a constant map, is left out; NaN where that leaves none.  Not applicable to a single unit; of two, each
    row scores 1 or -1.  Source: Ancona, Ceolini, Oztireli and Gross 2018, arXiv 1711.06104.
    """
    pairs = of_map(evidence, Removals(OfSizes(sizes, each)))
    found = [pairs.correlation(pairs.sizes == size) for size in pairs.sizes.unique()]
    return torch.stack(found, 1).nanmean(1)
