"""A results folder -> a row of results/LEADERBOARD.md, if the folder holds what it should."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import grid
from . import leaderboard as lead
from .findings import load
from .plugin import METHODS
from .registry import AssayError
from .store import write_atomically
from .vetting import vetted

COLUMNS = (
    *("suite", "best method", "mean skill", "95% interval", "methods", "cells", "failed", "seeds"),
    *("machine", "versions", "commit", "date", "by", "scores"),
)
TITLE = """\
# Leaderboard of submitted runs

One row a run, written by `python run_bench.py submit RESULTS` ([how](../docs/submit.md)); the newest of a
suite comes last. The interval is that of the best method's mean skill. `scores` is how the SHA-256 of
scores.csv begins."""


@dataclass(frozen=True)
class Submission:
    """A row that was added.

    notes: what a reviewer must know, and no reason to refuse.
    """

    board: Path
    row: dict[str, str]
    notes: tuple[str, ...]

    @property
    def told(self) -> str:
        """What the user is told."""
        row = self.row
        best = f"best is {row['best method']} with mean skill {row['mean skill']}"
        first = (
            f"added to {self.board}: {row['suite']} by {row['by']}, {row['cells']} cells, "
            f"{best if row['mean skill'] else 'in which no method has a skill'}."
        )
        return "\n".join([first, *(f"Note: {note}" for note in self.notes)])


def submit(folder: Path, board: Path, name: str = "") -> Submission:
    """Check a results folder and add its row to the board; nothing is written when a check fails.

    Args:
        folder: with its manifest and tables, compressed or not; the ledger is not looked at.
        board: results/LEADERBOARD.md, made where it is not there.
        name: who ran it and where; the folder's name by default.

    Raises:
        AssayError: the folder is not complete, not as exported, not of these versions, or there already.
    """
    made, notes = vetted(folder)
    head, lines = _read_board(board)
    row = _row(folder, made, name or folder.resolve().name)
    if any(_in_cells(line)[-1] == row["scores"] for line in lines):
        raise AssayError(
            f"these scores are in {str(board)!r} already (SHA-256 {row['scores']}); a run is submitted once."
        )
    lines = sorted([*lines, _line(escaped(row[column]) for column in COLUMNS)], key=_order)
    try:
        board.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(board, "\n".join([head, *lines]) + "\n")
    except OSError as error:
        raise AssayError(
            f"{str(board)!r} cannot be written ({error.strerror}); give another board."
        ) from None
    return Submission(board, row, tuple(notes))


def _row(folder: Path, made: Mapping[str, Any], name: str) -> dict[str, str]:
    """What is told of the run, column by column."""
    tables = load(folder)
    machine, versions, cells = made.get("machine") or {}, made["versions"], made["cells"]
    shown = ("assay-xai", "python", *grid.LIBRARIES)
    commits = (made.get("git_commit") or "unknown").split(", ")
    return {
        "suite": str(made["suite"]),
        **_best(lead.leaderboard(tables, "overall")),
        "methods": str(tables.scores["method"].nunique()),
        "cells": f"{cells['planned']:,}",
        "failed": f"{cells['failed']:,}",
        "seeds": _seeds(tables.scores),
        "machine": f"{machine.get('processor')}, {machine.get('cores')} cores, {machine.get('device')}",
        "versions": ", ".join(f"{package} {versions[package]}" for package in shown if package in versions),
        "commit": ", ".join(re.sub(r"^([0-9a-f]{10})[0-9a-f]*", r"\1", commit) for commit in commits),
        "date": str(made["end"])[:10],
        "by": name,
        "scores": str(made["tables"]["scores"])[:16],
    }


def _best(board: pd.DataFrame) -> dict[str, str]:
    """The best method that is no control, with the interval on these problems where the board has it.

    Who is a control is the plug-ins' word, whose versions are vetted, not that of costs.csv, which is not.
    """
    known = [METHODS[method.partition("[")[0]].facts["control"] for method in board["method"].astype(str)]
    board = board[~np.array(known, dtype=bool)]
    ranked = board[board["skill"].notna()]
    if ranked.empty:
        return {"best method": "none", "mean skill": "", "95% interval": ""}
    best = ranked.iloc[0]
    low, high = (best[f"{side}_here" if f"{side}_here" in board else side] for side in ("low", "high"))
    interval = f"{low:.3f} to {high:.3f}" if pd.notna(low) else ""
    return {
        "best method": str(best["method"]),
        "mean skill": f"{best['skill']:.3f}",
        "95% interval": interval,
    }


def _seeds(scores: pd.DataFrame) -> str:
    counts = {c: scores[c].nunique() for c in ("seed", "model_seed", "method_seed") if c in scores}
    again = [f"{n} {column.replace('_', ' ')}s" for column, n in counts.items() if column != "seed" and n > 1]
    return ", ".join([str(counts["seed"]), *again])


def escaped(text: str) -> str:
    """Text for a cell of a markdown table: what could be markup is written as a character's number."""
    return re.sub(r"[^\w .,;/+\-()=]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", _numbered, " ".join(text.split()))


def _numbered(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"


def blank_board() -> str:
    """The board without a run."""
    return "\n".join([TITLE, "", *_header()])


def _header() -> list[str]:
    return [_line(COLUMNS), _line("---" for _ in COLUMNS)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _read_board(board: Path) -> tuple[str, list[str]]:
    """What stands above the runs, and a line for each."""
    try:
        text = board.read_text(encoding="utf-8") if board.exists() else blank_board()
    except (OSError, UnicodeDecodeError) as error:
        raise AssayError(f"{str(board)!r} cannot be read ({error}); give another board.") from None
    above, header, rows = text.partition("\n".join(_header()))
    lines = [line for line in rows.splitlines() if line.strip()]
    if not header or any(len(_in_cells(line)) != len(COLUMNS) for line in lines):
        raise AssayError(
            f"{str(board)!r} is no board of this program: its table has other columns; give another board."
        )
    return above + header, lines


def _in_cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _order(line: str) -> tuple[str, ...]:
    row = dict(zip(COLUMNS, _in_cells(line), strict=True))
    return row["suite"], row["date"], row["scores"]
