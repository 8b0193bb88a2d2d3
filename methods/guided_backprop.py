"""Guided backpropagation, as captum computes it."""

from captum.attr import GuidedBackprop

from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.relu_rules import through_relus


@method(version=1, paper="https://arxiv.org/abs/1412.6806", needs=("gradient", "layers"), cost="passes")
def guided_backprop(case: Case) -> Samples:
    """The gradient, of which every active ReLU on its way back lets through what is positive."""
    return through_relus(case, GuidedBackprop)
