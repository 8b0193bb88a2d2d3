"""Monotonicity."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.perturb import rounding
from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import unit_sums
from ..benchmarks.sharing import of_map
from ..benchmarks.thresholds import STEADY, Steps


@metric(
    version=1,
    paper="https://arxiv.org/abs/1909.03012",
    family="faithfulness",
    best=1.0,
    worst=0.0,
    needs=("model",),
    ceiling="ablation",
    claims=("exact", "scale", "sign"),
)
def monotonicity(evidence: Evidence, *, points: Annotated[int, Ge(1)] = 128) -> Scores:
    """Share of successive steps whose effect rises as units come into the baseline by rising |a|.

    The effect of a step is |f with the unit - f without it|, the units before it present.  Only steps whose
    |a| differs count.  Effects tie, and count 1/2, where they differ by no more than 8 machine epsilons of
    the largest output on the row's way.  Random maps score 0.5 on a linear model; elsewhere the effect of a
    unit hangs on when it comes, and they may score more or less.

    points: pairs of steps looked at; all where units are at most so many, else evenly spaced ones.

    No unit; 0 to 1; higher is better.  NaN where no two successive steps differ in |a|.
    Source: Arya et al. 2019, arXiv 1909.03012; Luss et al. 2021, arXiv 1905.12698.
    """
    found = of_map(evidence, Steps(points))
    # on the way back, units go by falling |a|: the effect of a unit is there what it is when it comes
    effect = found.explained.diff(dim=1).abs()
    size = unit_sums(evidence.attribution.abs(), evidence.case.groups).sort(1, descending=True).values
    size = size[:, found.counts[:-1]]
    single = found.counts.diff() == 1
    pairs = single[1:] & single[:-1]
    counted = (size[:, :-1] > size[:, 1:]) & pairs
    rise = effect[:, :-1] - effect[:, 1:]
    tolerance = rounding(evidence.case, found.explained, STEADY)[:, None]
    right = ((rise > -tolerance).double() + (rise > tolerance)) / 2
    return (right * counted).sum(1) / counted.sum(1)
