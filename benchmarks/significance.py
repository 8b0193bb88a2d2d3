"""Many methods at once: whether their ranks differ at all, and which pairs of them do."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import f as fisher
from scipy.stats import friedmanchisquare, rankdata, studentized_range, wilcoxon

from .intervals import holm
from .leaderboard import PROBLEM, markdown_table
from .stats import LEVEL, SAME, levels

FEWEST = 3  # methods, and blocks
MOST = 80  # methods, the best, that are compared two by two: 3,160 pairs
EXACT = 50  # blocks; of more, the normal approximation of the signed-rank test is as good
ALPHA = 1 - LEVEL
HOW_TO_READ = """\
A block is a problem at one noise level, its seeds averaged; in each the methods are ranked, 1 for the best.
Friedman's test asks whether all mean ranks could be equal. Methods that share a letter are not told apart by
Nemenyi's test: their mean ranks differ by less than the critical difference. `surely above` names, by their
place in this table, those that a method beats by Wilcoxon's signed-rank test on the same blocks, at 5% over
all pairs together (Holm). It sees how much better a method is, not only how often, and its p of a pair does
not depend on who else was run: where the two differ, it is the one to ask. Both speak of these problems."""


@dataclass(frozen=True)
class Significance:
    """What the ranks of methods over many blocks say.

    friedman_statistic, friedman_p: chi squared with methods - 1 degrees of freedom.
    iman_davenport, iman_davenport_p: the F that is less conservative with few blocks.
    blocks: conditions (dataset, parameters, noise).
    mean_ranks: by method, best first; 1 is the best rank, ties have the mean of their ranks.
    critical_difference: of mean ranks, at 5%, by Nemenyi.
    cliques: the longest runs of two or more methods whose mean ranks differ by less than it, best first.
    pairs: one row a pair of the 80 methods with the best mean ranks, `a` the better: wins, ties and losses of
        a over the blocks; the matched-pairs rank-biserial correlation, 1 where a is better in all blocks and
        -1 where b is; p_wilcoxon, p_holm (over these pairs), p_nemenyi (for the range of all methods).
    """

    friedman_statistic: float
    friedman_p: float
    iman_davenport: float
    iman_davenport_p: float
    blocks: int
    mean_ranks: "pd.Series[float]"
    critical_difference: float
    cliques: list[list[str]]
    pairs: pd.DataFrame

    @property
    def smallest_p(self) -> float:
        """The smallest Holm-corrected p that any pair could have with so few blocks."""
        return float(min(1.0, len(self.pairs) * 2.0 ** (1 - self.blocks)))


def compare_many(blocks: pd.DataFrame) -> Significance | None:
    """Friedman's test of all methods, with Nemenyi's and Holm-corrected Wilcoxon tests of pairs of the best.

    Blocks must be independent (Demsar 2006, JMLR 7), and the seeds of a condition are not: a method that
    suits the condition is ahead on each of them.  They are therefore averaged, and a condition (dataset,
    parameters, noise) is a block.  Conditions of one problem are drawn independently, so that under the null
    hypothesis, no difference on these problems, the ranks in one tell nothing of those in another.  Where
    there is a difference, noise levels of a problem resemble each other: more of them make surer of these
    problems, not of others.  The signed-rank test ranks blocks without a difference and then leaves them
    out (Pratt 1959); it is exact, ties or none, up to 50 blocks.  Pairs grow with the square of the methods:
    of more than 80 methods, the best 80 by mean rank are paired.  Whoever is not among them is in mean ranks,
    critical difference and cliques.

    Args:
        blocks: mean skill of every method (columns) on every draw (rows), with the levels dataset,
            parameters and noise in its index; no NaN.

    Returns:
        None of fewer than 3 methods or 3 conditions.
    """
    conditions = blocks.groupby(level=PROBLEM, sort=False).mean()
    if conditions.shape[1] < FEWEST or len(conditions) < FEWEST:
        return None
    values = conditions.to_numpy(dtype=float)
    order = levels(values, SAME)
    ranks = pd.Series(rankdata(-order, axis=1).mean(0), index=[str(m) for m in conditions], name="mean rank")
    best_first = np.argsort(ranks.to_numpy(), kind="stable")
    ranks = ranks.iloc[best_first]
    count, width = conditions.shape
    statistic, p = friedmanchisquare(*order.T) if order.any() else (0.0, 1.0)
    left = count * (width - 1) - float(statistic)
    davenport = (count - 1) * float(statistic) / left if left > SAME else float("inf")
    critical = _critical_difference(width, count)
    runs = _runs(ranks.to_numpy(), critical)
    return Significance(
        friedman_statistic=float(statistic),
        friedman_p=float(p),
        iman_davenport=davenport,
        iman_davenport_p=float(fisher.sf(davenport, width - 1, (width - 1) * (count - 1))),
        blocks=count,
        mean_ranks=ranks,
        critical_difference=critical,
        cliques=[list(ranks.index[a:b]) for a, b in runs if b - a > 1],
        pairs=_pairs(values[:, best_first[:MOST]], ranks),
    )


def _critical_difference(methods: int, blocks: int) -> float:
    """Of mean ranks, by Nemenyi: Demsar 2006, section 3.2.2."""
    quantile = float(studentized_range.ppf(LEVEL, methods, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * blocks)))


def _runs(ranks: Float[np.ndarray, " n"], critical: float) -> list[tuple[int, int]]:
    """Where the longest runs of sorted mean ranks begin, and end, that span less than `critical`."""
    ends = [int(np.searchsorted(ranks, rank + critical, side="left")) for rank in ranks]
    return [(start, end) for start, end in enumerate(ends) if start == 0 or end > ends[start - 1]]


def _pairs(values: Float[np.ndarray, "n k"], ranks: "pd.Series[float]") -> pd.DataFrame:
    """Every two of the best methods, the better mean rank first, side by side.

    values: of the `MOST` best of them, in the order of the mean ranks.
    """
    names = ranks.index.to_numpy()
    a, b = np.triu_indices(values.shape[1], 1)
    difference = values[:, a] - values[:, b]
    wins, losses = (difference > SAME).sum(0), (difference < -SAME).sum(0)
    p, effect = signed_rank(difference)
    pairs = pd.DataFrame({"a": names[a], "b": names[b], "wins": wins})
    pairs["ties"], pairs["losses"] = len(values) - wins - losses, losses
    pairs["rank_biserial"], pairs["p_wilcoxon"] = effect, p
    pairs["p_holm"] = holm(p)
    apart, place = np.unique((ranks.to_numpy()[b] - ranks.to_numpy()[a]).round(9), return_inverse=True)
    unit = np.sqrt(len(ranks) * (len(ranks) + 1) / (12 * len(values)))
    pairs["p_nemenyi"] = studentized_range.sf(apart / unit, len(ranks), np.inf)[place]
    return pairs


def signed_rank(
    difference: Float[np.ndarray, "n pairs"],
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """Wilcoxon's signed-rank test: its two-sided p, and the matched-pairs rank-biserial correlation.

    The correlation is the share of all ranks that speaks for a positive difference less the share that speaks
    against one (Kerby 2014), with the ranks of zeros on neither side.  scipy has exact p of ties only by
    permutation, at a second a pair; here the sums of ranks that the signs can make are counted.

    Args:
        difference: over the blocks, of each pair.
    """
    rank = rankdata(levels(np.abs(difference).T, SAME), axis=1)
    sign = np.where(np.abs(difference) > SAME, np.sign(difference), 0.0).T
    effect = (rank * sign).sum(1) / rank.sum(1)
    p = np.ones(len(sign))
    some = sign.any(1)
    if len(difference) > EXACT and some.any():
        kept = np.where(sign == 0, 0.0, difference.T)[some]
        p[some] = wilcoxon(kept, axis=1, zero_method="pratt", method="asymptotic", keepdims=True).pvalue[:, 0]
    elif some.any():
        doubled = np.rint(2 * rank).astype(int)  # midranks are halves
        above = (doubled * (sign > 0)).sum(1)
        sets = np.sort(doubled * (sign != 0), axis=1)
        both = zip(sets[some].tolist(), above[some].tolist(), strict=True)
        p[some] = [_two_sided(tuple(ranks), top) for ranks, top in both]
    return p, effect


def _two_sided(doubled: tuple[int, ...], above: int) -> float:
    """The share of all signs of these ranks by which their sum is as far from the middle as this one."""
    below = _at_most(doubled)
    least = min(below[above], below[-1] - (below[above - 1] if above else 0))
    return float(min(1.0, 2 * least / below[-1]))


@lru_cache(maxsize=4096)
def _at_most(doubled: tuple[int, ...]) -> Float[np.ndarray, " sums"]:
    """Of how many signs of these whole numbers the positive ones sum up to 0, to 1 at most, and so on."""
    ways = np.zeros(sum(doubled) + 1)
    ways[0] = 1
    for step in (step for step in doubled if step):
        ways[step:] = ways[step:] + ways[:-step]
    return np.cumsum(ways)


def letters(found: Significance) -> "pd.Series[str]":
    """A compact letter display: methods that share a letter are not told apart by Nemenyi's test."""
    runs = _runs(found.mean_ranks.to_numpy(), found.critical_difference)
    names = [_letter(i) for i in range(len(runs))]
    shown = [
        " ".join(name for name, (a, b) in zip(names, runs, strict=True) if a <= place < b)
        for place in range(len(found.mean_ranks))
    ]
    return pd.Series(shown, index=found.mean_ranks.index, dtype=str)


