"""Feature agreement: how many top features two maps have in common."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import Top, of_both, top_size


@metric(
    version=1,
    paper="https://arxiv.org/abs/2202.01602",
    family="ground truth",
    best=1.0,
    worst=0.0,
    needs=("reference",),
    claims=("exact", "scale", "sign", "ties"),
)
def feature_agreement(evidence: Evidence, *, k: Annotated[int, Ge(0)] = 0) -> Scores:
    """Share of the k features of largest size that the map and the reference have in common.

    The reference is the exact attribution, or another method's.  The expected value where ties are broken at
    random in each of the two apart: two zero maps score chance, not 1.  k = 0 stands for the row's number of
    relevant features; a k above the number of features is cut to it.

    No unit; 0 to 1, chance is k / d; higher is better.  NaN where k = 0 and no feature is relevant.
    Source: FA of Krishna et al. 2022, arXiv 2202.01602.
    """
    own, other = of_both(evidence, Top(k))
    return (own * other).sum(1) / top_size(k, evidence.relevant.flatten(1))
