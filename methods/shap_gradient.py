"""Expected gradients, as the shap package computes them."""

from typing import Annotated

import shap
import torch
from annotated_types import Ge
from torch import Tensor, nn

from ..benchmarks.perturb import absent
from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.terms import Value


class _Output(nn.Module):
    """One output of a model, for points in single precision, which are all that shap makes."""

    def __init__(self, model: nn.Module, target: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.target = target
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """[rows, 1]."""
        outputs: Tensor = self.model(x.to(self.dtype))
        return outputs[:, self.target, None]


@method(
    version=1,
    paper="https://arxiv.org/abs/1906.10670",
    needs="gradient",
    estimand="integrated_gradients",
    value="marginal",
    promises=("dummy", "linearity"),
    cost="samples",
)
def shap_gradient(case: Case, *, budget: Annotated[int, Ge(1)] = 200, value: Value = "marginal") -> Samples:
    """The gradient at random points between what is absent and the row, times the difference.

    budget: points a row, each with a background row of its own; shap's own default.
    value: what an absent feature is replaced by.
    """
    values = torch.zeros_like(case.x)
    for target in case.target.unique().tolist():
        mine = case.target == target
        output = _Output(case.model, target, case.x.dtype)
        explainer = shap.GradientExplainer(output, absent(case, value))
        found = explainer.shap_values(case.x[mine], nsamples=budget)
        values[mine] = torch.as_tensor(found, dtype=case.x.dtype)[..., 0]
    return values
