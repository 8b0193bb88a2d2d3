"""Recurrent network of sound."""

from dataclasses import replace
from typing import Annotated

from annotated_types import Ge, Lt
from torch import Generator, nn

from ..benchmarks.plugin import Problem, model
from ..benchmarks.sequence import SOUND, Recurrent, Turned, fitted, front_end, read_out


@model(version=1, paper="https://doi.org/10.1207/s15516709cog1402_1", has="gradient")
def rnn(
    problem: Problem,
    rng: Generator,
    /,
    *,
    hidden: Annotated[int, Ge(1)] = 60,
    layers: Annotated[int, Ge(1)] = 3,
    kernel: Annotated[int, Ge(1)] = 80,
    stride: Annotated[int, Ge(1)] = 16,
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
    epochs: Annotated[int, Ge(1)] = SOUND.epochs,
    decay: Annotated[float, Ge(0)] = SOUND.weight_decay,
    shift: Annotated[float, Ge(0), Lt(1)] = 0.125,
) -> nn.Module:
    """One convolution, then recurrent layers (tanh), the largest state over time, and a linear layer.

    Every clip begins from a state of zeros.  Source: Elman 1990; in this place, ChaosMining,
    arXiv 2406.12150.

    hidden: width of the convolution and of the recurrent layers.
    kernel, stride: of the first convolution, in samples; at 4 kHz, 80 are 20 ms.  Its filters begin as tones.
    dropout: after the convolution.
    decay: of weights, as in AdamW.
    shift: of every channel in training, a new one for each batch: at most this share of the clip.

    Raises:
        NotApplicable: features are not [channels, time].
    """
    front, steps = front_end(problem, hidden, kernel, stride, dropout)
    body = Recurrent(nn.RNN(hidden, hidden, layers, batch_first=True))
    net = nn.Sequential(front, Turned(), body, Turned(), read_out(hidden, steps, problem.outputs))
    recipe = replace(SOUND, epochs=epochs, weight_decay=decay)
    return fitted(net, problem, rng, recipe, shift)
