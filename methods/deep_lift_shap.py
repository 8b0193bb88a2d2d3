"""DeepLIFT averaged over the background, with rules for every operation, or as captum computes it."""

import warnings
from typing import Literal

import torch
from captum.attr import DeepLiftShap

from ..benchmarks.perturb import absent, in_blocks, rows_at_once
from ..benchmarks.plugin import Case, NotApplicable, Samples, method
from ..benchmarks.rescale import attributed


@method(
    version=1,
    paper="https://arxiv.org/abs/1705.07874",
    needs="gradient",
    value="marginal",
    promises="complete",
    cost="passes",
)
def deep_lift_shap(case: Case, *, rule: Literal["rescale", "captum"] = "rescale") -> Samples:
    """DeepLIFT from every background row in turn, averaged.

    rule: whose rules, as for deep_lift; with `captum`, functions that it has no rule for get their gradient.
    """
    if rule == "rescale":
        return attributed(case, absent(case, "marginal"))
    if not any(case.model.children()):
        raise NotApplicable("captum's rules are of layers, and this model has none")
    step = max(1, rows_at_once(case) // (2 * len(case.background)))  # captum takes all pairs of these at once
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
        parts = [
            DeepLiftShap(case.model).attribute(x.clone(), case.background, target=target)
            for x, target in in_blocks(case, step)
        ]
    return torch.cat(parts).detach()
