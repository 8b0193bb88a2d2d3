"""RISE: random masks, weighted by what the model makes of the picture behind them."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn import functional

from ..benchmarks.layermaps import over_channels, picture_size
from ..benchmarks.perturb import outputs_of
from ..benchmarks.plugin import Case, Samples, method

BLOCK = 4_000_000  # numbers of masks at one time


@method(version=1, paper="https://arxiv.org/abs/1806.07421", promises="linearity", cost="samples")
def rise(
    case: Case,
    *,
    cells: Annotated[int, Ge(1)] = 8,
    keep: Annotated[float, Gt(0), Lt(1)] = 0.5,
    budget: Annotated[int, Ge(2)] = 500,
    estimator: Literal["centred", "paper"] = "centred",
) -> Samples:
    """How the output goes with a place being kept, over random smooth masks that all rows share.

    A mask is a grid of cells x cells coin tosses, upsampled bilinearly to one cell more than the picture and
    cut to its size at a random place.  Behind a mask M the picture is M x + (1 - M) baseline.  One number a
    place, in equal shares for the channels.

    cells: of the grid, along each side; no more than the picture has places.
    keep: the probability p of each cell of being kept.
    budget: masks; each is one model row.
    estimator: `paper`: mean of f M / p, which is E[f | kept] for binary masks.  It is made for probabilities:
        of a logit, whose zero means nothing, mean(f) (mean(M) - p) / p is noise that any constant added to f
        makes as large as one likes.  `centred`: sum of (f - mean(f)) M / (p (budget - 1)), which estimates
        E[f | kept] - E[f] without bias and in which no such constant is seen.

    In the units of the output, any sign.  Source: Petsiuk, Das and Saenko 2018, arXiv 1806.07421.

    Raises:
        NotApplicable: the features are no pictures.
    """
    masks = _Masks.drawn(picture_size(case), cells, keep, budget, case.rng)

    def behind(rows: slice, which: slice) -> Tensor:
        mask = masks[which].to(case.x.dtype)[:, None]
        return mask * case.x[rows, None] + (1 - mask) * case.baseline

    weight = outputs_of(case, budget, behind).double()
    if estimator == "centred":
        weight = (weight - weight.mean(1, keepdim=True)) * budget / (budget - 1)
    high, wide = masks.size
    some = max(1, BLOCK // (high * wide))
    total = torch.zeros(len(case.x), high * wide, dtype=torch.float64)
    for i in range(0, budget, some):
        which = slice(i, min(i + some, budget))
        total += weight[:, which] @ masks[which].flatten(1).double()
    return over_channels(case, (total / (keep * budget)).view(-1, high, wide))


@dataclass(frozen=True, slots=True)
class _Masks:
    """Random masks, made when they are asked for: grids take a thousandth of the memory."""

    size: tuple[int, int]
    cell: tuple[int, int]  # in pixels
    grids: Float[Tensor, "m rows columns"]
    shifts: Int[Tensor, "m 2"]

    @classmethod
    def drawn(cls, size: tuple[int, int], cells: int, keep: float, count: int, rng: Generator) -> "_Masks":
        """The grids and where they are cut."""
        grid = [min(cells, side) for side in size]
        # rounded up, as in the authors' code: rounded down, as in the paper, masks can be too small
        high, wide = (-(-side // n) for side, n in zip(size, grid, strict=True))
        grids = (torch.rand(count, *grid, generator=rng) < keep).float()
        shifts = [torch.randint(cell + 1, (count,), generator=rng) for cell in (high, wide)]
        return cls(size, (high, wide), grids, torch.stack(shifts, 1))

    def __getitem__(self, which: slice) -> Float[Tensor, "some high wide"]:
        """Some of the masks."""
        grids, shifts = self.grids[which], self.shifts[which]
        whole = [(n + 1) * cell for n, cell in zip(grids.shape[1:], self.cell, strict=True)]
        large = functional.interpolate(grids[:, None], whole, mode="bilinear")[:, 0]
        row, column = (shifts[:, i, None] + torch.arange(self.size[i]) for i in (0, 1))
        return large[torch.arange(len(grids))[:, None, None], row[:, :, None], column[:, None, :]]
