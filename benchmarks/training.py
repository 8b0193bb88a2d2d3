"""The one training loop, with its two presets."""

import copy
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from .plugin import Problem

Preset: TypeAlias = Literal["fast", "reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How long, how fast, with what restraint."""

    lr: float
    epochs: int
    batch: int  # 0: all rows at once
    weight_decay: float
    one_cycle: bool
    patience: int  # epochs without a better validation loss before stopping; 0: never stop, keep the last
    least_steps: int  # small tables get more epochs, so that they too are fitted
    standardise: bool  # train on columns and targets of mean 0 and deviation 1, then fold the scales away


RECIPES: dict[Preset, Recipe] = {
    "fast": Recipe(
        lr=1e-2,
        epochs=15,
        batch=128,
        weight_decay=0.3,
        one_cycle=True,
        patience=10,
        least_steps=600,
        standardise=True,
    ),
    # the protocol of arXiv 2406.12150: it overfits, and is here so that its numbers can be made again
    "reference": Recipe(
        lr=1e-3,
        epochs=1000,
        batch=0,
        weight_decay=0.0,
        one_cycle=False,
        patience=0,
        least_steps=0,
        standardise=False,
    ),
}


def fit(net: nn.Sequential, problem: Problem, rng: Generator, preset: Preset) -> nn.Sequential:
    """Train `net`, whose first and last layers with weights are linear, and hand it back in eval mode.

    `fast` holds the validation rows out and keeps the epoch that predicts them best; `reference`, which
    never looks at them, trains on them too, as the paper does.
    """
    recipe = RECIPES[preset]
    if not recipe.standardise:
        return _fit(net, problem, rng, recipe)
    x, y = problem.x[problem.train], problem.y[problem.train]
    at, scale = x.mean(0), x.std(0)
    scale = scale.where(scale > 0, 1.0)
    level, spread = torch.zeros(()), torch.ones(())
    target: Tensor = problem.y
    if problem.task == "regression":
        level, spread = y.mean(), y.std().clamp_min(1e-12)
        target = (target - level) / spread
    net = _fit(net, dataclasses.replace(problem, x=(problem.x - at) / scale, y=target), rng, recipe)
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        linear[0].weight.div_(scale.flatten())
        linear[0].bias.sub_(linear[0].weight @ at.flatten())
        linear[-1].weight.mul_(spread)
        linear[-1].bias.mul_(spread).add_(level)
    return net


def _fit(net: nn.Sequential, problem: Problem, rng: Generator, recipe: Recipe) -> nn.Sequential:
    held_out = recipe.patience > 0 and problem.n_validation > 0
    rows = problem.train if held_out else slice(problem.n_train + problem.n_validation)
    x, y = problem.x[rows], problem.y[rows]
    best, best_loss, stale = copy.deepcopy(net.state_dict()), math.inf, 0
    for _ in _epochs(net, x, y, recipe, rng):
        if not held_out:
            continue
        loss = _validation_loss(net, problem)
        if loss < best_loss:
            best, best_loss, stale = copy.deepcopy(net.state_dict()), loss, 0
        else:
            stale += 1
        if stale >= recipe.patience:
            break
    if held_out:
        net.load_state_dict(best)
    net.zero_grad()  # sets them to None: a copy for every method need not carry them
    return net.eval().requires_grad_(False)


def loss_of(outputs: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy for class indices, squared error otherwise."""
    if y.is_floating_point():
        return functional.mse_loss(outputs.squeeze(1), y)
    return functional.cross_entropy(outputs, y)


def _epochs(net: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, rng: Generator) -> Iterator[None]:
    """Yield after every epoch, with `net` one epoch better."""
    batch = min(recipe.batch or len(x), len(x))
    steps = math.ceil(len(x) / batch)
    epochs = max(recipe.epochs, math.ceil(recipe.least_steps / steps))
    optimiser = torch.optim.AdamW(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    schedule = None
    if recipe.one_cycle:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=epochs * steps)
    for _ in range(epochs):
        net.train()
        order = torch.randperm(len(x), generator=rng) if steps > 1 else torch.arange(len(x))
        for xb, yb in zip(x[order].split(batch), y[order].split(batch), strict=True):
            optimiser.zero_grad()
            loss_of(net(xb), yb).backward()
            optimiser.step()
            if schedule is not None:
                schedule.step()
        yield


def _validation_loss(net: nn.Module, problem: Problem) -> float:
    """Loss on the held-out rows, with dropout off."""
    net.eval()
    with torch.no_grad():
        return loss_of(net(problem.x[problem.validation]), problem.y[problem.validation]).item()
