"""Two tables -> what moved in every group of cells, how sure that is, and what may be said of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from . import leaderboard as lead
from . import stats
from .intervals import Noise, half_width, holm, of_places, p_value, visible
from .registry import AssayError

PLACE = [name for name in lead.CELL if name != "seed"]  # of a cell, whichever draw it is of
KEY = [*lead.CELL, "method"]
FEWEST = "there are too few seeds to know the noise: run both with --seeds 2 or more"
LEVEL = 1 - stats.LEVEL
ROW = (
    *("method", "family", "metric", "of", "cells", "pairing", "a", "b", "difference", "low", "high"),
    *("p", "p_holm", "visible", "verdict", "why", "rank_a", "rank_b"),
)


Rows: TypeAlias = Int[np.ndarray, " _"]


@dataclass(frozen=True)
class _Side:
    """The scored cells of one table as numbers."""

    place: Int[np.ndarray, " cells"]
    problem: Int[np.ndarray, " cells"]
    condition: Int[np.ndarray, " cells"]
    seed: Int[np.ndarray, " cells"]
    value: Float[np.ndarray, " cells"]

    def of(self, rows: Rows | Bool[np.ndarray, " cells"]) -> "_Side":
        """These cells of it."""
        return _Side(*(column[rows] for column in vars(self).values()))

    def mean(self, value: Float[np.ndarray, " cells"]) -> tuple[float, Noise]:
        """Of these values of its cells, each place once; with its noise."""
        return of_places(value, self.place, self.problem, self.condition, self.seed)


def moved(a: pd.DataFrame, b: pd.DataFrame, by_metric: Mapping[str, int] | None = None) -> pd.DataFrame:
    """One row a method and family; or, given which metrics rise, a method and metric.

    Raises:
        AssayError: they share no scored cell.
    """
    groups = ["family", "method"] if by_metric is None else ["family", "metric", "method"]
    scaled = set(a.loc[a["skill"].notna(), "metric"]) & set(b.loc[b["skill"].notna(), "metric"])
    in_a, in_b = (_judged(frame, scaled, by_metric is not None) for frame in (a, b))
    whole, members = _coded(in_a, in_b, groups)
    rows = []
    for key, (first, second) in members.items():
        row = dict(zip(groups, key, strict=True)) | _difference(whole.of(first), whole.of(second))
        row |= {} if row["cells"] else {"why": _absence(a, b, row["method"])}
        rows.append(row | {"of": "skill" if row.get("metric") in {None, *scaled} else "value"})
    if not any(row["cells"] for row in rows):
        raise AssayError("A and B share no scored cell, so that nothing moved; give two runs of one suite.")
    frame = pd.DataFrame(rows).reindex(columns=[*ROW])
    frame["p_holm"] = _corrected(frame)
    turn = frame["metric"].map(by_metric or {}).where(frame["of"] == "value", 1).fillna(0)
    frame["verdict"], frame["why"] = _verdicts(frame, turn.to_numpy(dtype=float)), frame["why"].fillna("")
    return _ordered(_ranked(frame, a, b) if by_metric is None else frame)


def _judged(scores: pd.DataFrame, scaled: set[str], values: bool) -> pd.DataFrame:
    """The cells that count, with what is compared in the column `number`: skill, or a value without one."""
    skilled = scores["metric"].isin(scaled)
    number = scores["skill"].where(skilled, scores["value"] if values else np.nan).astype(float)
    return scores.assign(number=number)[(scores["status"] == "ok") & number.notna()]


def _coded(a: pd.DataFrame, b: pd.DataFrame, groups: list[str]) -> tuple[_Side, dict[Any, tuple[Rows, Rows]]]:
    """Both tables with numbers in place of names, and the rows of every group in each."""
    columns = [*dict.fromkeys([*KEY, *groups, "number"])]
    both = pd.concat([a[columns], b[columns]], ignore_index=True)
    by = {"place": PLACE, "problem": lead.CLUSTER, "condition": lead.PROBLEM, "seed": ["seed"]}
    codes = {name: both.groupby(names, sort=False).ngroup().to_numpy() for name, names in by.items()}
    found: dict[Any, tuple[Rows, Rows]] = {}
    for key, at in both.groupby(groups, sort=False).indices.items():
        rows = np.asarray(at)
        found[key] = rows[rows < len(a)], rows[rows >= len(a)]
    return _Side(**codes, value=both["number"].to_numpy(dtype=float)), found


def _difference(a: _Side, b: _Side) -> dict[str, Any]:
    """What moved in one group of cells: pairs of cells where the seeds are the same, else means of both."""
    shared = np.intersect1d(a.place, b.place)
    a, b = (side.of(np.isin(side.place, shared)) for side in (a, b))
    if not len(shared):
        return {"cells": 0}
    width = int(max(a.seed.max(), b.seed.max())) + 1
    pairs, at_a, at_b = np.intersect1d(
        a.place * width + a.seed, b.place * width + b.seed, return_indices=True
    )
    paired = bool(len(pairs)) and (_replicated(a.of(at_a)) or not (_replicated(a) and _replicated(b)))
    if paired:
        a, b = a.of(at_a), b.of(at_b)
    # a place with one seed has a noise that nobody knows, and may be one that is seldom scored
    often = np.intersect1d(_repeated(a.place), _repeated(b.place))
    if len(often):
        a, b = (side.of(np.isin(side.place, often)) for side in (a, b))
    (mean_a, noise_a), (mean_b, noise_b) = a.mean(a.value), b.mean(b.value)
    noise = a.mean(b.value - a.value)[1] if paired else noise_a.beside(noise_b)
    spread, difference = noise.spread(), mean_b - mean_a
    known = paired or (_replicated(a) and _replicated(b))  # else the noise of one side would pass for none
    half = float(half_width(spread)[0]) if known else np.nan
    return {
        "cells": len(a.place) if paired else len(often) or len(shared),
        "pairing": "cell by cell" if paired else "other seeds",
        "a": mean_a,
        "b": mean_b,
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
        "p": float(p_value(np.array([difference]), spread)[0]) if known else np.nan,
        "visible": float(visible(spread)[0]) if known else np.nan,
        "why": FEWEST if np.isnan(half) else "",
    }


def _repeated(place: Rows) -> Rows:
    """Those that stand there twice or more."""
    names, counts = np.unique(place, return_counts=True)
    return names[counts > 1]


def _replicated(side: _Side) -> bool:
    """Whether some condition was drawn twice."""
    width = int(side.seed.max()) + 1 if len(side.seed) else 1
    draws = np.unique(side.condition * width + side.seed)
    return len(draws) > len(np.unique(side.condition))


def _absence(a: pd.DataFrame, b: pd.DataFrame, method: str) -> str:
    """Why a method has no cell that is scored in both."""
    for name, scores in (("A", a), ("B", b)):
        status = scores.loc[scores["method"] == method, "status"]
        if status.empty:
            return f"it is not in {name}"
        if not (status == "ok").any():
            return f"all of it is {status.mode()[0]} in {name}"
    return "no cell is scored in both"


def _corrected(frame: pd.DataFrame) -> "pd.Series[float]":
    """Holm's p, over all rows of a family."""
    found = pd.Series(np.nan, index=frame.index)
    for _, part in frame.groupby("family", sort=False):
        known = part["p"].dropna()
        if len(known):
            found[known.index] = holm(known.to_numpy())
    return found


