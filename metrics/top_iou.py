"""Intersection over union of the top features and the relevant ones."""

from ..benchmarks.concordance import expected_jaccard
from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import Top
from ..benchmarks.sharing import of_map


@metric(
    version=1,
    paper="https://arxiv.org/abs/2406.12150",
    family="ground truth",
    best=1.0,
    worst=0.0,
    claims=("exact", "scale", "sign", "ties"),
)
def top_iou(evidence: Evidence) -> Scores:
    """|T and M| / |T or M| of the relevant features M and of as many features of the largest |a|, T.

    The exact expectation where ties are broken at random.  With h hits among m it is h / (2m - h): the same
    order of single rows as `functional_precision`, but the distance between good maps counts for more.

    No unit; 0 to 1, chance is about r / (2 - r) for a share r of relevant features; higher is better.  NaN
    where no feature is relevant.  Source: the overlap of top pixels and object in ChaosMining, arXiv
    2406.12150, without its boxes, for which see `box_iou`.
    """
    return expected_jaccard(of_map(evidence, Top(0)), evidence.relevant.flatten(1).double())
