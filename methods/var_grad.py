"""VarGrad, as captum computes it."""

from typing import Annotated

from annotated_types import Ge, Gt

from ..benchmarks.noise import tunnelled
from ..benchmarks.plugin import Case, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/1810.03292",
    needs="gradient",
    promises="dummy",
    signed=False,
    cost="samples",
)
def var_grad(
    case: Case, *, budget: Annotated[int, Ge(2)] = 50, spread: Annotated[float, Gt(0)] = 0.15
) -> Samples:
    """The variance of the gradient over noisy copies of the row: 0 throughout on a linear model.

    budget: copies a row; each is one model row, there and back.
    spread: deviation of the noise, as a share of the range of the background, feature by feature's mean.
    """
    return tunnelled(case, "vargrad", budget, spread).clamp_min(0)  # rounding may take a variance below
