"""Scores -> every two methods: by how much the better one leads, and how sure that is."""

import numpy as np
import pandas as pd

from . import leaderboard as lead
from .intervals import better, half_width, over_problems, visible

PAIR = ("a", "b", "difference", "low", "high", "better", "low_like", "high_like", "visible")


def pairs(scores: pd.DataFrame) -> pd.DataFrame:
    """Every two ranked methods, the better first: by how much, and how sure that is, on these problems."""
    common = lead.shared_cells(scores)
    if common.empty:
        return pd.DataFrame(columns=[*PAIR])
    whole = lead.sample(common)
    order = np.argsort(-whole.mean, kind="stable")
    first, second = (order[side] for side in np.triu_indices(len(order), 1))
    difference = whole.mean[first] - whole.mean[second]
    residuals = whole.noise.residuals
    spread = whole.noise.spread(residuals[:, first] - residuals[:, second])
    half = half_width(spread)
    names = common.columns.to_numpy()
    found = {"a": names[first], "b": names[second], "difference": difference}
    found |= {"low": difference - half, "high": difference + half, "better": better(difference, spread)}
    like = half_width(over_problems(whole.by_problem[:, first] - whole.by_problem[:, second]))
    found |= {"low_like": difference - like, "high_like": difference + like, "visible": visible(spread)}
    return pd.DataFrame(found)


def beside(pairs: pd.DataFrame, best: str, low: str = "low", high: str = "high") -> list[str]:
    """The methods that cannot be told from this one: the interval of the difference holds 0."""
    undecided = pairs[(pairs[low] <= 0) & (pairs[high] >= 0)]
    return [*undecided.loc[undecided["a"] == best, "b"], *undecided.loc[undecided["b"] == best, "a"]]
