"""Precision of the global ranking."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.plugin import Evidence, NotApplicable, Scores, metric
from ..benchmarks.ranking import expected_hits, top_size


@metric(
    version=1,
    paper="https://arxiv.org/abs/2406.12150",
    family="ground truth",
    best=1.0,
    worst=0.0,
    claims=("exact", "scale", "sign", "ties"),
)
def global_precision(evidence: Evidence, *, k: Annotated[int, Ge(0)] = 0) -> Scores:
    """Share of the k features with the largest mean |a| over all rows that are relevant, ties in expectation.

    One score for all rows together, in their own scale: rows with large attributions weigh more.  k = 0
    stands for the number of relevant features; a k above the number of features is cut to it.

    No unit; 0 to 1, chance is the share of relevant features; higher is better.  NaN where k = 0 and no
    feature is relevant.  Source: the ranking that feature selection uses in ChaosMining, arXiv 2406.12150.

    Raises:
        NotApplicable: the rows differ in which features are relevant.
    """
    relevant = evidence.masks["relevant"].flatten(1)
    if (relevant != relevant[:1]).any():
        raise NotApplicable("relevance differs between rows; a global ranking needs one mask for all")
    # one contiguous run per feature: torch would add the last columns in another order and so break ties
    importance = evidence.attribution.abs().flatten(1).T.contiguous().mean(1)
    size = top_size(k, relevant[:1])
    return expected_hits(importance[None], relevant[:1], size) / size
