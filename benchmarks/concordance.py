"""How far two maps go together: features that they have in common, pairs in the same order, correlation."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8, UInt, UInt64
from torch import Generator, Tensor

from .perturb import NUMBERS
from .plugin import Evidence, Scores
from .ranking import Places, of_both, ranks_of, tie_bounds

PACKED = 2**22  # bytes of one map's pairs, above which they are counted by sorting


# ---- correlation ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Profile:
    """What of a map enters a correlation, with its sum of squares."""

    values: Float[Tensor, "n d"]
    power: Float[Tensor, " n"]


@dataclass(frozen=True, slots=True)
class Profiled:
    """The reading of a profile: the values, their deviations from the row's mean, or those of their ranks."""

    of: Literal["values", "deviations", "ranks"]

    def read(self, evidence: Evidence, _: Generator) -> Profile:
        """The profile; a row whose correlation is undefined is all zeros."""
        if self.of == "ranks":
            places = ranks_of(evidence, sizes=False)
            values = places.average - (places.start.shape[1] + 1) / 2  # exact: a constant map centres to 0
        else:
            values = _scaled(evidence.attribution.flatten(1))
        if self.of == "deviations":
            values = values - values.mean(1, keepdim=True)  # a constant map is one of ones: exactly 0
        return Profile(values, values.square().sum(1))


