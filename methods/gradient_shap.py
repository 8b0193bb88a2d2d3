"""Gradient SHAP, as captum computes it."""

from typing import Annotated

import torch
from annotated_types import Ge
from captum.attr import GradientShap

from ..benchmarks.perturb import absent, in_blocks, rows_at_once
from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.terms import Value


@method(
    version=2,
    paper="https://arxiv.org/abs/1705.07874",
    needs="gradient",
    estimand="integrated_gradients",
    promises=("dummy", "linearity"),
    cost="samples",
)
def gradient_shap(
    case: Case,
    *,
    budget: Annotated[int, Ge(1)] = 200,
    stdevs: Annotated[float, Ge(0)] = 0.0,
    value: Value = "baseline",
) -> Samples:
    """The gradient at random points between what is absent and the row, times the difference.

    budget: points a row; each is one model row, there and back.
    stdevs: deviation of the noise added to the row.
    value: where the paths begin: at the baseline, or each at a background row drawn at random.
    """
    explainer, at_once = GradientShap(case.model), rows_at_once(case)
    # captum takes all points of a call at once
    rows, points = max(1, at_once // budget), min(budget, at_once)
    blocks = []
    for x, target in in_blocks(case, rows):
        block = torch.zeros_like(x)
        for done in range(0, budget, points):
            some = min(points, budget - done)
            block += (some / budget) * explainer.attribute(
                x.clone().requires_grad_(),
                absent(case, value),
                target=target,
                n_samples=some,
                stdevs=float(stdevs),
            ).to(x.dtype)
        blocks.append(block)
    return torch.cat(blocks)
