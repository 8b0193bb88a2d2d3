"""Deep SHAP, as the shap package computes it."""

import warnings

import shap
import torch

from ..benchmarks.plugin import Case, Samples, method


@method(
    version=2,
    paper="https://arxiv.org/abs/1705.07874",
    needs=("gradient", "layers"),
    promises=("complete", "dummy", "symmetry"),
    cost="passes",
)
def deep_shap(case: Case) -> Samples:
    """DeepLIFT's multipliers averaged over a background; here it is the baseline that all methods share."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
        explainer = shap.DeepExplainer(case.model, case.baseline[None].clone())
        # additivity is measured by the runner, which reports a miss instead of dropping the cell
        values = explainer.shap_values(case.x.clone(), check_additivity=False)
    values = torch.as_tensor(values, dtype=case.x.dtype)
    return values[torch.arange(len(case.x)), ..., case.target]
