"""The ledger: every finished cell, one transaction each, in one SQLite file; and its export to tables."""

import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from .registry import AssayError

SCHEMA = 6
OLDEST = 5  # layout that is brought up to date
FILE = "ledger.sqlite"
GROUPS = (
    *("rows_aligned", "value_aligned", "skill_aligned"),
    *("rows_conflicting", "value_conflicting", "skill_conflicting"),
)
GROUP_ACCURACY = ("accuracy_aligned", "accuracy_conflicting", "accuracy_worst_group")
RELIANCE = ("change", "change_error", "share", "accuracy_drop", "accuracy_drop_error")
SEEDS = ("seed", "model_seed", "method_seed")
COLUMNS: dict[str, tuple[str, ...]] = {
    "scores": (
        *("dataset", "parameters", "noise", "model", "method", "metric", "family", *SEEDS),
        *("value", "chance", "ceiling", "skill", "skill_error", "rows", "nan_rows", "rows_right"),
        *("skill_right", *GROUPS, "status", "reason", "version", "seconds"),
    ),
    "agreement": (
        *("dataset", "parameters", "noise", "model", "method", "other", "metric", *SEEDS),
        *("value", "chance", "skill", "rows", "nan_rows", "status", "reason", "version", "seconds"),
    ),
    "models": (
        *("dataset", "parameters", "noise", "model", "seed", "model_seed", "rows", "quality", "learned"),
        *("mae", "mae_of_mean", "accuracy", "accuracy_of_mode"),
        *(*GROUP_ACCURACY, "version"),
    ),
    "reliance": (
        *("dataset", "parameters", "noise", "model", "seed", "model_seed", "region", "rows"),
        *(*RELIANCE, "version"),
    ),
    "problems": ("dataset", "parameters", "noise", "seed", "facts", "version"),
    "costs": (
        *("dataset", "parameters", "noise", "model", "method", *SEEDS, "estimand", "seconds"),
        *("seconds_per_row", "model_rows_per_row", "backward_rows_per_row", "completeness_error", "peak_mb"),
        *("control", "budget", "remark", "version"),
    ),
    "scoring": (
        *("dataset", "parameters", "noise", "model", "metric", "seed", "model_seed"),
        *("cells", "seconds", "model_rows", "version"),
    ),
    "pictures": (
        *("dataset", "parameters", "noise", "model", "seed"),
        *("inputs", "relevant", "shortcut", "labels", "predictions", "version"),
    ),
    "maps": ("dataset", "parameters", "noise", "model", "method", "seed", "map", "control", "version"),
    "metrics": ("metric", "family", "best", "worst", "chance", "needs", "caveat", "paper", "version"),
}
# columns that older tables lack, and what is said there: not known, or that there was one seed for all
ADDED = dict.fromkeys(
    ("control", "budget", "remark", "skill_error", "rows_right", "skill_right", *GROUPS, *GROUP_ACCURACY),
    float("nan"),
) | dict.fromkeys(SEEDS[1:], 0)
SHOWN = ("pictures", "maps")  # tables that are drawn and not exported
TIMED = ("costs", "scoring")  # tables that no two runs have alike
TEXT = (
    *("dataset", "parameters", "noise", "model", "method", "other", "metric", "region", "reason", "remark"),
    *("estimand", "version"),
)
WORDS = ("family", "status", "facts", "needs", "caveat", "paper")  # text that says nothing of where a row is
# what a cell is named by: two rows of one would count twice
CELLS = {
    "scores": ["dataset", "parameters", "noise", "model", "method", "metric", *SEEDS],
    "agreement": ["dataset", "parameters", "noise", "model", "method", "other", "metric", *SEEDS],
    "models": ["dataset", "parameters", "noise", "model", *SEEDS[:2]],
}
MEASURED = "seconds"  # left out of the tables that must be the same to the bit; those that are timed have it

Row: TypeAlias = Mapping[str, Any]


