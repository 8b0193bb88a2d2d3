"""Prediction difference of regions at several scales."""

from typing import Annotated, Final

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Bool, Float
from skimage.segmentation import slic
from torch import Tensor
from torch.nn import functional

from ..benchmarks.layermaps import over_channels, picture_size
from ..benchmarks.perturb import outputs_of
from ..benchmarks.plugin import Case, Samples, method

# how much nearness counts for SLIC beside colour: 10 is its usual
COMPACTNESS: Final = (10.0, 100.0, 1000.0)


@method(version=1, paper="https://arxiv.org/abs/1807.11720", cost="samples")
def prediction_difference(
    case: Case,
    *,
    coarsest: Annotated[int, Ge(1)] = 16,
    scales: Annotated[int, Ge(1)] = 3,
    samples: Annotated[int, Ge(1)] = 2,
) -> Samples:
    """What the prediction loses without each of the picture's superpixels, averaged over several scales.

    SLIC cuts the picture into regions, twice as many from scale to scale.  In noise it finds but scattered
    pixels of like colours, and merges them all into one region: where it gives less than half as many as are
    asked for, nearness counts ten times as much, and again, until they are next to squares.

    A region is excluded by drawing its colours from a normal distribution with mean and covariance of the
    picture's border, which is taken for background (Seo, Oh & Oh 2018).  Its value is the weight of evidence
    (Zintgraf et al. 2017), log odds(class | x) - log odds(class | x without it), the probability without it
    being the mean over draws; for a regression, output - mean output.  It is that of all the region's pixels.

    coarsest: regions of the first scale, about.
    scales: of the regions.
    samples: draws for a region; the defaults take about 2 x (16 + 32 + 64) model rows.

    Raises:
        NotApplicable: the features are no pictures.
    """
    height, width = picture_size(case)
    cut = [[_superpixels(x, coarsest * 2**scale) for scale in range(scales)] for x in case.x]
    most = max(sum(map(len, row)) for row in cut)
    regions = torch.zeros(len(case.x), most, height, width, dtype=torch.bool)  # no pixels in those in excess
    for row, parts in enumerate(cut):
        whole = torch.cat(parts)
        regions[row, : len(whole)] = whole
    noise = torch.randn(samples, *case.x.shape[1:], generator=case.rng, dtype=torch.float64)
    fillers = torch.stack([_background(x, noise) for x in case.x]).to(case.x.dtype)

    def without(rows: slice, which: slice) -> Samples:
        region, sample = np.divmod(np.arange(which.start, which.stop), samples)
        here = regions[rows][:, region, None]
        return torch.where(here, fillers[rows][:, sample], case.x[rows, None])

    found = outputs_of(case, most * samples, without, every=True).double()
    lost = outputs_of(case, 1, lambda rows, _: case.x[rows, None], every=True).double()
    value = _evidence(case, lost[:, :, None]) - _evidence(case, found.unflatten(1, (most, samples)))
    return over_channels(case, (value[..., None, None] * regions).sum(1) / scales)


def _superpixels(
    x: Float[Tensor, "channels height width"], count: int
) -> Bool[Tensor, "regions height width"]:
    picture = ((x.double() + 1) / 2).clamp(0, 1).movedim(0, -1).numpy()
    for compactness in COMPACTNESS:
        cut = slic(picture, n_segments=count, compactness=compactness, channel_axis=-1)
        label = torch.from_numpy(cut)
        regions = label == label.unique()[:, None, None]
        if 2 * len(regions) >= count:
            break
    return regions


def _background(
    x: Float[Tensor, "channels height width"], noise: Float[Tensor, "samples channels height width"]
) -> Float[Tensor, "samples channels height width"]:
    """The noise with the mean and covariance of the picture's border."""
    wide = x.double()
    border = torch.cat([wide[:, 0], wide[:, -1], wide[:, 1:-1, 0], wide[:, 1:-1, -1]], 1)
    variance, axes = torch.linalg.eigh(torch.cov(border, correction=0).view(len(x), len(x)))
    root = axes * variance.clamp_min(0).sqrt() @ axes.T  # the symmetric one: that of any axes
    return torch.einsum("cd,sdhw->schw", root, noise) + border.mean(1)[:, None, None]


def _evidence(case: Case, outputs: Float[Tensor, "n m samples outputs"]) -> Float[Tensor, "n m"]:
    """The log odds of the explained class, or the mean output."""
    if outputs.shape[-1] == 1:
        return outputs[..., 0].mean(2)
    chosen = functional.one_hot(case.target, outputs.shape[-1]).bool()[:, None, None]
    share = outputs.log_softmax(-1)
    odds = [share.where(of, -torch.inf).logsumexp(-1).logsumexp(2) for of in (chosen, ~chosen)]
    return odds[0] - odds[1]
