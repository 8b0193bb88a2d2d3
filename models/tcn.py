"""Temporal convolutional network of sound."""

from dataclasses import replace
from typing import Annotated, Final

from annotated_types import Ge, Lt
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..benchmarks.blocks import Sum
from ..benchmarks.plugin import Problem, model
from ..benchmarks.sequence import SOUND, fitted, front_end, read_out

STEPS: Final = 400  # at least, of training: its outputs begin far from what they should be


@model(version=2, paper="https://arxiv.org/abs/1803.01271", has=("gradient", "layers"))
def tcn(
    problem: Problem,
    rng: Generator,
    /,
    *,
    hidden: Annotated[int, Ge(1)] = 60,
    layers: Annotated[int, Ge(1)] = 3,
    width: Annotated[int, Ge(2)] = 3,
    kernel: Annotated[int, Ge(1)] = 80,
    stride: Annotated[int, Ge(1)] = 16,
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
    epochs: Annotated[int, Ge(1)] = SOUND.epochs,
    decay: Annotated[float, Ge(0)] = SOUND.weight_decay,
    shift: Annotated[float, Ge(0), Lt(1)] = 0.125,
) -> nn.Module:
    """One convolution, then residual blocks of dilated causal ones, the largest over time, a linear layer.

    Block i: ReLU(x + two times [convolution of dilation 2^i that sees the past alone, batch norm, ReLU]).
    Source: Bai, Kolter and Koltun 2018, with batch norm in place of weight norm and without dropout; in this
    place, ChaosMining, arXiv 2406.12150.

    hidden: channels of every convolution.
    layers: blocks.
    width: steps that a convolution in a block sees.
    kernel, stride: of the first convolution, in samples; at 4 kHz, 80 are 20 ms.  Its filters begin as tones.
    dropout: after the convolution.
    decay: of weights, as in AdamW.
    shift: of every channel in training, a new one for each batch: at most this share of the clip.

    Raises:
        NotApplicable: features are not [channels, time].
    """
    front, steps = front_end(problem, hidden, kernel, stride, dropout)
    blocks = [_Block(hidden, width, 2**i) for i in range(layers)]
    net = nn.Sequential(front, *blocks, read_out(hidden, steps, problem.outputs))
    recipe = replace(SOUND, epochs=epochs, weight_decay=decay, least_steps=STEPS)
    return fitted(net, problem, rng, recipe, shift)


class _Block(nn.Module):
    """[n, hidden, steps] -> the same; no step depends on later ones."""

    def __init__(self, hidden: int, width: int, dilation: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            past = nn.ConstantPad1d(((width - 1) * dilation, 0), 0.0)
            layers += [past, nn.Conv1d(hidden, hidden, width, dilation=dilation)]
            layers += [nn.BatchNorm1d(hidden), nn.ReLU()]
        self.change = nn.Sequential(*layers)
        self.sum, self.out = Sum(), nn.ReLU()  # a layer too, or relevance would not go both ways

    def forward(self, x: Float[Tensor, "n hidden steps"]) -> Float[Tensor, "n hidden steps"]:
        changed: Tensor = self.out(self.sum(x, self.change(x)))
        return changed
