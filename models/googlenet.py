"""GoogLeNet."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Generator, nn

from ..benchmarks.blocks import Concat, convolution, picture_shape, shrink, sides_behind, stem
from ..benchmarks.plugin import Problem, model
from ..benchmarks.training import LAID_OUT, descend

# Of every module: the 1 x 1 branch, the 3 x 3 branch and what leads to it, the 5 x 5 likewise, the pooling's.
STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        *((192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64)),
        *((112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128)),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


@model(version=1, paper="https://arxiv.org/abs/1409.4842", has=("gradient", "layers", "convolution"))
def googlenet(
    problem: Problem,
    rng: Generator,
    /,
    *,
    size: Literal["small", "full"] = "small",
    epochs: Annotated[int, Ge(1)] = LAID_OUT.epochs,
) -> nn.Module:
    """Inception modules: 1 x 1, 3 x 3 and 5 x 5 convolutions and a pooling side by side, in three stages.

    Without the auxiliary classifiers, and with batch norm behind every convolution in place of local
    response normalisation.  The first convolution goes by the picture's size: the published one with its
    pooling from 128 places a side on, 3 x 3 below (with stride 2 from 64 on).  A pooling that would leave
    less than 2 places along a side is left out.

    size: `full`: nine modules with the published channels; `small`: the first of every stage, with an
        eighth of them.
    epochs: passes over the training rows; small tables get more, as many as make 200 steps.
    """
    shape, part = picture_shape(problem), {"small": 8, "full": 1}[size]
    layers = stem(shape[0], 64 // part, min(shape[1:]))
    sides = sides_behind(layers, shape)
    layers += [*convolution(64 // part, 64 // part, 1), *convolution(64 // part, 192 // part)]
    channels = 192 // part
    for stage in STAGES:
        sides = shrink(layers, sides, 3, 1)
        for plan in stage if size == "full" else stage[:1]:
            layers.append(_inception(channels, [width // part for width in plan]))
            channels = sum(plan[i] // part for i in (0, 2, 4, 5))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.4), nn.Linear(channels, problem.outputs)]
    return descend(nn.Sequential(*layers), problem, rng, dataclasses.replace(LAID_OUT, epochs=epochs))


def _inception(given: int, plan: list[int]) -> Concat:
    """Four branches over one input."""
    one, to_three, three, to_five, five, pooled = plan
    return Concat(
        nn.Sequential(*convolution(given, one, 1)),
        nn.Sequential(*convolution(given, to_three, 1), *convolution(to_three, three, 3)),
        nn.Sequential(*convolution(given, to_five, 1), *convolution(to_five, five, 5)),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), *convolution(given, pooled, 1)),
    )
