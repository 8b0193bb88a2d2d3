"""Attention rollout."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..benchmarks.plugin import Case, Labels, Samples, method
from ..benchmarks.transformer import attention_in, token_maps


@method(
    version=1,
    paper="https://arxiv.org/abs/2005.00928",
    needs="attention",
    signed=False,
    cost="passes",
)
def attention_rollout(case: Case) -> Samples:
    """How much of every token reaches what is read out, if attention moved tokens as they are.

    The product over layers, the last one first, of (A + I) / 2: A is the layer's attention, averaged over
    heads, and I stands for the way around it (Abnar & Zuidema 2020, equation 1).  Its row of the class token,
    or the mean of all rows where the model reads the mean of tokens, goes to the tokens' pixels in equal
    parts.  Values layers and perceptrons are left out, and so is which output is explained.
    """

    def paths(x: Samples, _: Labels) -> Float[Tensor, "n to from"]:
        layers = attention_in(case.model, x)
        found = torch.eye(layers[0].shape[-1]).to(x)
        for layer in layers:
            found = (layer.mean(1) @ found + found) / 2
        return found

    return token_maps(case, paths)
