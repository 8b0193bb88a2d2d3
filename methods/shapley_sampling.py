"""Shapley values from random orders that all rows share."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.coalitions import Everything, Walks, fits, table, unit_count
from ..benchmarks.plugin import Case, NotApplicable, Samples, method
from ..benchmarks.shapley import by_enumeration, by_walks, spread_over_features
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
    units = unit_count(case)
    if fits(units, budget):
        return spread_over_features(case, by_enumeration(table(case, Everything(), value)))
    orders = (budget - 2) // (units - 1)
    if orders < 1:
        raise NotApplicable(
            f"one order of {units} units takes {units + 1} model rows, and the budget is {budget}"
        )
    return spread_over_features(case, by_walks(table(case, Walks(orders), value), orders))
