"""Building blocks of networks for pictures; every activation is a layer of its own, and none in place."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .problem import Problem, as_picture

Pictures = Float[Tensor, "n channels height width"]
PUBLISHED = 128  # places along the shorter side from which on a published stem is used as it is
LARGE = 64  # from which on a stem halves the picture


def picture_shape(problem: Problem) -> tuple[int, int, int]:
    """Channels, height and width of the problem's features.

    Raises:
        NotApplicable: they are no pictures.
    """
    return as_picture(tuple(problem.x.shape[1:]))


class Sum(nn.Module):
    """The sum of two branches, as a layer, so that what walks through layers meets it."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """One number for each of both."""
        return first + second


class Residual(nn.Module):
    """body(x) + x, or body(x) + shortcut(x) where the body changes the shape."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut, self.sum = body, shortcut, Sum()

    def forward(self, x: Tensor) -> Tensor:
        """Both ways, added."""
        total: Tensor = self.sum(self.body(x), x if self.shortcut is None else self.shortcut(x))
        return total


class Concat(nn.Module):
    """What several branches make of one input, one after the other along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Pictures) -> Float[Tensor, "n more height width"]:
        """All channels."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class Join(nn.Module):
    """Two pictures, one after the other along the channels, as a layer like `Sum`."""

    def forward(self, first: Pictures, second: Float[Tensor, "n more height width"]) -> Tensor:
        """The channels of both."""
        return torch.cat([first, second], 1)


class Dense(nn.Module):
    """x, and behind its channels what the branch makes of it."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch, self.join = branch, Join()

    def forward(self, x: Pictures) -> Float[Tensor, "n more height width"]:
        """All channels."""
        joined: Tensor = self.join(x, self.branch(x))
        return joined


def convolution(
    given: int, made: int, kernel: int = 3, *, stride: int = 1, padding: int | None = None
) -> list[nn.Module]:
    """Convolution, batch norm and ReLU; the norm's shift is the only bias.

    padding: places added at each side; without it, half the kernel, so that only the stride shrinks.
    """
    padding = kernel // 2 if padding is None else padding
    layer = nn.Conv2d(given, made, kernel, stride, padding, bias=False)
    return [layer, nn.BatchNorm2d(made), nn.ReLU()]


def stem(given: int, made: int, side: int) -> list[nn.Module]:
    """The first layers of the residual family, by the picture's shorter side.

    From 128 places on the published ones, a 7 x 7 convolution with stride 2 and a pooling by 2; from 64 on a
    3 x 3 convolution with stride 2; below that one with stride 1, as is usual for CIFAR.
    """
    if side >= PUBLISHED:
        return [*convolution(given, made, 7, stride=2), nn.MaxPool2d(3, 2, 1)]
    return convolution(given, made, stride=2 if side >= LARGE else 1)


def shrink(
    layers: list[nn.Module],
    sides: tuple[int, ...],
    kernel: int = 2,
    padding: int = 0,
    kind: type[nn.MaxPool2d] | type[nn.AvgPool2d] = nn.MaxPool2d,
) -> tuple[int, ...]:
    """Put a pooling of stride 2 behind the layers if it leaves places; the sides behind them then.

    No side gets below 2, so that a batch norm has several values to go by even where a batch is one row.
    """
    left = tuple((side + 2 * padding - kernel) // 2 + 1 for side in sides)
    if min(left) < 2:
        return sides
    layers.append(kind(kernel, 2, padding))
    return left


def sides_behind(layers: list[nn.Module], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width of what fresh layers make of a picture of this shape."""
    net = nn.Sequential(*layers).eval()  # a batch norm must not learn from it
    with torch.no_grad():
        found = net(torch.zeros(1, *shape)).shape[2:]
    net.train()
    return tuple(found)
