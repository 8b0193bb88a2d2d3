"""Kernel SHAP on coalitions that all rows share."""

from typing import Annotated

import torch
from annotated_types import Ge

from ..benchmarks.coalitions import (
    all_coalitions,
    coalition_outputs,
    fits,
    paired_coalitions,
    shapley_regression,
    shapley_weights,
    spread_over_features,
    units_of,
)
from ..benchmarks.plugin import Case, Samples, method


@method(version=1, paper="https://arxiv.org/abs/1705.07874", estimand="shapley", complete=True)
def kernel_shap(case: Case, *, n_samples: Annotated[int, Ge(2)] = 2048) -> Samples:
    """Shapley values from a weighted linear fit over coalitions of units; exact where all of them fit.

    captum's and shap's versions draw coalitions anew for every row: the same estimate in 30 to 1000 times
    the time.

    n_samples: coalitions; all 2^units of them where that is no more.
    """
    units = int(units_of(case).max()) + 1
    if units == 1:
        whole, empty = case.output(case.x), case.output(case.baselines)
        return spread_over_features(case, (whole - empty).detach()[:, None])
    if fits(units, n_samples):
        coalitions = all_coalitions(units)
        weights = shapley_weights(coalitions)
    else:
        coalitions = paired_coalitions(units, n_samples, case.rng)
        weights = torch.ones(len(coalitions), dtype=torch.float64)
    outputs, whole, empty = coalition_outputs(case, coalitions)
    values = shapley_regression(coalitions, weights, outputs - empty[:, None], whole - empty)
    return spread_over_features(case, values).to(case.x.dtype)
