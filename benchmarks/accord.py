"""Who agrees with whom."""

import pandas as pd

from . import leaderboard as lead


def agreement_matrix(agreement: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean agreement between every two methods, 0 for two random maps and 1 for equal ones."""
    both = lead.both_ways(agreement[agreement["metric"] == metric])
    matrix = both.pivot_table(index="method", columns="other", values="skill", aggfunc="mean", sort=False)
    order = list(dict.fromkeys(both["method"]))
    return matrix.reindex(index=order, columns=order)


def agreement_matrices(agreement: pd.DataFrame) -> pd.DataFrame:
    """The matrix of every metric for every problem, noise level and model, the mean over seeds; stacked."""
    by = [*lead.PROBLEM, "model", "metric"]
    # problem by problem, and within each as the methods first come up
    both = lead.both_ways(agreement.assign(place=agreement.groupby(by, sort=False).ngroup()))
    if both.empty:
        return pd.DataFrame(columns=[*by, "method"])
    means = both.groupby([*by, "method", "other"], sort=False)["skill"].mean().unstack("other")
    rows = both.sort_values("place", kind="stable")[[*by, "method"]].drop_duplicates()
    methods = list(dict.fromkeys(rows["method"]))
    return means.reindex(index=pd.MultiIndex.from_frame(rows), columns=methods).reset_index()
