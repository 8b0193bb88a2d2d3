"""Shapley values by sampling orders, as captum computes them."""

from typing import Annotated

from annotated_types import Ge
from captum.attr import ShapleyValueSampling

from ..benchmarks.captum_units import by_captum
from ..benchmarks.coalitions import unit_count
from ..benchmarks.plugin import Case, NotApplicable, Samples, method


@method(
    version=1,
    paper="https://doi.org/10.1016/j.cor.2008.04.004",
    estimand="shapley",
    promises=("complete", "dummy", "linearity"),
    cost="samples",
)
def captum_shapley_sampling(
    case: Case, *, budget: Annotated[int, Ge(2)] = 2048, at_once: Annotated[int, Ge(1)] = 1
) -> Samples:
    """What each unit adds when the units come in random order, averaged.

    budget: coalitions evaluated for a row, in as many whole orders as it allows; each is one model row.
    at_once: coalitions that all rows evaluate together; the map is the same.
    """
    units = unit_count(case)
    orders = (budget - 1) // units
    if orders < 1:
        raise NotApplicable(
            f"one order of {units} units takes {units + 1} model rows, and the budget is {budget}"
        )
    return by_captum(case, ShapleyValueSampling, orders, at_once)
