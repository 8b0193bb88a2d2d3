"""Kernel SHAP, as captum computes it."""

import warnings
from typing import Annotated

from annotated_types import Ge
from captum.attr import KernelShap

from ..benchmarks.coalitions import unit_count, units_of
from ..benchmarks.plugin import Case, NotApplicable, Samples, method
from ..benchmarks.shapley import shared_out


@method(
    version=1,
    paper="https://arxiv.org/abs/1705.07874",
    estimand="shapley",
    promises="linearity",
    cost="samples",
)
def captum_kernel_shap(
    case: Case, *, budget: Annotated[int, Ge(4)] = 256, at_once: Annotated[int, Ge(1)] = 1
) -> Samples:
    """Slopes of a linear fit over coalitions that every row draws anew, as often as the kernel weighs them.

    The two ends count a million times as much as the others instead of exactly, so sums miss by a little.

    budget: coalitions evaluated for a row; each is one model row.
    at_once: coalitions evaluated together; the map is the same.
    """
    if unit_count(case) < 2:
        raise NotApplicable("captum draws how many units are present, but not all, and here is only one")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are providing multiple inputs for Lime / Kernel SHAP")
        values = KernelShap(case.model).attribute(
            case.x,
            case.baselines,
            target=case.target,
            feature_mask=units_of(case)[None],
            n_samples=budget,
            perturbations_per_eval=at_once,
        )
    return shared_out(case, values).to(case.x.dtype)
