"""Pearson's correlation between two maps."""

from ..benchmarks.concordance import correlation
from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://doi.org/10.1098/rspl.1895.0041",
    family="ground truth",
    best=1.0,
    worst=-1.0,
    needs=("reference",),
    claims=("exact", "scale"),
    chance=0.0,
)
def pearson(evidence: Evidence) -> Scores:
    """Correlation over features of the map and the reference, each less its mean over the row.

    The reference is the exact attribution, or another method's.  Both are taken as given, with their signs.
    What is added to all features alike does not count; `cosine` sees it.

    No unit; -1 (opposite) to 1 (equal up to scale and shift), 0 for independent maps; higher is better.  NaN
    where one of the two is constant.  Source: Pearson 1895.
    """
    return correlation(evidence, "deviations")
