"""XRAI: attribution through regions."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Bool, Float
from scipy.ndimage import maximum_filter
from skimage.segmentation import felzenszwalb
from torch import Tensor

from ..benchmarks.layermaps import over_channels, picture_size
from ..benchmarks.perturb import in_blocks, rows_at_once, slopes
from ..benchmarks.plugin import Case, Labels, Samples, method

DARKEST, BRIGHTEST = -1.0, 1.0  # of pictures
SCALES = (50, 100, 150, 250, 500, 1200)  # the paper's
SMOOTHING = 0.8  # deviation, in pixels, of the blur before segmentation; the paper's


@method(version=1, paper="https://arxiv.org/abs/1906.02825", needs="gradient", cost="path")
def xrai(
    case: Case,
    *,
    steps: Annotated[int, Ge(1)] = 50,
    smallest: Annotated[int, Ge(1)] = 4,
    border: Annotated[int, Ge(0)] = 1,
) -> Samples:
    """Segments by their mean integrated gradient, which is taken from a black picture and from a white one.

    The pixels' attributions are averaged over both baselines and summed over channels.  Felzenszwalb's
    segments of six scales overlap; the one whose pixels, as far as they are in no segment yet, have the
    highest mean attribution comes next, and this mean is their value (Kapishnikov et al. 2019, algorithm 1).

    steps: of the path from each baseline; each is one model row, there and back.
    smallest: pixels of a segment, at least (the paper has pictures of 224 x 224 and 150 pixels).
    border: pixels by which a segment grows, to hold its own edge (the paper's 5 of 224).

    Raises:
        NotApplicable: the features are no pictures.
    """
    picture_size(case)
    at_once = rows_at_once(case)
    pixels = torch.cat([_pixelwise(case, x, t, steps) for x, t in in_blocks(case, at_once)]).sum(1)
    maps = [
        _by_region(_segments(x, smallest, border), map_.flatten())
        for x, map_ in zip(case.x, pixels, strict=True)
    ]
    return over_channels(case, torch.stack(maps).view(pixels.shape))


def _pixelwise(case: Case, x: Samples, target: Labels, steps: int) -> Samples:
    """Integrated gradients by the midpoint rule, averaged over both baselines, float64."""
    values = torch.zeros_like(x, dtype=torch.float64)
    for filler in (DARKEST, BRIGHTEST):
        away, total = x - filler, torch.zeros_like(values)
        for step in range(steps):
            total += slopes(case, filler + (step + 0.5) / steps * away, target).double()
        values += total / steps * away.double() / 2
    return values


def _segments(
    x: Float[Tensor, "channels height width"], smallest: int, border: int
) -> Bool[Tensor, "segments pixels"]:
    """All segments of all scales, each once; together they cover the picture."""
    picture, found = x.double().movedim(0, -1).numpy(), []
    for scale in SCALES:
        label = felzenszwalb(picture, scale=scale, sigma=SMOOTHING, min_size=smallest, channel_axis=-1)
        found += [maximum_filter(label == one, 2 * border + 1).ravel() for one in np.unique(label)]
    return torch.from_numpy(np.unique(np.stack(found), axis=0))


def _by_region(
    segments: Bool[Tensor, "segments pixels"], pixels: Float[Tensor, " pixels"]
) -> Float[Tensor, " pixels"]:
    """Every pixel's value: the mean attribution of what came with it."""
    left, values = segments.double(), torch.zeros_like(pixels)
    while True:
        size = left.sum(1)
        if not size.any():
            return values
        mean = (left @ pixels / size.clamp_min(1)).where(size > 0, -torch.inf)
        best = int(mean.argmax())
        came = left[best].bool()
        values[came] = mean[best]
        left[:, came] = 0
