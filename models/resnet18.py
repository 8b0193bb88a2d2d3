"""ResNet-18."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Generator, nn

from ..benchmarks.blocks import Residual, convolution, picture_shape, stem
from ..benchmarks.plugin import Problem, model
from ..benchmarks.training import LAID_OUT, descend


@model(version=1, paper="https://arxiv.org/abs/1512.03385", has=("gradient", "layers", "convolution"))
def resnet18(
    problem: Problem,
    rng: Generator,
    /,
    *,
    size: Literal["small", "full"] = "small",
    epochs: Annotated[int, Ge(1)] = LAID_OUT.epochs,
) -> nn.Module:
    """Four stages of two basic blocks, in each of which two 3 x 3 convolutions are added to what came in.

    Every stage but the first halves the sides; where the shape changes, the way around is a 1 x 1
    convolution.  The stem goes by the picture's size: the published one from 128 places a side on, a 3 x 3
    convolution below (with stride 2 from 64 on).

    size: `full`: 64 channels in the first stage, as published (11.2 million weights for 10 classes); `small`:
        8.  Every further stage has twice as many.
    epochs: passes over the training rows; small tables get more, as many as make 200 steps.
    """
    channels, *sides = picture_shape(problem)
    width = {"small": 8, "full": 64}[size]
    layers = stem(channels, width, min(sides))
    given = width
    for stage in range(4):
        made = width * 2**stage
        for stride in (1 if stage == 0 else 2, 1):
            layers += [_basic(given, made, stride), nn.ReLU()]
            given = made
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(given, problem.outputs)]
    return descend(nn.Sequential(*layers), problem, rng, dataclasses.replace(LAID_OUT, epochs=epochs))


def _basic(given: int, made: int, stride: int) -> Residual:
    """Two convolutions around which the input is led; the ReLU comes after the sum."""
    body = [*convolution(given, made, stride=stride), *convolution(made, made)[:-1]]
    around = None
    if given != made or stride > 1:
        around = nn.Sequential(*convolution(given, made, 1, stride=stride)[:-1])
    return Residual(nn.Sequential(*body), around)
