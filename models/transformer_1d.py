"""Transformer of sound."""

from dataclasses import replace
from typing import Annotated

from annotated_types import Ge, Lt
from torch import Generator, nn

from ..benchmarks.plugin import Problem, model
from ..benchmarks.sequence import SOUND, Turned, fitted, front_end, read_out
from ..benchmarks.transformer import Block, Tokens


@model(version=1, paper="https://arxiv.org/abs/1706.03762", has=("gradient", "layers"))
def transformer_1d(
    problem: Problem,
    rng: Generator,
    /,
    *,
    hidden: Annotated[int, Ge(2)] = 60,
    layers: Annotated[int, Ge(1)] = 3,
    heads: Annotated[int, Ge(1)] = 4,
    kernel: Annotated[int, Ge(1)] = 80,
    stride: Annotated[int, Ge(1)] = 16,
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
    epochs: Annotated[int, Ge(1)] = SOUND.epochs,
    decay: Annotated[float, Ge(0)] = SOUND.weight_decay,
    shift: Annotated[float, Ge(0), Lt(1)] = 0.125,
) -> nn.Module:
    """One convolution, then blocks of self-attention over time, the largest over time, and a linear layer.

    The steps of the convolution are the tokens, and sinusoids are added that tell their place.  Its attention
    tells times and no channels, so it is not offered to methods that read attention.  Source: Vaswani et al.
    2017, with norms before the sums; in this place, ChaosMining, arXiv 2406.12150.

    hidden: width of the convolution and of the tokens; a multiple of `heads`.
    layers: blocks.
    heads: of attention, in each block.
    kernel, stride: of the first convolution, in samples; at 4 kHz, 80 are 20 ms.  Its filters begin as tones.
    dropout: after the convolution.
    decay: of weights, as in AdamW.
    shift: of every channel in training, a new one for each batch: at most this share of the clip.

    Raises:
        AssayError: `hidden` is no multiple of `heads`.
        NotApplicable: features are not [channels, time].
    """
    front, steps = front_end(problem, hidden, kernel, stride, dropout)
    blocks = [Block(hidden, heads) for _ in range(layers)]
    places = Tokens((steps,), hidden, positions="sinusoids")
    head = read_out(hidden, steps, problem.outputs)
    net = nn.Sequential(front, Turned(), places, *blocks, nn.LayerNorm(hidden), Turned(), head)
    recipe = replace(SOUND, epochs=epochs, weight_decay=decay)
    return fitted(net, problem, rng, recipe, shift)
