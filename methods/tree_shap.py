"""Tree SHAP, as the shap package computes it."""

import shap
import torch

from ..benchmarks.coalitions import unit_count
from ..benchmarks.perturb import absent
from ..benchmarks.plugin import Case, NotApplicable, Samples, method
from ..benchmarks.terms import Value
from ..benchmarks.trees import TreeEnsemble

MOST = 2**15 - 1  # nodes of a tree: shap numbers them in 16 bits (github.com/shap/shap/pull/5163)


@method(
    version=1,
    paper="https://arxiv.org/abs/1905.04610",
    needs="trees",
    estimand="shapley",
    promises=("complete", "dummy", "symmetry", "linearity"),
    cost="none",
)
def tree_shap(case: Case, *, value: Value = "baseline") -> Samples:
    """Exact Shapley values of an ensemble of trees, read off its splits.

    shap compares with splits in single precision: a value that differs from a split by less goes either way.

    value: what an absent feature is replaced by.
    """
    model = case.model
    if not isinstance(model, TreeEnsemble):
        raise NotApplicable("reads the splits of trees, and the model has none")
    if unit_count(case) < case.baseline.numel():
        raise NotApplicable("plays features, and the sum of a unit's features is not what the unit is worth")
    fillers, rows = (part.flatten(1).double().numpy() for part in (absent(case, value), case.x))
    masker = shap.maskers.Independent(fillers, max_samples=len(fillers))  # it would keep 100 of them
    explainer = shap.TreeExplainer(model.fitted, masker, feature_perturbation="interventional")
    if max(explainer.model.num_nodes.max(), rows.shape[1]) > MOST:
        raise NotApplicable(f"shap counts nodes and columns up to {MOST} and crashes on trees that have more")
    # additivity is measured by the runner, which reports a miss instead of dropping the cell
    values = explainer.shap_values(rows, check_additivity=False)
    if values.ndim == 2:
        values = model.outputs_of(values)
    each = torch.as_tensor(values, dtype=case.x.dtype)[torch.arange(len(case.x)), :, case.target]
    return each.view(case.x.shape)
