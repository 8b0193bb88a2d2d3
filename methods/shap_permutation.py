"""Permutation SHAP, as the shap package computes it."""

from typing import Annotated

import numpy as np
import shap
import torch
from annotated_types import Ge
from numpy.typing import NDArray

from ..benchmarks.coalitions import unit_count
from ..benchmarks.games import Game, play_rows
from ..benchmarks.plugin import Case, NotApplicable, Samples, method
from ..benchmarks.terms import Value


@method(
    version=1,
    paper="https://arxiv.org/abs/1705.07874",
    estimand="shapley",
    promises=("complete", "dummy", "linearity"),
    cost="samples",
)
def shap_permutation(
    case: Case, *, budget: Annotated[int, Ge(3)] = 2048, value: Value = "baseline"
) -> Samples:
    """What each unit adds on walks from nothing to everything and back, in orders that every row draws anew.

    budget: coalitions evaluated for a row, in as many whole orders, there and back, as it allows; each is one
        model row (one for each background row, if value is "marginal").
    value: what an absent feature is replaced by.
    """
    order = 2 * unit_count(case) + 1
    if budget < order:
        raise NotApplicable(f"one order there and back takes {order} model rows, and the budget is {budget}")

    def solve(game: Game, units: int) -> NDArray[np.float64]:
        seed = int(torch.randint(2**31, (1,), generator=case.rng))  # without one, shap takes the clock's
        explainer = shap.PermutationExplainer(game, shap.maskers.Independent(np.zeros((1, units))), seed=seed)
        return explainer(np.ones((1, units)), max_evals=budget, silent=True).values

    return play_rows(case, value, solve)
