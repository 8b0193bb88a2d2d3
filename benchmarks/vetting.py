"""Whether a results folder is what it says: complete, as exported, of the installed plug-ins."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd
import pydantic

from . import grid, loading, manifest
from .grid import REGISTRIES
from .records import row_of
from .registry import AssayError
from .suite import load_suite, suite_names
from .tables import read_table

NEEDED = ("scores", "models", "problems", "metrics")  # every run has them; the others, if it says so
CELLS = ("scores", "agreement")
PLACE = (
    *("dataset", "parameters", "noise", "model", "method", "other", "metric"),
    *("seed", "model_seed", "method_seed"),
)
PROBLEM = ("dataset", "parameters", "noise", "model", "metric")

Cell: TypeAlias = tuple[str, ...]


class Said(pydantic.BaseModel):
    """What is read of a manifest, which others can have written."""

    suite: str
    end: str
    plugins: dict[Literal["dataset", "model", "method", "metric"], dict[str, str]]
    versions: dict[str, str]
    tables: dict[str, str]
    cells: dict[Literal["planned", "finished", "failed"], int] = pydantic.Field(min_length=3)
    machine: dict[str, Any] | None = None
    git_commit: str | None = None


def vetted(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The manifest of a results folder that holds a whole suite of ours, and what a reviewer must know.

    Failed cells, and code that no commit names, are told and not refused.

    Args:
        folder: with its manifest and tables, compressed or not; the ledger is not looked at.

    Raises:
        AssayError: it is not finished, not complete, not as exported, or not of the installed versions.
    """
    made = _made(folder)
    _check_tables(folder, made)
    loading.load_plugins()
    return made, [*_check_versions(made), *_check_cells(folder, made)]


def _made(folder: Path) -> dict[str, Any]:
    """The manifest, of a finished run of one of our suites."""
    made, name = manifest.read(folder), str(folder)
    needed = ("suite", "config", "plugins", "versions", "end", "tables", "cells")
    lacking = [key for key in needed if not made.get(key)]
    if not made or lacking == ["end"]:
        what = "has not finished" if made else f"has no {manifest.FILE}"
        raise AssayError(f"results folder {name!r} {what}; submit the folder of a finished run.")
    if lacking:
        raise AssayError(
            f"{manifest.FILE} of {name!r} does not say {', '.join(lacking)}, so that nothing can be "
            "checked; make it again with `report` and its ledger, or run the suite again."
        )
    try:
        Said.model_validate(made)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise AssayError(
            f"{manifest.FILE} of {name!r} cannot be used: {where}: {first['msg'].lower()}; run the suite "
            "again."
        ) from None
    if made["suite"] not in suite_names():
        raise AssayError(
            f"suite {made['suite']!r} of {name!r} is not one of ours, so that nobody could compare with it; "
            f"submit a run of one of {', '.join(suite_names())}."
        )
    return made


def _check_tables(folder: Path, made: Mapping[str, Any]) -> None:
    """Refuse tables that are not there, not readable, or not those that the run exported."""
    noted, found = made["tables"], manifest.hashes(folder)
    for table in dict.fromkeys([*NEEDED, *noted]):
        if table not in found:
            raise AssayError(f"table {table}.csv is not in {str(folder)!r}; make it again with `report`.")
    for table, digest in found.items():
        if table not in noted:
            raise AssayError(
                f"table {table}.csv of {str(folder)!r} is not one that its {manifest.FILE} names; take it "
                "away, or make all tables again with `report`."
            )
        if noted[table] != digest:
            raise AssayError(
                f"table {table}.csv of {str(folder)!r} was changed after it was exported: its SHA-256 "
                f"begins with {digest[:12]}, in {manifest.FILE} with {noted[table][:12]}; make it again with "
                "`report`."
            )
        read_table(folder, table)


