"""Permutation SHAP on orders that all rows share."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.shapley import by_budgeted_walks, spread_over_features
from ..benchmarks.terms import Value


@method(
    version=2,
    paper="https://arxiv.org/abs/2104.12199",
    estimand="shapley",
    promises=("complete", "dummy", "linearity"),
    cost="samples",
)
def permutation_shap(
    case: Case, *, budget: Annotated[int, Ge(2)] = 2048, value: Value = "baseline"
) -> Samples:
    """What each unit adds on walks from nothing to everything and back, averaged over random orders.

    Exact for functions of pairs of units from one order, and for all where the coalitions fit the budget.

    budget: coalitions evaluated for a row, in as many whole orders, there and back, as it allows; each is one
        model row (one for each background row, if value is "marginal").
    value: what an absent feature is replaced by.
    """
    return spread_over_features(case, by_budgeted_walks(case, budget, value, paired=True))
