"""Error split: what of a map's error is the model's."""

from ..benchmarks.exact_model import distance, of_model
from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://arxiv.org/abs/math/0108025",
    family="error split",
    best=0.0,
    worst=2.0,
    needs=("truth", "model"),
    ceiling="none",
    draws=1,
    caveat="of a classifier it counts scale too: its logits need not be the oracle's log-odds; see direction",
)
def model_error(evidence: Evidence, *, direction: bool = False) -> Scores:
    """Distance between the exact attribution of this model and that of the true function.

    2 |m - t| / (|m| + |t|) with Euclidean norms over the features of a row, as `attribution_error`; both in
    the method's own estimand, in double precision.  The map itself has no part in it: all methods of one
    estimand have the same.  Better training mends it, another estimator does not.

    On a classifier it is a difference of scale as well, and of more: a model that is trained for its
    probabilities is free to add the same number to all its outputs, which changes the attribution of
    one of them, and regularisation shrinks logits below the oracle's log-odds.

    direction: compare directions alone: both are first divided by their norms.  The scale of the outputs then
        has no part in it; what is added to all of them still has.

    No unit; 0 to 2; lower is better; 0 on the oracle.  Both zero: 0.
    Source of the form, a metric, so that the three parts bound their sum: Hasto 2002, arXiv math/0108025.

    Raises:
        NotApplicable: either of the two cannot be had exactly.
    """
    assert evidence.truth is not None  # declared in `needs`
    return distance(of_model(evidence), evidence.truth, direction)
