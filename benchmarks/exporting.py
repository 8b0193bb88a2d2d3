"""Rows of a database -> a CSV file, one at a time, so that a table of any length takes no memory."""

import csv
import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def planned(table: str) -> str:
    """The FROM clause of the planned rows of a table that are finished; the table's name is its parameter."""
    return f"plan JOIN {table} t USING (key) WHERE kind = ?"


def counted(db: sqlite3.Connection) -> dict[str, int]:
    """How many cells a ledger has planned, how many are there and not failed, and how many failed."""
    rows = "SELECT key, status FROM scores UNION ALL SELECT key, status FROM agreement"
    query = (
        "SELECT count(*), total(status != 'failed'), total(status = 'failed') "
        f"FROM plan LEFT JOIN ({rows}) USING (key) WHERE kind IN ('scores', 'agreement')"
    )
    counts = db.execute(query).fetchone()
    return dict(zip(("planned", "finished", "failed"), map(int, counts), strict=True))


def is_empty(db: sqlite3.Connection, table: str) -> bool:
    """Whether no planned row of the table is finished."""
    return db.execute(f"SELECT 1 FROM {planned(table)} LIMIT 1", (table,)).fetchone() is None


def write_csv(db: sqlite3.Connection, table: str, columns: Sequence[str], path: Path) -> None:
    """Write these columns of a table in the order of the plan, whole or not at all.

    The bytes are those that a DataFrame of the same rows would write.

    Raises:
        OSError: the file cannot be written; an older one is left as it was.
    """
    chosen = ", ".join(_as_numbers(db, table, columns))
    rows = db.execute(f"SELECT {chosen} FROM {planned(table)} ORDER BY position", (table,))
    with aside(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


@contextmanager
def aside(path: Path) -> Iterator[TextIO]:
    """A stream to write the file with: readers, and a kill, find the old one or the new one, never a half.

    Raises:
        OSError: it cannot be written; an older one is left as it was.
    """
    half = path.with_name(f".{path.name}.half")
    try:
        half.unlink(missing_ok=True)
        with half.open("x", encoding="utf-8", newline="") as stream:  # anew: it might be a link to elsewhere
            yield stream
        half.replace(path)
    except OSError:
        half.unlink(missing_ok=True)  # it may be what fills the disk
        raise


def _as_numbers(db: sqlite3.Connection, table: str, columns: Sequence[str]) -> list[str]:
    """Each column as it is read: where some numbers are not whole, or lack, whole ones have a point too."""
    kinds = itertools.product(columns, ("integer", "text"))
    totals = ", ".join(f"total(typeof(t.{column}) = '{kind}')" for column, kind in kinds)
    count, *found = db.execute(f"SELECT count(*), {totals} FROM {planned(table)}", (table,)).fetchone()
    mixed = [0 < whole < count and not text for whole, text in zip(found[::2], found[1::2], strict=True)]
    both = zip(columns, mixed, strict=True)
    return [f"CAST(t.{column} AS REAL)" if real else f"t.{column}" for column, real in both]
