"""The ledger: every finished cell, one transaction each, in one SQLite file; and its export to tables."""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from .exporting import aside, counted, is_empty, planned, write_csv
from .intact import check_ledger
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
SEEN = ("inputs", "relevant", "shortcut", "labels", "predictions")  # of rows that people look at
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
        *(*SEEN, "version"),
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
DRAWN = (*SEEN, "map")  # text of the tables that are drawn
NUMBERS = tuple({c: 0 for columns in COLUMNS.values() for c in columns if c not in {*TEXT, *WORDS, *DRAWN}})
# what a cell is named by: two rows of one would count twice
CELLS = {
    "scores": ["dataset", "parameters", "noise", "model", "method", "metric", *SEEDS],
    "agreement": ["dataset", "parameters", "noise", "model", "method", "other", "metric", *SEEDS],
    "models": ["dataset", "parameters", "noise", "model", *SEEDS[:2]],
}
INSERT = {
    table: f"INSERT OR REPLACE INTO {table} (key, {', '.join(columns)}) VALUES (?{', ?' * len(columns)})"
    for table, columns in COLUMNS.items()
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
                "it or give another --out, else see that there is room and the folder can be written."
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
        with _alone(self.folder):
            if fresh and path.exists():
                _refuse_if_in_use(path)
                _empty(path)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
            try:
                self._prepare(path)
            except BaseException:
                self._db.close()  # else the file stays locked as long as the exception is looked at
                raise

    def _prepare(self, path: Path) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second run on this folder is refused
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, *range(OLDEST, SCHEMA + 1)):
            raise AssayError(
                f"ledger {str(path)!r} has layout {version}, this program reads {SCHEMA}; use the program's "
                "version that made it, or start over with --fresh."
            )
        check_ledger(self._db, path, COLUMNS, NUMBERS)  # before anything is written to a file of others
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(
            "PRAGMA synchronous = NORMAL"
        )  # survives a kill; a power cut may lose the last cells
        for table, columns in COLUMNS.items():
            self._db.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, {', '.join(columns)})"
            )
            there = {name for _, name, *_ in self._db.execute(f"PRAGMA table_info({table})")}
            for column in (column for column in columns if column not in there):
                default = 0 if column in SEEDS else "NULL"
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column} DEFAULT {default}")
        if version != SCHEMA:  # else opening it would change its bytes
            self._db.execute(f"PRAGMA user_version = {SCHEMA}")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS plan (position INTEGER PRIMARY KEY, key TEXT, kind TEXT)"
        )
        self._db.execute("CREATE TABLE IF NOT EXISTS finished (id INTEGER PRIMARY KEY, told TEXT)")
        self._remembers = True  # for all that is known

    def write(self, table: str, key: str, row: Row) -> None:
        """Record one finished cell, or what was measured beside it; durable when this returns.

        Raises:
            AssayError: it cannot be written.
        """
        with self._writing():
            if self._remembers:
                self._forget()
            self._db.execute(INSERT[table], [key, *map(row.get, COLUMNS[table])])

    def remember(self, told: str) -> None:
        """Keep what the run told at its end, until anything else is written.

        Raises:
            AssayError: it cannot be written.
        """
        with self._writing():
            self._db.execute("INSERT OR REPLACE INTO finished VALUES (0, ?)", (told,))
        self._remembers = True

    def _forget(self) -> None:
        self._db.execute("DELETE FROM finished")
        self._remembers = False

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.ProgrammingError, OverflowError, UnicodeEncodeError) as error:
            raise AssayError(
                f"a value cannot be written to the ledger in {str(self.folder)!r} ({error}); mend the "
                "plug-in that made it, then give the same command again to go on."
            ) from None
        except sqlite3.OperationalError as error:
            raise AssayError(
                f"ledger in {str(self.folder)!r} cannot be written ({error}); make room, then give the same "
                "command again to go on."
            ) from None

    def holds_cells(self) -> bool:
        """Whether any cell stands in it, finished or failed."""
        return not all(is_empty(self._db, table) for table in ("scores", "agreement"))

    def done(self) -> set[str]:
        """Keys of the cells that need not be computed again; failed ones are tried again."""
        found = self._db.execute(
            "SELECT key FROM scores WHERE status != 'failed' "
            "UNION ALL SELECT key FROM agreement WHERE status != 'failed'"
        )
        return {key for (key,) in found}

    def cell_counts(self) -> dict[str, int]:
        """How many cells are planned, how many of them have a row that is not failed, and failed ones."""
        return counted(self._db)

    def set_plan(self, keys: Iterable[tuple[str, str]]) -> None:
        """Remember which rows, (key, table), the tables of this folder show, and in which order.

        Raises:
            AssayError: it cannot be written; the plan before is kept.
        """
        with self._writing(), self._db:  # which commits, or rolls back
            self._db.execute("BEGIN")
            self._forget()
            self._db.execute("DELETE FROM plan")
            self._db.executemany("INSERT INTO plan (key, kind) VALUES (?, ?)", keys)

    def table(self, name: str) -> pd.DataFrame:
        """The planned rows of one table that are finished, in the order of the plan."""
        columns = ", ".join(f"t.{c}" for c in COLUMNS[name])
        query = f"SELECT {columns} FROM {planned(name)} ORDER BY position"
        rows = self._db.execute(query, (name,)).fetchall()
        return pd.DataFrame(rows, columns=list(COLUMNS[name]))

    def export(self) -> None:
        """Write every table that is not drawn as <name>.csv; if not timed, equal to the bit for a seed."""
        for name in (name for name in COLUMNS if name not in SHOWN):
            file = self.folder / f"{name}.csv"
            columns = [c for c in COLUMNS[name] if name in TIMED or c != MEASURED]
            if name == "scores" or not is_empty(self._db, name):
                write_csv(self._db, name, columns, file)
            else:
                file.unlink(missing_ok=True)  # of a former plan

    def close(self) -> None:
        """Fold the journal back into the file and let go of it."""
        self._db.close()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let nobody else open a ledger in this folder meanwhile: two that start over at once must not both."""
    place = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system that knows no locks
            fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def _empty(path: Path) -> None:
    """Put an empty ledger in this one's place, so that there is one whenever this is interrupted."""
    for old in (path.with_name(f"{FILE}-wal"), path.with_name(f"{FILE}-shm")):
        old.unlink(missing_ok=True)
    with aside(path):
        pass


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


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader, or a kill, sees the old file or the new one and never half of one."""
    with aside(path) as stream:
        stream.write(text)
