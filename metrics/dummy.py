"""The dummy axiom."""

from typing import Annotated

import torch
from annotated_types import Ge

from ..benchmarks.effects import Effects
from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import unit_sums
from ..benchmarks.sharing import of_case


@metric(
    version=1,
    paper="https://doi.org/10.1515/9781400881970-018",
    family="axiom",
    best=0.0,
    worst=1.0,
    needs=("model",),
    ceiling="best",
    claims=("exact", "scale", "sign"),
)
def dummy(evidence: Evidence, *, draws: Annotated[int, Ge(1)] = 10) -> Scores:
    """Share of the row's sum of |a| that falls on units that the model does not use.

    A unit counts as unused if no explained row's output changes, by more than rounding, as that unit alone is
    replaced by that of any background row drawn; a unit that no draw changes does not count.  All explained
    rows together tell which: with more of them, fewer units pass for unused.

    draws: background rows, the same for all rows and units; all where there are no more.

    No unit; 0 (also of a zero map) to 1; lower is better.  NaN where the model uses every unit.
    Source: the dummy axiom of Shapley 1953, as a measure.
    """
    found = of_case(evidence.case, Effects(draws))
    unused = found.tried.any(0) & ~found.there.any(0)
    size = unit_sums(evidence.attribution.abs(), evidence.case.groups)
    total = size.sum(1)
    share = ((size * unused).sum(1) / total).where(total > 0, 0.0)
    return share if unused.any() else torch.full_like(share, torch.nan)
