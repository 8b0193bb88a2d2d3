"""Infidelity."""

from math import inf
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt

from ..benchmarks.coalitions import OfSizes
from ..benchmarks.effects import Gaussian, Paired, Removals, Shifts
from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.sharing import of_map


@metric(
    version=1,
    paper="https://arxiv.org/abs/1901.09392",
    family="faithfulness",
    best=0.0,
    worst=inf,
    needs=("model",),
    ceiling="best",
    claims=("exact", "scale", "sign"),
    caveat="The perturbation decides the ranking: removal favours contributions, gaussian favours gradients.",
)
def infidelity(
    evidence: Evidence,
    *,
    perturbation: Literal["removal", "gaussian"] = "removal",
    scale: bool = True,
    sizes: Annotated[int, Ge(1)] = 10,
    each: Annotated[int, Ge(2)] = 100,
    sd: Annotated[float, Gt(0)] = 0.2,
) -> Scores:
    """Mean square of beta I.a - (f(x) - f(x - I)) over perturbations I, over that of f(x) - f(x - I) itself.

    beta is the row's best factor, sum (I.a) (f(x) - f(x - I)) / sum (I.a)^2: the score is then 1 - r^2, r the
    correlation of the two about 0, and a map, its multiples and its negative score the same.  The division
    takes the output's unit away: a zero map scores 1.

    perturbation: "removal" replaces random subsets of units by the baseline, those of `sensitivity_n`, every
        size weighing the same.  It reads the map as contributions: I.a is the sum of a over the units
        removed, which is what the paper's I . gradient is for a = gradient * (x - baseline).  "gaussian"
        takes independent noise off every feature.  It reads the map as a gradient: I.a is the dot product
        with the noise; contributions are scored as if they were one, even the exact ones.
    scale: whether beta is fitted; otherwise it is 1, and a map in another unit is punished for it.
    sizes: how many sizes of subsets.
    each: subsets of each size; with "gaussian", draws of noise.
    sd: of the noise, as a share of the feature's standard deviation in the background.

    No unit; 0 to 1, and to infinity without `scale`; lower is better.  NaN where no perturbation changes the
    output.  "removal" is not applicable to a single unit.
    Source: Yeh, Hsieh, Suggala, Inouye and Ravikumar 2019, arXiv 1901.09392.
    """
    if perturbation == "removal":
        pairs = of_map(evidence, Removals(OfSizes(sizes, each)))
    else:
        pairs = of_map(evidence, Shifts(Gaussian(sd, each)))
    said = _fitted(pairs) if scale else pairs.said
    left, whole = ((v.square() * pairs.weights).sum(1) for v in (said - pairs.done, pairs.done))
    return (left / whole).where(pairs.done.abs().amax(1) > pairs.done_rounding, torch.nan)


def _fitted(pairs: Paired) -> torch.Tensor:
    """What the map says, times the factor that brings it nearest to what is done."""
    largest = pairs.said.abs().amax(1, keepdim=True)
    said = pairs.said / largest.where(largest > 0, 1.0)  # first: squares may underflow
    along, power = ((v * pairs.weights).sum(1, keepdim=True) for v in (said * pairs.done, said.square()))
    return said * (along / power).where(power > 0, 0.0)
