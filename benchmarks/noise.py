"""Gradients of noisy copies of the rows, by captum's NoiseTunnel."""

from collections.abc import Callable
from typing import Literal

import torch
from captum.attr import NoiseTunnel, Saliency
from torch import Tensor

from .perturb import in_blocks, rows_at_once
from .plugin import Case, Labels, Samples, Scores


def tunnelled(
    case: Case, kind: Literal["smoothgrad", "smoothgrad_sq", "vargrad"], budget: int, spread: float
) -> Samples:
    """Mean, mean square or variance of the gradient over noisy copies of each row.

    spread: deviation of the noise, as a share of the range of the background, feature by feature's mean.
    """
    scale = (case.background.amax(0) - case.background.amin(0)).mean().item()
    at_once, blocks = rows_at_once(case), []
    for x, target in in_blocks(case, at_once):
        explained = _bent(case, x, target) if kind == "vargrad" else _chosen(case, target)
        tunnel = NoiseTunnel(Saliency(explained))
        blocks.append(
            tunnel.attribute(
                x.clone().requires_grad_(),
                nt_type=kind,
                nt_samples=budget,
                nt_samples_batch_size=at_once // len(x),
                stdevs=spread * scale,
                abs=False,
            )
        )
    return torch.cat(blocks).detach()


def _chosen(case: Case, target: Labels) -> Callable[[Tensor], Scores]:
    """The explained output of the copies of rows, copies of one row together."""

    def chosen(noisy: Tensor) -> Scores:
        each = target.repeat_interleave(len(noisy) // len(target))
        outputs: Tensor = case.model(noisy)
        return outputs.gather(1, each[:, None]).squeeze(1)

    return chosen


def _bent(case: Case, x: Samples, target: Labels) -> Callable[[Tensor], Scores]:
    """The explained output less its tangent at the row: the same variance, free of cancellation.

    captum subtracts the squared mean from the mean square.  Where the gradient is large and hardly varies,
    what is left in float32 is rounding, and that is the larger the larger the weight: a linear model's map,
    which should be 0, would rank its features right.
    """
    at, chosen = x.clone().requires_grad_(), _chosen(case, target)
    (slope,) = torch.autograd.grad(chosen(at).sum(), at)

    def bent(noisy: Tensor) -> Scores:
        steep = slope.repeat_interleave(len(noisy) // len(x), 0)
        return chosen(noisy) - (noisy * steep).flatten(1).sum(1)

    return bent
