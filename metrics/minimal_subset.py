"""Minimal subset."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch.nn.functional import one_hot

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.sharing import of_map
from ..benchmarks.thresholds import Curve, class_outputs, of_class


@metric(
    version=1,
    paper="https://arxiv.org/abs/2202.12270",
    family="faithfulness",
    best=0.0,
    worst=1.0,
    needs=("model",),
    ceiling="ablation",
    claims=("scale", "sign", "ties"),
)
def minimal_subset(
    evidence: Evidence,
    *,
    by: Literal["removal", "insertion"] = "removal",
    points: Annotated[int, Ge(1)] = 128,
) -> Scores:
    """Share of the units, top ones first, that must go to change the predicted class, or come to restore it.

    Units go from x, or come into the baseline, in the order of falling |a|, ties at random.  The class has
    changed as soon as another's output is larger, and is restored when no other's is as large.  A class that
    no removal changes, the last one included, counts as all units, share 1.

    by: `removal` or `insertion`.
    points: steps along the curve; all counts where units are at most so many, else a share is rounded up to
        the next step.

    No unit; 0 to 1; lower is better.  NaN, by insertion, where the baseline has the class already.
    Regressions are refused.  Source: Gevaert et al. 2022, arXiv 2202.12270; without the map's order, the
    smallest regions of Fong and Vedaldi 2017, arXiv 1704.03296.
    """
    insert = by == "insertion"
    found = of_map(evidence, Curve(points, insert))
    outputs = class_outputs(found)
    predicted = outputs[:, -1 if insert else 0].argmax(1)
    others = outputs.masked_fill(one_hot(predicted, outputs.shape[2]).bool()[:, None], -torch.inf)
    ahead = of_class(outputs, predicted) - others.amax(2)
    # an output as large as the class's own neither takes its place nor gives it back: no tie goes by position
    reached = ahead > 0 if insert else ahead < 0
    first = found.share[reached.long().argmax(1)].where(reached.any(1), 1.0)
    return first.where(~reached[:, 0], torch.nan)
