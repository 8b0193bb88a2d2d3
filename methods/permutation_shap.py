"""Permutation SHAP on orders that all rows share."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.coalitions import Everything, Walks, fits, table, unit_count
from ..benchmarks.plugin import Case, NotApplicable, Samples, method
from ..benchmarks.shapley import by_enumeration, by_walks, spread_over_features
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
    units = unit_count(case)
    if fits(units, budget):
        return spread_over_features(case, by_enumeration(table(case, Everything(), value)))
    orders = (budget - 2) // (2 * (units - 1))
    if orders < 1:
        raise NotApplicable(
            f"one order of {units} units and back takes {2 * units} model rows, and the budget is {budget}"
        )
    found = table(case, Walks(orders, paired=True), value)
    return spread_over_features(case, by_walks(found, 2 * orders))
