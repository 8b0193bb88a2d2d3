"""Completeness error."""

from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=2,
    paper="https://arxiv.org/abs/1703.01365",
    family="axiom",
    best=0.0,
    worst=2.0,
    needs=("model",),
    ceiling="best",
    claims=("exact",),
)
def completeness(evidence: Evidence) -> Scores:
    """Gap between sum a and f(x) - f(everything absent), over the mean of their sizes.

    2 |sum a - (f(x) - f(0))| / (|sum a| + |f(x) - f(0)|): equals the plain relative error where the two are
    of one size, and stays bounded where f(x) is near f(b).

    No unit; 0 (complete) to 2 (opposite signs, or one of them 0); lower is better.  Both zero: 0.
    Source: Sundararajan, Taly and Yan 2017, arXiv 1703.01365.
    """
    at_x = evidence.case.output(evidence.case.x).detach().double()
    total, change = evidence.attribution.double().flatten(1).sum(1), at_x - evidence.empty.double()
    scale = total.abs() + change.abs()
    return (2 * (total - change).abs() / scale).where(scale > 0, 0.0)
