"""Overlap of the top features of two maps."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import chance_in_top, top_size


@metric(
    version=1,
    paper="https://arxiv.org/abs/2202.01602",
    family="agreement",
    best=1.0,
    worst=0.0,
    needs=("other",),
    ceiling="best",
)
def top_k_overlap(evidence: Evidence, *, k: Annotated[int, Ge(0)] = 0) -> Scores:
    """Share of the k features with the largest size that two maps have in common, ties in expectation.

    Ties are broken at random in each map independently: two zero maps score chance, not 1.  k = 0 stands for
    the row's number of relevant features; a k above the number of features is cut to it.

    No unit; 0 to 1, chance is k / d; higher is more agreement.  NaN where k = 0 and no feature is relevant.
    Source: feature agreement in Krishna et al. 2022, arXiv 2202.01602.
    """
    assert evidence.other is not None  # declared in `needs`
    size = top_size(k, evidence.relevant.flatten(1))
    a, b = (chance_in_top(m.abs().flatten(1), size) for m in (evidence.attribution, evidence.other))
    return (a * b).sum(1) / size
