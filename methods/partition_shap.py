"""Partition SHAP, as the shap package computes it."""

from typing import Annotated

import numpy as np
import shap
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from ..benchmarks.coalitions import unit_count, units_of
from ..benchmarks.games import Game, play_rows
from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.terms import Value


@method(
    version=2,
    paper="https://doi.org/10.1007/978-3-642-45494-3_7",
    promises="complete",
    cost="samples",
)
def partition_shap(case: Case, *, budget: Annotated[int, Ge(4)] = 2048, value: Value = "baseline") -> Samples:
    """Owen values: Shapley values where units that go together in the background come in together.

    Pairs of clusters play for what both are worth, then the pairs within each, down to the units.

    budget: coalitions evaluated for a row; the units of clusters that it does not reach into share alike.
        Each is one model row (one for each background row, if value is "marginal").
    value: what an absent feature is replaced by.
    """
    tree = _tree(case)

    def solve(game: Game, units: int) -> NDArray[np.float64]:
        if units == 1:
            return np.diff(game(np.array([[0.0], [1.0]])))
        masker = shap.maskers.Partition(np.zeros((1, units)), clustering=tree)
        explainer = shap.PartitionExplainer(game, masker)
        return explainer(np.ones((1, units)), max_evals=budget, silent=True).values

    return play_rows(case, value, solve)


def _tree(case: Case) -> NDArray[np.float64]:
    """Units joined by average linkage; their distance is 1 less the mean absolute correlation of features."""
    count = unit_count(case)
    if count == 1:
        return np.zeros((0, 4))
    rows = case.background.flatten(1).double()
    rows = rows - rows.mean(0)
    size, rounding = rows.norm(dim=0), 1e-6 * case.background.flatten(1).abs().amax(0)
    # a column that is constant but for rounding goes together with none
    rows = rows / size.where(size > rounding * len(rows) ** 0.5, torch.inf)
    member = torch.nn.functional.one_hot(units_of(case).flatten(), count).double()
    member = member / member.sum(0)
    distance = 1 - member.T @ (rows.T @ rows).abs() @ member
    distance.fill_diagonal_(0)
    return linkage(squareform(distance.clamp(min=0).numpy(), checks=False), "average")
