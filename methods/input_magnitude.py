"""Control: the size of the input."""

from ..benchmarks.plugin import Case, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/1810.03292",
    promises="symmetry",
    signed=False,
    cost="none",
    control=True,
)
def input_magnitude(case: Case) -> Samples:
    """|x|: what a map gets that shows the input and knows no model."""
    return case.x.abs()
