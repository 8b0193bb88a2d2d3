"""Scores -> at which noise level a method's skill has fallen to half of what it was at the cleanest."""

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from . import intervals
from . import leaderboard as lead
from .stats import LEVEL, SAME

LESS_IS_NOISIER = frozenset({"snr_db", "contrast", "alpha"})  # of all other axes a larger value is harder
FEWEST = 2  # levels; with two, a method can be seen to break, not where
PLACE = ["dataset", "parameters", "axis", "held"]
CURVES = [*PLACE, "level", "method", "skill", "low", "high"]
SAYS = ("never", "at", "always below", "no skill")  # from the most robust to those with nothing to lose
BREAKDOWNS = [*PLACE, "method", "clean_level", "clean_skill", "says", "level", "low", "high"]
SEEN = ["next_level", "last_level"]  # beside the cleanest, and the noisiest
HOW_TO_READ = """\
A method breaks where its mean skill first falls to half of that at the cleanest level at which there is a
skill; between two levels skill is taken to change in a straight line. `never`: not within the levels run.
`always below`: at every level after the cleanest; where before the next one is then not known. `no skill
seen`: at the cleanest level it cannot be told from 0, so that there is nothing to lose. All methods of a
table are compared on the cells that all have at all levels, the other axes held. Intervals (95%) say how
far the breakdown would move if these problems were drawn again; with two seeds they are wide. Most robust
first."""


@dataclass(frozen=True)
class _Curve:
    """Mean skill of the ranked methods along one axis of one problem, cleanest level first."""

    place: tuple[str, str, str, str]
    levels: Float[np.ndarray, " levels"]
    methods: list[str]
    values: Float[np.ndarray, "seeds levels methods"]

    def samples(self) -> Iterator[intervals.Sample]:
        """The draws of every level; other noise is another condition, drawn for itself."""
        seeds = len(self.values)
        one = np.zeros(seeds, dtype=int)
        for level in range(len(self.levels)):
            yield intervals.Sample(self.values[:, level], one, one, np.full(seeds, 1 / seeds))


def _turn(axis: str) -> float:
    """A level times this is larger where it is noisier."""
    return -1.0 if axis in LESS_IS_NOISIER else 1.0


def noise_axes(noise: str) -> dict[str, str]:
    """The noise axes of a row of the tables, and their values as text; these may hold spaces."""
    parts = re.split(r" (?=\w+=)", noise.strip())
    return {axis: value for axis, equals, value in (part.partition("=") for part in parts) if equals}


