"""Multi-layer perceptron."""

from typing import Annotated, Literal

from annotated_types import Ge, Lt
from torch import Generator, nn

from ..benchmarks.plugin import Problem, model
from ..benchmarks.training import Preset, fit

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh, "softplus": nn.Softplus}


@model(version=1, paper="https://arxiv.org/abs/2406.12150", has=("gradient", "layers"))
def mlp(
    problem: Problem,
    rng: Generator,
    /,
    *,
    depth: Annotated[int, Ge(1)] = 3,
    width: Annotated[int, Ge(1)] = 100,
    activation: Literal["gelu", "relu", "silu", "tanh", "softplus"] = "gelu",
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    preset: Preset = "fast",
) -> nn.Module:
    """Hidden layers of equal width, one dropout before the linear output.

    preset: `fast` (mini-batches of standardised columns, AdamW, one-cycle schedule, best epoch on the
        validation rows; the scales are folded into the first and last layer) or `reference`
        (the protocol of arXiv 2406.12150: full batch, Adam 1e-3, 1000 epochs, last epoch).
    """
    layers: list[nn.Module] = [nn.Flatten()]
    size = problem.x[0].numel()
    for _ in range(depth):
        layers += [nn.Linear(size, width), ACTIVATIONS[activation]()]
        size = width
    net = nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(size, problem.outputs))
    return fit(net, problem, rng, preset)
