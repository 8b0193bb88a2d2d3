"""Jaccard index of the top features of two maps."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.concordance import expected_jaccard
from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import Top, of_both


@metric(
    version=1,
    paper="https://doi.org/10.1111/j.1469-8137.1912.tb05611.x",
    family="ground truth",
    best=1.0,
    worst=0.0,
    needs=("reference",),
    claims=("exact", "scale", "sign", "ties"),
)
def top_k_jaccard(evidence: Evidence, *, k: Annotated[int, Ge(0)] = 0) -> Scores:
    """|A and B| / |A or B| of the k features of largest size in the map, A, and in the reference, B.

    The reference is the exact attribution, or another method's.  The exact expectation where ties are broken
    at random in each of the two apart; it is not the ratio of the expected sizes, as the index bends.  k = 0
    stands for the row's number of relevant features; a k above the number of features is cut to it.

    No unit; 0 to 1; higher is better.  NaN where k = 0 and no feature is relevant.  Source: Jaccard 1912.
    """
    return expected_jaccard(*of_both(evidence, Top(k)))
