"""Repeated model evaluation around the row."""

import warnings
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float
from torch import Tensor

from ..benchmarks.coalitions import unit_count, units_of
from ..benchmarks.perturb import rows_at_once
from ..benchmarks.plugin import Case, Remark, Samples, method
from ..benchmarks.shapley import spread_over_features


@method(
    version=1,
    paper="https://arxiv.org/abs/2212.11870",
    value="marginal",
    promises="linearity",
    cost="samples",
)
def repeated_evaluation(case: Case, *, budget: Annotated[int, Ge(4)] = 1000) -> Samples:
    """Mean output with a unit kept less that with it redrawn, others being kept or redrawn by coin toss.

    The subsets come in pairs of complements, so that every unit is kept as often as it is redrawn.  What is
    redrawn comes from one background row, drawn anew for every evaluation.

    budget: evaluations a row; each is one model row.
    """
    pairs = budget // 2
    first = torch.rand(pairs, unit_count(case), generator=case.rng) < 0.5
    outputs = _outputs(case, torch.cat([first, ~first]))
    gain = outputs[:, :pairs] - outputs[:, pairs:]  # of a pair, to the units that its first half keeps
    values = gain @ (2.0 * first.double() - 1) / pairs
    error = ((gain.square().mean(1, keepdim=True) - values.square()).clamp_min(0) / (pairs - 1)).sqrt()
    size = float(values.abs().median())
    share = f"{float(error.median()) / size:.0%}" if size > 0 else "more than all"
    warnings.warn(Remark(f"median standard error: {share} of the median size"), stacklevel=2)
    return spread_over_features(case, values)


def _outputs(case: Case, keep: Bool[Tensor, "m units"]) -> Float[Tensor, "n m"]:
    """The explained output of every row with the units outside `keep` redrawn."""
    units, n, m = units_of(case), len(case.x), len(keep)
    other = torch.randint(len(case.background), (n, m), generator=case.rng)
    at_once = rows_at_once(case)
    rows, masks = max(1, at_once // m), min(m, at_once)
    out = torch.zeros(n, m, dtype=torch.float64)
    for i in range(0, n, rows):
        for j in range(0, m, masks):
            block = (slice(i, i + rows), slice(j, j + masks))
            x = torch.where(keep[block[1]][:, units], case.x[block[0], None], case.background[other[block]])
            with torch.no_grad():
                outputs: Tensor = case.model(x.flatten(0, 1))
            chosen = case.target[block[0]].repeat_interleave(x.shape[1])[:, None]
            out[block] = outputs.gather(1, chosen).view(x.shape[:2]).double()
    return out
