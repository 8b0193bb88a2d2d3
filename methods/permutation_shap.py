"""Permutation SHAP, as the shap package computes it."""

from typing import Annotated

import numpy as np
import shap
import torch
from annotated_types import Ge
from torch import Tensor

from ..benchmarks.coalitions import spread_over_features, units_of
from ..benchmarks.plugin import Case, Samples, method


@method(version=1, paper="https://arxiv.org/abs/1705.07874", estimand="shapley", complete=True)
def permutation_shap(case: Case, *, n_permutations: Annotated[int, Ge(1)] = 5) -> Samples:
    """What each feature adds on walks from nothing to everything and back, averaged over random orders.

    n_permutations: orders, each walked forwards and backwards.
    """
    units = units_of(case)
    count = int(units.max()) + 1
    masker = shap.maskers.Independent(np.zeros((1, count)))
    values = []
    for row, target in zip(case.x, case.target, strict=True):

        def outputs(present: np.ndarray, row: Tensor = row, target: Tensor = target) -> np.ndarray:
            x = torch.where(torch.as_tensor(present > 0)[:, units], row, case.baseline)
            with torch.no_grad():
                return case.model(x)[:, target].numpy()

        seed = int(torch.randint(2**31, (1,), generator=case.rng))
        explainer = shap.PermutationExplainer(outputs, masker, seed=seed)
        evaluations = n_permutations * (2 * count + 1)  # shap rounds the number of orders down
        values.append(explainer(np.ones((1, count)), max_evals=evaluations, silent=True).values[0])
    return spread_over_features(case, torch.as_tensor(np.array(values))).to(case.x.dtype)
