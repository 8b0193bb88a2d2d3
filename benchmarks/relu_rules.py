"""Captum's attributions that change how a gradient passes through ReLUs."""

import warnings
from typing import Any

import torch
from torch import nn

from .perturb import in_blocks, rows_at_once
from .plugin import Case, Note, Samples


def through_relus(case: Case, explainer: type[Any]) -> Samples:
    """What the explainer, GuidedBackprop or Deconvolution, makes of the rows."""
    if not any(isinstance(m, nn.ReLU) for m in case.model.modules()):
        warnings.warn(Note("is the gradient: the network has no ReLU"), stacklevel=2)
    attribute, at_once = explainer(case.model).attribute, rows_at_once(case)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        blocks = [
            attribute(x.clone().requires_grad_(), target=target) for x, target in in_blocks(case, at_once)
        ]
    return torch.cat(blocks)