class Ledger:
    """An open results folder.  Only the parent process writes to it."""

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        """Open or make the ledger in `folder`.

        Raises:
            AssayError: the folder is not ours, cannot be written, is in use, or its ledger is damaged.
        """
        self.folder = folder
        name = repr(str(folder))
        try:
            self._open(fresh)
        except OSError as error:
            raise AssayError(
                f"results folder {name} cannot be written ({error.strerror}); give another with --out."
            ) from None
        except sqlite3.OperationalError as error:
            raise AssayError(
                f"ledger in {name} cannot be opened ({error}); if another run is using this folder, wait for "
                "it or give another --out, else check that the folder can be written."
            ) from None
        except sqlite3.DatabaseError as error:
            raise AssayError(
                f"ledger in {name} is damaged ({error}); move it away, or start over with --fresh."
            ) from None

    def _open(self, fresh: bool) -> None:
        path = self.folder / FILE
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() and any(self.folder.iterdir()):
            raise AssayError(
                f"results folder {str(self.folder)!r} holds files but no {FILE}, so another program made it; "
                "give an empty or new folder with --out."
            )
        if fresh and path.exists():
            _refuse_if_in_use(path)
            for old in (path, path.with_name(f"{FILE}-wal"), path.with_name(f"{FILE}-shm")):
                old.unlink(missing_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
        try:
            self._prepare(path)
        except BaseException:
            self._db.close()  # else the file stays locked as long as the exception is looked at
            raise

    def _prepare(self, path: Path) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second run on this folder is refused
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(
            "PRAGMA synchronous = NORMAL"
        )  # survives a kill; a power cut may lose the last cells
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, *range(OLDEST, SCHEMA + 1)):
            raise AssayError(
                f"ledger {str(path)!r} has layout {version}, this program reads {SCHEMA}; use the program's "
                "version that made it, or start over with --fresh."
            )
        for table, columns in COLUMNS.items():
            self._db.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, {', '.join(columns)})"
            )
            there = {name for _, name, *_ in self._db.execute(f"PRAGMA table_info({table})")}
            for column in (column for column in columns if column not in there):
                default = 0 if column in SEEDS else "NULL"
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column} DEFAULT {default}")
        self._db.execute(f"PRAGMA user_version = {SCHEMA}")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS plan (position INTEGER PRIMARY KEY, key TEXT, kind TEXT)"
        )
        if self._db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("its pages do not fit together")

    def write(self, table: str, key: str, row: Row) -> None:
        """Record one finished cell, or what was measured beside it; durable when this returns."""
        columns = COLUMNS[table]
        marks = ", ".join("?" * (len(columns) + 1))
        values = [key, *(row.get(column) for column in columns)]
        try:
            into = f"{table} (key, {', '.join(columns)})"
            self._db.execute(f"INSERT OR REPLACE INTO {into} VALUES ({marks})", values)
        except sqlite3.OperationalError as error:
            raise AssayError(
                f"ledger in {str(self.folder)!r} cannot be written ({error}); make room, then give the same "
                "command again to go on."
            ) from None

    def done(self) -> set[str]:
        """Keys of the cells that need not be computed again; failed ones are tried again."""
        found = self._db.execute(
            "SELECT key FROM scores WHERE status != 'failed' "
            "UNION ALL SELECT key FROM agreement WHERE status != 'failed'"
        )
        return {key for (key,) in found}

    def set_plan(self, keys: Iterable[tuple[str, str]]) -> None:
        """Remember which rows, (key, table), the tables of this folder show, and in which order."""
        self._db.execute("BEGIN")
        self._db.execute("DELETE FROM plan")
        self._db.executemany("INSERT INTO plan (key, kind) VALUES (?, ?)", keys)
        self._db.execute("COMMIT")

    def table(self, name: str) -> pd.DataFrame:
        """The planned rows of one table that are finished, in the order of the plan."""
        columns = ", ".join(f"t.{c}" for c in COLUMNS[name])
        query = f"SELECT {columns} FROM plan JOIN {name} t USING (key) WHERE kind = ? ORDER BY position"
        rows = self._db.execute(query, (name,)).fetchall()
        return pd.DataFrame(rows, columns=list(COLUMNS[name]))

    def export(self) -> None:
        """Write every table that is not drawn as <name>.csv; if not timed, equal to the bit for a seed."""
        for name in (name for name in COLUMNS if name not in SHOWN):
            frame = self.table(name)
            if name not in TIMED:
                frame = frame.drop(columns=MEASURED, errors="ignore")
            file = self.folder / f"{name}.csv"
            if not frame.empty or name == "scores":
                write_atomically(file, frame.to_csv(index=False))
            else:
                file.unlink(missing_ok=True)  # of a former plan

    def close(self) -> None:
        """Fold the journal back into the file and let go of it."""
        self._db.close()


