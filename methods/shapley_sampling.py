"""Shapley values by sampling orders, as captum computes them."""

from typing import Annotated

from annotated_types import Ge
from captum.attr import ShapleyValueSampling

from ..benchmarks.coalitions import shared_out, units_of
from ..benchmarks.perturb import ELEMENTS
from ..benchmarks.plugin import Case, Samples, method


@method(version=1, paper="https://doi.org/10.1016/j.cor.2008.04.004", estimand="shapley", complete=True)
def shapley_sampling(case: Case, *, n_samples: Annotated[int, Ge(1)] = 25) -> Samples:
    """What each unit adds when the units arrive in random order, averaged.

    n_samples: orders.
    """
    units = units_of(case)
    at_once = max(1, min(int(units.max()) + 1, ELEMENTS // case.x.numel()))
    values = ShapleyValueSampling(case.model).attribute(
        case.x,
        case.baselines,
        target=case.target,
        feature_mask=units[None],
        n_samples=n_samples,
        perturbations_per_eval=at_once,
    )
    return shared_out(case, values)
