"""Exact Shapley values, as the shap package computes them."""

import numpy as np
import shap
from numpy.typing import NDArray

from ..benchmarks.coalitions import unit_count
from ..benchmarks.games import Game, play_rows
from ..benchmarks.perturb import absent
from ..benchmarks.plugin import Case, NotApplicable, Samples, method
from ..benchmarks.terms import Value

MOST = 16  # units
ROWS = 2**18  # model rows for a row explained


@method(
    version=1,
    paper="https://arxiv.org/abs/1705.07874",
    estimand="shapley",
    promises=("complete", "dummy", "symmetry", "linearity"),
    cost="exponential",
)
def shap_exact(case: Case, *, value: Value = "baseline") -> Samples:
    """What each unit adds, averaged over all orders, from the model's output under every coalition.

    value: what an absent feature is replaced by.
    """
    if unit_count(case) > MOST:
        raise NotApplicable(f"enumerates coalitions of at most {MOST} units, and this has {unit_count(case)}")
    rows = 2 ** unit_count(case) * len(absent(case, value))
    if rows > ROWS:
        raise NotApplicable(f"takes at most {ROWS:,} model rows for a row explained, and this needs {rows:,}")

    def solve(game: Game, units: int) -> NDArray[np.float64]:
        explainer = shap.ExactExplainer(game, shap.maskers.Independent(np.zeros((1, units))))
        return explainer(np.ones((1, units)), max_evals=2**MOST, silent=True).values

    return play_rows(case, value, solve)
