"""Control: the gradient of a network that has learned nothing."""

import copy

import torch
from captum.attr import Saliency
from torch import nn

from ..benchmarks.perturb import in_blocks, rows_at_once
from ..benchmarks.plugin import Case, NotApplicable, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/1810.03292",
    needs=("gradient", "layers"),
    cost="passes",
    control=True,
)
def untrained_gradient(case: Case) -> Samples:
    """The gradient of the same architecture with freshly drawn weights: what a map gets without training.

    It names no estimand: it is the gradient of another model, and holds nothing of this one's.
    """
    model = copy.deepcopy(case.model)
    holders = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    if not holders:
        raise NotApplicable("redraws weights, and this model has none")
    for layer in holders:
        _redraw(layer)
    explainer, at_once = Saliency(model), rows_at_once(case)
    blocks = [
        explainer.attribute(x.clone().requires_grad_(), target=target, abs=False)
        for x, target in in_blocks(case, at_once)
    ]
    return torch.cat(blocks)


def _redraw(layer: nn.Module) -> None:
    """Draw a layer's weights as when it was made.

    Raises:
        NotApplicable: it does not say how; left as they are, trained weights would show through.
    """
    redraw = getattr(layer, "reset_parameters", None)
    if redraw is None:
        raise NotApplicable(f"redraws weights, and {type(layer).__name__} has no reset_parameters")
    with torch.no_grad():
        redraw()
