"""The last layer's attention."""

from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.transformer import attention_in, token_maps


@method(
    version=1,
    paper="https://arxiv.org/abs/2104.14294",
    needs="attention",
    signed=False,
    cost="passes",
)
def attention_last_layer(case: Case) -> Samples:
    """What the last layer attends to: its weights, averaged over heads, as they stand.

    Of the class token's row, as in the maps of Caron et al. 2021, or of the mean of all rows where the model
    reads the mean of tokens; in equal parts to the tokens' pixels.  By the last layer every token holds
    something of all others, and which output is explained is left out: take it as a baseline for rollout.
    """
    return token_maps(case, lambda x, _: attention_in(case.model, x)[-1].mean(1))
