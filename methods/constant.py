"""Control: an attribution that prefers nothing."""

import torch

from ..benchmarks.perturb import difference
from ..benchmarks.plugin import Case, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/1810.03292",
    promises=("complete", "symmetry", "linearity"),
    cost="none",
    control=True,
)
def constant(case: Case) -> Samples:
    """Equal shares of f(x) - f(baseline): what a metric pays for saying nothing."""
    share = difference(case) / case.baseline.numel()
    return torch.ones_like(case.x) * share.view(-1, *[1] * (case.x.ndim - 1))
