"""Two tables or more -> what moved, and whether it is more than noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from . import leaderboard as lead
from . import manifest, stats
from .intervals import Sample, drawn, half_width, holm, p_value, visible
from .provenance import settings as settings_of
from .provenance import versions
from .registry import AssayError
from .store import read_table

PLACE = [*lead.PROBLEM, "model", "metric"]  # of a cell, whichever its seed
KEY = [*lead.CELL, "method"]
FEWEST = "there are too few seeds to know the noise: run both with --seeds 2 or more"
LEVEL = 1 - stats.LEVEL
ROW = (
    *("method", "family", "metric", "of", "cells", "pairing", "a", "b", "difference", "low", "high"),
    *("p", "p_holm", "visible", "verdict", "why", "rank_a", "rank_b"),
)


@dataclass(frozen=True)
class Comparison:
    """What moved from A to B.

    methods: one row a method and family: mean skill in both, B minus A with its interval, the probability of
        such a difference if there is none, plain and Holm's over the methods of the family, the smallest
        difference that would have been seen, verdict, ranks.
    metrics: the same, one row a method and metric; of the value where a metric has no skill.
    only: cells that only one of the two has scored, counted by method.
    settings: what the two manifests, and the versions in the rows, say differently.
    """

    first: str
    second: str
    methods: pd.DataFrame
    metrics: pd.DataFrame
    only: pd.DataFrame
    settings: pd.DataFrame

    @property
    def failing(self) -> list[str]:
        """Methods that fail where they did not."""
        only = self.only
        return list(
            dict.fromkeys(only.loc[(only["only in"] == "A") & (only["in the other"] == "failed"), "method"])
        )

    def regressions(self, metric: str = "", delta: float = 0.0) -> list[str]:
        """Methods that got worse by more than `delta` in a metric, or in skill against a truth, or fail."""
        found = self.methods[self.methods["family"].isin(lead.TRUTHS)]
        if metric not in ("", "skill"):
            found = self.metrics[self.metrics["metric"] == metric]
            if found.empty:
                known = sorted(set(self.metrics["metric"]))
                raise AssayError(
                    f"no metric of the two is {metric!r}, so it cannot regress; give skill or one of {known}."
                )
        worse = found[(found["verdict"] == "worse") & (found["difference"].abs() > delta)]
        return list(dict.fromkeys([*worse["method"], *self.failing]))


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


def compare(first: Path, second: Path) -> Comparison:
    """Compare the scores of two results folders, or of two files, cell by cell.

    Raises:
        AssayError: one of them holds no results, or they share nothing.
    """
    a, b = (table(path) for path in (first, second))
    made = [manifest.read(path if path.is_dir() else path.parent) for path in (first, second)]
    settings = pd.concat([versions(a, b), settings_of(*made)], ignore_index=True)
    facts = [read_table(path if path.is_dir() else path.parent, "metrics") for path in (first, second)]
    rises = _directions(pd.concat(facts))
    methods, metrics = moved(a, b), moved(a, b, rises)
    return Comparison(str(first), str(second), methods, metrics, _only(a, b), settings)


def table(path: Path) -> pd.DataFrame:
    """The scores of a results folder, or of a scores.csv wherever it lies.

    Raises:
        AssayError: there are none.
    """
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and not (path.is_file() and path.name in {"scores.csv", "scores.csv.gz"}):
        raise AssayError(
            f"there are no results at {str(path)!r}; give a results folder, or a file called scores.csv or "
            "scores.csv.gz."
        )
    scores = read_table(folder, "scores")
    if scores.empty:
        raise AssayError(
            f"results folder {str(folder)!r} has no finished cell; give a folder that a run has written to."
        )
    return scores


def _directions(facts: pd.DataFrame) -> dict[str, int]:
    """1 for metrics of which more is better, -1 where less is, 0 where neither."""
    known = facts.drop_duplicates("metric")
    gaps = zip(known["metric"], known["best"].astype(float), known["worst"].astype(float), strict=True)
    return {metric: int(best > worst) - int(best < worst) for metric, best, worst in gaps}


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
    if len(pairs):
        a, b = a.of(at_a), b.of(at_b)
        gap = _drawn(a, b.value - a.value)
        difference, noise = gap.mean[0], gap.noise
        means = [_drawn(side, side.value).mean[0] for side in (a, b)]
    else:
        first, second = (_drawn(side, side.value) for side in (a, b))
        means = [first.mean[0], second.mean[0]]
        difference = means[1] - means[0]
        noise = first.noise.beside(second.noise)
    spread = noise.spread()
    half = float(half_width(spread)[0])
    return {
        "cells": len(pairs) or len(shared),
        "pairing": "cell by cell" if len(pairs) else "other seeds",
        "a": means[0],
        "b": means[1],
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
        "p": float(p_value(np.array([difference]), spread)[0]),
        "visible": float(visible(spread)[0]),
        "why": FEWEST if np.isnan(half) else "",
    }


def _absence(a: pd.DataFrame, b: pd.DataFrame, method: str) -> str:
    """Why a method has no cell that is scored in both."""
    for name, scores in (("A", a), ("B", b)):
        status = scores.loc[scores["method"] == method, "status"]
        if status.empty:
            return f"it is not in {name}"
        if not (status == "ok").any():
            return f"all of it is {status.mode()[0]} in {name}"
    return "no cell is scored in both"


def _drawn(side: _Side, value: Float[np.ndarray, " cells"]) -> Sample:
    return drawn(value[:, None], side.problem, side.condition, side.seed)


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
    family = lead.judge(a)
    for name, scores in (("rank_a", a), ("rank_b", b)):
        means = lead.clustered(lead.shared(lead.skills(scores, lead.judge(scores))))
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


def _only(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Cells that only one of the two has scored, and what became of them in the other."""
    if not set(a["seed"]) & set(b["seed"]):  # runs with other seeds share no cell, only places
        a, b = (frame.drop_duplicates([*PLACE, "method"]).assign(seed=0) for frame in (a, b))
    sides = a[[*KEY, "status"]].merge(b[[*KEY, "status"]], on=KEY, how="outer", suffixes=("_a", "_b"))
    sides = sides.fillna({"status_a": "not there", "status_b": "not there"})
    sides = sides[(sides["status_a"] == "ok") != (sides["status_b"] == "ok")]
    sides["only in"] = np.where(sides["status_a"] == "ok", "A", "B")
    sides["in the other"] = np.where(sides["status_a"] == "ok", sides["status_b"], sides["status_a"])
    by = ["only in", "in the other", "method"]
    return sides.groupby(by, as_index=False).size().rename(columns={"size": "cells"})
