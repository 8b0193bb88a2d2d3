"""Multi-layer perceptron whose integrated gradients are trained to keep their direction."""

import functools
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor, nn
from torch.nn import functional

from ..benchmarks.plugin import Problem, model
from ..benchmarks.training import Activation, Scales, fit, loss_of, perceptron, plain_loss


@model(version=1, paper="https://arxiv.org/abs/2205.07279", has=("gradient", "layers"))
def mlp_igr(
    problem: Problem,
    rng: Generator,
    /,
    *,
    depth: Annotated[int, Ge(1)] = 3,
    width: Annotated[int, Ge(1)] = 100,
    activation: Activation = "gelu",
    strength: Annotated[float, Ge(0), Le(1e6)] = 10.0,
    epsilon: Annotated[float, Ge(0), Le(10)] = 0.3,
    steps: Annotated[int, Ge(1), Le(64)] = 2,
) -> nn.Module:
    """The network of `mlp`, trained as its preset `fast` is, with the integrated-gradient regulariser (IGR).

    The loss gains strength * mean(1 - cos(IG(x), IG(x + delta))) (Wang & Kong 2022).  IG is the integrated
    gradient, from the problem's baseline, of the output that should be right: the only one of a regression,
    the label's logit of a classification.  delta is drawn anew every time, uniformly from the ball
    |delta| <= epsilon; an attack on IG would take second derivatives for every step of its search.  The
    epoch that is kept is the best on validation rows by the same sum.

    Even a linear network has w * (x - baseline), whose direction every perturbation turns: 1 - cos falls by a
    part only, and that by spreading IG over more columns, irrelevant ones among them, at some cost in
    accuracy where rows are few.

    strength: weight of the regulariser beside the loss, which is squared error in units of the target's
        variance or cross-entropy in nats; 0 is `mlp`.
    epsilon: radius, in standard deviations of each column over the training rows; 0 is `mlp`.
    steps: nodes of the Gauss-Legendre rule on IG's path; by 2, maps are within about 1% of their length.
    """
    loss = plain_loss
    if strength and epsilon:
        loss = _Regularised(
            rng=rng,
            baseline=Scales.of(problem).columns(problem.baseline),
            strength=strength,
            epsilon=epsilon,
            steps=steps,
        )
    return fit(perceptron(problem, depth, width, activation), problem, rng, "fast", loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Regularised:
    """The loss of a batch, and what its integrated gradients lack of a constant direction."""

    rng: Generator
    baseline: Tensor  # in the scale of the batch
    strength: float
    epsilon: float
    steps: int

    def __call__(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        loss = loss_of(net(x), y)
        if net.training:  # half of a batch, drawn, costs two thirds and is the same on average
            rows = torch.randperm(len(x), generator=self.rng)[: (len(x) + 1) // 2]
            x, y = x[rows], y[rows]
        return loss + self.strength * self.penalty(net, x, y)

    def penalty(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The mean of 1 - cos, between 0 and 2."""
        delta = self.epsilon * (2 * torch.rand(x.shape, generator=self.rng) - 1)
        target = torch.zeros_like(y, dtype=torch.int64) if y.is_floating_point() else y
        maps = self.integrated(net, torch.cat([x, x + delta]), target.repeat(2))
        before, after = maps.flatten(1).chunk(2)
        return 1 - functional.cosine_similarity(before, after).mean()

    @torch.enable_grad()  # validation rows need the slope too, where no gradients are kept
    def integrated(self, net: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Integrated gradients of every row's target output, themselves with a gradient."""
        nodes, weights = _quadrature(self.steps)
        away = x - self.baseline
        path = torch.cat([self.baseline + node * away for node in nodes]).requires_grad_()
        output = net(path).gather(1, target.repeat(self.steps)[:, None]).sum()
        (slope,) = torch.autograd.grad(output, path, create_graph=True)
        return away * torch.tensordot(weights.to(x), slope.unflatten(0, (self.steps, len(x))), 1)


@functools.cache
def _quadrature(steps: int) -> tuple[Tensor, Tensor]:
    """Nodes between 0 and 1 and weights that add up to 1, of the Gauss-Legendre rule."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return torch.tensor((nodes + 1) / 2, dtype=torch.float32), torch.tensor(weights / 2, dtype=torch.float32)