def _letter(number: int) -> str:
    """The letters a to z, then aa, ab and so on."""
    more, last = divmod(number, 26)
    return (_letter(more - 1) if more else "") + chr(ord("a") + last)


def surely_above(found: Significance) -> dict[str, list[str]]:
    """Whom every method beats by the Holm-corrected Wilcoxon test, in the order of mean ranks."""
    place = {method: i for i, method in enumerate(found.mean_ranks.index)}
    beaten: dict[str, list[str]] = {method: [] for method in place}
    sure = found.pairs[found.pairs["p_holm"] <= ALPHA]
    for a, b, effect in zip(sure["a"], sure["b"], sure["rank_biserial"], strict=True):
        better, worse = (a, b) if effect > 0 else (b, a)
        beaten[better].append(worse)
    return {method: sorted(others, key=place.__getitem__) for method, others in beaten.items()}


def section(found: Significance) -> list[str]:
    """What leaderboard.md says of it: Friedman in a sentence, then the methods with who beats whom."""
    place = {method: i for i, method in enumerate(found.mean_ranks.index, start=1)}
    beaten = surely_above(found)
    shown = pd.DataFrame({"place": [str(i) for i in place.values()]})
    shown["method"] = [*place]
    shown["mean rank"] = [f"{rank:.2f}" for rank in found.mean_ranks]
    shown["letters"] = [*letters(found)]
    shown["surely above"] = [_ranges([place[other] for other in beaten[method]]) for method in place]
    return ["## Which methods differ?", HOW_TO_READ, _friedman(found), markdown_table(shown), _said(found)]


