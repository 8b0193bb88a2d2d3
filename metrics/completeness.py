"""Completeness error."""

import torch

from ..benchmarks.perturb import outputs_under
from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://arxiv.org/abs/1703.01365",
    family="axiom",
    best=0.0,
    worst=2.0,
    needs=("model",),
    ceiling="best",
)
def completeness(evidence: Evidence) -> Scores:
    """Gap between sum a and f(x) - f(baseline), over the mean of their sizes.

    2 |sum a - (f(x) - f(b))| / (|sum a| + |f(x) - f(b)|): equals the plain relative error where the two are
    of one size, and stays bounded where f(x) is near f(b).

    No unit; 0 (complete) to 2 (opposite signs, or one of them 0); lower is better.  Both zero: 0.
    Source: Sundararajan, Taly and Yan 2017, arXiv 1703.01365.
    """
    case = evidence.case
    keep = torch.tensor([True, False]).view(1, 2, *[1] * case.baseline.dim())
    at_x, at_baseline = outputs_under(case, keep.expand(1, 2, *case.baseline.shape)).double().unbind(1)
    total, change = evidence.attribution.double().flatten(1).sum(1), at_x - at_baseline
    scale = total.abs() + change.abs()
    return (2 * (total - change).abs() / scale).where(scale > 0, 0.0)
