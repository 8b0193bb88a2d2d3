"""How sure a mean skill is: arrays in, numbers out, as in `stats`.

What is drawn independently is a draw: the data of a condition (a problem at a noise level) for one seed, with
all models trained on it anew.  Its cells share rows and models, so that a cell is no replicate; a draw is.
Two questions have two intervals.  Here: how far would the mean move if these conditions were drawn again?
Like these: how far on other problems, of which these are a sample?  The variance of the highest level that is
drawn again holds that of all levels below it; a bootstrap that redraws every level counts them twice.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from .stats import DRAWS, LEVEL, SAME

FEWEST = 3  # problems, for an interval over problems: with two it is 13 standard errors wide to each side
POWER = 0.8


class Spread(NamedTuple):
    """Standard error, and its degrees of freedom; NaN where they cannot be known."""

    error: Float[np.ndarray, "*shape"]
    freedom: Float[np.ndarray, "*shape"]


class Estimates(NamedTuple):
    """A mean with its 95% intervals; NaN where a sample cannot have them."""

    mean: Float[np.ndarray, " methods"]
    low: Float[np.ndarray, " methods"]  # on problems like these
    high: Float[np.ndarray, " methods"]
    low_here: Float[np.ndarray, " methods"]  # on these problems
    high_here: Float[np.ndarray, " methods"]


@dataclass(frozen=True)
class Noise:
    """How a mean over conditions would move if they were drawn again.

    residuals: of every draw from its condition's mean, scaled so that the variance of the mean is the sum of
        their squares.
    condition: of every draw, numbered from 0.
    """

    residuals: Float[np.ndarray, "draws methods"]
    condition: Int[np.ndarray, " draws"]

    def beside(self, other: "Noise") -> "Noise":
        """Of the difference of two means that share no draw."""
        own = np.concatenate([self.residuals, -other.residuals])
        return Noise(own, np.concatenate([self.condition, other.condition + self.condition.max() + 1]))

    def spread(self, of: Float[np.ndarray, "draws columns"] | None = None) -> Spread:
        """Of every method, or of columns that are sums and differences of the residuals of methods.

        Welch's and Satterthwaite's degrees of freedom, from variances that are themselves estimated: f + 1 in
        place of f.  With two draws a condition, f alone gives a third of what they should be, and Welch's
        f + 2, right for equal variances, too many where they differ as those of skills do.
        """
        residuals = self.residuals if of is None else of
        counts = np.bincount(self.condition).astype(float)
        variance = np.zeros((len(counts), residuals.shape[1]))
        np.add.at(variance, self.condition, residuals**2)
        freedom = counts - 1
        known = freedom > 0
        if not known.any():
            return Spread(*np.full((2, residuals.shape[1]), np.nan))
        total = variance[known].sum(0)
        spread = (variance[known] ** 2 / (freedom[known, None] + 1)).sum(0)
        found = np.divide(total**2, spread, out=np.full(len(total), freedom[known].sum()), where=spread > 0)
        return Spread(np.sqrt(total), np.clip(found, freedom[known].min(), freedom[known].sum()))


@dataclass(frozen=True)
class Sample:
    """Mean skills of methods on every draw of every condition.

    values: mean over the draw's cells, a draw and a method.
    problem, condition: whose draw it is, numbered from 0; a condition belongs to one problem.
    weight: of the draw in the mean over all; they sum to 1.
    """

    values: Float[np.ndarray, "draws methods"]
    problem: Int[np.ndarray, " draws"]
    condition: Int[np.ndarray, " draws"]
    weight: Float[np.ndarray, " draws"]

    @cached_property
    def mean(self) -> Float[np.ndarray, " methods"]:
        """Mean skill of every method."""
        return np.asarray(self.weight @ self.values)

    @cached_property
    def noise(self) -> Noise:
        """Of the mean on these problems.

        A condition that was drawn once is taken to be as noisy as those drawn more often are in the mean.
        """
        counts = np.bincount(self.condition)
        centre = np.zeros((len(counts), self.values.shape[1]))
        np.add.at(centre, self.condition, self.values)
        centre /= counts[:, None]
        power = np.bincount(self.condition, self.weight**2)  # of one draw's variance in that of the mean
        known = counts > 1
        borrowed = power.sum() / power[known].sum() if known.any() else 1.0
        scale = np.sqrt(borrowed * power / np.maximum(counts - 1, 1))[self.condition, None]
        return Noise(scale * (self.values - centre[self.condition]), self.condition)

    @cached_property
    def by_problem(self) -> Float[np.ndarray, "problems methods"]:
        """What every problem says of the mean skill, which is the mean of these."""
        count = int(self.problem.max()) + 1
        found = np.zeros((count, self.values.shape[1]))
        np.add.at(found, self.problem, count * self.weight[:, None] * self.values)
        return found


def drawn(
    values: Float[np.ndarray, "cells methods"],
    problem: Int[np.ndarray, " cells"],
    condition: Int[np.ndarray, " cells"],
    seed: Int[np.ndarray, " cells"],
) -> Sample:
    """The draws behind cells that all methods have: a problem counts once, and each of its seeds alike."""
    problem, condition, seed = (
        np.unique(codes, return_inverse=True)[1] for codes in (problem, condition, seed)
    )
    _, first, draw = np.unique(condition * (seed.max() + 1) + seed, return_index=True, return_inverse=True)
    cells = np.bincount(draw)
    means = np.zeros((len(cells), values.shape[1]))
    np.add.at(means, draw, values)
    # of a problem's cells of one seed, whatever their condition
    pairs, place = np.unique((problem * (seed.max() + 1) + seed)[first], return_inverse=True)
    seeds = np.bincount(pairs // (seed.max() + 1))
    share = cells / np.bincount(place, cells)[place]
    weight = share / seeds[problem[first]] / len(seeds)
    return Sample(means / cells[:, None], problem[first], condition[first], weight)


def of_places(
    value: Float[np.ndarray, " cells"],
    place: Int[np.ndarray, " cells"],
    problem: Int[np.ndarray, " cells"],
    condition: Int[np.ndarray, " cells"],
    seed: Int[np.ndarray, " cells"],
) -> tuple[float, Noise]:
    """Mean over problems of the mean over places, of each the mean over its own seeds; with its noise.

    A place is a cell but for its seed.  Since each counts the same however many seeds have it, two runs in
    which other cells are trivial are compared on the same places with the same weights.  Where all places are
    in all seeds this is the mean of `drawn`, and its noise.  A place with one seed is taken to move with the
    others of its condition, and a condition with one draw to be as noisy as the others.
    """
    problem, condition, seed, place = (
        np.unique(c, return_inverse=True)[1] for c in (problem, condition, seed, place)
    )
    seeds = np.bincount(place)
    mean = np.bincount(place, value) / seeds
    _, first = np.unique(place, return_index=True)
    weight = 1 / np.bincount(problem[first])[problem[first]] / (problem.max() + 1)
    factor = weight / seeds * np.sqrt(seeds / np.maximum(seeds - 1, 1))
    _, at, draw = np.unique(condition * (seed.max() + 1) + seed, return_index=True, return_inverse=True)
    residuals = np.bincount(draw, factor[place] * (value - mean[place]))
    of_draw = condition[at]
    whole = np.bincount(condition[first], weight)
    known = np.bincount(condition[first], weight * (seeds > 1))
    seen = known > 0
    power = whole**2 / np.bincount(of_draw)
    borrowed = power.sum() / power[seen].sum() if seen.any() else 1.0
    scale = np.sqrt(borrowed) * np.divide(whole, known, out=np.zeros_like(whole), where=seen)
    alone = len(whole) + np.arange(len(of_draw))  # draws of which nothing is known of the noise
    noise = Noise((scale[of_draw] * residuals)[:, None], np.where(seen[of_draw], of_draw, alone))
    return float(weight @ mean), noise


def over_problems(values: Float[np.ndarray, "problems methods"]) -> Spread:
    """Of a mean over problems that are a sample of those like them."""
    count, methods = values.shape
    if count < FEWEST:
        return Spread(*np.full((2, methods), np.nan))
    return Spread(values.std(0, ddof=1) / np.sqrt(count), np.full(methods, count - 1.0))


def estimates(sample: Sample, level: float = LEVEL) -> Estimates:
    """Mean skill of every method with both intervals."""
    like, here = (
        half_width(spread, level) for spread in (over_problems(sample.by_problem), sample.noise.spread())
    )
    mean = sample.mean
    return Estimates(mean, mean - like, mean + like, mean - here, mean + here)


def half_width(spread: Spread, level: float = LEVEL) -> Float[np.ndarray, "*shape"]:
    """How far the interval reaches to each side of the mean."""
    return np.asarray(student.ppf((1 + level) / 2, spread.freedom) * spread.error)


def p_value(difference: Float[np.ndarray, "*shape"], spread: Spread) -> Float[np.ndarray, "*shape"]:
    """Of a difference, if there is none: two-sided; 1 for equal numbers, 0 for others without any noise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 2 * student.sf(np.abs(difference) / spread.error, spread.freedom)
    certain = np.where(np.abs(difference) > SAME, 0.0, 1.0)
    return np.where((spread.error > SAME) | np.isnan(spread.error), found, certain)


