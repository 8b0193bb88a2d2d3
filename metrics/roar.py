"""Remove and retrain."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.variants import quality_of_what_is_left


@metric(
    version=1,
    paper="https://arxiv.org/abs/1806.10758",
    family="retraining",
    best=0.0,
    worst=1.0,
    needs=("explain", "training"),
    ceiling="none",
    claims=("scale", "sign"),
    draws=2,
    caveat="Blurring an image's map can lower this, so improve it, whatever the map says (arXiv 2304.13836).",
)
def roar(evidence: Evidence, *, rows: Annotated[int, Ge(2)] = 1000) -> Scores:
    """How well a model learns from what is left once the features that the map ranks first are removed.

    In training, validation and test rows the features with the largest |a|, a share of 0.1, 0.3 and 0.5 of
    each row's own, are replaced by the baseline; a model of the same kind is trained on what is left.  Ties
    are broken at random, units move together, by their sum of |a|, and at least one goes.  The map of a row
    is that of its predicted class.  The score is the mean over the shares of the test quality: R2 against
    always saying the mean of the training targets, or the share of the way from the commonest training class
    to perfect, not below 0.  One score for all rows.  Where several features say the same, a model learns
    from those that are left; where features were removed may itself tell a class; and as values far from the
    baseline tell most, the size of the input alone, which no model enters, can score well.

    rows: to train on at most; half as many are for validation, and half as many for testing.

    No unit; 0 (nothing can be learned without them) to 1; lower is better.  NaN where all test rows have the
    target that a guess would say.  Source: Hooker, Erhan, Kindermans and Kim 2019, arXiv 1806.10758.

    Raises:
        NotApplicable: the model is not trained, or it is not known how.
    """
    return quality_of_what_is_left(evidence, rows, keep=False)
