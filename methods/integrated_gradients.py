"""Integrated gradients, as captum computes them."""

from typing import Annotated

from annotated_types import Ge
from captum.attr import IntegratedGradients

from ..benchmarks.plugin import Case, Samples, method

BATCH = 4096  # rows of the path held at once


@method(
    version=1,
    paper="https://arxiv.org/abs/1703.01365",
    estimand="integrated_gradients",
    needs="gradient",
    promises="complete",
)
def integrated_gradients(case: Case, *, n_steps: Annotated[int, Ge(1)] = 50) -> Samples:
    """The gradient averaged along the straight path from the baseline, times the difference to it.

    n_steps: nodes of the Gauss-Legendre rule.
    """
    explainer = IntegratedGradients(case.model)
    return explainer.attribute(
        case.x.clone().requires_grad_(),
        case.baselines,
        target=case.target,
        n_steps=n_steps,
        method="gausslegendre",
        internal_batch_size=max(BATCH, len(case.x)),
    ).to(case.x.dtype)
