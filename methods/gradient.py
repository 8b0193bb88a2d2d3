"""The gradient with its sign, as captum computes it."""

from captum.attr import Saliency

from ..benchmarks.plugin import Case, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/1312.6034",
    needs="gradient",
    estimand="gradient",
    promises=("dummy", "symmetry", "linearity"),
    cost="passes",
)
def gradient(case: Case) -> Samples:
    """The output's derivative in every feature."""
    x = case.x.clone().requires_grad_()
    return Saliency(case.model).attribute(x, target=case.target, abs=False)
