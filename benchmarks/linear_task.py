"""A task whose right answers are known in closed form, small enough to check every plug-in on."""

import torch
from torch import Generator, Tensor, nn

from .plugin import Case, Problem

WEIGHT = torch.tensor([2.0, -1.0, 0.5, 0.0, 0.0])
ROWS = 20  # explained


class LinearOracle(nn.Module):
    """w . x as one output, or against -w . x as two logits, in the dtype of its input."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """[rows, outputs]."""
        margin = x @ WEIGHT.to(x)
        return margin[:, None] if self.outputs == 1 else torch.stack([-margin, margin], 1)


def linear_problem(classes: int = 1) -> Problem:
    """A problem whose attributions are known in closed form; two of its five features are irrelevant."""
    rng = Generator().manual_seed(7)
    x = torch.randn(200, 5, generator=rng)
    margin = x @ WEIGHT
    return Problem(
        x=x,
        y=margin if classes == 1 else (margin > 0).long(),
        task="regression" if classes == 1 else "classification",
        n_train=140,
        n_validation=40,
        n_explained=ROWS,
        baseline=torch.zeros(5),
        background=x[:50],
        masks={"relevant": (WEIGHT != 0)[None]},
        oracle=LinearOracle(classes),
    )


def pattern_problem(shape: tuple[int, ...], classes: int = 1) -> Problem:
    """A pattern under noise, for models of pictures [channels, height, width] or of sound [channels, time].

    Stripes that change along the last axis; how strong they are, or, of two classes, how wide.  The phase is
    drawn, so that no place tells by itself.
    """
    rng = Generator().manual_seed(11)
    n, time = 400, torch.arange(shape[-1])
    phase = 2 * torch.pi * torch.rand(n, 1, generator=rng)
    strength = torch.rand(n, generator=rng)
    label = torch.randint(2, (n,), generator=rng)
    period = torch.where(label > 0, 8, 4)[:, None] if classes > 1 else torch.full((n, 1), 4)
    wave = torch.sin(2 * torch.pi * time / period + phase)
    size = 1.0 if classes > 1 else strength[:, None]
    lines = (size * wave).view(n, *[1] * (len(shape) - 1), shape[-1])
    x = lines + 0.3 * torch.randn(n, *shape, generator=rng)
    return Problem(
        x=x,
        y=strength if classes == 1 else label,
        task="regression" if classes == 1 else "classification",
        n_train=300,
        n_validation=50,
        n_explained=ROWS,
        baseline=torch.zeros(shape),
        background=x[:50],
        masks={"relevant": torch.ones(1, *shape, dtype=torch.bool)},
    )


def linear_case(classes: int = 1, seed: int = 0) -> tuple[Case, Tensor]:
    """A network that computes the problem's function exactly, and the exact attribution of its output."""
    problem = linear_problem(classes)
    layer = nn.Linear(5, classes, bias=False)
    sign = torch.ones(1) if classes == 1 else torch.tensor([-1.0, 1.0])
    layer.load_state_dict({"weight": sign[:, None] * WEIGHT})
    net = nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)
    x = problem.x[problem.explained]
    target = net(x).argmax(1)
    case = Case(
        model=net,
        x=x,
        target=target,
        baseline=problem.baseline,
        background=problem.background,
        groups=None,
        rng=Generator().manual_seed(seed),
    )
    return case, layer.weight[target] * x
