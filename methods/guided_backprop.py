"""Guided backpropagation, as captum computes it."""

import warnings

import torch
from captum.attr import GuidedBackprop
from torch import nn

from ..benchmarks.perturb import rows_at_once
from ..benchmarks.plugin import Case, Note, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/1412.6806",
    needs=("gradient", "layers"),
    cost="passes",
)
def guided_backprop(case: Case) -> Samples:
    """The gradient, of which every active ReLU on its way back lets through what is positive."""
    if not any(isinstance(m, nn.ReLU) for m in case.model.modules()):
        warnings.warn(Note("is the gradient: the network has no ReLU"), stacklevel=2)
    explainer, at_once = GuidedBackprop(case.model), rows_at_once(case)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        blocks = [
            explainer.attribute(x.clone().requires_grad_(), target=target)
            for x, target in zip(case.x.split(at_once), case.target.split(at_once), strict=True)
        ]
    return torch.cat(blocks)
