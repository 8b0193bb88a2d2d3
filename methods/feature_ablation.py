"""Feature ablation."""

from ..benchmarks.coalitions import Alone, table
from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.shapley import spread_over_features
from ..benchmarks.terms import Value


@method(
    version=2,
    paper="https://arxiv.org/abs/1311.2901",
    estimand="ablation",
    promises=("dummy", "symmetry", "linearity"),
    cost="units",
)
def feature_ablation(case: Case, *, value: Value = "baseline") -> Samples:
    """What the output loses when one unit alone is absent.

    value: what an absent feature is replaced by.
    """
    found = table(case, Alone(), value)
    return spread_over_features(case, found.whole[:, None] - found.outputs)
