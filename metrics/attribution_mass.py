"""Attribution mass, also known as relevance mass accuracy."""

from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://arxiv.org/abs/2003.07258",
    family="ground truth",
    best=1.0,
    worst=0.0,
    claims=("exact", "scale", "sign", "ties"),
)
def attribution_mass(evidence: Evidence) -> Scores:
    """Share of the row's sum of |a| that falls on relevant features.

    Sizes, not signed values: signed sums cancel and leave the range.  A zero map counts as a constant one.

    No unit; 0 to 1, a constant map scores the share of relevant features; higher is better.
    Source: Arras, Osman and Samek 2022, arXiv 2003.07258.
    """
    size, relevant = evidence.attribution.abs().flatten(1), evidence.relevant.flatten(1)
    total = size.sum(1)
    mass = (size * relevant).sum(1) / total
    return mass.where(total > 0, relevant.double().mean(1))
