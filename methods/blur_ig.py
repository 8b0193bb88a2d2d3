"""Blur integrated gradients."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from ..benchmarks.layermaps import picture_size
from ..benchmarks.perturb import in_blocks, rows_at_once, slopes
from ..benchmarks.plugin import Case, Labels, Samples, method

REACH = 6  # deviations beyond which a Gaussian is nothing in double precision's eyes


@method(
    version=1,
    paper="https://arxiv.org/abs/2004.03383",
    needs="gradient",
    promises=("dummy", "linearity"),
    cost="path",
)
def blur_ig(
    case: Case,
    *,
    steps: Annotated[int, Ge(1)] = 50,
    sigma: Annotated[float, Gt(0), Le(10)] = 0.25,
) -> Samples:
    """The gradient integrated while the picture comes into focus, from a wide Gaussian blur to none.

    The sum over steps of gradient x change of the blurred picture (Xu, Venugopalan & Sundararajan 2020), the
    gradient taken halfway through the step.  Blurs are of the picture alone: outside of it is 0, so the
    widest tend to mid grey.  The maps sum to f(x) - f(most blurred x), up to the steps, and not to the
    difference to the baseline, which has no part in this.

    steps: of the path, even in the deviation of the blur; each is one model row, there and back.
    sigma: deviation of the widest blur, as a share of the picture's longer side (the paper: 50 of 224).

    Raises:
        NotApplicable: the features are no pictures.
    """
    height, width = picture_size(case)
    widest = sigma * max(height, width)
    deviations = torch.linspace(widest, 0, 2 * steps + 1, dtype=torch.float64).tolist()  # ends and halves
    blurs = [(_blur(height, s), _blur(width, s)) for s in deviations]
    blocks = [_focused(case, x, target, blurs) for x, target in in_blocks(case, rows_at_once(case))]
    return torch.cat(blocks).to(case.x.dtype)


def _focused(
    case: Case, x: Samples, target: Labels, blurs: list[tuple[Float[Tensor, "h h"], Float[Tensor, "w w"]]]
) -> Samples:
    """The map of some rows along the path, float64."""
    wide, values = x.double(), torch.zeros_like(x, dtype=torch.float64)
    now = _blurred(wide, *blurs[0])
    for halfway, ahead in zip(blurs[1::2], blurs[2::2], strict=True):
        middle, after = _blurred(wide, *halfway).to(x.dtype), _blurred(wide, *ahead)
        values += slopes(case, middle, target).double() * (after - now)
        now = after
    return values


def _blurred(x: Samples, rows: Float[Tensor, "h h"], columns: Float[Tensor, "w w"]) -> Samples:
    return rows @ x @ columns


def _blur(size: int, sigma: float) -> Float[Tensor, "size size"]:
    """What each of the places on an axis takes of each, by a Gaussian that sums to 1 over all integers."""
    if sigma == 0:
        return torch.eye(size, dtype=torch.float64)
    reach = torch.arange(-size - int(REACH * sigma), size + int(REACH * sigma) + 1, dtype=torch.float64)
    weight = (-((reach / sigma) ** 2) / 2).exp()
    place = torch.arange(size)
    return weight[(place[:, None] - place).abs() + len(reach) // 2] / weight.sum()
