"""The function behind the data."""

from torch import Generator, nn

from ..benchmarks.plugin import NotApplicable, Problem, model


@model(version=1, paper="https://arxiv.org/abs/2406.12150", has="gradient")
def oracle(problem: Problem, rng: Generator, /) -> nn.Module:
    """The exact, noise-free function itself: what is wrong with a map of it is the method's own error."""
    if problem.oracle is None:
        raise NotApplicable("the problem has no known function")
    return problem.oracle.eval()
