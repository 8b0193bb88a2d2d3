"""Attention rollout."""

import torch

from ..benchmarks.perturb import in_blocks, rows_at_once
from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.transformer import recorded, tokens_of


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
    tokens, blocks = tokens_of(case.model), []
    for x, _ in in_blocks(case, rows_at_once(case)):
        with torch.no_grad(), recorded(case.model) as layers:
            case.model(x)
        paths = torch.eye(layers[0].shape[-1]).to(x)
        for layer in layers:
            paths = (layer.mean(1) @ paths + paths) / 2
        blocks.append(tokens.spread(tokens.read(paths), x.shape[1:]))
    return torch.cat(blocks)
