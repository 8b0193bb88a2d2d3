"""Functional precision."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import Top, top_size
from ..benchmarks.sharing import of_map


@metric(
    version=1,
    paper="https://arxiv.org/abs/2406.12150",
    family="ground truth",
    best=1.0,
    worst=0.0,
    claims=("exact", "scale", "sign", "ties"),
)
def functional_precision(evidence: Evidence, *, k: Annotated[int, Ge(0)] = 0) -> Scores:
    """Share of the k features with the largest |a| that are relevant, ties in expectation.

    k = 0 stands for the row's number of relevant features; a k above the number of features is cut to it.
    Favours gradients even among exact attributions: a relevant feature near its baseline has, correctly, a
    tiny contribution.  Read it beside its ceiling.

    No unit; 0 to 1, chance is the share of relevant features; higher is better.  NaN where k = 0 and no
    feature is relevant.  Source: ChaosMining, arXiv 2406.12150; with k = 0 it is the relevance rank accuracy
    of Arras et al. 2022.
    """
    relevant = evidence.relevant.flatten(1)
    return (of_map(evidence, Top(k)) * relevant).sum(1) / top_size(k, relevant)
