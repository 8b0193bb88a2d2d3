"""LIME on coalitions that all rows share."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt

from ..benchmarks.coalitions import Sampled, table
from ..benchmarks.plugin import Case, Samples, method
from ..benchmarks.shapley import ridge, spread_over_features
from ..benchmarks.terms import Value


@method(version=2, paper="https://arxiv.org/abs/1602.04938", promises="linearity", cost="samples")
def lime(
    case: Case,
    *,
    budget: Annotated[int, Ge(4)] = 2048,
    kernel_width: Annotated[float, Gt(0)] = 0.25,
    penalty: Annotated[float, Ge(0)] = 1.0,
    value: Value = "baseline",
) -> Samples:
    """Slopes of a ridge regression of the output on which units are present, near coalitions counting more.

    As in the paper, how many units are present is drawn uniformly, then which; all coalitions where they fit.

    budget: coalitions evaluated for a row; each is one model row (one for each background row, if value is
        "marginal").
    kernel_width: of the exponential kernel on the cosine distance to the whole row, as in the paper's code.
    penalty: L2 penalty on the slopes, against as many draws as the budget has; the lasso of captum's default
        sets half of them to 0.
    value: what an absent feature is replaced by.
    """
    found = table(case, Sampled(budget), value)
    coalitions, weights, y = found.coalitions, found.weights, found.outputs
    units = coalitions.shape[1]
    if not found.exhaustive:  # the two ends are sizes like the others
        all_in = torch.ones(1, units, dtype=torch.bool)
        coalitions = torch.cat([all_in, ~all_in, coalitions])
        y = torch.cat([found.whole[:, None], found.empty[:, None], y], 1)
        weights = torch.cat([torch.ones(2), weights * (units - 1)]) / (units + 1)
    z = coalitions.double()
    distance = 1 - (z.sum(1) / units).sqrt()  # cosine to the all-ones vector
    # all coalitions stand for as many draws as the budget has: the penalty counts the same for few units
    weights = budget * weights * torch.exp(-((distance / kernel_width) ** 2) / 2)
    share = weights / weights.sum()
    slopes = ridge(z.sub_(share @ z), weights, y - (y @ share)[:, None], penalty)
    return spread_over_features(case, slopes)
