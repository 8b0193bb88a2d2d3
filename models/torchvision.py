"""The architectures of torchvision, for those who have it installed."""

import dataclasses
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Generator, nn
from torchvision import models as architectures  # type: ignore[import-not-found, unused-ignore]

from ..benchmarks.blocks import picture_shape
from ..benchmarks.plugin import NotApplicable, Problem, model
from ..benchmarks.registry import AssayError, near_miss
from ..benchmarks.training import LAID_OUT, descend


@model(version=1, paper="https://arxiv.org/abs/1512.03385", has="gradient")
def torchvision(
    problem: Problem,
    rng: Generator,
    /,
    *,
    name: str = "resnet18",
    epochs: Annotated[int, Ge(1)] = LAID_OUT.epochs,
) -> nn.Module:
    """An architecture of torchvision for classification, by its name there, trained from random weights.

    Its layers may be used twice and its attention is fused, so that methods by layers do not apply: take
    `resnet18` and its like for these.  In-place activations are made ordinary ones.  Batch norm needs
    pictures that are large enough for the architecture's poolings, of 224 for some.

    name: as in `torchvision.models.list_models()`; transformers named vit_ get the picture's side.
    epochs: passes over the training rows; small tables get more, as many as make 200 steps.
    """
    shape = picture_shape(problem)
    net = _built(name, shape, problem.outputs)
    for layer in net.modules():
        if getattr(layer, "inplace", False):
            layer.inplace = False  # type: ignore[assignment]
    try:
        with torch.no_grad():
            net.eval()(problem.x[:1])
    except (RuntimeError, ValueError, AssertionError) as error:
        raise NotApplicable(
            f"{name} of torchvision cannot take features of shape {shape}: {error}"
        ) from error
    return descend(net, problem, rng, dataclasses.replace(LAID_OUT, epochs=epochs))


def _built(name: str, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network with random weights.

    Raises:
        AssayError: torchvision has no classifier of that name.
    """
    known = architectures.list_models(module=architectures)
    if name not in known:
        raise AssayError(f"name={name!r} is no architecture of torchvision.{near_miss(name, known)}")
    more: dict[str, object] = {}
    if name.startswith("vit_"):
        more["image_size"] = shape[1]
    elif name in {"googlenet", "inception_v3"}:
        more = {"aux_logits": False, "init_weights": True}
    built: nn.Module = architectures.get_model(name, weights=None, num_classes=outputs, **more)
    return built
