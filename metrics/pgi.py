"""Prediction gap on important features."""

from math import inf
from typing import Annotated

import torch
from annotated_types import Ge, Gt

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.sharing import of_map
from ..benchmarks.thresholds import Noisy


@metric(
    version=1,
    paper="https://arxiv.org/abs/2206.11104",
    family="faithfulness",
    best=inf,
    worst=0.0,
    needs=("model",),
    ceiling="ablation",
    claims=("scale", "sign", "ties"),
)
def pgi(
    evidence: Evidence,
    *,
    points: Annotated[int, Ge(1)] = 20,
    draws: Annotated[int, Ge(1)] = 10,
    sd: Annotated[float, Gt(0)] = 0.5,
) -> Scores:
    """How far noise on the important features moves the prediction: mean over k of E |f(x) - f(x + noise)|.

    Gaussian noise falls on the k units with the largest |a|, ties at random; the mean runs over the share
    k / d, 0 to 1, by trapezoids.  All methods, and `pgi` and `pgu`, meet the same noise.

    points: steps along k; all where units are at most so many.
    draws: of the noise; a row's are spread evenly over each feature's quantiles.
    sd: of the noise, in standard deviations of each feature in the background.

    Unit of the output; 0 to infinity; higher is better.
    Source: Agarwal et al. 2022 (OpenXAI), arXiv 2206.11104; Dai et al. 2022, arXiv 2205.07277.
    """
    found = of_map(evidence, Noisy(points, draws, sd))
    return torch.trapezoid(found.important, found.share, dim=1)
