"""Exact Shapley values, as the shap package computes them."""

import numpy as np
import shap
from numpy.typing import NDArray

from ..benchmarks.coalitions import MOST_UNITS, refuse_to_enumerate
from ..benchmarks.games import Game, play_rows
from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.terms import Value


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
    refuse_to_enumerate(case, value)

    def solve(game: Game, units: int) -> NDArray[np.float64]:
        explainer = shap.ExactExplainer(game, shap.maskers.Independent(np.zeros((1, units))))
        return explainer(np.ones((1, units)), max_evals=2**MOST_UNITS, silent=True).values

    return play_rows(case, value, solve)