def _verdicts(frame: pd.DataFrame, turn: Float[np.ndarray, " n"]) -> list[str]:
    """What a corrected difference says; `turn` is 1 where more is better, -1 where less is, else 0."""
    words = {0: ("lower", "higher"), 1: ("worse", "better"), -1: ("better", "worse")}
    found = []
    for p, difference, way in zip(frame["p_holm"], frame["difference"], turn, strict=True):
        said = words[int(way)][int(difference > 0)] if p < LEVEL else "no difference seen"
        found.append("not comparable" if pd.isna(p) else said)
    return found


def _ranked(frame: pd.DataFrame, a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """With the ranks among the methods that both have."""
    family = lead.judge(a)
    both = set(a["method"]) & set(b["method"])
    for name, scores in (("rank_a", a), ("rank_b", b)):
        own = scores[scores["method"].isin(both)]
        means = lead.clustered(lead.shared(lead.skills(own, family)))
        ranks = dict(zip(means.index, stats.ranks(means.to_numpy()), strict=True))
        frame[name] = frame["method"].map(ranks).where(frame["family"] == family)
    return frame


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Truths first, and what got worse first of all."""
    order = frame["family"].map({lead.RANKED_BY: 0, lead.IN_ITS_PLACE: 1, "faithfulness": 2}).fillna(3)
    return (
        frame.assign(order=order)
        .sort_values(["order", "difference"], kind="stable", ignore_index=True)
        .drop(columns="order")
    )
