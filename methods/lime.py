"""LIME on coalitions that all rows share."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt

from ..benchmarks.coalitions import coalition_outputs, spread_over_features, units_of
from ..benchmarks.plugin import Case, Samples, method


@method(version=1, paper="https://arxiv.org/abs/1602.04938")
def lime(
    case: Case,
    *,
    n_samples: Annotated[int, Ge(2)] = 1000,
    kernel_width: Annotated[float, Gt(0)] = 0.25,
    penalty: Annotated[float, Ge(0)] = 1.0,
) -> Samples:
    """Slopes of a ridge regression of the output on which units are present, near ones counting more.

    n_samples: random subsets of units, each unit present with probability 1/2.
    kernel_width: of the exponential kernel on the cosine distance to the whole row, as in the paper's code.
    penalty: L2 penalty on the slopes; the lasso of captum's default sets half of them to 0.
    """
    units = int(units_of(case).max()) + 1
    present = torch.rand(n_samples, units, generator=case.rng) < 0.5
    outputs, whole, _ = coalition_outputs(case, present)
    z = torch.cat([torch.ones(1, units), present]).double()
    y = torch.cat([whole[:, None], outputs], 1)
    distance = 1 - (z.sum(1) / units).sqrt()  # cosine to the all-ones vector
    weights = torch.exp(-((distance / kernel_width) ** 2) / 2)
    share = weights / weights.sum()
    centred = z - share @ z
    normal = centred.T @ (weights[:, None] * centred) + penalty * torch.eye(units, dtype=torch.float64)
    slopes = torch.linalg.solve(normal, centred.T @ (weights * (y - (y @ share)[:, None])).T).T
    return spread_over_features(case, slopes).to(case.x.dtype)
