"""SmoothGrad, as captum computes it."""

from typing import Annotated

from annotated_types import Ge, Gt

from ..benchmarks.noise import tunnelled
from ..benchmarks.plugin import Case, Samples, method


@method(
    version=2,
    paper="https://arxiv.org/abs/1706.03825",
    needs="gradient",
    estimand="gradient",
    promises=("dummy", "linearity"),
    cost="samples",
)
def smooth_grad(
    case: Case, *, budget: Annotated[int, Ge(1)] = 50, spread: Annotated[float, Gt(0)] = 0.15
) -> Samples:
    """The signed gradient averaged over noisy copies of the row.

    Held against the gradient, from which it differs by what the noise smooths, however large the budget.

    budget: copies a row; each is one model row, there and back.
    spread: deviation of the noise, as a share of the range of the background, feature by feature's mean.
    """
    return tunnelled(case, "smoothgrad", budget, spread)
