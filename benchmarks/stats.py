"""Arrays in, numbers out.  The only module that averages."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

LEVEL = 0.95
DRAWS = 2000  # of the bootstrap
SAME = 1e-9  # two scores closer than this are the same score
CERTAIN = 3.0  # standard errors

Verdict: TypeAlias = Literal["ok", "trivial", "broken", "undefined"]


@dataclass(frozen=True, slots=True)
class Score:
    """What one cell's rows come to."""

    value: float
    chance: float
    ceiling: float
    skill: float  # NaN unless the verdict is ok
    rows: int
    nan_rows: int
    verdict: Verdict
    rows_right: int | None = None  # of these, that the model predicts right; None where that is not known
    skill_right: float = float("nan")  # over them alone
    rows_aligned: int | None = None
    value_aligned: float = float("nan")  # over the rows whose shortcut says their class
    skill_aligned: float = float("nan")
    rows_conflicting: int | None = None
    value_conflicting: float = float("nan")  # and over those where it says another
    skill_conflicting: float = float("nan")
    skill_error: float = float("nan")  # standard error over rows; NaN of one, or of all judged together


def score(
    value: Float[np.ndarray, " n"],
    chance: Float[np.ndarray, "draws n"],
    ceiling: Float[np.ndarray, " n"],
    rises: bool,
) -> Score:
    """Mean value, chance and ceiling over the rows where all three are defined, and the skill between them.

    trivial: ceiling and chance cannot be told apart, so that no attribution could be wrong.
    broken: the metric prefers noise to the truth.
    undefined: the metric has no value on any row.

    The skill's standard error is that of a ratio of means of rows, by its linearisation (the delta method):
    rows are taken to be independent, and a row's chance to be the mean of its draws.

    Args:
        value: the method's score, a row.
        chance: a random attribution's score, a draw and a row.
        ceiling: the best reference's score, a row.
        rises: whether more is better.
    """
    defined = np.isfinite(value) & np.isfinite(chance).all(0) & np.isfinite(ceiling)
    rows, nan_rows = int(defined.sum()), int((~defined).sum())
    if rows == 0:
        return Score(np.nan, np.nan, np.nan, np.nan, 0, nan_rows, "undefined")
    value, chance, ceiling = value[defined], chance[:, defined], ceiling[defined]
    draws = chance.mean(1)
    v, c, top = float(value.mean()), float(draws.mean()), float(ceiling.mean())
    margin = max(SAME, CERTAIN * float(draws.std(ddof=1)) / np.sqrt(len(draws)))
    gap = top - c if rises else c - top
    if abs(gap) <= margin:
        return Score(v, c, top, np.nan, rows, nan_rows, "trivial")
    if gap < 0:
        return Score(v, c, top, np.nan, rows, nan_rows, "broken")
    skill = (v - c) / (top - c)
    influence = (value - v - skill * (ceiling - top) - (1 - skill) * (chance.mean(0) - c)) / (top - c)
    error = mean_and_error(influence)[1] if rows > 1 else np.nan
    return Score(v, c, top, skill, rows, nan_rows, "ok", skill_error=error)


def split_score(
    value: Float[np.ndarray, " n"],
    chance: Float[np.ndarray, "draws n"],
    ceiling: Float[np.ndarray, " n"] | None,
    rises: bool,
    groups: Mapping[str, Bool[np.ndarray, " explained"]],
) -> Score:
    """`score`, or without a ceiling `unscaled`, with what it is over groups of its rows beside it.

    A metric that judges all rows together has one value, which cannot be split.

    groups: rows, by the name of the group: `right`, `aligned`, `conflicting`.
    """

    def over(rows: Bool[np.ndarray, " explained"] | slice) -> Score:
        if ceiling is None:
            return unscaled(value[rows], chance[:, rows])
        return score(value[rows], chance[:, rows], ceiling[rows], rises)

    found = over(slice(None))
    for name, rows in groups.items():
        if len(rows) == len(value):
            part = over(rows)
            seen: dict[str, Any] = {f"rows_{name}": part.rows, f"skill_{name}": part.skill}
            seen |= {f"value_{name}": part.value} if name != "right" else {}
            found = dataclasses.replace(found, **seen)
    return found


