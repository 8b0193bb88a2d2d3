"""Exported tables as frames: what stands in a file is checked, as others can have written it."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .intact import CONTROL, FORMULA, NAMES, check_packed
from .registry import AssayError
from .store import ADDED, CELLS, COLUMNS, MEASURED, SEEDS, TEXT, WORDS
from .suite import brief


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
        if path.suffix == ".gz":
            check_packed(path)
        head = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
        frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=empty, low_memory=False)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        why = " ".join(str(error).split())
        raise AssayError(
            f"table {str(path)!r} cannot be read ({why}); make it again with `report`."
        ) from None
    _check_texts(frame, head, path)
    lacking = [c for c in COLUMNS[name] if c not in frame and c not in ADDED and c != MEASURED]
    if lacking:
        raise AssayError(
            f"table {str(path)!r} has no column {lacking[0]!r}; give a results folder of this program."
        )
    for column in (c for c in COLUMNS[name] if c in ADDED and c not in frame):
        frame[column] = ADDED[column]
    for column in (c for c in COLUMNS[name] if c not in texts and c in frame):
        frame[column] = _numbers(frame[column], path)
    _check_once(frame, name, path)
    return frame


def _check_texts(frame: pd.DataFrame, head: "pd.Series[Any]", path: Path) -> None:
    """Refuse rows of another length, columns of one name, and names that no run writes.

    A name that begins as a formula would be run by a spreadsheet that opens a table with it.
    """
    twice = head[head.duplicated()]
    if len(twice):
        raise AssayError(
            f"table {str(path)!r} has more than one column {twice.iloc[0]!r}; make it again with `report`."
        )
    if not isinstance(frame.index, pd.RangeIndex):
        raise AssayError(
            f"table {str(path)!r} has rows with more values than columns; make it again with `report`."
        )
    for column in (c for c in frame if c in {*TEXT, *WORDS}):
        text = frame[column]
        odd = text.str.contains(CONTROL).fillna(True).astype(bool)
        odd |= text.str.startswith(tuple(FORMULA)).fillna(True).astype(bool) & (column in NAMES)
        if odd.any():
            raise AssayError(
                f"column {column!r} of table {str(path)!r} has {brief(text[odd].iloc[0])} in data row "
                f"{int(odd.argmax()) + 1}, which no run writes; make it again with `report`."
            )


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
        bad, allowed = ~found.between(0, 2**53, "left") | (found % 1 != 0), "a whole number"
    elif name.startswith("skill") and name != "skill_error":
        bad, allowed = bad | np.isinf(found), "a finite number"
    if bad.any():
        raise AssayError(
            f"column {name!r} of table {str(path)!r} has {brief(str(column[bad].iloc[0]))} in data row "
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
