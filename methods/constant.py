"""Control: an attribution that prefers nothing."""

import torch

from ..benchmarks.plugin import Case, Samples, method


@method(paper="https://arxiv.org/abs/1810.03292", signed=False)
def constant(case: Case) -> Samples:
    """Ones everywhere: what a metric pays for saying nothing."""
    return torch.ones_like(case.x)
