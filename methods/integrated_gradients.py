"""Integrated gradients, as captum computes them, with as many nodes as each row takes."""

import warnings
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from captum.attr import IntegratedGradients

from ..benchmarks.perturb import difference, empty_output, rows_at_once
from ..benchmarks.plugin import Case, Remark, Samples, method

FEWEST = 16  # nodes to begin with
ROUNDING = 8  # units in the last place that an output may be off by, all layers together


@method(
    version=2,
    paper="https://arxiv.org/abs/1703.01365",
    needs="gradient",
    estimand="integrated_gradients",
    promises=("complete", "dummy", "symmetry", "linearity"),
    cost="path",
)
def integrated_gradients(
    case: Case, *, tolerance: Annotated[float, Gt(0)] = 1e-5, max_steps: Annotated[int, Ge(1)] = 512
) -> Samples:
    """The gradient averaged along the straight path from the baseline, times the difference to it.

    tolerance: by how much a row may miss f(x) - f(baseline), as a share of the summed size of its map; until
        then, and beyond what rounding explains, it gets twice the nodes.
    max_steps: most nodes of the Gauss-Legendre rule.
    """
    wanted, empty = difference(case).double(), empty_output(case).double()
    noise = ROUNDING * torch.finfo(case.x.dtype).eps * ((wanted + empty).abs() + empty.abs())
    values = torch.zeros_like(case.x)
    share = torch.zeros_like(wanted)
    left, steps = torch.arange(len(case.x)), min(FEWEST, max_steps)
    fewest = steps
    while True:
        values[left] = _along_the_path(case, left, steps)
        flat = values[left].double().flatten(1)
        size, error = flat.abs().sum(1), (flat.sum(1) - wanted[left]).abs()
        share[left] = error / size.clamp_min(torch.finfo(size.dtype).tiny)
        left = left[error > tolerance * size + noise[left]]  # row by row: none depends on those beside it
        if len(left) == 0 or steps == max_steps:
            break
        steps = min(2 * steps, max_steps)
    said = f"{fewest} steps" if steps == fewest else f"{fewest} to {steps} steps"
    if len(left):
        said += f", and {len(left)} of {len(wanted)} rows miss their sum by up to {share[left].max():.0e}"
    warnings.warn(Remark(said), stacklevel=2)
    return values


def _along_the_path(case: Case, rows: torch.Tensor, steps: int) -> Samples:
    """The map of some rows by this many nodes."""
    explainer, at_once = IntegratedGradients(case.model), rows_at_once(case)
    return (
        torch.cat(
            [
                explainer.attribute(
                    case.x[some].requires_grad_(),
                    case.baselines[some],
                    target=case.target[some],
                    n_steps=steps,
                    method="gausslegendre",
                    internal_batch_size=at_once,
                )
                for some in rows.split(at_once)
            ]
        )
        .detach()
        .to(case.x.dtype)
    )
