"""Normalised area over the perturbation curve."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from ..benchmarks.coalitions import Everything, Table, table, unit_count, units_of
from ..benchmarks.perturb import outputs_of, rounding
from ..benchmarks.plugin import Case, Evidence, NotApplicable, Scores, metric
from ..benchmarks.sharing import of_case, of_map
from ..benchmarks.thresholds import STEADY, Curve, spaced

LISTED = 12  # units whose orders are compared exactly
PROMISING = 8  # units tried after a removal, those that last looked best; more where units are few
FEW = 600  # times units: so many are cheap to try
AFRESH = 4  # removals after which all are tried, or a 16th part of the units
MOST_ROWS = 2**15  # model rows for the search, for a row explained


@metric(
    version=1,
    paper="https://arxiv.org/abs/2408.08137",
    family="faithfulness",
    best=1.0,
    worst=0.0,
    needs=("model",),
    ceiling="ablation",
    claims=("exact", "scale", "ties"),
)
def naopc(
    evidence: Evidence, *, beam: Annotated[int, Ge(1)] = 3, points: Annotated[int, Ge(1)] = 128
) -> Scores:
    """Where the deletion curve lies between the row's worst order of removal, 0, and its best, 1.

    (AOPC - lower) / (upper - lower), with AOPC the mean over k of f(x) - f(x without the first k units), and
    lower and upper its extremes over all orders.  Units go by falling a, signs and all, as in the paper, ties
    at random: what is said to lower the output goes last.  A map of sizes cannot say so, and pays for it.

    Up to 12 units the extremes are exact, from all coalitions.  Above, they are the best that a beam search
    finds, which may lie inside the true ones: scores beyond 0 and 1 are cut.  The search tries all units at
    every 4th step (above 64 units, at every 16th part of the way), and between these the 8 that last looked
    best, more where units are few: about 32 * beam * units model rows for a row explained, up to 32,768, once
    for all maps of a model and problem.

    beam: orders that the search follows at a time.
    points: steps along the curve; all counts 1..d where d is at most this.

    No unit; 0 to 1; higher is better.  NaN where all orders score the same, as with one unit.
    Source: Edin et al. 2024, arXiv 2408.08137.
    """
    case = evidence.case
    weights = _weights(unit_count(case), points)
    lower, upper = _extremes(case, beam, weights)
    found = of_map(evidence, Curve(points, order="value"))
    area = (found.explained[:, :1] - found.explained) @ weights[found.counts]
    told_apart = upper - lower > rounding(case, found.explained, STEADY)
    return ((area - lower) / (upper - lower)).clamp(0, 1).where(told_apart, torch.nan)


def _weights(units: int, points: int) -> Float[Tensor, " counts"]:
    """Of every count of units removed in the mean over k; 0 for those that are not evaluated."""
    counts = spaced(units, points)
    weights = torch.zeros(units + 1, dtype=torch.float64)
    weights[counts[1:]] = counts.diff().double() / units
    return weights


def _extremes(case: Case, beam: int, weights: Tensor) -> tuple[Scores, Scores]:
    """The least and the largest mean drop over orders.

    Raises:
        NotApplicable: the search takes too many model rows.
    """
    units = unit_count(case)
    if units <= LISTED:
        found = table(case, Everything())
        return -_best_of_all(found, weights, -1), _best_of_all(found, weights, 1)
    rows = 2 * beam * sum(_width(units, step) for step in range(units))
    if rows > MOST_ROWS:
        raise NotApplicable(
            f"takes at most {MOST_ROWS:,} model rows for a row explained, and {units} units with beam={beam} "
            f"need {rows:,}: give a smaller beam, or a problem with groups"
        )
    worst, best = of_case(case, _Searched(beam))
    return worst @ weights, best @ weights


def _best_of_all(found: Table, weights: Tensor, sign: int) -> Scores:
    """The largest mean of `sign` times the drop over all orders, by dynamic programming over subsets."""
    units = found.coalitions.shape[1]
    size = found.coalitions.sum(1)
    # what a coalition adds to the mean when an order passes through it; later, with the best way on from it
    best = sign * weights[units - size] * (found.whole[:, None] - found.outputs)
    bit = 2 ** torch.arange(units - 1, -1, -1)  # binary order: the first unit is the highest
    for s in range(1, units + 1):
        here = (size == s).nonzero()[:, 0]
        present = found.coalitions[here].nonzero()[:, 1].view(-1, s)
        best[:, here] += best[:, here[:, None] - bit[present]].amax(2)
    return best[:, -1]


@dataclass(frozen=True, slots=True)
class _Searched:
    """The recipe for the extreme orders of every row."""

    beam: int

    def make(self, case: Case, rng: Generator) -> Float[Tensor, "2 n counts"]:
        """The drop f(x) - f(x without the first k) for k = 0..units: in the worst order, and in the best."""
        keys = torch.randint(2**62, (unit_count(case),), generator=rng)
        return torch.stack([sign * _Beam(case, self.beam, sign, keys).drops() for sign in (-1, 1)])


def _width(units: int, step: int) -> int:
    """How many units are tried at a step."""
    afresh = step % max(AFRESH, math.ceil(units / 16)) == 0
    return units - step if afresh else min(max(PROMISING, FEW // units), units - step)


@dataclass(slots=True)
class _Beam:
    """Removes units one by one so that the drops add up to most, following the best few sets at a time."""

    case: Case
    beam: int
    sign: int
    keys: Int[Tensor, " units"]  # a set's mark is their sum, which tells it from others whatever its order

    def drops(self) -> Float[Tensor, "n counts"]:
        """`sign` times the drop at every count, in the best order found."""
        n, units = len(self.case.x), len(self.keys)
        gone = torch.zeros(n, 1, units, dtype=torch.bool)
        way = torch.zeros(n, 1, 1, dtype=torch.float64)  # the drops so far
        gain = torch.zeros(n, 1, units, dtype=torch.float64)  # what each unit added when last tried
        mark = torch.zeros(n, 1, dtype=torch.int64)
        with torch.no_grad():
            whole = self.case.output(self.case.x).double()[:, None, None]
        for step in range(units):
            tried = gain.masked_fill(gone, -torch.inf).topk(_width(units, step), 2).indices
            drop = self.sign * (whole - self._without(gone, tried))
            gain = gain.scatter(2, tried, drop - way[:, :, -1:])
            marks = (mark[:, :, None] + self.keys[tried]).flatten(1)
            kept = self._kept((way.sum(2, keepdim=True) + drop).flatten(1), marks)
            before = (kept // tried.shape[2])[:, :, None]
            gone = gone.gather(1, before.expand(-1, -1, units))
            gone = gone.scatter(2, tried.flatten(1).gather(1, kept)[:, :, None], True)
            gain, mark = gain.gather(1, before.expand(-1, -1, units)), marks.gather(1, kept)
            way = way.gather(1, before.expand(-1, -1, step + 1))
            way = torch.cat([way, drop.flatten(1).gather(1, kept)[:, :, None]], 2)
        return way[:, 0]

    def _without(
        self, gone: Bool[Tensor, "n sets units"], tried: Int[Tensor, "n sets width"]
    ) -> Float[Tensor, "n sets width"]:
        """The explained output without the units gone and one more."""
        units, width = units_of(self.case), tried.shape[2]
        more = tried.flatten(1)

        def build(rows: slice, which: slice) -> Tensor:
            place = torch.arange(more.shape[1])[which]
            absent = gone[rows][:, place // width].scatter(2, more[rows][:, place, None], True)
            return torch.where(absent[:, :, units], self.case.baseline, self.case.x[rows, None])

        return outputs_of(self.case, more.shape[1], build).double().view(tried.shape)

    def _kept(self, total: Float[Tensor, "n tried"], marks: Int[Tensor, "n tried"]) -> Int[Tensor, "n sets"]:
        """The sets with the largest totals; of orders that lead to one set, the better one."""
        most = min(self.beam, total.shape[1])
        # a set is reached once from each set before it, so that enough differ among these
        value, place = total.topk(min(most * self.beam, total.shape[1]), 1)
        mark = marks.gather(1, place)
        again = (mark[:, :, None] == mark[:, None]).tril(-1).any(2)
        return place.gather(1, value.masked_fill(again, -torch.inf).topk(most, 1).indices)
