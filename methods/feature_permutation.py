"""Feature permutation, row by row."""

from typing import Annotated

import torch
from annotated_types import Ge

from ..benchmarks.coalitions import unit_count, units_of
from ..benchmarks.perturb import rows_at_once
from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.shapley import spread_over_features


@method(
    version=2,
    paper="https://doi.org/10.1023/A:1010933404324",
    estimand="ablation",
    value="marginal",
    promises=("dummy", "linearity"),
    cost="units",
)
def feature_permutation(case: Case, *, draws: Annotated[int, Ge(1)] = 50) -> Samples:
    """What the output loses when one unit alone takes its value from another row, averaged over draws.

    Breiman permutes a column over a table of rows; here the other values come from the background, so that no
    explained row's attribution depends on the rows beside it.

    draws: other rows, drawn for every unit.
    """
    units, count = units_of(case), unit_count(case)
    values = case.x.new_zeros(len(case.x), count).double()
    at_once = max(1, rows_at_once(case) // draws)
    with torch.no_grad():
        whole = case.output(case.x).double()
        for unit in range(count):
            others = case.background[torch.randint(len(case.background), (draws,), generator=case.rng)]
            for i in range(0, len(case.x), at_once):
                rows = slice(i, i + at_once)
                x = torch.where(units == unit, others, case.x[rows, None])
                outputs = case.model(x.flatten(0, 1)).unflatten(0, (-1, draws)).double().mean(1)
                left = outputs.gather(1, case.target[rows, None]).squeeze(1)
                values[rows, unit] = whole[rows] - left
    return spread_over_features(case, values)
