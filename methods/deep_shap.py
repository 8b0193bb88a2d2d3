"""Deep SHAP, as the shap package computes it."""

import warnings

import shap
import torch

from ..benchmarks.perturb import absent
from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.terms import Value


@method(
    version=2,
    paper="https://arxiv.org/abs/1705.07874",
    needs=("gradient", "layers"),
    promises="complete",
    cost="passes",
)
def deep_shap(case: Case, *, value: Value = "baseline") -> Samples:
    """DeepLIFT's multipliers times the difference, averaged over what an absent feature is replaced by.

    value: what that is; "marginal" is shap's own use, with the whole background.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
        explainer = shap.DeepExplainer(case.model, absent(case, value).clone())
        # additivity is measured by the runner, which reports a miss instead of dropping the cell
        values = explainer.shap_values(case.x.clone(), check_additivity=False)
    values = torch.as_tensor(values, dtype=case.x.dtype)
    return values[torch.arange(len(case.x)), ..., case.target]
