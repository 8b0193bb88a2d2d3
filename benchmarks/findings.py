"""All that is told of one results folder, computed once: what the page, the tables and the pictures show."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from . import accord, breakdown, manifest, profiles, shortcuts, variance
from . import leaderboard as lead
from . import trust as trusting
from .controls import controls
from .errorsplit import error_split
from .leaderboard import Tables
from .overview import overview
from .pairs import pairs as every_two
from .registry import AssayError
from .significance import Significance, compare_many
from .tables import read_table
from .trust import Trust

BESIDE = ("agreement", "models", "costs", "metrics", "reliance", "problems")


@dataclass(frozen=True)
class Findings:
    """What one results folder says; a frame without rows where it says nothing.

    boards: the leaderboard `overall`, then one a dataset where there are several.
    pairs: every two ranked methods, on these problems.
    significance: of many methods at once; None with too few methods or conditions.
    curves, breakdowns: skill by noise level, and the level at which half of it is left.
    variance, errors: where the spread and the error of every method come from.
    """

    folder: Path
    name: str
    tables: Tables
    made: dict[str, Any]
    boards: dict[str, pd.DataFrame]
    pairs: pd.DataFrame
    significance: Significance | None = None
    profiles: pd.DataFrame = field(default_factory=pd.DataFrame)
    iqm: "pd.Series[float]" = field(default_factory=lambda: pd.Series(dtype=float))
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    breakdowns: pd.DataFrame = field(default_factory=pd.DataFrame)
    agreement: pd.DataFrame = field(default_factory=pd.DataFrame)
    trust: Trust | None = None
    shortcuts: dict[str, pd.DataFrame] = field(default_factory=dict)
    variance: pd.DataFrame = field(default_factory=pd.DataFrame)
    errors: pd.DataFrame = field(default_factory=pd.DataFrame)
    overview: list[str] = field(default_factory=list)

    @property
    def board(self) -> pd.DataFrame:
        """All leaderboards, one below the other, with the scope of each in front."""
        parts = [board.assign(scope=scope) for scope, board in self.boards.items()]
        whole = pd.concat(parts, ignore_index=True)
        whole.insert(0, "scope", whole.pop("scope"))
        return whole


def read_scores(folder: Path) -> pd.DataFrame:
    """The scores of a results folder.

    Raises:
        AssayError: there are none, or they cannot be read.
    """
    scores = read_table(folder, "scores")
    if scores.empty:
        raise AssayError(
            f"results folder {str(folder)!r} has no finished cell; give a folder that a run has written to."
        )
    return scores


def load(folder: Path) -> Tables:
    """The tables of a results folder; nothing in it is changed.

    Raises:
        AssayError: there are none, or they cannot be read.
    """
    return Tables(read_scores(folder), *(read_table(folder, name) for name in BESIDE))


def find(folder: Path) -> Findings:
    """Everything that the tables of a folder say.

    Raises:
        AssayError: they cannot be read.
    """
    tables, made = load(folder), manifest.read(folder)
    scores, known = tables.scores, controls(tables.costs)
    boards, pairs, blocks = lead.leaderboards(tables), every_two(scores), lead.blocks(scores)
    fallen, trusted = breakdown.breakdowns(scores), _trust(tables)
    return Findings(
        folder=folder,
        name=str(made.get("suite", "results")),
        tables=tables,
        made=made,
        boards=boards,
        pairs=pairs,
        significance=compare_many(blocks.drop(columns=known, errors="ignore")),
        profiles=profiles.performance_profile(blocks),
        iqm=profiles.interquartile_mean(blocks),
        curves=breakdown.curves(scores),
        breakdowns=fallen,
        agreement=accord.agreement_matrix(tables.agreement, "spearman"),
        trust=trusted,
        shortcuts=shortcuts.answers(tables),
        variance=variance.variance(scores),
        errors=error_split(scores, known),
        overview=overview(tables, boards["overall"], pairs, fallen, trusted),
    )


def _trust(tables: Tables) -> Trust | None:
    """Whether the other metrics can stand in for the truth; None where not both were run."""
    if tables.metrics.empty:
        return None
    try:
        return trusting.trust(tables.scores, tables.metrics, tables.costs)
    except AssayError:  # nothing to rank, or by nothing
        return None
