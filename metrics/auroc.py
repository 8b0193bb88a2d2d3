"""Area under the ROC curve."""

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import ranks_of


@metric(
    version=1,
    paper="https://doi.org/10.1016/j.patrec.2005.10.010",
    family="ground truth",
    best=1.0,
    worst=0.0,
    claims=("exact", "scale", "sign", "ties"),
    chance=0.5,
)
def auroc(evidence: Evidence) -> Scores:
    """Probability that a relevant feature has a larger |a| than an irrelevant one; a tie counts 1/2.

    No unit; 0 to 1, chance is 0.5; higher is better.  NaN where all features or none are relevant.
    Source: Fawcett 2006 (the area equals the Mann-Whitney statistic).
    """
    relevant = evidence.relevant.flatten(1)
    positives = relevant.double().sum(1)
    ranks = ranks_of(evidence, sizes=True).average
    wins = (ranks * relevant).sum(1) - positives * (positives + 1) / 2
    return wins / (positives * (relevant.shape[1] - positives))
