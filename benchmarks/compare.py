"""Two tables or more -> what moved, and whether it is more than noise."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from . import leaderboard as lead
from . import manifest
from .differences import KEY, PLACE, moved
from .findings import read_scores
from .provenance import settings as settings_of
from .provenance import versions
from .registry import AssayError
from .tables import read_table

ABSENT_IN_A = ("it is not in A", "all of it is skipped in A", "all of it is undefined in A")


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
    def lost(self) -> list[str]:
        """Methods that fail where they did not, or that A scored against a truth and B leaves unknown."""
        only, truth = self.only, self.methods[self.methods["family"].isin(lead.TRUTHS)]
        failing = only.loc[(only["only in"] == "A") & (only["in the other"] == "failed"), "method"]
        silent = truth.loc[(truth["verdict"] == "not comparable") & ~truth["why"].isin(ABSENT_IN_A), "method"]
        return list(dict.fromkeys([*failing, *silent]))

    def regressions(self, metric: str = "skill", delta: float = 0.0) -> list[str]:
        """Methods that got worse by more than `delta` in a metric, or in skill against a truth.

        Raises:
            AssayError: it was not run in both, or nobody knows which way it is better.
        """
        truth = metric == "skill"
        column = "family" if truth else "metric"
        frame = self.methods if truth else self.metrics
        found = frame[frame[column].isin(lead.TRUTHS if truth else [metric])]
        if found.empty or (found["verdict"] == "not comparable").all():
            known = sorted(set(self.metrics.loc[self.metrics["cells"] > 0, "metric"]))
            what = "no metric of truth was" if truth else f"metric {metric!r} was not"
            raise AssayError(
                f"{what} scored in both, so nothing can regress in it; name one of {', '.join(known)}."
            )
        if found["verdict"].isin(["higher", "lower"]).any():
            raise AssayError(
                f"of metric {metric!r} nobody knows whether more is better, so it cannot regress; compare "
                "folders that have a metrics.csv."
            )
        worse = found[(found["verdict"] == "worse") & (found["difference"].abs() > delta)]
        return list(dict.fromkeys(worse["method"]))


def compare(first: Path, second: Path) -> Comparison:
    """Compare the scores of two results folders, or of two files, cell by cell.

    Raises:
        AssayError: one of them holds no results, or they share nothing.
    """
    a, b = (table(path) for path in (first, second))
    made = [manifest.read(folder_of(path)) for path in (first, second)]
    settings = pd.concat([versions(a, b), settings_of(*made)], ignore_index=True)
    facts = [read_table(folder_of(path), "metrics") for path in (first, second)]
    unscaled = set(a.loc[a["skill"].isna() & a["value"].notna(), "metric"]) - set(
        a.loc[a["skill"].notna(), "metric"]
    )
    rises = _directions(pd.concat(facts), sorted(unscaled))
    methods, metrics = moved(a, b), moved(a, b, rises)
    return Comparison(str(first), str(second), methods, metrics, _only(a, b), settings)


def folder_of(path: Path) -> Path:
    """The results folder that is meant, or that the file lies in."""
    return path if path.is_dir() else path.parent


def table(path: Path) -> pd.DataFrame:
    """The scores of a results folder, or of a scores.csv wherever it lies.

    Raises:
        AssayError: there are none.
    """
    if not path.is_dir() and not (path.is_file() and path.name in {"scores.csv", "scores.csv.gz"}):
        raise AssayError(
            f"there are no results at {str(path)!r}; give a results folder, or a file called scores.csv or "
            "scores.csv.gz."
        )
    return read_scores(folder_of(path))


def _directions(facts: pd.DataFrame, metrics: Iterable[str]) -> dict[str, int]:
    """1 for metrics of which more is better, -1 where less is, 0 where neither is or nobody knows.

    What the folders do not say is asked of the installed metrics.
    """
    known = facts.drop_duplicates("metric")
    declared = zip(known["best"].astype(float), known["worst"].astype(float), strict=True)
    ends: dict[str, tuple[float, float]] = dict(zip(known["metric"], declared, strict=True))
    lacking = [metric for metric in metrics if metric not in ends]
    if lacking:
        from .loading import load_plugins
        from .plugin import METRICS  # torch waits until it is needed

        load_plugins()
        installed = {plugin.name: (plugin.facts["best"], plugin.facts["worst"]) for plugin in METRICS}
        ends |= {metric: installed.get(metric.partition("[")[0], (0, 0)) for metric in lacking}
    return {metric: int(best > worst) - int(best < worst) for metric, (best, worst) in ends.items()}


def _only(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Cells that only one of the two has scored, and what became of them in the other."""
    by = [*KEY] if set(a["seed"]) & set(b["seed"]) else [*PLACE, "method"]  # places: no cell is in both
    first, second = (_worst(frame, by) for frame in (a, b))
    sides = first.merge(second, on=by, how="outer", suffixes=("_a", "_b"))
    sides = sides.fillna({"status_a": "not there", "status_b": "not there"})
    sides = sides[(sides["status_a"] == "ok") != (sides["status_b"] == "ok")]
    sides["only in"] = np.where(sides["status_a"] == "ok", "A", "B")
    sides["in the other"] = np.where(sides["status_a"] == "ok", sides["status_b"], sides["status_a"])
    counted = ["only in", "in the other", "method"]
    return sides.groupby(counted, as_index=False).size().rename(columns={"size": "cells"})


def _worst(scores: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """What became of every cell, or of a place in the worst of its seeds."""
    severity = scores["status"].map({"ok": 0, "failed": 2}).fillna(1)
    return (
        scores[[*by, "status"]]
        .assign(severity=-severity)
        .sort_values("severity")
        .drop_duplicates(by)[[*by, "status"]]
    )
