"""Saliency, as captum computes it."""

from captum.attr import Saliency

from ..benchmarks.plugin import Case, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/1312.6034",
    needs="gradient",
    estimand="gradient",
    promises=("dummy", "symmetry"),
    signed=False,
    cost="passes",
)
def saliency(case: Case) -> Samples:
    """Size of the output's derivative in every feature."""
    x = case.x.clone().requires_grad_()
    return Saliency(case.model).attribute(x, target=case.target, abs=True)
