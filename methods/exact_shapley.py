"""Exact Shapley values."""

from ..benchmarks.coalitions import Everything, table, unit_count
from ..benchmarks.perturb import absent
from ..benchmarks.plugin import Case, NotApplicable, Samples, method
from ..benchmarks.shapley import by_enumeration, spread_over_features
from ..benchmarks.terms import Value

MOST = 16  # units
ROWS = 2**18  # model rows for a row explained


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
    units = unit_count(case)
    if units > MOST:
        raise NotApplicable(f"enumerates the coalitions of at most {MOST} units, and this has {units}")
    rows = 2**units * len(absent(case, value))
    if rows > ROWS:
        raise NotApplicable(f"takes at most {ROWS:,} model rows for a row explained, and this needs {rows:,}")
    return spread_over_features(case, by_enumeration(table(case, Everything(), value)))
