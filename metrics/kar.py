"""Keep and retrain."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.variants import quality_of_what_is_left


@metric(
    version=1,
    paper="https://arxiv.org/abs/1806.10758",
    family="retraining",
    best=1.0,
    worst=0.0,
    needs=("explain", "training"),
    ceiling="none",
    claims=("scale", "sign"),
    draws=2,
    caveat="Which features are kept can tell a model the class, whatever their values (arXiv 2202.00449).",
)
def kar(evidence: Evidence, *, rows: Annotated[int, Ge(2)] = 1000) -> Scores:
    """How well a model learns from the features alone that the map ranks first.

    As `roar`, with everything but the top features of each row replaced by the baseline: the mean over the
    shares 0.1, 0.3 and 0.5 that are kept of the test quality of models trained on these.  What features are
    kept differs from row to row and hangs on the predicted class, so that the choice alone can tell it: a map
    that names the class by where it is large scores well with features that say nothing.

    rows: to train on at most; half as many are for validation, and half as many for testing.

    No unit; 0 to 1 (all that can be learned is there); higher is better.  NaN where all test rows have the
    target that a guess would say.  Source: Hooker, Erhan, Kindermans and Kim 2019, arXiv 1806.10758.

    Raises:
        NotApplicable: the model is not trained, or it is not known how.
    """
    return quality_of_what_is_left(evidence, rows, keep=True)
