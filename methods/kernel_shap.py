"""Kernel SHAP on coalitions that all rows share."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.coalitions import Sampled, table
from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.shapley import by_enumeration, by_regression, spread_over_features
from ..benchmarks.terms import Value


@method(
    version=2,
    paper="https://arxiv.org/abs/1705.07874",
    estimand="shapley",
    promises="complete",
    cost="samples",
)
def kernel_shap(case: Case, *, budget: Annotated[int, Ge(4)] = 2048, value: Value = "baseline") -> Samples:
    """Shapley values from a weighted linear fit over coalitions of units; exact where all of them fit.

    captum and shap draw coalitions anew for every row: the same estimate in a hundred times the time.  With
    few coalitions for its units the fit is regularised, where theirs can be off by many times the values.

    budget: coalitions evaluated for a row; each is one model row (one for each background row, if value is
        "marginal").
    value: what an absent feature is replaced by.
    """
    found = table(case, Sampled(budget), value)
    values = by_enumeration(found) if found.exhaustive else by_regression(found)
    return spread_over_features(case, values)
