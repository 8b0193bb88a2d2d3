"""Shapley values by sampling orders, as captum computes them."""

from typing import Annotated

from annotated_types import Ge
from captum.attr import ShapleyValueSampling

from ..benchmarks.coalitions import unit_count, units_of
from ..benchmarks.plugin import Case, NotApplicable, Samples, method
from ..benchmarks.shapley import shared_out


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
    values = ShapleyValueSampling(case.model).attribute(
        case.x,
        case.baselines,
        target=case.target,
        feature_mask=units_of(case)[None],
        n_samples=orders,
        perturbations_per_eval=at_once,
    )
    return shared_out(case, values).to(case.x.dtype)
