"""Who agrees with whom."""

import pandas as pd

from . import leaderboard as lead


def agreement_matrix(agreement: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean agreement between every two methods, 0 for two random maps and 1 for equal ones."""
    both = lead.both_ways(agreement, metric)
    matrix = both.pivot_table(index="method", columns="other", values="skill", aggfunc="mean", sort=False)
    order = list(dict.fromkeys(both["method"]))
    return matrix.reindex(index=order, columns=order)


def agreement_matrices(agreement: pd.DataFrame) -> pd.DataFrame:
    """The matrix of every metric for every problem, noise level and model, the mean over seeds; stacked."""
    by = [*lead.PROBLEM, "model", "metric"]
    parts = {
        place: agreement_matrix(rows, str(place[-1])) for place, rows in agreement.groupby(by, sort=False)
    }
    if not parts:
        return pd.DataFrame(columns=[*by, "method"])
    return pd.concat(parts, names=by).reset_index()
