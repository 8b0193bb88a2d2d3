"""Vision transformer (ViT)."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Ge, Lt
from torch import Generator, nn

from ..benchmarks.blocks import picture_shape
from ..benchmarks.plugin import NotApplicable, Problem, model
from ..benchmarks.training import LAID_OUT, descend
from ..benchmarks.transformer import Block, Patches, Readout, Tokens

PLANS = {"small": (64, 4, 3, 2), "full": (768, 12, 12, 4)}  # width, heads, depth, ratio


@model(version=1, paper="https://arxiv.org/abs/2010.11929", has=("gradient", "layers", "attention"))
def vit(
    problem: Problem,
    rng: Generator,
    /,
    *,
    size: Literal["small", "full"] = "small",
    patch: Annotated[int, Ge(1)] = 4,
    depth: Annotated[int, Ge(1)] | None = None,
    readout: Literal["class", "mean"] = "class",
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    epochs: Annotated[int, Ge(1)] = LAID_OUT.epochs,
) -> nn.Module:
    """Patches of the picture as tokens with learned positions, blocks of attention, one linear layer.

    size: `full`: 12 blocks of width 768 with 12 heads, as ViT-B (with patch 16, 86 million weights);
        `small`: 3 blocks of width 64 with 4 heads.
    patch: side of the square that makes one token; it must divide both sides of the picture.  Attention's
        cost grows with the fourth power of side / patch: take 16 for pictures of 224.
    depth: blocks; None: as many as the size says.
    readout: what the last layer gets: the class token, as published, or the mean of all tokens.
    dropout: share of what each half of a block adds that is dropped in training.
    epochs: passes over the training rows; small tables get more, as many as make 200 steps.
    """
    channels, height, width = picture_shape(problem)
    if height % patch or width % patch:
        raise NotApplicable(f"cuts pictures into squares of {patch} x {patch}, and gets {height} x {width}")
    features, heads, blocks, ratio = PLANS[size]
    net = nn.Sequential(
        Patches(channels, features, patch),
        Tokens((height // patch, width // patch), features, class_token=readout == "class"),
        *(Block(features, heads, ratio, dropout) for _ in range(depth or blocks)),
        *(nn.LayerNorm(features), Readout(class_token=readout == "class")),
        nn.Linear(features, problem.outputs),
    )
    return descend(net, problem, rng, dataclasses.replace(LAID_OUT, epochs=epochs))