def holm(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """P-values corrected for their number, so that any false verdict among all is as rare as one alone was.

    Source: Holm 1979.
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    found = np.empty(len(p))
    found[order] = np.minimum(stepped, 1)
    return found


def visible(spread: Spread, tests: int = 1) -> Float[np.ndarray, "*shape"]:
    """The smallest true difference that a verdict at 5% over so many tests sees in four of five runs."""
    return np.asarray(
        (student.ppf(1 - (1 - LEVEL) / 2 / tests, spread.freedom) + student.ppf(POWER, spread.freedom))
        * spread.error
    )


def better(difference: Float[np.ndarray, "*shape"], spread: Spread) -> Float[np.ndarray, "*shape"]:
    """How probable it is that a true difference is above 0, whatever it may be beforehand."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = student.cdf(difference / spread.error, spread.freedom)
    certain = np.where(difference > SAME, 1.0, np.where(difference < -SAME, 0.0, 0.5))
    return np.where((spread.error > SAME) | np.isnan(spread.error), found, certain)


def draws(sample: Sample, rng: np.random.Generator, count: int = DRAWS) -> Float[np.ndarray, "count methods"]:
    """Mean skills if the conditions were drawn again, of all methods on the same draws; NaN if not known.

    Every draw's residual is multiplied by a normal number (the multiplier bootstrap: with two draws a
    condition a bootstrap that redraws them has three outcomes and half the variance), and stretched so that
    the percentiles are those of Student's t.
    """
    spread = sample.noise.spread()
    stretch = half_width(spread) / (norm.ppf((1 + LEVEL) / 2) * np.where(spread.error > 0, spread.error, 1))
    moved = rng.standard_normal((count, len(sample.values))) @ sample.noise.residuals
    return np.asarray(sample.mean + stretch * moved)


def rank_interval(
    means: Float[np.ndarray, "count methods"], level: float = LEVEL
) -> tuple[Float[np.ndarray, " methods"], Float[np.ndarray, " methods"]]:
    """Between which ranks most draws put every method, 1 the best, ties sharing the better rank."""
    if np.isnan(means).any():
        return np.full(means.shape[1], np.nan), np.full(means.shape[1], np.nan)
    ranks = rankdata(-means.round(9), method="min", axis=1)
    low, high = np.quantile(ranks, [(1 - level) / 2, (1 + level) / 2], axis=0, method="nearest")
    return low.astype(float), high.astype(float)
