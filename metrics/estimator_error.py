"""Error split: what of a map's error is the estimator's."""

from ..benchmarks.exact_model import distance, of_model
from ..benchmarks.plugin import Evidence, Scores, metric


@metric(
    version=1,
    paper="https://arxiv.org/abs/math/0108025",
    family="error split",
    best=0.0,
    worst=2.0,
    needs=("model", "estimand"),
    ceiling="none",
    claims=("exact",),
    caveat="a method that names no estimand is held against Shapley values; its definition then counts here",
)
def estimator_error(evidence: Evidence, *, direction: bool = False) -> Scores:
    """Distance between the map and what it estimates, on the very model that is explained.

    2 |a - t| / (|a| + |t|) with Euclidean norms over the features of a row, as `attribution_error`; t is the
    exact attribution of this model in the method's own estimand, in double precision: the derivative by
    autograd; ablation one unit at a time; integrated gradients by quadrature until they are complete; Shapley
    values by enumeration.  Sizes are held against sizes.  Needs no oracle.  More budget, or another
    estimator of the same quantity, mends it; a better model does not.

    direction: compare directions alone: both maps are first divided by their norms.

    No unit; 0 to 2 (a zero map, or the opposite direction); lower is better.  Both zero: 0.
    Source of the form, a metric, so that the three parts bound their sum: Hasto 2002, arXiv math/0108025.

    Raises:
        NotApplicable: the model has no gradient, which the estimand asks for; integrated gradients do not
            converge, as on a network of ReLUs; there are more than 12 units for Shapley values.
    """
    return distance(evidence.attribution, of_model(evidence), direction)
