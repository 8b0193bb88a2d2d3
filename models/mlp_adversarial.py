"""Multi-layer perceptron trained on the perturbed rows that it predicts worst."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor, nn

from ..benchmarks.plugin import Problem, model
from ..benchmarks.training import Activation, fit, loss_of, perceptron, plain_loss


@model(version=1, paper="https://arxiv.org/abs/1706.06083", has=("gradient", "layers"))
def mlp_adversarial(
    problem: Problem,
    rng: Generator,
    /,
    *,
    depth: Annotated[int, Ge(1)] = 3,
    width: Annotated[int, Ge(1)] = 100,
    activation: Activation = "gelu",
    epsilon: Annotated[float, Ge(0), Le(10)] = 0.1,
    steps: Annotated[int, Ge(1), Le(100)] = 3,
) -> nn.Module:
    """The network of `mlp`, trained as its preset `fast` is, but on adversarial examples alone.

    Each is x + delta, where projected gradient ascent on the loss finds delta in the ball |delta| <= epsilon
    (Madry et al. 2018): from a uniform random start, `steps` steps of size 2.5 epsilon / steps along the
    sign of the gradient, every column cut back to the ball.  The epoch that is kept is the best on validation
    rows so perturbed.

    epsilon: radius, in standard deviations of each column over the training rows; 0 is `mlp`.
    steps: gradients that look for one delta; each costs about as much as a step of `mlp`'s training.
    """
    loss = _Attacked(rng=rng, epsilon=epsilon, steps=steps) if epsilon else plain_loss
    return fit(perceptron(problem, depth, width, activation), problem, rng, "fast", loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attacked:
    """The loss of a batch after the attack."""

    rng: Generator
    epsilon: float
    steps: int

    def __call__(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return loss_of(net(x + self.delta(net, x, y)), y)

    @torch.enable_grad()  # validation rows are attacked too, where no gradients are kept
    def delta(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """What raises the loss of every row most, as far as the steps find it; within the ball."""
        delta = self.epsilon * (2 * torch.rand(x.shape, generator=self.rng) - 1)
        for _ in range(self.steps):
            delta.requires_grad_()
            (slope,) = torch.autograd.grad(loss_of(net(x + delta), y), delta)
            moved = delta.detach() + 2.5 * self.epsilon / self.steps * slope.sign()
            delta = moved.clamp_(-self.epsilon, self.epsilon)
        return delta
