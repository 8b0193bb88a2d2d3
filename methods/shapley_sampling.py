"""Shapley values from random orders that all rows share."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.shapley import by_budgeted_walks, spread_over_features
from ..benchmarks.terms import Value


@method(
    version=2,
    paper="https://doi.org/10.1016/j.cor.2008.04.004",
    estimand="shapley",
    promises=("complete", "dummy", "linearity"),
    cost="samples",
)
def shapley_sampling(
    case: Case, *, budget: Annotated[int, Ge(2)] = 2048, value: Value = "baseline"
) -> Samples:
    """What each unit adds when the units come in random order, averaged; exact where all coalitions fit.

    budget: coalitions evaluated for a row, in as many whole orders as it allows; each is one model row (one
        for each background row, if value is "marginal").
    value: what an absent feature is replaced by.
    """
    return spread_over_features(case, by_budgeted_walks(case, budget, value, paired=False))
