"""Spearman's rank correlation between two maps."""

from ..benchmarks.concordance import correlation
from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://arxiv.org/abs/2202.01602",
    family="ground truth",
    best=1.0,
    worst=-1.0,
    needs=("reference",),
    claims=("exact", "scale"),
    chance=0.0,
)
def spearman(evidence: Evidence) -> Scores:
    """Pearson correlation of the ranks of the features in the map and in the reference.

    The reference is the exact attribution, or another method's.  Both are ranked as given, with their signs;
    features that tie share their average rank.

    No unit; -1 (reversed) to 1 (same order), 0 for independent maps; higher is better.  NaN where one of the
    two is constant.  Source: rank correlation in Krishna et al. 2022, arXiv 2202.01602.
    """
    return correlation(evidence, "ranks")