def _check_versions(made: Mapping[str, Any]) -> list[str]:
    """Refuse plug-ins other than those installed here; say where the code itself is not known."""
    for kind, found in made["plugins"].items():
        for name, version in found.items():
            here = REGISTRIES[kind][name].version if name in REGISTRIES[kind] else "not installed"
            if version != here:
                raise AssayError(
                    f"{kind} {name!r} had version {version} in this run and is {here} here; run the suite "
                    "again with what is installed, or install what it was run with."
                )
    if made.get("engine", grid.ENGINE) != grid.ENGINE:
        raise AssayError(
            f"the engine had version {made['engine']} in this run and has {grid.ENGINE} here; run the suite "
            "again."
        )
    commit = made.get("git_commit") or "unknown"
    notes = {
        "unknown": "the commit of the code is not known.",
        "-changed": "the code was changed after its commit, so that the commit does not say what was run.",
    }
    return [note for word, note in notes.items() if word in commit]


def _check_cells(folder: Path, made: Mapping[str, Any]) -> list[str]:
    """Refuse a grid with holes, or with problems beyond the suite's; say what failed."""
    name = str(folder)
    frames = [read_table(folder, table) for table in CELLS]
    counts = made["cells"]
    there, planned = sum(map(len, frames)), counts["planned"]
    if there != planned or counts["finished"] + counts["failed"] != planned:
        raise AssayError(
            f"results folder {name!r} holds {there:,} of {planned:,} planned cells; give its run again to go "
            "on."
        )
    _check_known(frames[0], made["plugins"])
    versions = {cell: version for frame in frames for cell, version in _cells(frame)}
    wanted = _wanted(made["suite"])
    lacking = [cell for cell in wanted if cell not in versions]
    if lacking:
        raise AssayError(
            f"results folder {name!r} lacks {len(lacking):,} of {len(wanted):,} cells of suite "
            f"{made['suite']!r}, the first is {_shown(lacking[0])}; run the whole suite."
        )
    old = [cell for cell, version in wanted.items() if versions[cell] != version]
    if old:
        raise AssayError(
            f"cell {_shown(old[0])} was made by versions {versions[old[0]]}, here they are {wanted[old[0]]}; "
            "run the suite again."
        )
    known = {_problem(cell) for cell in wanted}
    beyond = [cell for cell in versions if _problem(cell) not in known]
    if beyond:
        raise AssayError(
            f"results folder {name!r} has {len(beyond):,} cells that suite {made['suite']!r} has not, the "
            f"first is {_shown(beyond[0])}; only methods and seeds may be added: run it with its own lists."
        )
    return _failed(frames)


def _check_known(scores: pd.DataFrame, plugins: Mapping[str, Mapping[str, str]]) -> None:
    for kind in REGISTRIES:
        used = dict.fromkeys(str(text).partition("[")[0] for text in scores[kind].unique())
        unknown = [name for name in used if name not in plugins.get(kind, {})]
        if unknown:
            raise AssayError(
                f"the version of {kind} {unknown[0]!r} is not known: {manifest.FILE} does not name it; run "
                "the suite again."
            )


def _cells(frame: pd.DataFrame) -> Iterable[tuple[Cell, str]]:
    """Which cell each row is of, and the versions that made it."""
    columns = [frame[c].astype(str) if c in frame else [""] * len(frame) for c in PLACE]
    versions = frame["version"].astype(str)
    return [(_cell(place), version) for *place, version in zip(*columns, versions, strict=True)]


def _cell(place: Sequence[str]) -> Cell:
    """A place in the grid as text; agreement has no direction."""
    row = dict(zip(PLACE, place, strict=True))
    if row["other"]:
        row["method"], row["other"] = sorted((row["method"], row["other"]))
    return tuple(row.values())


def _wanted(suite: str) -> dict[Cell, str]:
    """Every cell of the suite, and the versions that would make it here."""
    rows = (row_of(cell) for cells in grid.plan(load_suite(suite)).values() for cell in cells)
    return {_cell([str(row.get(c, "")) for c in PLACE]): row["version"] for row in rows}


def _problem(cell: Cell) -> Cell:
    return tuple(text for text, column in zip(cell, PLACE, strict=True) if column in PROBLEM)


def _shown(cell: Cell) -> str:
    return " ".join(f"{column}={text}" for column, text in zip(PLACE, cell, strict=True) if text)


def _failed(frames: Sequence[pd.DataFrame]) -> list[str]:
    rows = pd.concat([frame.loc[frame["status"] == "failed", ["method"]] for frame in frames])
    methods = ", ".join(dict.fromkeys(rows["method"]))
    return [f"{len(rows):,} cells failed, of {methods}."] if len(rows) else []
