"""LIME, as captum computes it."""

from typing import Annotated

from annotated_types import Ge
from captum.attr import Lime

from ..benchmarks.captum_units import by_captum
from ..benchmarks.plugin import Case, Samples, method


@method(version=1, paper="https://arxiv.org/abs/1602.04938", cost="samples")
def captum_lime(
    case: Case, *, budget: Annotated[int, Ge(4)] = 256, at_once: Annotated[int, Ge(1)] = 1
) -> Samples:
    """Slopes of a lasso regression of the output on which units are present, near coalitions counting more.

    All as captum sets it: each unit is present with probability 1/2, a coalition is as near as the cosine
    between the two inputs says, and the lasso's penalty of 0.01, whatever the output's scale, sets small
    slopes to 0.

    budget: coalitions evaluated for a row; each is one model row.
    at_once: coalitions evaluated together; the map is the same.
    """
    return by_captum(case, Lime, budget, at_once)
