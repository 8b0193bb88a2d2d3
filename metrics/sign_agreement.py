"""Sign agreement: how many top features of one sign two maps have in common."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.concordance import same_sign
from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import Top, of_both, top_size


@metric(
    version=1,
    paper="https://arxiv.org/abs/2202.01602",
    family="ground truth",
    best=1.0,
    worst=0.0,
    needs=("reference",),
    claims=("exact", "scale"),
)
def sign_agreement(evidence: Evidence, *, k: Annotated[int, Ge(0)] = 0) -> Scores:
    """Share of the k features of largest size that the map and the reference have in common with one sign.

    `feature_agreement`, of which only features with the same sign in both count; 0 is a sign of its own.  The
    expected value where ties of size are broken at random in each of the two apart.  k = 0 stands for the
    row's number of relevant features; a k above the number of features is cut to it.

    No unit; 0 to 1, chance is k / 2d where no value is 0; higher is better.  NaN where k = 0 and no feature
    is relevant.  Source: SA of Krishna et al. 2022, arXiv 2202.01602.
    """
    own, other = of_both(evidence, Top(k))
    return (own * other * same_sign(evidence)).sum(1) / top_size(k, evidence.relevant.flatten(1))
