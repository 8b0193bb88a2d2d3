"""Linear SHAP, as the shap package computes it."""

import shap
import torch
from torch import nn

from ..benchmarks.coalitions import unit_count, units_of
from ..benchmarks.perturb import absent
from ..benchmarks.plugin import Case, NotApplicable, Samples, method
from ..benchmarks.shapley import spread_over_features
from ..benchmarks.terms import Value


@method(
    version=1,
    paper="https://arxiv.org/abs/1705.07874",
    needs="linear",
    estimand="shapley",
    promises=("complete", "dummy", "symmetry", "linearity"),
    cost="none",
)
def linear_shap(case: Case, *, value: Value = "baseline") -> Samples:
    """Exact Shapley values of a linear model: weight times difference.

    They are a unit's too, once added up over its features, as nothing interacts.

    value: what an absent feature is replaced by; of the background, only its mean counts.
    """
    layers = list(case.model.children())
    if len(layers) != 2 or not isinstance(layers[1], nn.Linear):
        raise NotApplicable("reads the weights of a linear layer, and the model is more than one")
    weight, bias = layers[1].weight.detach().double(), layers[1].bias
    offset = torch.zeros(len(weight)) if bias is None else bias.detach().double()
    fillers, rows = (part.flatten(1).double().numpy() for part in (absent(case, value), case.x))
    masker = shap.maskers.Independent(fillers, max_samples=len(fillers))  # it would keep 100 of them
    explainer = shap.LinearExplainer((weight.numpy(), offset.numpy()), masker)
    values = torch.as_tensor(explainer.shap_values(rows))[torch.arange(len(case.x)), :, case.target]
    of_units = values.new_zeros(len(values), unit_count(case))
    return spread_over_features(case, of_units.index_add_(1, units_of(case).flatten(), values))