def _scaled(a: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Every row over its largest size, so that no square is too large or too small to be held."""
    largest = a.abs().amax(1, keepdim=True)
    return a / largest.where(largest > 0, 1.0)


def correlation(evidence: Evidence, of: Literal["values", "deviations", "ranks"]) -> Scores:
    """Cosine of the angle between the profiles of the attribution and of what it is compared with."""
    a, b = of_both(evidence, Profiled(of))
    return ((a.values * b.values).sum(1) / (a.power * b.power).sqrt()).clamp(-1, 1)


# ---- pairs of features ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pairs:
    """How a map orders the pairs of its features, one bit a pair."""

    places: Places
    tied: Int[Tensor, " n"]  # pairs of each row that the map does not order
    first: UInt64[np.ndarray, "n words"] | None  # whether the first of the pair is the larger; None: too many
    ordered: UInt64[np.ndarray, "n words"] | None  # whether one of them is; None: in every pair, or too many


@dataclass(frozen=True, slots=True)
class Paired:
    """The reading of a map's pairs: by size, or by value as given."""

    sizes: bool

    def read(self, evidence: Evidence, _: Generator) -> Pairs:
        """The pairs."""
        places = ranks_of(evidence, sizes=self.sizes)
        tied = (places.ties - 1).sum(1) // 2
        rows, width = places.start.shape
        if rows * width * (width - 1) // 16 > PACKED:
            return Pairs(places, tied, None, None)
        place = places.start.numpy().astype(np.min_scalar_type(width))
        ordered = _packed(place, np.not_equal) if tied.any() else None
        return Pairs(places, tied, _packed(place, np.less), ordered)


def _packed(place: UInt[np.ndarray, "n d"], compare: np.ufunc) -> UInt64[np.ndarray, "n words"]:
    """`compare` on all pairs of each row's entries, as bits.

    Every entry is held against those up to half a row further on, round the corner: each pair comes once.
    """
    rows, width = place.shape
    pairs = width * (width - 1) // 2
    bits = np.zeros((rows, -(-pairs // 64) * 8), np.uint8)
    step = max(1, 8 * NUMBERS // max(1, pairs))  # a byte a pair while they are compared
    for i in range(0, rows, step):
        block = place[i : i + step]
        twice = np.concatenate([block, block], 1)
        found = np.empty((len(block), pairs), np.bool_)
        for far in range(1, width // 2 + 1):
            start = (far - 1) * width
            count = min(width, pairs - start)  # half a row on, an even width has met its pairs half-way
            compare(block[:, :count], twice[:, far : far + count], out=found[:, start : start + count])
        bits[i : i + step, : -(-pairs // 8)] = np.packbits(found, axis=1)
    return bits.view(np.uint64)


@dataclass(frozen=True, slots=True)
class Order:
    """How two maps order the pairs of features of a row."""

    pairs: int
    surplus: Int[Tensor, " n"]  # pairs that both order alike, less those that they order differently
    untied: tuple[Int[Tensor, " n"], Int[Tensor, " n"]]  # pairs that the one orders, and the other


def order(evidence: Evidence, *, sizes: bool) -> Order:
    """How the attribution and what it is compared with order the pairs."""
    a, b = of_both(evidence, Paired(sizes))
    width = a.places.start.shape[1]
    pairs = width * (width - 1) // 2
    found = _surplus_by_sorting(a, b) if a.first is None else _surplus_by_bits(a, b)
    return Order(pairs, found, (pairs - a.tied, pairs - b.tied))


def _surplus_by_bits(a: Pairs, b: Pairs) -> Int[Tensor, " n"]:
    """Pairs that both order, less twice those that they order differently."""
    assert a.first is not None  # maps of one shape
    assert b.first is not None
    differs = a.first ^ b.first
    if a.ordered is not None and b.ordered is not None:
        both = a.ordered & b.ordered
        return _count(both) - 2 * _count(differs & both)
    width = a.places.start.shape[1]
    ordered = width * (width - 1) // 2 - a.tied - b.tied  # one of the two ties nothing
    some = a.ordered if b.ordered is None else b.ordered
    return ordered - 2 * _count(differs if some is None else differs & some)


def _count(bits: UInt64[np.ndarray, "n words"]) -> Int[Tensor, " n"]:
    """How many are set in each row."""
    return torch.from_numpy(np.bitwise_count(bits).sum(1, dtype=np.int64))


def _surplus_by_sorting(a: Pairs, b: Pairs) -> Int[Tensor, " n"]:
    """The same in d log^2 d steps, after Knight 1966."""
    width = a.places.start.shape[1]
    both = (a.places.start.long() * width + b.places.start).sort(dim=1).values  # by a, then by b:
    start, end = tie_bounds(both)  # a tie in a is then never an inversion in b
    tied_in_both = (end - start - 1).sum(1) // 2
    ordered = width * (width - 1) // 2 - a.tied - b.tied + tied_in_both
    return ordered - 2 * _inversions(both % width)


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


# ---- features in common ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signs:
    """The reading of a map's signs."""

    def read(self, evidence: Evidence, _: Generator) -> Int8[Tensor, "n d"]:
        """-1, 0 or 1."""
        return evidence.attribution.flatten(1).sign().to(torch.int8)


def same_sign(evidence: Evidence) -> Bool[Tensor, "n d"]:
    """Which features have one sign in both, the attribution and the reference; 0 is one of its own."""
    own, other = of_both(evidence, Signs())
    return own == other


def expected_jaccard(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Scores:
    """Expected |A and B| / |A or B| of two sets drawn apart, given each feature's chance to be in them.

    In each row a set holds the features of chance 1 and a draw, of fixed size and without preference, from
    those of a chance between 0 and 1: such are the top features of a map with ties.
    """
    hits, sizes = (a * b).sum(1), a.sum(1) + b.sum(1)
    score = hits / (sizes - hits)  # exact where nothing is drawn: the hits are then certain
    drawn = torch.nonzero((((a > 0) & (a < 1)) | ((b > 0) & (b < 1))).any(1)).squeeze(1)
    if len(drawn):
        cases, which = _counts(a[drawn], b[drawn]).unique(dim=0, return_inverse=True)
        most = int(cases[:, 6:8].amax()) + 1  # outcomes of a draw
        score[drawn] = torch.cat([_jaccard(some) for some in cases.split(max(1, NUMBERS // most**2))])[which]
    return score


def _counts(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Int[Tensor, "n 9"]:
    """What `_jaccard` hangs on, a row each; few rows differ in it."""
    sure_a, sure_b = a == 1, b == 1
    open_a, open_b = (a > 0) & ~sure_a, (b > 0) & ~sure_b
    sets = (sure_a & sure_b, open_a & sure_b, open_a & open_b, sure_a & open_b, open_a, open_b)
    sizes = (*(s.sum(1) for s in sets), (a * open_a).sum(1), (b * open_b).sum(1), a.sum(1) + b.sum(1))
    return torch.stack([s.double().round().long() for s in sizes], 1)


def _jaccard(counts: Int[Tensor, "n 9"]) -> Scores:
    """The expectation, summed over what A draws that is or may be in B, and then over what B draws.

    B's draw is without preference, so that all it meets of A is a number: b_in_a that are sure in A, and
    those of the shared features that A drew.
    """
    sure, a_in_b, shared, b_in_a, open_a, open_b, drawn_a, drawn_b, total = counts.T[:, :, None, None]
    most = [int(torch.minimum(of, drawn).amax()) + 1 for of, drawn in ((a_in_b, drawn_a), (shared, drawn_a))]
    hit, open_hit = torch.arange(most[0])[:, None], torch.arange(most[1])
    ways = _log_ways(a_in_b, hit) + _log_ways(shared, open_hit)
    ways = ways + _log_ways(open_a - a_in_b - shared, drawn_a - hit - open_hit) - _log_ways(open_a, drawn_a)
    meets, met = b_in_a + open_hit[:, None], torch.arange(int(drawn_b.amax()) + 1)
    then = _log_ways(meets, met) + _log_ways(open_b - meets, drawn_b - met) - _log_ways(open_b, drawn_b)
    chance = ways.exp() @ then.exp()  # [n, hit, met]
    both = (sure + hit + met).double()
    share = both / (total - both).clamp_min(1)  # below 1 only where the chance is 0
    return (chance * share).sum((1, 2)) / chance.sum((1, 2))  # the sum is 1 but for rounding


def _log_ways(of: Int[Tensor, "*a"], some: Int[Tensor, "*b"]) -> Float[Tensor, "*c"]:
    """Logarithm of the number of ways to draw `some` things of so many."""
    rest = of - some
    factorial = torch.arange(1, int(of.amax()) + 2).double().lgamma()  # of few numbers, looked up often
    size = [factorial.take(n.clamp(0, len(factorial) - 1)) for n in (of, some, rest)]
    return (size[0] - size[1] - size[2]).masked_fill((some < 0) | (rest < 0), -torch.inf)
