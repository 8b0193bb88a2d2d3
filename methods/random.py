"""Control: an attribution that looks at nothing."""

import torch

from ..benchmarks.plugin import Case, Samples, method


@method(paper="https://arxiv.org/abs/1810.03292")
def random(case: Case) -> Samples:
    """Standard normal noise: the floor that every skill is measured from."""
    return torch.randn(case.x.shape, generator=case.rng)
