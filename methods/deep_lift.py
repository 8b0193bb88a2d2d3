"""DeepLIFT, as captum computes it, with its rescale rule extended to activations that captum skips."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from unittest import mock

from captum.attr import DeepLift
from captum.attr._core import deep_lift as captum_deep_lift
from torch import nn

from ..benchmarks.plugin import Case, Note, Samples, method

# element-wise activations for which the rescale rule, difference out over difference in, is exact
RESCALED = (nn.GELU, nn.SiLU, nn.Mish, nn.SELU, nn.CELU, nn.Hardtanh, nn.ReLU6, nn.Hardswish, nn.Softsign)


@contextmanager
def _rules(extended: bool) -> Iterator[None]:
    """Inside, captum knows the rescale rule for `RESCALED` too; left alone, it passes gradients through."""
    extra = dict.fromkeys(RESCALED, captum_deep_lift.nonlinear) if extended else {}
    with mock.patch.dict(captum_deep_lift.SUPPORTED_NON_LINEAR, extra), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
        yield


@method(
    version=1,
    paper="https://arxiv.org/abs/1704.02685",
    needs=("gradient", "layers"),
    promises=("complete", "dummy", "symmetry"),
    cost="passes",
)
def deep_lift(case: Case, *, rule: Literal["rescale", "captum"] = "rescale") -> Samples:
    """Differences from the baseline's activations, propagated layer by layer.

    rule: `rescale` applies the rescale rule to every element-wise activation; `captum` leaves captum's own
        list, on which GELU is missing: there it is input x gradient, and says so.
    """
    skipped = sorted({type(m).__name__ for m in case.model.modules() if isinstance(m, RESCALED)})
    if rule == "captum" and skipped:
        warnings.warn(Note(f"is input x gradient at {', '.join(skipped)}: captum has no rule"), stacklevel=2)
    with _rules(rule == "rescale"):
        return DeepLift(case.model).attribute(
            case.x.clone().requires_grad_(), case.baselines, target=case.target
        )
