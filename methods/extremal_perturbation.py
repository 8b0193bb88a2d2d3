"""Extremal perturbation: the part of a given area that keeps the output highest."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..benchmarks.layermaps import over_channels, picture_size
from ..benchmarks.perturb import in_blocks, rows_at_once
from ..benchmarks.plugin import Case, Labels, Samples, method

SPEED, MOMENTUM = 0.05, 0.9
FIRM = 4.0  # weight of the area at the last step, beside an output whose largest slope counts 1


@method(version=1, paper="https://arxiv.org/abs/1910.08485", needs="gradient", cost="samples")
def extremal_perturbation(
    case: Case,
    *,
    area: Annotated[float, Gt(0), Lt(1)] = 0.2,
    steps: Annotated[int, Ge(1)] = 100,
    cells: Annotated[int, Ge(2)] = 8,
) -> Samples:
    """The smooth mask of a given area under which the output is highest, what is outside it being absent.

    Maximises f(m x + (1 - m) baseline) - w |vecsort(m) - r|^2, in which r has `area` of the pixels at 1 and
    the others at 0 (Fong, Patrick & Vedaldi 2019), by gradient ascent with momentum, from 1/2 everywhere.
    Where the paper has its own: what is absent is the baseline (a blurred picture); the mask is enlarged
    bilinearly (by a smooth maximum); w grows from 0, so that the output orders the pixels before the area
    does (from 300); and the slope of the output counts as a share of its largest in the picture, as outputs
    have no common scale.

    area: of the mask, as a share of the picture.
    steps: of the ascent; each is one model row, there and back.
    cells: of the mask, along each side.

    Returns:
        The mask, in shares for the channels: from 0 to 1 in sum; nothing speaks against an output.

    Raises:
        NotApplicable: the features are no pictures.
    """
    picture_size(case)
    at_once = rows_at_once(case)
    return over_channels(
        case, torch.cat([_found(case, x, t, (area, steps, cells)) for x, t in in_blocks(case, at_once)])
    )


def _found(
    case: Case, x: Samples, target: Labels, how: tuple[float, int, int]
) -> Float[Tensor, "n height width"]:
    """The masks of some rows: every row's ascent is its own."""
    area, steps, cells = how
    wide, size = x.new_full((len(x), 1, cells, cells), 0.5, dtype=torch.float64), x.shape[-2:]
    pixels = size[0] * size[1]
    wanted = (torch.arange(pixels) >= round((1 - area) * pixels)).double()
    speed = torch.zeros_like(wide)
    for step in range(steps):
        wide.requires_grad_()
        mask = _enlarged(wide, size)
        outputs = case.model(torch.lerp(case.baseline, x, mask.to(x.dtype))).gather(1, target[:, None])
        (rise,) = torch.autograd.grad(outputs.sum(), wide, retain_graph=True)
        miss = ((mask.flatten(1).sort(dim=1, stable=True).values - wanted) ** 2).sum() * cells**2 / pixels
        (off,) = torch.autograd.grad(miss, wide)
        share = rise / rise.abs().amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        speed = MOMENTUM * speed + share - FIRM * step / steps * off
        wide = (wide.detach() + SPEED * speed).clamp(0, 1)
    return _enlarged(wide, size)[:, 0]


def _enlarged(mask: Float[Tensor, "n 1 cells cells"], size: torch.Size) -> Float[Tensor, "n 1 height width"]:
    return functional.interpolate(mask, tuple(size), mode="bilinear")
