"""A plain convolutional network."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Generator, nn

from ..benchmarks.blocks import convolution, picture_shape, shrink
from ..benchmarks.plugin import Problem, model
from ..benchmarks.training import LAID_OUT, descend


@model(version=1, paper="https://arxiv.org/abs/1412.6806", has=("gradient", "layers", "convolution"))
def cnn(
    problem: Problem,
    rng: Generator,
    /,
    *,
    size: Literal["small", "full"] = "small",
    depth: Annotated[int, Ge(1)] = 3,
    epochs: Annotated[int, Ge(1)] = LAID_OUT.epochs,
) -> nn.Module:
    """Stages of two 3 x 3 convolutions and a pooling, then the average over all places and one linear layer.

    Every convolution is followed by batch norm and ReLU.  The pooling takes the largest: with averages the
    network does not find small objects at random places on structured backgrounds.  It stops where 2 places
    are left along a side.

    size: channels of the first stage, 16 or 64; every further stage has twice as many.
    depth: stages.
    epochs: passes over the training rows; small tables get more, as many as make 200 steps.
    """
    channels, *rest = picture_shape(problem)
    sides, width = tuple(rest), {"small": 16, "full": 64}[size]
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [*convolution(channels, width), *convolution(width, width)]
        sides = shrink(layers, sides)
        channels, width = width, 2 * width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, problem.outputs)]
    return descend(nn.Sequential(*layers), problem, rng, dataclasses.replace(LAID_OUT, epochs=epochs))
