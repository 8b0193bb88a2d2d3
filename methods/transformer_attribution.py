"""Attention relevance weighted by gradients (Chefer et al. 2021)."""

import functools

import torch
from jaxtyping import Float
from torch import Tensor

from ..benchmarks.plugin import Case, Labels, Samples, method
from ..benchmarks.transformer import recorded, token_maps


@method(
    version=1,
    paper="https://arxiv.org/abs/2103.15679",
    needs=("gradient", "attention"),
    signed=False,
    cost="passes",
)
def transformer_attribution(case: Case) -> Samples:
    """How much of every token reaches what is read out, by attention as far as it raises the output.

    R starts as the identity, and every layer adds A' R to it, where A' is the mean over heads of the positive
    part of attention times the gradient of the explained output in it: the rule for self-attention of
    "Generic attention-model explainability" (equations 5 and 6), which takes raw attention in place of the
    layer-wise relevance of the same authors' arXiv 2012.09838.  What R has gained is read in the row of the
    class token, or in the mean of all rows where the model reads the mean of tokens, and goes to the tokens'
    pixels in equal parts.
    """
    return token_maps(case, functools.partial(_gained, case))


def _gained(case: Case, x: Samples, target: Labels) -> Float[Tensor, "n to from"]:
    """R less the identity that it starts from."""
    with torch.enable_grad(), recorded(case.model) as layers:
        outputs = case.model(x.clone().requires_grad_())
        explained = outputs.gather(1, target[:, None]).sum()
    slopes = torch.autograd.grad(explained, layers)
    gained = torch.zeros_like(layers[0][:, 0])
    for layer, slope in zip(layers, slopes, strict=True):
        weight = (layer.detach() * slope).clamp_min(0).mean(1)
        gained = gained + weight + weight @ gained
    return gained