def _refuse_if_in_use(path: Path) -> None:
    """Raise sqlite3.OperationalError if another run holds this ledger; a damaged one is nobody's."""
    db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        pass
    finally:
        db.close()


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """An exported table, compressed or not; a missing one has no rows.

    Columns that are no text are numbers, NaN where nothing stands; seeds are whole numbers.

    Raises:
        AssayError: the file is no table of ours, has something else in place of a number, or a cell twice.
    """
    for path in (folder / f"{name}.csv", folder / f"{name}.csv.gz"):
        if path.is_file():
            break
    else:
        return pd.DataFrame(columns=list(COLUMNS[name]))
    texts = dict.fromkeys((*TEXT, *WORDS), str)
    empty = dict.fromkeys((c for c in COLUMNS[name] if c not in texts and c not in SEEDS), "")
    try:
        frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=empty, low_memory=False)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        why = " ".join(str(error).split())
        raise AssayError(
            f"table {str(path)!r} cannot be read ({why}); make it again with `report`."
        ) from None
    for column in (c for c in COLUMNS[name] if c in ADDED and c not in frame):
        frame[column] = ADDED[column]
    lacking = [c for c in COLUMNS[name] if c not in frame and c != MEASURED]
    if lacking:
        raise AssayError(
            f"table {str(path)!r} has no column {lacking[0]!r}; give a results folder of this program."
        )
    for column in (c for c in COLUMNS[name] if c not in texts and c in frame):
        frame[column] = _numbers(frame[column], path)
    _check_once(frame, name, path)
    return frame


def _numbers(column: "pd.Series[Any]", path: Path) -> "pd.Series[Any]":
    """A column as numbers; an infinite skill is refused, as no run writes one and it would be every mean."""
    name = str(column.name)
    found = column
    if not pd.api.types.is_numeric_dtype(column) or (name in SEEDS and column.dtype == bool):
        found = pd.to_numeric(column.astype(str).where(column.notna()), errors="coerce")
    bad, allowed = found.isna() & column.notna(), "a number"
    if name in SEEDS and len(column) and (column.astype(str) == "").all():
        return pd.Series(0, column.index, dtype="int64")  # not known: one seed for all
    if name in SEEDS:
        bad, allowed = ~(found.abs() < 2**53) | (found % 1 != 0), "a whole number"
    elif name.startswith("skill") and name != "skill_error":
        bad, allowed = bad | np.isinf(found), "a finite number"
    if bad.any():
        raise AssayError(
            f"column {name!r} of table {str(path)!r} has {str(column[bad].iloc[0])!r} in data row "
            f"{int(bad.argmax()) + 1}, not {allowed}; make it again with `report`."
        )
    return found.astype("int64") if name in SEEDS else found


def _check_once(frame: pd.DataFrame, name: str, path: Path) -> None:
    """Refuse a table that has one cell in two rows."""
    twice = frame.duplicated(CELLS[name]) if name in CELLS else frame.index < 0
    if twice.any():
        row = frame[twice].iloc[0]
        where = " ".join(f"{column}={row[column]}" for column in CELLS[name] if row[column] != "")
        raise AssayError(
            f"table {str(path)!r} has {int(twice.sum()):,} cells twice, the first is {where}, where each may "
            "stand once; make it again with `report`."
        )


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader, or a kill, sees the old file or the new one and never half of one."""
    half = path.with_name(f".{path.name}.half")
    half.write_text(text, encoding="utf-8")
    half.replace(path)
