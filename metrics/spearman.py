"""Spearman's rank correlation between two maps."""

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import average_ranks


@metric(
    version=1,
    paper="https://arxiv.org/abs/2202.01602",
    family="agreement",
    best=1.0,
    worst=-1.0,
    needs=("other",),
    ceiling="best",
)
def spearman(evidence: Evidence) -> Scores:
    """Pearson correlation of the ranks of the features in two maps; ties share their average rank.

    Maps are compared as given, with their signs.

    No unit; -1 (reversed) to 1 (same order), 0 for independent maps; higher is more agreement.  NaN where
    a map is constant.  Source: rank correlation in Krishna et al. 2022, arXiv 2202.01602.
    """
    assert evidence.other is not None  # declared in `needs`
    middle = (evidence.attribution[0].numel() + 1) / 2  # exact, so that a constant map centres to zeros
    a, b = (average_ranks(m.flatten(1)) - middle for m in (evidence.attribution, evidence.other))
    return ((a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()).clamp(-1, 1)
