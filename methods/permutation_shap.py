"""Permutation SHAP, as the shap package computes it."""

from typing import Annotated

import numpy as np
import shap
import torch
from annotated_types import Ge

from ..benchmarks.plugin import Case, Samples, method


@method(paper="https://arxiv.org/abs/1705.07874", estimand="shapley", complete=True)
def permutation_shap(case: Case, *, n_permutations: Annotated[int, Ge(1)] = 5) -> Samples:
    """What each feature adds on walks from nothing to everything and back, averaged over random orders.

    n_permutations: orders, each walked forwards and backwards.
    """
    shape = case.x.shape

    def outputs(rows: np.ndarray) -> np.ndarray:
        x = torch.as_tensor(rows, dtype=case.x.dtype).view(-1, *shape[1:])
        with torch.no_grad():
            return case.model(x).numpy()

    features = case.baseline.numel()
    masker = shap.maskers.Independent(case.baseline.view(1, -1).numpy())
    explainer = shap.PermutationExplainer(outputs, masker, seed=case.rng.initial_seed() % 2**32)
    explained = explainer(case.x.flatten(1).numpy(), max_evals=2 * n_permutations * features + 1, silent=True)
    # shap drops the last axis where the model has one output
    values = torch.as_tensor(explained.values, dtype=case.x.dtype).view(len(case.x), features, -1)
    return values[torch.arange(len(values)), :, case.target].view(shape)
