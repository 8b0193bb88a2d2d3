"""Captum's perturbation methods, on the units of a case."""

import warnings
from typing import Any

from .coalitions import units_of
from .plugin import Case, Samples
from .shapley import shared_out


def by_captum(case: Case, explainer: type[Any], samples: int, at_once: int) -> Samples:
    """What one of captum's classes makes of the rows; a unit's value is shared among its features.

    samples: coalitions or orders, as the class counts them.
    at_once: of them, evaluated together.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are providing multiple inputs for Lime / Kernel SHAP")
        values = explainer(case.model).attribute(
            case.x,
            case.baselines,
            target=case.target,
            feature_mask=units_of(case)[None],
            n_samples=samples,
            perturbations_per_eval=at_once,
        )
    return shared_out(case, values).to(case.x.dtype)
