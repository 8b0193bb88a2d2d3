"""Exact Shapley values."""

from ..benchmarks.coalitions import Everything, refuse_to_enumerate, table
from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.shapley import by_enumeration, spread_over_features
from ..benchmarks.terms import Value


@method(
    version=1,
    paper="https://doi.org/10.1515/9781400881970-018",
    estimand="shapley",
    promises=("complete", "dummy", "symmetry", "linearity"),
    cost="exponential",
)
def exact_shapley(case: Case, *, value: Value = "baseline") -> Samples:
    """What each unit adds, averaged over all orders, from the model's output under every coalition.

    value: what an absent feature is replaced by.
    """
    refuse_to_enumerate(case, value)
    return spread_over_features(case, by_enumeration(table(case, Everything(), value)))
