"""Multi-layer perceptron."""

from typing import Annotated

from annotated_types import Ge, Lt
from torch import Generator, nn

from ..benchmarks.plugin import Problem, model
from ..benchmarks.training import Activation, Preset, fit, perceptron


@model(version=1, paper="https://arxiv.org/abs/2406.12150", has=("gradient", "layers"))
def mlp(
    problem: Problem,
    rng: Generator,
    /,
    *,
    depth: Annotated[int, Ge(1)] = 3,
    width: Annotated[int, Ge(1)] = 100,
    activation: Activation = "gelu",
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    preset: Preset = "fast",
) -> nn.Module:
    """Hidden layers of equal width, one dropout before the linear output.

    preset: `fast` (mini-batches of standardised columns, AdamW, one-cycle schedule, best epoch on the
        validation rows; the scales are folded into the first and last layer), `brief` (the same in 6 epochs
        in place of 15, with more decay: for a first look at tables of many irrelevant columns) or
        `reference` (the protocol of arXiv 2406.12150: full batch, Adam 1e-3, 1000 epochs, last epoch).
    """
    return fit(perceptron(problem, depth, width, activation, dropout), problem, rng, preset)
