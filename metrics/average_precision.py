"""Average precision."""

import torch

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import ranks_of


@metric(
    version=1,
    paper="https://doi.org/10.1007/978-3-540-78646-7_38",
    family="ground truth",
    best=1.0,
    worst=0.0,
    claims=("exact", "scale", "sign", "ties"),
)
def average_precision(evidence: Evidence) -> Scores:
    """Mean, over the relevant features, of the precision at each one's place in the ranking by |a|.

    The exact expectation when ties are broken at random.  Take a group of n ties, p of them relevant, behind
    N features of which P are relevant.  Its place j = 1..n holds a relevant one with probability p / n; then
    (p - 1)(j - 1) / (n - 1) of the others are expected before it, and the precision there is
    (P + 1 + (p - 1)(j - 1) / (n - 1)) / (N + j).

    No unit; 0 to 1, chance is close to the share of relevant features (a little above it); higher is
    better.  NaN where all features or none are relevant.  Source: McSherry and Najork 2008.
    """
    relevant = evidence.relevant.flatten(1)
    places, width = ranks_of(evidence, sizes=True), relevant.shape[1]
    order = places.order.long()
    before, end = (bound.gather(1, order).long() for bound in (places.start, places.end))
    hit = relevant.gather(1, order)
    found = torch.nn.functional.pad(hit.cumsum(1), (1, 0))  # among the first 0..d places
    found_before = found.gather(1, before)
    ties, hits = end - before, found.gather(1, end) - found_before
    place = torch.arange(1, width + 1)
    others = ((hits - 1) * (place - 1 - before)).double() / (ties - 1).clamp_min(1)
    precision = (found_before + 1 + others) / place
    total = relevant.sum(1)
    score = (hits.double() / ties * precision).sum(1) / total
    return score.where((total > 0) & (total < width), torch.nan)
