"""Complexity."""

import math

import torch

from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://arxiv.org/abs/2005.00631",
    family="complexity",
    best=0.0,
    worst=1.0,
    ceiling="none",
    claims=("scale", "sign"),
)
def complexity(evidence: Evidence) -> Scores:
    """Entropy of the features' shares of sum |a|, over its largest value, log d.

    The paper's is in nats, which grow with the number of features d.  A zero map counts as a constant one.

    No unit; 0 (one feature carries all; with d = 1 always) to 1 (all sizes equal); lower is simpler.
    Source: Bhatt, Weller and Moura 2020, arXiv 2005.00631.
    """
    size = evidence.attribution.abs().flatten(1)
    total, width = size.sum(1, keepdim=True), size.shape[1]
    if width == 1:
        return torch.zeros(len(size), dtype=torch.float64)
    entropy = torch.special.entr(size / total).sum(1) / math.log(width)
    return entropy.where(total.squeeze(1) > 0, 1.0).clamp(0, 1)
