"""Rank agreement: how many top places two maps give to one feature."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import ranks_of, reference_ranks, same_place, top_size


@metric(
    version=1,
    paper="https://arxiv.org/abs/2202.01602",
    family="ground truth",
    best=1.0,
    worst=0.0,
    needs=("reference",),
    claims=("exact", "scale", "sign", "ties"),
)
def rank_agreement(evidence: Evidence, *, k: Annotated[int, Ge(0)] = 0) -> Scores:
    """Share of the k top places by size that one and the same feature holds in the map and in the reference.

    The reference is the exact attribution, or another method's.  The expected value where ties are broken at
    random in each of the two apart.  k = 0 stands for the row's number of relevant features; a k above the
    number of features is cut to it.

    No unit; 0 to 1, chance is 1 / d; higher is better.  NaN where k = 0 and no feature is relevant.
    Source: RA of Krishna et al. 2022, arXiv 2202.01602.
    """
    size = top_size(k, evidence.relevant.flatten(1))
    own, other = ranks_of(evidence, sizes=True), reference_ranks(evidence, sizes=True)
    return same_place(own, other, size).sum(1) / size
