"""Kendall's tau-b between two maps."""

import torch
from jaxtyping import Int
from torch import Tensor

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import tie_bounds


@metric(
    version=1,
    paper="https://doi.org/10.1093/biomet/33.3.239",
    family="agreement",
    best=1.0,
    worst=-1.0,
    needs=("other",),
    ceiling="best",
)
def kendall_tau(evidence: Evidence) -> Scores:
    """Concordant less discordant pairs of features, over the pairs that are not tied: tau-b.

    The denominator is the geometric mean of the pairs untied in one map and in the other.  Maps are compared
    as given, with their signs.

    No unit; -1 (reversed) to 1 (same order), 0 for independent maps; higher is more agreement.  NaN where
    a map is constant.  Source: Kendall 1945; counted in d log^2 d steps after Knight 1966.
    """
    assert evidence.other is not None  # declared in `needs`
    (a, a_end), (b, b_end) = (tie_bounds(m.flatten(1)) for m in (evidence.attribution, evidence.other))
    width = a.shape[1]
    pairs = width * (width - 1) // 2
    both = (a * width + b).sort(dim=1).values  # by a, then by b: a tie in a is then never an inversion in b
    joint_start, joint_end = tie_bounds(both)
    ties_a, ties_b, ties_both = (
        (end - start - 1).sum(1) // 2 for start, end in ((a, a_end), (b, b_end), (joint_start, joint_end))
    )
    surplus = pairs - ties_a - ties_b + ties_both - 2 * _inversions(both % width)
    return (surplus / ((pairs - ties_a).double() * (pairs - ties_b)).sqrt()).clamp(-1, 1)


def _inversions(values: Int[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """Pairs of a row in which the earlier entry is the larger one, counted while merge-sorting."""
    rows, width = values.shape
    size = 1 << (width - 1).bit_length()
    values = torch.nn.functional.pad(values, (0, size - width), value=width)  # larger than all: no inversion
    count = torch.zeros(rows, dtype=torch.int64)
    half = 1
    while half < size:
        blocks = values.view(rows, -1, 2, half)
        left, right = blocks[:, :, 0].contiguous(), blocks[:, :, 1].contiguous()
        count += (half - torch.searchsorted(left, right, right=True)).sum((1, 2))
        half *= 2
        values = values.view(rows, -1, half).sort(dim=2).values
    return count
