"""Occlusion by a sliding window."""

from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Bool
from torch import Tensor

from ..benchmarks.layermaps import PlaceMaps, over_channels
from ..benchmarks.perturb import outputs_of
from ..benchmarks.plugin import Case, NotApplicable, Samples, method
from ..benchmarks.registry import AssayError


@method(version=1, paper="https://arxiv.org/abs/1311.2901", promises="linearity", cost="units")
def occlusion(
    case: Case,
    *,
    window: Annotated[int, Ge(1)] | None = None,
    stride: Annotated[int, Ge(1)] | None = None,
) -> Samples:
    """What the output loses when a window slides over the places, averaged over the windows on a place.

    mean of f(x) - f(x with the window at the baseline) over all windows that cover the feature.  In pictures
    a window is a square through all channels, and its value is shared equally by these; in sound it is a
    stretch of one channel.  The first window starts at the first place, and the last one, cut off where it
    sticks out, reaches the last place.

    window: its side, in places; None is an eighth of the (shorter) side of the picture or of the length of
        the sound.  One that is larger than the features covers all of them.
    stride: places from a window to the next, at most `window`; None is half a window.

    Each window is one model row.  In the units of the output, any sign.  Source: Zeiler and Fergus 2014,
    arXiv 1311.2901.

    Raises:
        NotApplicable: a table, whose columns have no order.
        AssayError: a stride that would leave places uncovered.
    """
    shape = case.baseline.shape
    if len(shape) not in (2, 3):
        raise NotApplicable(
            f"takes pictures or sound, [channels, *places], and gets features of shape {tuple(shape)}"
        )
    side = window or max(1, min(shape[1:]) // 8)
    step = stride or max(1, side // 2)
    if step > side:
        raise AssayError(
            f"stride cannot be {step} with a window of {side}, as places between would be left out: "
            f"give a stride of 1 to {side}."
        )
    if len(shape) == 3:
        return over_channels(case, _lost(case, *(_windows(size, side, step) for size in shape[1:])))
    channels = torch.eye(shape[0], dtype=torch.bool)
    return _lost(case, channels, _windows(shape[1], side, step)).to(case.x.dtype)


def _windows(size: int, side: int, step: int) -> Bool[Tensor, "m size"]:
    """Which places of one axis each window covers; the last window is the first to reach the end."""
    side = min(side, size)
    count = -(-(size - side) // step) + 1
    after = torch.arange(size) - step * torch.arange(count)[:, None]
    return (after >= 0) & (after < side)


def _lost(case: Case, first: Bool[Tensor, "a high"], second: Bool[Tensor, "b wide"]) -> PlaceMaps:
    """The mean loss at each place of the last two axes; a window is one of `first` by one of `second`."""
    a, b = len(first), len(second)

    def hidden(rows: slice, which: slice) -> Tensor:
        number = torch.arange(a * b)[which]
        window = first[number // b, :, None] & second[number % b, None, :]
        window = window.view(len(number), *[1] * (case.baseline.ndim - 2), *window.shape[1:])
        return torch.where(window, case.baseline, case.x[rows, None])

    whole = outputs_of(case, 1, lambda rows, _: case.x[rows, None]).double()
    loss = (whole - outputs_of(case, a * b, hidden).double()).view(-1, a, b)
    # windows are products of stretches: the sum over those that cover a place goes axis by axis
    high, wide = first.double(), second.double()
    total: Tensor = high.T @ loss @ wide
    return total / (high.sum(0)[:, None] * wide.sum(0))
