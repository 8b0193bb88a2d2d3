"""Kendall's tau-b between two maps."""

from ..benchmarks.concordance import order
from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://doi.org/10.1093/biomet/33.3.239",
    family="ground truth",
    best=1.0,
    worst=-1.0,
    needs=("reference",),
    claims=("exact", "scale"),
    chance=0.0,
)
def kendall_tau(evidence: Evidence) -> Scores:
    """Concordant less discordant pairs of features, over the pairs that are not tied: tau-b.

    The denominator is the geometric mean of the pairs untied in the map and in the reference: the exact
    attribution, or another method's.  Both are taken as given, with their signs.

    No unit; -1 (reversed) to 1 (same order), 0 for independent maps; higher is better.  NaN where one of the
    two is constant.  Source: Kendall 1945.
    """
    found = order(evidence, sizes=False)
    own, other = found.untied
    return (found.surplus / (own.double() * other).sqrt()).clamp(-1, 1)
