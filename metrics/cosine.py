"""Cosine similarity of two maps."""

from ..benchmarks.concordance import correlation
from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://arxiv.org/abs/2205.07279",
    family="ground truth",
    best=1.0,
    worst=-1.0,
    needs=("reference",),
    claims=("exact", "scale"),
)
def cosine(evidence: Evidence) -> Scores:
    """Cosine of the angle between the map and the reference: a . t / (|a| |t|).

    The reference is the exact attribution, or another method's.  Both are taken as given, with their signs.

    No unit; -1 (opposite) to 1 (equal up to scale); higher is better.  Independent signed maps score 0 on
    average; two maps of sizes are never at a right angle, so that even noise scores far above 0 there.  NaN
    where one of the two is zero.  Source: Wang and Kong 2022, arXiv 2205.07279, who show that Kendall's tau
    rises with it on average.
    """
    return correlation(evidence, "values")
