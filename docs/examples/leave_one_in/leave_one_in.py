"""A method in a package of its own: installed beside Assay, it is in every list and every `--method all`."""

import torch

from assay.benchmarks.coalitions import unit_count, units_of
from assay.benchmarks.perturb import empty_output, outputs_under
from assay.benchmarks.plugin import Case, Samples, method
from assay.benchmarks.shapley import spread_over_features


@method(version=1, paper="https://arxiv.org/abs/1911.03429", promises=("dummy", "linearity"), cost="units")
def leave_one_in(case: Case) -> Samples:
    """What the output gains when one unit alone is present."""
    alone = torch.eye(unit_count(case), dtype=torch.bool)[:, units_of(case)]
    gained = outputs_under(case, alone[None]) - empty_output(case)[:, None]
    return spread_over_features(case, gained)
