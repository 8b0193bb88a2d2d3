"""Feature ablation, as captum computes it."""

from captum.attr import FeatureAblation

from ..benchmarks.coalitions import shared_out, units_of
from ..benchmarks.perturb import ELEMENTS
from ..benchmarks.plugin import Case, Samples, method


@method(version=1, paper="https://arxiv.org/abs/1311.2901", estimand="ablation")
def feature_ablation(case: Case) -> Samples:
    """What the output loses when one unit alone is replaced by the baseline."""
    units = units_of(case)
    at_once = max(1, min(int(units.max()) + 1, ELEMENTS // case.x.numel()))
    values = FeatureAblation(case.model).attribute(
        case.x, case.baselines, target=case.target, feature_mask=units[None], perturbations_per_eval=at_once
    )
    return shared_out(case, values)
