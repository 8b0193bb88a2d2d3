"""AlexNet."""

import dataclasses
import itertools
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Generator, nn

from ..benchmarks.blocks import LARGE, PUBLISHED, convolution, picture_shape, shrink, sides_behind
from ..benchmarks.plugin import Problem, model
from ..benchmarks.training import LAID_OUT, descend

CHANNELS = (64, 192, 384, 256, 256)
POOLED = (0, 1, 4)  # the convolutions behind which the sides are halved
HIDDEN = 4096


@model(version=1, paper="https://arxiv.org/abs/1404.5997", has=("gradient", "layers", "convolution"))
def alexnet(
    problem: Problem,
    rng: Generator,
    /,
    *,
    size: Literal["small", "full"] = "small",
    epochs: Annotated[int, Ge(1)] = LAID_OUT.epochs,
) -> nn.Module:
    """Five convolutions, three overlapping poolings by maximum, two hidden layers with dropout.

    The version in one column (Krizhevsky 2014), with batch norm behind every convolution in place of the
    local response normalisation of 2012.  The first convolution goes by the picture's size: the published
    11 x 11 with stride 4 from 128 places a side on, 5 x 5 with stride 2 from 64 on, 3 x 3 below.  A pooling
    that would leave less than 2 places along a side is left out.

    size: `full`: 64 to 384 channels and hidden layers of 4096, as published; `small`: a quarter of the
        channels and hidden layers of 64.
    epochs: passes over the training rows; small tables get more, as many as make 200 steps.
    """
    shape = picture_shape(problem)
    part, hidden = {"small": (4, 64), "full": (1, HIDDEN)}[size]
    layers = _first(shape, CHANNELS[0] // part)
    sides = shrink(layers, sides_behind(layers, shape), 3)
    for i, (given, made) in enumerate(itertools.pairwise(CHANNELS), start=1):
        layers += convolution(given // part, made // part, 5 if i == 1 else 3)
        sides = shrink(layers, sides, 3) if i in POOLED else sides
    layers.append(nn.Flatten())
    features = CHANNELS[-1] // part * sides[0] * sides[1]
    for _ in range(2):
        layers += [nn.Dropout(0.5), nn.Linear(features, hidden), nn.ReLU()]
        features = hidden
    layers.append(nn.Linear(hidden, problem.outputs))
    return descend(nn.Sequential(*layers), problem, rng, dataclasses.replace(LAID_OUT, epochs=epochs))


def _first(shape: tuple[int, int, int], made: int) -> list[nn.Module]:
    """The first convolution, by the shorter side."""
    side = min(shape[1:])
    if side >= PUBLISHED:
        return convolution(shape[0], made, 11, stride=4, padding=2)
    return convolution(shape[0], made, 5 if side >= LARGE else 3, stride=2 if side >= LARGE else 1)
