"""Effective complexity."""

from typing import Annotated

from annotated_types import Ge, Lt

from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://arxiv.org/abs/2007.07584",
    family="complexity",
    best=0.0,
    worst=1.0,
    ceiling="none",
    claims=("scale", "sign"),
)
def effective_complexity(evidence: Evidence, *, eps: Annotated[float, Ge(0), Lt(1)] = 0.01) -> Scores:
    """Share of features whose |a| is above `eps` times the largest |a| of their row.

    The largest of the row, so that no other row changes its score.  A zero map counts as a constant one.
    This is the count that the name has come to stand for; the paper's own asks how many features must be
    known to predict to a tolerance, which needs the model.

    No unit; 1 / d (one feature carries all) to 1; lower is simpler.
    Source: after Nguyen and Martinez 2020, arXiv 2007.07584.
    """
    size = evidence.attribution.abs().flatten(1)
    largest = size.amax(1, keepdim=True)
    return ((size / largest > eps) | (largest == 0)).double().mean(1)
