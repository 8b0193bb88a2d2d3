"""Pairwise rank agreement: how many pairs of features two maps put in the same order."""

from ..benchmarks.concordance import order
from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://arxiv.org/abs/2202.01602",
    family="ground truth",
    best=1.0,
    worst=0.0,
    needs=("reference",),
    claims=("scale", "sign", "ties"),
    chance=0.5,
)
def pairwise_rank_agreement(evidence: Evidence) -> Scores:
    """Share of all pairs of features that the map and the reference put in the same order of size.

    The reference is the exact attribution, or another method's.  A pair that ties in either of the two counts
    1/2, which is what breaking ties at random gives: where the exact attribution has ties, such as several
    features of no effect, nobody reaches 1.

    No unit; 0 to 1, chance is 0.5; higher is better.  NaN where there is one feature only.
    Source: PRA of Krishna et al. 2022, arXiv 2202.01602.
    """
    found = order(evidence, sizes=True)
    return found.surplus.double() / (2 * found.pairs) + 0.5
