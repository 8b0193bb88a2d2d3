"""The multi-layer perceptron, and how networks are trained: three presets, and that of pictures and sound."""

import contextlib
import dataclasses
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import Generator, Tensor, nn

from .cache import Training, recalled
from .descent import BatchLoss, descended
from .descent import Recipe as Recipe
from .descent import loss_of as loss_of
from .descent import plain_loss as plain_loss
from .plugin import Problem

Preset: TypeAlias = Literal["fast", "brief", "reference"]
Activation: TypeAlias = Literal["gelu", "relu", "silu", "tanh", "softplus"]
N = TypeVar("N", bound=nn.Module)

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}


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
    # less arithmetic for a first look; the decay suits many irrelevant columns and harms where there are few
    "brief": Recipe(
        lr=8e-3,
        epochs=6,
        batch=128,
        weight_decay=0.7,
        one_cycle=True,
        rise=0.1,
        patience=6,
        least_steps=240,
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


class Postponed(BaseException):
    """Carries what would have been trained out of a plug-in; no `Exception`, so that none holds it back."""

    def __init__(self, training: Training[Any]) -> None:
        super().__init__()
        self.training = training


_POSTPONED: ContextVar[bool] = ContextVar("postponed", default=False)


@contextlib.contextmanager
def postponing() -> Iterator[None]:
    """Inside, `descend` raises `Postponed` in place of training."""
    token = _POSTPONED.set(True)
    try:
        yield
    finally:
        _POSTPONED.reset(token)


def fit(
    net: nn.Sequential, problem: Problem, rng: Generator, preset: Preset, loss: BatchLoss = plain_loss
) -> nn.Sequential:
    """Train `net`, whose first and last layers with weights are linear, and hand it back in eval mode.

    `fast` and `brief` hold the validation rows out and keep the epoch of the least loss on them; `reference`,
    which never looks at them, trains on them too, as the paper does.

    loss: of a batch, in the scale that the preset trains in (`Scales`, but for `reference`).  It is asked for
        the validation rows too, without gradients: what is trained for decides which epoch is best.
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

    With patience the validation rows are held out, and the epoch of the least loss on them is kept.  What the
    cache holds is loaded instead, to the same bits.
    """
    training = Training(net=net, problem=problem, rng=rng, recipe=recipe, loss=loss)
    if _POSTPONED.get():
        raise Postponed(training)
    return recalled(training, lambda: descended(net, problem, rng, recipe, loss))
