"""The one training loop."""

import copy
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim.adamw import adamw

from .device import device_of
from .plugin import Problem

N = TypeVar("N", bound=nn.Module)
BatchLoss: TypeAlias = Callable[[nn.Module, Tensor, Tensor], Tensor]  # network, x, y -> what training lessens
BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's own
MOMENTA = 0.95, 0.85  # at the ends of a cycle and at its top
BATCH = 256  # rows of the validation set that go through a network together


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How long, how fast, with what restraint."""

    lr: float
    epochs: int
    batch: int  # 0: all rows at once
    weight_decay: float
    one_cycle: bool
    rise: float = 0.3  # share of the steps until the top of the cycle
    patience: int  # epochs without a better validation loss before stopping; 0: never stop, keep the last
    least_steps: int  # small tables get more epochs, so that they too are fitted
    standardise: bool = False  # train on columns and targets of mean 0 and deviation 1, then fold these away


def loss_of(outputs: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy for class indices, squared error otherwise."""
    if y.is_floating_point():
        return functional.mse_loss(outputs.squeeze(1), y)
    return functional.cross_entropy(outputs, y)


def plain_loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The loss of a network's predictions of a batch."""
    return loss_of(net(x), y)


def descended(net: N, problem: Problem, rng: Generator, recipe: Recipe, loss: BatchLoss) -> N:
    """`net` after training, in eval mode; `training.descend` says more."""
    device = device_of(problem)
    net.to(device)
    held_out = recipe.patience > 0 and problem.n_validation > 0
    rows = problem.train if held_out else slice(problem.n_train + problem.n_validation)
    x, y = problem.x[rows], problem.y[rows]
    best, best_loss, stale = copy.deepcopy(net.state_dict()), math.inf, 0
    for _ in _epochs(net, x, y, recipe, rng, loss):
        if not held_out:
            continue
        found = _validation_loss(net, problem, loss)
        if found < best_loss:
            best, best_loss, stale = copy.deepcopy(net.state_dict()), found, 0
        else:
            stale += 1
        if stale >= recipe.patience:
            break
    if held_out:
        net.load_state_dict(best)
    net.zero_grad()  # sets them to None: a copy for every method need not carry them
    return net.to("cpu").eval().requires_grad_(False)


def _epochs(
    net: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, rng: Generator, loss: BatchLoss
) -> Iterator[None]:
    """Yield after every epoch, with `net` one epoch better."""
    device = next(net.parameters()).device
    batch = min(recipe.batch or len(x), len(x))
    steps = math.ceil(len(x) / batch)
    epochs = max(recipe.epochs, math.ceil(recipe.least_steps / steps))
    descent = _AdamW(net, recipe, epochs * steps)
    for _ in range(epochs):
        net.train()
        order = torch.randperm(len(x), generator=rng) if steps > 1 else torch.arange(len(x))
        for xb, yb in zip(x[order].split(batch), y[order].split(batch), strict=True):
            descent.step(loss(net, xb.to(device), yb.to(device)))
        yield


class _AdamW:
    """AdamW as torch computes it, without its bookkeeping, which takes as long as the sums."""

    def __init__(self, net: nn.Module, recipe: Recipe, steps: int) -> None:
        self.weights = [weight for weight in net.parameters() if weight.requires_grad]
        self.state = {
            weight: (
                torch.zeros_like(weight),
                torch.zeros_like(weight),
                torch.zeros((), device=weight.device),
            )
            for weight in self.weights
        }
        self.schedule = iter(schedule(recipe, steps))
        self.decay = recipe.weight_decay

    def step(self, loss: Tensor) -> None:
        """Move the weights against the gradient of the loss."""
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True)
        used = [(w, g, *self.state[w]) for w, g in zip(self.weights, gradients, strict=True) if g is not None]
        if not used:
            return
        weights, slopes, means, squares, counts = map(list, zip(*used, strict=True))
        rate, momentum = next(self.schedule)
        with torch.no_grad():
            adamw(
                weights,
                slopes,
                means,
                squares,
                [],
                counts,
                fused=True,
                amsgrad=False,
                beta1=momentum,
                beta2=BETAS[1],
                lr=rate,
                weight_decay=self.decay,
                eps=EPSILON,
                maximize=False,
            )


@functools.lru_cache(maxsize=8)
def schedule(recipe: Recipe, steps: int) -> tuple[tuple[float, float], ...]:
    """Learning rate and momentum of every step: constant, or one cycle (arXiv 1708.07120).

    The numbers of torch's OneCycleLR; its optimiser, which that wants to have, imports torch's compiler,
    longer than a training takes.
    """
    if not recipe.one_cycle:
        return ((recipe.lr, BETAS[0]),) * steps
    low, least = recipe.lr / 25, recipe.lr / 25 / 1e4
    top = recipe.rise * steps - 1
    found = []
    for step in range(steps):
        if top > 0 and step <= top:  # a top at the first step is nothing to rise to
            bend = math.cos(math.pi * (step / top)) + 1
            found.append((_between(low, recipe.lr, bend), _between(*MOMENTA, bend)))
        else:
            bend = math.cos(math.pi * ((step - top) / (steps - 1 - top))) + 1
            found.append((_between(recipe.lr, least, bend), _between(*MOMENTA[::-1], bend)))
    return tuple(found)


def _between(start: float, end: float, bend: float) -> float:
    return end + (start - end) / 2.0 * bend


def _validation_loss(net: nn.Module, problem: Problem, loss: BatchLoss) -> float:
    """Loss on the held-out rows, with dropout off."""
    device = next(net.parameters()).device
    net.eval()
    x, y = problem.x[problem.validation], problem.y[problem.validation]
    batch = len(x) if x[0].numel() < BATCH else BATCH  # a table goes through at once
    with torch.no_grad():
        parts = zip(x.split(batch), y.split(batch), strict=True)
        return sum(loss(net, xb.to(device), yb.to(device)).item() * (len(xb) / len(x)) for xb, yb in parts)
