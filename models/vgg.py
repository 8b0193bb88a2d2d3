"""VGG-13."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Generator, nn

from ..benchmarks.blocks import convolution, picture_shape, shrink
from ..benchmarks.plugin import Problem, model
from ..benchmarks.training import LAID_OUT, descend

STAGES = (64, 128, 256, 512, 512)
HIDDEN = 4096


@model(version=1, paper="https://arxiv.org/abs/1409.1556", has=("gradient", "layers", "convolution"))
def vgg(
    problem: Problem,
    rng: Generator,
    /,
    *,
    size: Literal["small", "full"] = "small",
    epochs: Annotated[int, Ge(1)] = LAID_OUT.epochs,
) -> nn.Module:
    """VGG-13 (configuration B): five stages of two 3 x 3 convolutions and a pooling, two hidden layers.

    With batch norm, which the paper does not have and without which it trains slowly.  A pooling that would
    leave less than 2 places along a side is left out: pictures of 32 keep 2 x 2 places, those of 224 the
    published 7 x 7.

    size: `full`: 64 to 512 channels and hidden layers of 4096, as published; `small`: an eighth of the
        channels and hidden layers of 64.
    epochs: passes over the training rows; small tables get more, as many as make 200 steps.
    """
    channels, *rest = picture_shape(problem)
    sides, part, hidden = tuple(rest), *{"small": (8, 64), "full": (1, HIDDEN)}[size]
    layers: list[nn.Module] = []
    for stage in STAGES:
        width = stage // part
        layers += [*convolution(channels, width), *convolution(width, width)]
        sides = shrink(layers, sides)
        channels = width
    layers.append(nn.Flatten())
    features = channels * sides[0] * sides[1]
    for _ in range(2):
        layers += [nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(0.5)]
        features = hidden
    layers.append(nn.Linear(hidden, problem.outputs))
    return descend(nn.Sequential(*layers), problem, rng, dataclasses.replace(LAID_OUT, epochs=epochs))
