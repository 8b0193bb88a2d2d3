"""Kernel SHAP, as the shap package computes it."""

from typing import Annotated

import numpy as np
import shap
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
    promises=("complete", "linearity"),
    cost="samples",
)
def shap_kernel(case: Case, *, budget: Annotated[int, Ge(4)] = 2048, value: Value = "baseline") -> Samples:
    """Shapley values from a weighted linear fit over coalitions that every row draws anew.

    No feature is left out of the fit, as shap would leave out all but ten.

    budget: coalitions evaluated for a row; each is one model row (one for each background row, if value is
        "marginal").
    value: what an absent feature is replaced by.
    """
    count = unit_count(case)
    # a coalition and its complement tell one thing: with hardly more pairs than units the fit is all noise,
    # and with fewer shap returns numbers of any size
    fewest = min(5 * count // 2, 2**count - 2)
    if budget < fewest:
        raise NotApplicable(f"a fit to {count} units takes {fewest} coalitions, and the budget is {budget}")

    def solve(game: Game, units: int) -> NDArray[np.float64]:
        explainer = shap.KernelExplainer(game, np.zeros((1, units)))
        return explainer.shap_values(np.ones((1, units)), nsamples=budget, l1_reg=False, silent=True)

    return play_rows(case, value, solve)
