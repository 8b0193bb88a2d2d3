"""DenseNet-121."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Generator, nn

from ..benchmarks.blocks import Dense, picture_shape, shrink, sides_behind, stem
from ..benchmarks.plugin import Problem, model
from ..benchmarks.training import LAID_OUT, descend

BOTTLENECK = 4  # channels inside a dense layer, in units of what it adds
PLANS = {"small": (8, (1, 1, 2, 2)), "full": (32, (6, 12, 24, 16))}


@model(version=1, paper="https://arxiv.org/abs/1608.06993", has=("gradient", "layers", "convolution"))
def densenet(
    problem: Problem,
    rng: Generator,
    /,
    *,
    size: Literal["small", "full"] = "small",
    epochs: Annotated[int, Ge(1)] = LAID_OUT.epochs,
) -> nn.Module:
    """Four dense blocks, in which every layer gets what all layers before it made, with poolings between.

    A layer is batch norm, ReLU, 1 x 1 convolution, batch norm, ReLU, 3 x 3 convolution; between blocks a
    1 x 1 convolution halves the channels and a pooling by average the sides, down to 2 places.  The stem goes
    by the picture's size: the published one from 128 places a side on, a 3 x 3 convolution below (with
    stride 2 from 64 on).

    size: `full`: blocks of 6, 12, 24 and 16 layers that add 32 channels each, as in DenseNet-121; `small`:
        1, 1, 2 and 2 layers that add 8.
    epochs: passes over the training rows; small tables get more, as many as make 200 steps.
    """
    shape, (growth, blocks) = picture_shape(problem), PLANS[size]
    channels = 2 * growth
    layers = stem(shape[0], channels, min(shape[1:]))
    sides = sides_behind(layers, shape)
    for i, depth in enumerate(blocks):
        for _ in range(depth):
            layers.append(Dense(_dense(channels, growth)))
            channels += growth
        if i < len(blocks) - 1:
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1, bias=False)]
            channels //= 2
            sides = shrink(layers, sides, kind=nn.AvgPool2d)
    layers += [nn.BatchNorm2d(channels), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, problem.outputs)]
    return descend(nn.Sequential(*layers), problem, rng, dataclasses.replace(LAID_OUT, epochs=epochs))


def _dense(given: int, growth: int) -> nn.Sequential:
    """What a layer of a dense block adds."""
    inside = BOTTLENECK * growth
    return nn.Sequential(
        *(nn.BatchNorm2d(given), nn.ReLU(), nn.Conv2d(given, inside, 1, bias=False)),
        *(nn.BatchNorm2d(inside), nn.ReLU(), nn.Conv2d(inside, growth, 3, padding=1, bias=False)),
    )
