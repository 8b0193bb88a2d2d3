"""Whether a ledger, a packed table or a manifest is one that this program wrote: others can have made it."""

import gzip
import re
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pydantic

from .registry import AssayError
from .suite import brief

PLAN: Final = ("position", "key", "kind")
NAMES: Final = ("dataset", "model", "method", "other", "metric")
FORMULA: Final = "=+-@"  # what a spreadsheet takes for the beginning of a formula; no name begins so
CONTROL: Final = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f]")  # no text of ours has any
SMALL: Final = 2**26  # bytes of text that may be packed as well as can be
PACKED: Final = 200  # times that a table's text is at most larger than its file; real ones are 5 to 30 times
PIECE: Final = 2**20


class _Run(pydantic.BaseModel):
    """One of the runs that a joined folder was made of."""

    model_config = pydantic.ConfigDict(extra="allow", strict=True)
    folder: str = ""
    command: str | None = None
    git_commit: str | None = None
    machine: dict[str, Any] | None = None
    start: str | None = None
    end: str | None = None
    config_hash: str | None = None


class _Made(_Run):
    """What is read of a manifest, which need not say all of it and may say more."""

    suite: str = ""
    seeds: int = 1
    config: dict[str, Any] | None = None
    written: dict[str, Any] | None = None
    plugins: dict[str, dict[str, str]] = {}
    engine: int | str = 0
    versions: dict[str, str] = {}
    tables: dict[str, str] = {}
    cells: dict[str, int] = {}
    merged_from: list[_Run] = []
    earlier: list[_Run] = []


def check_manifest(made: object, path: Path) -> dict[str, Any]:
    """`made` itself, if every entry that is read anywhere is of its kind.

    Raises:
        AssayError: one is not.
    """
    try:
        _Made.model_validate(made)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise AssayError(
            f"manifest {str(path)!r} cannot be read ({brief(where)}: {first['msg'].lower()}, got "
            f"{brief(first['input'])}); run the suite again."
        ) from None
    assert isinstance(made, dict)
    return made


def check_packed(path: Path) -> None:
    """Refuse a gzip file that unpacks to far more than any table does.

    Raises:
        AssayError: it does.
        OSError, EOFError, zlib.error: it is not whole, or no gzip file.
    """
    most, found = max(SMALL, PACKED * path.stat().st_size), 0
    with gzip.open(path) as file:
        while piece := file.read(PIECE):
            found += len(piece)
            if found > most:
                raise AssayError(
                    f"table {str(path)!r} unpacks to more than {most:,} bytes, {PACKED} times its size or "
                    "more; no table does: make it again with `report`."
                )


def unpacked(path: Path) -> bytes:
    """The text of a packed table.

    Raises:
        AssayError: it unpacks to far more than any table does.
        OSError: it is not whole, or no gzip file.
    """
    try:
        check_packed(path)
        return gzip.decompress(path.read_bytes())
    except (EOFError, zlib.error) as error:
        raise OSError(str(error)) from None


def check_ledger(
    db: sqlite3.Connection, path: Path, tables: Mapping[str, Sequence[str]], numbers: Sequence[str]
) -> None:
    """Refuse a database that no run of this program wrote; nothing in it is changed.

    Args:
        db: the open file.
        path: of the file, for the message.
        tables: name and columns of those that a ledger has; some may lack, of an older layout.
        numbers: the columns that hold numbers; all others hold text.

    Raises:
        AssayError: it has tables of another program, triggers or views, or something else than a number or
            a text where one should be.
        sqlite3.DatabaseError: it is no database, or damaged.
    """
    try:
        _check_schema(db, path, {**tables, "plan": PLAN}, numbers)
    except UnicodeDecodeError:  # a damaged name, or what sqlite quotes of it
        raise sqlite3.DatabaseError("it holds text that is not UTF-8") from None


def _check_schema(
    db: sqlite3.Connection, path: Path, known: Mapping[str, Sequence[str]], numbers: Sequence[str]
) -> None:
    """Refuse what stands in no ledger."""
    db.execute("PRAGMA trusted_schema = OFF")  # whoever wrote the file has no function run by it
    if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("its pages do not fit together")
    new = db.execute("PRAGMA user_version").fetchone()[0] == 0
    made = "SELECT type, name, sql LIKE 'CREATE VIRTUAL%' FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'"
    for kind, name, virtual in db.execute(made).fetchall():
        if kind not in {"table", "index"} or virtual or (new and kind == "table" and name not in known):
            raise _foreign(path, f"holds a {kind} {brief(name)}, which no run makes")
    for table, columns in known.items():
        there = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
        needed = set(PLAN) if table == "plan" else {"key"}
        if there and needed - set(there):
            raise _foreign(path, f"has a table {table} without column {sorted(needed - set(there))[0]!r}")
        if there:
            _check_values(db, path, table, [c for c in ("key", *columns) if c in there], numbers)


def _check_values(
    db: sqlite3.Connection, path: Path, table: str, columns: Sequence[str], numbers: Sequence[str]
) -> None:
    """Refuse a row with a value of the wrong kind."""
    wrong = {column: _wrong(column, column in numbers) for column in dict.fromkeys(columns)}
    texts = [column for column in wrong if column not in numbers and column != "position"]
    # a row is looked at by us once, all texts in one; which of them it was is asked of a wrong row alone
    each = {c: f"({test} OR strange({c}))" if c in texts else test for c, test in wrong.items()}
    query = f"SELECT {', '.join(f'{test}, {column}' for column, test in each.items())} FROM {table} WHERE "
    whole = " || ".join(f"coalesce({column}, '')" for column in texts)
    db.create_function("strange", 1, _strange, deterministic=True)
    try:
        row = db.execute(f"{query}{' OR '.join(wrong.values())} OR strange({whole}) LIMIT 1").fetchone()
    except sqlite3.OperationalError as error:
        if "user-defined" not in str(error):
            raise
        raise _foreign(path, f"has text in table {table} that is not UTF-8, which no run writes") from None
    if row:
        place = next(i for i in range(len(wrong)) if row[2 * i])
        column, value = list(wrong)[place], row[2 * place + 1]
        raise _foreign(path, f"has {brief(value)} in column {column!r} of table {table}, which no run writes")


def _strange(text: str | None) -> bool:
    """Whether a text holds what a terminal may obey."""
    return text is not None and CONTROL.search(text) is not None


def _wrong(column: str, number: bool) -> str:
    """What is true, in SQL, of a value that this column must not have."""
    if column == "position":
        return "0"
    if column.endswith("seed"):
        return f"(typeof({column}) NOT IN ('integer', 'null') OR {column} < 0)"
    if not number:
        begins = f" OR instr('{FORMULA}', substr({column}, 1, 1)) * length({column})" * (column in NAMES)
        return f"(typeof({column}) NOT IN ('text', 'null'){begins})"
    kind = f"typeof({column}) NOT IN ('integer', 'real', 'null')"
    if column == "budget":  # a method may have none, or words for one
        kind = f"typeof({column}) = 'blob'"
    infinite = column.startswith("skill") and column != "skill_error"
    return f"({kind} OR abs({column}) > 1.7976931348623157e308)" if infinite else f"({kind})"


def _foreign(path: Path, why: str) -> AssayError:
    return AssayError(
        f"ledger {str(path)!r} {why}; move it away, give another folder, or start over with --fresh."
    )