def curves(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean skill of every ranked method by noise level, with 95% intervals over draws (on these problems).

    A curve is of one problem (dataset, parameters) and axis of its noise, with the other axes held, and has
    at least two numeric levels at which there is a skill.  A level with less than a quarter of the cells of
    the fullest is left out: where hardly a cell has a skill, as without noise columns, it would leave as few
    at all levels.  Means are over the cells (model, metric, seed) that all ranked methods have at all levels,
    so that no curve is moved by other cells dropping in.

    Args:
        scores: as in scores.csv.

    Returns:
        dataset, parameters, axis, held (the other axes, as text), level (in the axis' own unit), method,
        skill, low, high (NaN with one seed); the cleanest level first.
    """
    parts = []
    for curve in _curves(scores):
        found = [intervals.estimates(sample) for sample in curve.samples()]
        part = pd.DataFrame(dict(zip(PLACE, curve.place, strict=True)), index=range(curve.values[0].size))
        part["level"] = np.repeat(curve.levels, len(curve.methods))
        part["method"] = curve.methods * len(curve.levels)
        for column, name in {"skill": "mean", "low": "low_here", "high": "high_here"}.items():
            part[column] = np.concatenate([getattr(estimates, name) for estimates in found])
        parts.append(part)
    return pd.concat(parts, ignore_index=True)[CURVES] if parts else pd.DataFrame(columns=CURVES)


def breakdowns(scores: pd.DataFrame) -> pd.DataFrame:
    """Where every ranked method's mean skill first falls to half of that at the cleanest level.

    says, the first that holds: "no skill" (the 95% interval of the clean skill includes 0, or it is not above
    0), "never" (within the levels seen), "always below" (half, at every level after the cleanest), "at".
    Between levels skill is interpolated linearly in the axis' own unit.  With two levels a breakdown is
    "always below".  The interval is that of the first crossing over joint draws of the curve, each against
    half of its own clean skill; for "always below" it begins at the cleanest level, and `level` is the next,
    as nothing was seen between the two.

    With two seeds the interval at one level is 13 standard errors wide to each side, and hardly a method
    would have a skill to lose.  For "no skill", and for that alone, the one from the spread of the seeds at
    all levels together, which need not be alike, has to include 0 too.

    Args:
        scores: as in scores.csv.

    Returns:
        dataset, parameters, axis, held, method, clean_level, clean_skill, says; level, low and high in the
        axis' own unit, infinite beyond the last level seen and NaN where there is no skill, low and high also
        with one seed; next_level, the one beside the cleanest, and last_level, the noisiest.
    """
    rows = [row for curve in _curves(scores) for row in _breakdowns(curve)]
    return pd.DataFrame(rows, columns=[*BREAKDOWNS, *SEEN])


def _curves(scores: pd.DataFrame) -> Iterator[_Curve]:
    wide = lead.skills(scores, lead.judge(scores))
    for (dataset, parameters), part in wide.groupby(level=lead.CLUSTER, sort=False):
        rows_of = part.index.get_level_values("noise")
        for (axis, held), levels in _axes(list(dict.fromkeys(rows_of))).items():
            turn = _turn(axis)
            ordered = sorted(levels, key=lambda level: turn * level)
            at = {level: part[rows_of == levels[level]].droplevel([*lead.PROBLEM]) for level in ordered}
            curve = _curve((str(dataset), str(parameters), axis, held), at)
            if curve is not None:
                yield curve


def _axes(noises: list[str]) -> dict[tuple[str, str], dict[float, str]]:
    """Every axis with the others held -> its levels, each with the noise as in the tables."""
    found: dict[tuple[str, str], dict[float, str]] = {}
    for noise in noises:
        axes = noise_axes(noise)
        for axis, value in axes.items():
            held = " ".join(f"{other}={v}" for other, v in axes.items() if other != axis)
            level = _numeric(value)
            if np.isfinite(level):
                found.setdefault((axis, held), {})[level] = noise
    return {key: levels for key, levels in found.items() if len(levels) >= FEWEST}


def _numeric(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")


def _curve(place: tuple[str, str, str, str], at: dict[float, pd.DataFrame]) -> _Curve | None:
    """The curve over the cells that all ranked methods have at all levels; None where there is none."""
    counts = {level: int(frame.notna().any(axis=1).sum()) for level, frame in at.items()}
    kept = [level for level, n in counts.items() if n and n >= lead.RANKED_SHARE * max(counts.values())]
    if len(kept) < FEWEST:
        return None
    both = at[kept[0]].index
    for level in kept[1:]:
        both = both[both.isin(at[level].index)]
    stacked = np.stack([at[level].reindex(both).to_numpy(dtype=float) for level in kept])
    whole = pd.DataFrame(stacked.sum(0), index=both, columns=at[kept[0]].columns)  # NaN where one level is
    if not whole.notna().to_numpy().any():
        return None
    common = lead.shared(whole)
    stacked = stacked[:, both.isin(common.index)][:, :, whole.columns.isin(common.columns)]
    seed = pd.factorize(common.index.get_level_values("seed"))[0]
    values = np.stack([stacked[:, seed == s].mean(1) for s in range(seed.max() + 1)])
    return _Curve(place, np.array(kept), [str(m) for m in common], values)


def _breakdowns(curve: _Curve) -> Iterator[tuple[object, ...]]:
    """One row a method, as in the frame."""
    rng, turn = lead.generator("breakdown", *curve.place), _turn(curve.place[2])
    samples = list(curve.samples())
    means = np.stack([sample.mean for sample in samples])
    drawn = np.stack([intervals.draws(sample, rng) for sample in samples])
    place = turn * curve.levels
    crossing = _crossing(place, means)
    low, high = _between(_crossing(place, drawn.reshape(len(place), -1)).reshape(drawn.shape[1:]))
    ends = turn * np.stack([crossing, low, high] if turn > 0 else [crossing, high, low])
    ends[1:, np.isnan(drawn).any((0, 1))] = np.nan
    nothing = _no_skill(curve, intervals.estimates(samples[0]))
    first, following, last = (float(curve.levels[k]) for k in (0, 1, -1))
    for j, method in enumerate(curve.methods):
        below = means[1:, j] <= means[0, j] / 2
        says = "always below" if below.all() else "at" if below.any() else "never"
        where = ends[:, j]
        if nothing[j]:
            says, where = "no skill", np.full(3, np.nan)
        elif says == "always below":
            where = _before(turn, first, following, where)
        row = (first, float(means[0, j]), says, *map(float, where), following, last)
        yield *curve.place, method, *row


def _before(
    turn: float, first: float, following: float, where: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, " 3"]:
    """Level and interval of what lies before the level after the cleanest, or as far as draws go."""
    if np.isnan(where[1]):
        return np.array([following, np.nan, np.nan])
    if turn > 0:
        return np.array([following, first, max(where[2], following)])
    return np.array([following, min(where[1], following), first])


def _no_skill(curve: _Curve, clean: intervals.Estimates) -> Bool[np.ndarray, " methods"]:
    """Which methods' skill at the cleanest level cannot be told from 0."""
    seeds, levels, methods = curve.values.shape
    if seeds < 2:
        return np.asarray(clean.mean <= SAME)
    error = np.sqrt(curve.values.var(0, ddof=1).mean(0) / seeds)
    pooled = intervals.Spread(error, np.full(methods, levels * (seeds - 1.0)))
    low = clean.mean - intervals.half_width(pooled)
    return np.asarray((low <= SAME) & (clean.low_here <= SAME))


def _crossing(
    place: Float[np.ndarray, " levels"], skill: Float[np.ndarray, "levels n"]
) -> Float[np.ndarray, " n"]:
    """Where each curve first falls to half of its first value; inf where it does not.

    A curve that begins at 0 or below has lost all there.

    Args:
        place: of the levels, rising.
        skill: at each, a curve a column.
    """
    above = skill - skill[0] / 2
    above[0] = np.maximum(above[0], 0)
    below = above <= 0
    first = below.argmax(0)
    here, before = first, np.maximum(first - 1, 0)
    column = np.arange(skill.shape[1])
    fall = above[before, column] - above[here, column]
    share = np.divide(above[before, column], fall, out=np.zeros(len(fall)), where=fall > 0)
    found = place[before] + share * (place[here] - place[before])
    return np.where(below.any(0), found, np.inf)


def _between(
    drawn: Float[np.ndarray, "draws n"],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The middle 95% of draws, some of which may be infinite."""
    ordered = np.sort(drawn, axis=0)
    last = len(ordered) - 1
    return ordered[int(np.floor((1 - LEVEL) / 2 * last))], ordered[int(np.ceil((1 + LEVEL) / 2 * last))]


def display(frame: pd.DataFrame) -> pd.DataFrame:
    """Breakdowns as people read them: text in every place, most robust first within a curve."""
    turned = frame["level"] * [_turn(axis) for axis in frame["axis"]]
    order = pd.Categorical(frame["says"], SAYS, ordered=True)
    keyed = frame.assign(
        _says=order.codes, _level=turned.fillna(0), _curve=frame.groupby(PLACE, sort=False).ngroup()
    )
    keyed = keyed.sort_values(
        ["_curve", "_says", "_level", "clean_skill"], ascending=[True, True, False, False], kind="stable"
    )
    shown = keyed[[*PLACE, "method"]].copy()
    shown["clean skill"] = [f"{v:.2f}" for v in keyed["clean_skill"]]
    shown["falls to half"] = [_said(row) for row in keyed.to_dict("records")]
    shown["95% interval"] = [_interval(row) for row in keyed.to_dict("records")]
    return shown.reset_index(drop=True)


def _said(row: dict[Hashable, Any]) -> str:
    if row["says"] == "at":
        return f"at {row['level']:.3g}"
    if row["says"] == "always below":
        return f"always below (from {row['next_level']:g})"
    return "no skill seen" if row["says"] == "no skill" else str(row["says"])


def _interval(row: dict[Hashable, Any]) -> str:
    low, high, last = (float(row[end]) for end in ("low", "high", "last_level"))
    if np.isnan(low):
        return ""
    ends = dict.fromkeys((_end(low, last), _end(high, last)))
    return " to ".join(ends)


def _end(value: float, last: float) -> str:
    if np.isfinite(value):
        return f"{value:.3g}"
    return f"{'>' if value > 0 else '<'}{last:g}"


def section(frame: pd.DataFrame) -> list[str]:
    """What leaderboard.md says of it: a table a problem and axis; nothing where there is none."""
    if frame.empty:
        return []
    parts = ["## Where do they break?", HOW_TO_READ]
    for place, rows in display(frame).groupby(PLACE, sort=False):
        dataset, parameters, axis, held = (lead.in_prose(str(text)) for text in place)
        beside = f", {held}" if held else ""
        parts.append(f"### {dataset} ({parameters}): {axis}{beside}")
        parts.append(lead.markdown_table(rows.drop(columns=PLACE)))
    return parts