def unscaled(value: Float[np.ndarray, " n"], chance: Float[np.ndarray, "draws n"]) -> Score:
    """Mean value, over the rows where it is defined, of a metric by which nobody's score is the ceiling."""
    v, rows, nan_rows = mean(value)
    whole = np.isfinite(chance).all() and chance.flags.c_contiguous  # the common case, and the same sums
    by_draw = chance.mean(1) if whole else np.array([mean(draw)[0] for draw in chance])
    return Score(v, mean(by_draw)[0], np.nan, np.nan, rows, nan_rows, "ok" if rows else "undefined")


def agreement(value: Float[np.ndarray, " n"], chance: Float[np.ndarray, "draws n"], best: float) -> Score:
    """Mean agreement of two maps; its skill is 0 where they agree as two random ones do, and 1 at `best`."""
    found = unscaled(value, chance)
    gap = best - found.chance
    return dataclasses.replace(found, skill=(found.value - found.chance) / gap if gap > SAME else np.nan)


def mean(values: Float[np.ndarray, " n"]) -> tuple[float, int, int]:
    """Mean of the defined values, how many they are, and how many are NaN."""
    defined = np.isfinite(values)
    value = float(values[defined].mean()) if defined.any() else float("nan")
    return value, int(defined.sum()), int((~defined).sum())


def mean_and_error(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Mean of independent values, and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def share_right(right: Bool[np.ndarray, " n"]) -> float:
    """Share of rows that are predicted right; NaN of none."""
    return float(right.mean()) if len(right) else float("nan")


def relative_gap(total: Float[np.ndarray, " n"], difference: Float[np.ndarray, " n"]) -> float:
    """By how much sums of attributions miss what they should come to, as a share of its mean size."""
    scale = np.abs(difference).mean()
    return float(np.abs(total - difference).mean() / scale) if scale > 0 else float(np.abs(total).mean())


def regression_quality(
    predicted: Float[np.ndarray, " n"], wanted: Float[np.ndarray, " n"], train: Float[np.ndarray, " m"]
) -> dict[str, float]:
    """Mean absolute error, that of always saying the mean of the `train` targets, and R2 against it."""
    guess = train.mean()
    spread = float(((wanted - guess) ** 2).mean())
    r2 = 1 - float(((wanted - predicted) ** 2).mean()) / spread if spread > 0 else float("nan")
    return {
        "mae": float(np.abs(wanted - predicted).mean()),
        "mae_of_mean": float(np.abs(wanted - guess).mean()),
        "quality": r2,
    }


def classification_quality(
    predicted: Int[np.ndarray, " n"], wanted: Int[np.ndarray, " n"], train: Int[np.ndarray, " m"]
) -> dict[str, float]:
    """Accuracy, that of always saying the commonest of the `train` classes, and the share of the way to 1."""
    right, lazy = float((predicted == wanted).mean()), float((wanted == np.bincount(train).argmax()).mean())
    return {
        "accuracy": right,
        "accuracy_of_mode": lazy,
        "quality": (right - lazy) / (1 - lazy) if lazy < 1 else float("nan"),
    }


def percentiles(draws: Float[np.ndarray, " draws"], level: float = LEVEL) -> tuple[float, float]:
    """Between which the middle of the draws lies, as large a share as `level`."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def levels(values: Float[np.ndarray, "*rows n"], tolerance: float) -> Int[np.ndarray, "*rows n"]:
    """Whole numbers from 0 in the order of the values of a row, the same for neighbours closer than this."""
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    steps = np.diff(ordered, axis=-1, prepend=ordered[..., :1]) > tolerance
    found = np.zeros(values.shape, dtype=int)
    np.put_along_axis(found, order, np.cumsum(steps, axis=-1), axis=-1)
    return found


def ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """1 for the highest; ties share the better rank; NaN stays NaN."""
    out = np.full(len(values), np.nan)
    known = np.isfinite(values)
    out[known] = [1 + np.sum(values[known] > v + SAME) for v in values[known]]
    return out
