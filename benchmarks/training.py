"""The multi-layer perceptron, and the one training loop, with its two presets."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from .device import device_of
from .plugin import Problem

Preset: TypeAlias = Literal["fast", "reference"]
Activation: TypeAlias = Literal["gelu", "relu", "silu", "tanh", "softplus"]
N = TypeVar("N", bound=nn.Module)
BatchLoss: TypeAlias = Callable[[nn.Module, Tensor, Tensor], Tensor]  # network, x, y -> what training lessens

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}


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
    standardise: bool = False  # train on columns and targets of mean 0 and deviation 1, then fold these away


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
    ),
}
# networks of pictures and of sound; rows are used as they are
LAID_OUT = Recipe(
    lr=5e-3,
    epochs=12,
    batch=64,
    weight_decay=0.05,
    one_cycle=True,
    patience=12,
    least_steps=200,
)
BATCH = 256  # rows of the validation set that go through a network together


def perceptron(
    problem: Problem, depth: int, width: int, activation: Activation, dropout: float = 0.0
) -> nn.Sequential:
    """`depth` hidden layers of `width`, one dropout before the linear output; untrained.

    The layers are plain and in a row, so that every method that walks through layers can explain them.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    size = problem.x[0].numel()
    for _ in range(depth):
        layers += [nn.Linear(size, width), ACTIVATIONS[activation]()]
        size = width
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(size, problem.outputs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """Mean and standard deviation, over the training rows, of every column and of the target."""

    at: Tensor
    scale: Tensor  # 1 where a column does not vary
    level: Tensor  # 0 for class indices
    spread: Tensor  # 1 for class indices

    @classmethod
    def of(cls, problem: Problem) -> "Scales":
        """Those of the problem."""
        x, y = problem.x[problem.train], problem.y[problem.train]
        scale = x.std(0)
        level, spread = torch.zeros(()), torch.ones(())
        if problem.task == "regression":
            level, spread = y.mean(), y.std().clamp_min(1e-12)
        return cls(at=x.mean(0), scale=scale.where(scale > 0, 1.0), level=level, spread=spread)

    def columns(self, x: Tensor) -> Tensor:
        """Rows, or the baseline, in standard deviations from the mean: the scale that `fast` trains in."""
        return (x - self.at) / self.scale

    def fold(self, net: nn.Sequential) -> None:
        """Let a network that was trained in these scales take and give the original units."""
        linear = [layer for layer in net if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            linear[0].weight.div_(self.scale.flatten())
            linear[0].bias.sub_(linear[0].weight @ self.at.flatten())
            linear[-1].weight.mul_(self.spread)
            linear[-1].bias.mul_(self.spread).add_(self.level)


def loss_of(outputs: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy for class indices, squared error otherwise."""
    if y.is_floating_point():
        return functional.mse_loss(outputs.squeeze(1), y)
    return functional.cross_entropy(outputs, y)


def plain_loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The loss of a network's predictions of a batch."""
    return loss_of(net(x), y)


def fit(
    net: nn.Sequential, problem: Problem, rng: Generator, preset: Preset, loss: BatchLoss = plain_loss
) -> nn.Sequential:
    """Train `net`, whose first and last layers with weights are linear, and hand it back in eval mode.

    `fast` holds the validation rows out and keeps the epoch of the least loss on them; `reference`, which
    never looks at them, trains on them too, as the paper does.

    loss: of a batch, in the scale that the preset trains in (`Scales` for `fast`).  It is asked for the
        validation rows too, without gradients: what is trained for decides which epoch is best.
    """
    recipe = RECIPES[preset]
    if not recipe.standardise:
        return descend(net, problem, rng, recipe, loss)
    scales = Scales.of(problem)
    target: Tensor = problem.y
    if problem.task == "regression":
        target = (target - scales.level) / scales.spread
    scaled = dataclasses.replace(problem, x=scales.columns(problem.x), y=target)
    net = descend(net, scaled, rng, recipe, loss)
    scales.fold(net)
    return net


def descend(net: N, problem: Problem, rng: Generator, recipe: Recipe, loss: BatchLoss = plain_loss) -> N:
    """Train `net`, of any build, on the rows as they are, and hand it back in eval mode.

    With patience the validation rows are held out, and the epoch of the least loss on them is kept.
    """
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
    optimiser = torch.optim.AdamW(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    schedule = None
    if recipe.one_cycle:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=epochs * steps)
    for _ in range(epochs):
        net.train()
        order = torch.randperm(len(x), generator=rng) if steps > 1 else torch.arange(len(x))
        for rows in order.split(batch):
            optimiser.zero_grad()
            loss(net, x[rows].to(device), y[rows].to(device)).backward()
            optimiser.step()
            if schedule is not None:
                schedule.step()
        yield


def _validation_loss(net: nn.Module, problem: Problem, loss: BatchLoss) -> float:
    """Loss on the held-out rows, with dropout off."""
    device = next(net.parameters()).device
    net.eval()
    x, y = problem.x[problem.validation], problem.y[problem.validation]
    batch = len(x) if x[0].numel() < BATCH else BATCH  # a table goes through at once
    with torch.no_grad():
        parts = zip(x.split(batch), y.split(batch), strict=True)
        return sum(loss(net, xb.to(device), yb.to(device)).item() * (len(xb) / len(x)) for xb, yb in parts)
