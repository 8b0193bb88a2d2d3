"""Error split: what of a map's error is the definition's."""

import torch

from ..benchmarks.exact_model import distance, named, shapley_of_function
from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://arxiv.org/abs/math/0108025",
    family="error split",
    best=0.0,
    worst=2.0,
    needs="truth",
    ceiling="none",
    draws=1,
    caveat="how far an aim is from Shapley values is no mistake where that aim is what is wanted",
)
def definition_error(evidence: Evidence, *, direction: bool = False) -> Scores:
    """Distance between what the method estimates and Shapley values, both exact, of the true function.

    2 |t - s| / (|t| + |s|) with Euclidean norms over the features of a row, as `attribution_error`; t is the
    exact attribution of the true function in the method's own estimand, s its Shapley values in the game
    that replaces absent features as the method does: by the baseline, or by the background, row by row.
    Sizes are held against sizes.  Neither the map nor the model has a part in it, but for the class that
    the model predicts: no budget and no training mends it, another method does.

    direction: compare directions alone: both are first divided by their norms.  A derivative is then no
        longer blamed for its unit, which is one over that of the feature.

    No unit; 0 to 2; lower is better.  0 where the method estimates Shapley values, or names no estimand and
    is held against them.  Both zero: 0.
    Source of the form, a metric, so that the three parts bound their sum: Hasto 2002, arXiv math/0108025.

    Raises:
        NotApplicable: either of the two cannot be had exactly.
    """
    assert evidence.truth is not None  # declared in `needs`
    if named(evidence) == "shapley":
        return torch.zeros(len(evidence.truth), dtype=torch.float64)
    return distance(evidence.truth, shapley_of_function(evidence), direction)
