"""I-GOS: integrated-gradient optimised saliency."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..benchmarks.layermaps import over_channels, picture_size
from ..benchmarks.perturb import empty_output, in_blocks, rows_at_once
from ..benchmarks.plugin import Case, Labels, Samples, Scores, method

Mask: TypeAlias = Float[Tensor, "n 1 cells cells"]

LENGTHS = (0.0, 1.0, 0.5, 0.25, 0.125, 0.0625)  # that a step of the descent can have
BLUNT = 0.1  # squared difference of colour across which the mask is held together e times less
SMALLEST = 1e-3  # fall of the output that masks are held against, as a share of the output


@method(version=1, paper="https://arxiv.org/abs/1905.00954", needs="gradient", cost="samples")
def igos(
    case: Case,
    *,
    steps: Annotated[int, Ge(1)] = 15,
    path: Annotated[int, Ge(1)] = 10,
    cells: Annotated[int, Ge(2)] = 8,
    sparse: Annotated[float, Ge(0)] = 1.0,
    smooth: Annotated[float, Ge(0)] = 1.0,
) -> Samples:
    """What must be deleted for the output to fall most, found by descent along integrated gradients.

    Minimises f(m x + (1 - m) baseline) / |f(x) - f(baseline)| + sparse mean(1 - m) + smooth TV(m), in which
    TV is the mean squared difference of neighbours, less across edges of the picture (bilateral).  In the
    step, f's gradient is averaged over masks on the way from m to 0 (Qi, Khorram & Li 2020): these lead to
    the global minimum rather than into a near one.  Where the paper has its own: what is absent is the
    baseline (a blurred picture); no noise is added; f is in units of its whole fall; and the line search
    takes, row by row, the best of six lengths: the steepest free cell moves by 0, 1, 1/2, ... 1/16.

    steps: of the descent.
    path: masks on the way to 0; steps x path model rows, there and back, and 6 x steps there.
    cells: of the mask, along each side.
    sparse: weight of the area; at 1, a cell goes if the output falls by more than its share of the picture.
    smooth: weight of the mask's roughness.

    Returns:
        1 - m, in shares for the channels: from 0 to 1 in sum; nothing speaks against an output.

    Raises:
        NotApplicable: the features are no pictures.
    """
    picture_size(case)
    at_once, parts = rows_at_once(case), []
    empty = empty_output(case).split(at_once)
    for (x, target), low in zip(in_blocks(case, at_once), empty, strict=True):
        descent = _Descent(case, x, target, low.double(), cells, (sparse, smooth))
        parts.append(1 - descent.enlarged(descent.lowest(steps, path))[:, 0])
    return over_channels(case, torch.cat(parts))


@dataclass(slots=True)
class _Descent:
    """The search for the masks of some rows: every row's is its own."""

    case: Case
    x: Samples
    target: Labels
    empty: Scores
    cells: int
    weights: tuple[float, float]

    def lowest(self, steps: int, path: int) -> Mask:
        mask = self.x.new_ones(len(self.x), 1, self.cells, self.cells, dtype=torch.float64)
        with torch.no_grad():
            top = self.output(mask)
        unit = torch.maximum((top - self.empty).abs(), SMALLEST * top.abs()).clamp_min(1e-30)
        colours = functional.adaptive_avg_pool2d(self.x.double(), self.cells)
        for _ in range(steps):
            slope = self.integrated(mask, path) / unit[:, None, None, None] + self.pressure(mask, colours)
            free = torch.where(slope > 0, mask > 0, mask < 1)  # a cell at its bound has one way to go
            way = -slope.where(free, 0)
            way /= way.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-30)
            tried = [(mask + length * way).clamp(0, 1) for length in LENGTHS]
            with torch.no_grad():
                costs = [self.output(m) / unit + self.penalty(m, colours) for m in tried]
            best = torch.stack(costs, 1).argmin(1)
            mask = torch.stack(tried, 1)[torch.arange(len(mask)), best]
        return mask

    def output(self, mask: Mask) -> Scores:
        seen = torch.lerp(self.case.baseline, self.x, self.enlarged(mask).to(self.x.dtype))
        outputs: Tensor = self.case.model(seen)
        return outputs.gather(1, self.target[:, None]).squeeze(1).double()

    def enlarged(self, mask: Mask) -> Float[Tensor, "n 1 height width"]:
        return functional.interpolate(mask, tuple(self.x.shape[-2:]), mode="bilinear")

    def integrated(self, mask: Mask, path: int) -> Mask:
        """The output's derivative in the mask, averaged over masks on the way from it to 0."""
        total = torch.zeros_like(mask)
        for step in range(1, path + 1):
            point = (step / path * mask).requires_grad_()
            total += torch.autograd.grad(self.output(point).sum(), point)[0]
        return total / path

    def penalty(self, mask: Mask, colours: Float[Tensor, "n channels cells cells"]) -> Scores:
        sparse, smooth = self.weights
        rough = mask.new_zeros(len(mask))
        for axis in (2, 3):
            together = (-(colours.diff(dim=axis) ** 2).mean(1, keepdim=True) / BLUNT).exp()
            rough = rough + (together * mask.diff(dim=axis) ** 2).mean((1, 2, 3))
        return sparse * (1 - mask).mean((1, 2, 3)) + smooth * rough

    def pressure(self, mask: Mask, colours: Float[Tensor, "n channels cells cells"]) -> Mask:
        point = mask.detach().clone().requires_grad_()
        return torch.autograd.grad(self.penalty(point, colours).sum(), point)[0]
