"""Gradient SHAP, as captum computes it."""

from typing import Annotated

from annotated_types import Ge
from captum.attr import GradientShap

from ..benchmarks.plugin import Case, Samples, method


@method(
    version=2,
    paper="https://arxiv.org/abs/1705.07874",
    needs="gradient",
    estimand="integrated_gradients",
    promises=("dummy", "linearity"),
    cost="samples",
)
def gradient_shap(
    case: Case, *, n_samples: Annotated[int, Ge(1)] = 200, stdevs: Annotated[float, Ge(0)] = 0.0
) -> Samples:
    """The gradient at random points between the baseline and the row, times the difference.

    The baseline is the one that all methods share, so this is a Monte-Carlo integrated gradient.

    n_samples: points a row.
    stdevs: deviation of the noise added to the row.
    """
    explainer = GradientShap(case.model)
    return explainer.attribute(
        case.x.clone().requires_grad_(),
        case.baseline[None],
        target=case.target,
        n_samples=n_samples,
        stdevs=stdevs,
    ).to(case.x.dtype)
