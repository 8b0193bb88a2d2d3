"""Important direction gradient integration (IDGI) on the straight path."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from ..benchmarks.perturb import in_blocks, rows_at_once
from ..benchmarks.plugin import Case, Labels, Samples, Scores, method


@method(
    version=1,
    paper="https://arxiv.org/abs/2303.14242",
    needs="gradient",
    promises=("complete", "dummy", "symmetry"),
    cost="path",
)
def idgi(case: Case, *, steps: Annotated[int, Ge(1)] = 50) -> Samples:
    """What the output gains at every step from the baseline, shared out by the squares of the gradient there.

    Where the gradient is 0, the gain waits for the next step that has one, or goes by the last that had.

    steps: of equal length.
    """
    at_once = rows_at_once(case)
    blocks = [_along_the_path(case, x, target, steps) for x, target in in_blocks(case, at_once)]
    return torch.cat(blocks).to(case.x.dtype)


def _along_the_path(case: Case, x: Samples, target: Labels, steps: int) -> Samples:
    """The map of some rows, float64."""
    values = torch.zeros(len(x), case.baseline.numel(), dtype=torch.float64)
    shares, waiting = torch.zeros_like(values), torch.zeros(len(x), 1, dtype=torch.float64)
    start = case.baseline.expand_as(x)
    before, squares = _at(case, start, target)
    for step in range(1, steps + 1):
        seen = squares.sum(1, keepdim=True) > 0
        shares = torch.where(seen, squares / squares.sum(1, keepdim=True).clamp_min(1), shares)
        after, squares = _at(case, torch.lerp(start, x, step / steps), target)
        waiting = waiting + (after - before)[:, None]
        values += shares * waiting
        # without any gradient so far there are no shares, and what was gained still waits
        waiting = waiting.where(shares.sum(1, keepdim=True) == 0, 0.0)
        before = after
    last = squares / squares.sum(1, keepdim=True).clamp_min(1)
    return (values + last * waiting).view(x.shape)


def _at(case: Case, x: Samples, target: Labels) -> tuple[Scores, Tensor]:
    """The explained output, and the squares of its slopes, the largest of them 1 (or all 0)."""
    x = x.clone().requires_grad_()
    outputs = case.model(x).gather(1, target[:, None]).squeeze(1)
    slope = torch.autograd.grad(outputs.sum(), x)[0].double().flatten(1)
    # scaled, or squares of small slopes would vanish
    largest = slope.abs().amax(1, keepdim=True)
    return outputs.detach().double(), (slope / largest.where(largest > 0, 1.0)).square()
