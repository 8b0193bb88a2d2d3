"""Deconvolution, as captum computes it."""

from captum.attr import Deconvolution

from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.relu_rules import through_relus


@method(version=1, paper="https://arxiv.org/abs/1311.2901", needs=("gradient", "layers"), cost="passes")
def deconvolution(case: Case) -> Samples:
    """The gradient, of which every ReLU on its way back, active or not, lets through what is positive."""
    return through_relus(case, Deconvolution)
