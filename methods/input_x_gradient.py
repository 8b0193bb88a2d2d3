"""Input times gradient, as captum computes it."""

from captum.attr import InputXGradient

from ..benchmarks.plugin import Case, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/1605.01713",
    needs="gradient",
    estimand="gradient_x_input",
    promises=("dummy", "symmetry", "linearity"),
    cost="passes",
)
def input_x_gradient(case: Case) -> Samples:
    """The output's derivative in every feature, times the feature."""
    x = case.x.clone().requires_grad_()
    return InputXGradient(case.model).attribute(x, target=case.target)
