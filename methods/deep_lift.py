"""DeepLIFT, with rules for operations wherever torch calls them, or as captum computes it."""

import warnings
from typing import Literal

from captum.attr import DeepLift
from torch import nn

from ..benchmarks.perturb import absent
from ..benchmarks.plugin import Case, NotApplicable, Note, Samples, method
from ..benchmarks.rescale import attributed

UNKNOWN_TO_CAPTUM = (nn.GELU, nn.SiLU, nn.Mish, nn.SELU, nn.CELU, nn.Hardtanh, nn.Hardswish, nn.LayerNorm)


@method(
    version=2,
    paper="https://arxiv.org/abs/1704.02685",
    needs="gradient",
    promises="complete",
    cost="passes",
)
def deep_lift(case: Case, *, rule: Literal["rescale", "captum"] = "rescale") -> Samples:
    """Differences from the baseline's activations, propagated operation by operation.

    rule: `rescale` has a complete rule for every element-wise function, for products and for what is made of
        them; `captum` is captum's, which has none for GELU and others, nor for functional activations, and
        passes the gradient through; it says so where that can be seen.
    """
    if rule == "captum":
        return _by_captum(case)
    return attributed(case, absent(case, "baseline"))


def _by_captum(case: Case) -> Samples:
    if not any(case.model.children()):
        raise NotApplicable("captum's rules are of layers, and this model has none")
    skipped = sorted({type(m).__name__ for m in case.model.modules() if isinstance(m, UNKNOWN_TO_CAPTUM)})
    if skipped:
        warnings.warn(Note(f"is input x gradient at {', '.join(skipped)}: captum has no rule"), stacklevel=3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
        return DeepLift(case.model).attribute(
            case.x.clone().requires_grad_(), case.baselines, target=case.target
        )
