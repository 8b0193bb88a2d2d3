"""How often a method reaches each level of skill, and its mean without the luckiest and unluckiest draws."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import binomtest, trim_mean

from .stats import LEVEL, SAME

TRIMMED = 0.25  # at each end
THRESHOLDS = np.linspace(0, 1, 41)


def interquartile_mean(blocks: pd.DataFrame) -> "pd.Series[float]":
    """Mean skill of every method over the middle half of its draws, best first.

    A few draws on which a method fails, or is lucky, do not move it; half of them would (Agarwal et al. 2021,
    arXiv 2108.13264, where runs are what draws are here).  All draws count alike, so that a problem with more
    noise levels or seeds counts more than in the mean skill.  Of fewer than 4 draws it is the plain mean.

    Args:
        blocks: mean skill of every method (columns) on every draw (rows); no NaN.
    """
    if blocks.empty:
        return pd.Series(dtype=float, name="iqm")
    values = trim_mean(blocks.to_numpy(dtype=float), TRIMMED, axis=0)
    methods = pd.Index([str(m) for m in blocks], name="method")
    found: pd.Series[float] = pd.Series(values, index=methods, name="iqm", dtype=float)
    return found.sort_values(ascending=False, kind="stable")


def performance_profile(
    blocks: pd.DataFrame, thresholds: Float[np.ndarray, " thresholds"] = THRESHOLDS
) -> pd.DataFrame:
    """Share of the draws on which a method's skill is at least the threshold, with a 95% interval at each.

    Where one method's curve lies above another's everywhere, it is better however skill is averaged (Agarwal
    et al. 2021, arXiv 2108.13264).  They redraw runs within tasks for the band.  With two seeds a condition
    that is no use: where both lie on the same side of a threshold, as mostly, redrawing changes nothing and
    the band has no width, and elsewhere half of the variance is missing.  The band here is Wilson's (1927)
    for a binomial share of all draws.  Conditions differ, so that the true spread is smaller than a binomial
    one (Hoeffding 1956): it is wider than it need be, with any number of seeds.  It holds at each threshold,
    not for the whole curve at once, and on these problems.

    Args:
        blocks: mean skill of every method (columns) on every draw (rows); no NaN.
        thresholds: of skill.

    Returns:
        method, threshold, share, low, high; a row for each method and threshold, methods as in `blocks`.
    """
    count, methods = blocks.shape
    values = blocks.to_numpy(dtype=float)
    reached = (values[:, :, None] >= thresholds - SAME).sum(0).ravel()
    found = pd.DataFrame({"method": np.repeat(np.array([str(m) for m in blocks], object), len(thresholds))})
    found["threshold"] = np.tile(thresholds, methods)
    if not count:
        return found.assign(share=np.nan, low=np.nan, high=np.nan)
    bands = {
        int(k): binomtest(int(k), count).proportion_ci(LEVEL, method="wilson") for k in np.unique(reached)
    }
    found["share"] = reached / count
    found["low"] = [float(bands[int(k)].low) for k in reached]
    found["high"] = [float(bands[int(k)].high) for k in reached]
    return found
