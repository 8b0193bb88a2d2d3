"""Kernel SHAP, as captum computes it."""

from typing import Annotated

from annotated_types import Ge
from captum.attr import KernelShap

from ..benchmarks.captum_units import by_captum
from ..benchmarks.coalitions import unit_count
from ..benchmarks.plugin import Case, NotApplicable, Samples, method


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
    return by_captum(case, KernelShap, budget, at_once)