def _friedman(found: Significance) -> str:
    told = "differ" if found.friedman_p <= ALPHA else "could all be equal"
    name = f"chi squared {found.friedman_statistic:.2f} with {len(found.mean_ranks) - 1} degrees of freedom"
    return (
        f"Over {found.blocks} blocks the mean ranks of {len(found.mean_ranks)} methods {told}: Friedman's "
        f"{name}, p = {found.friedman_p:.2g} (Iman and Davenport's F {found.iman_davenport:.2f}, "
        f"p = {found.iman_davenport_p:.2g}). Critical difference of mean ranks: "
        f"{found.critical_difference:.2f}."
    )


def _said(found: Significance) -> str:
    """How many pairs are told apart, whether any could have been, and whose were not asked."""
    count = len(found.pairs)
    left = len(found.mean_ranks) - MOST
    last = f" Pairs are of the best {MOST} methods: the last {left} were not paired." if left > 0 else ""
    if found.smallest_p > ALPHA:
        return (
            f"With {found.blocks} blocks no pair of these can be told apart by the corrected Wilcoxon test: "
            f"the smallest p that {found.blocks} blocks can give, {2.0 ** (1 - found.blocks):.2g}, times "
            f"{count} pairs is {found.smallest_p:.2g}. Run more problems or noise levels, or compare fewer "
            f"methods.{last}"
        )
    wilcoxon_, nemenyi = ((found.pairs[c] <= ALPHA).sum() for c in ("p_holm", "p_nemenyi"))
    told = f"the corrected Wilcoxon test tells {wilcoxon_} apart and Nemenyi's {nemenyi}"
    return f"Of {count} pairs, {told}.{last}"


def _ranges(places: list[int]) -> str:
    """Sorted whole numbers, neighbours joined: 1, 3-5."""
    parts: list[list[int]] = []
    for place in places:
        if parts and place == parts[-1][-1] + 1:
            parts[-1].append(place)
        else:
            parts.append([place])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in parts)
