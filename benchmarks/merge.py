"""Results folders of one suite, made on several machines -> one folder, as if one machine had run it all."""

import hashlib
import json
import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

from . import grid, loading, manifest, runner
from .records import cost_key
from .registry import AssayError
from .store import ADDED, COLUMNS, MEASURED, TEXT, Ledger
from .suite import Suite, load_suite, suite_names
from .suite_union import MAY_DIFFER, joined_suite, with_seeds_of
from .tasks import Plan

COMPARED = ("scores", "agreement", "models", "reliance", "problems")  # numbers that a key decides to the bit
WHERE = (
    *("dataset", "parameters", "noise", "model", "method", "other", "metric", "region"),
    *("seed", "model_seed", "method_seed"),
)

Key: TypeAlias = tuple[str, str]  # of a row in the ledger, and its table
Row: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Part:
    """One of the folders that are joined.

    plan: key and table of every row that its tables show.
    """

    folder: Path
    made: dict[str, Any]
    plan: tuple[Key, ...]

    @property
    def name(self) -> str:
        """As messages call it."""
        return repr(str(self.folder))

    @property
    def rank(self) -> tuple[str, ...]:
        """Where it stands among the parts, whatever the order in which they were given."""
        plan = hashlib.sha256(repr(self.plan).encode()).hexdigest()
        words = (self.made.get(key) or "" for key in ("start", "end", "command"))
        return json.dumps(self.made["config"], sort_keys=True), plan, *map(str, words)


@dataclass(frozen=True)
class Merged:
    """What `merge` wrote.

    planned, finished, failed: cells.
    twice: cells that were finished in one folder already, and alike in another.
    """

    folder: Path
    suite: str
    parts: int
    planned: int
    finished: int
    failed: int
    twice: int

    @property
    def told(self) -> str:
        """One sentence for the user."""
        left = self.planned - self.finished - self.failed
        parts = [
            f"{self.suite}: {self.parts} folders joined into {self.folder}: {self.planned:,} cells",
            f"{self.failed:,} failed" if self.failed else "",
            f"{left:,} left for `run` with --out to compute" if left else "",
            f"{self.twice:,} came twice, with the same numbers" if self.twice else "",
        ]
        return ", ".join(part for part in parts if part) + "."


def merge(folders: Sequence[Path], out: Path) -> Merged:
    """Join runs of one suite into a new results folder; `report.write(out)` then makes its tables.

    A cell that failed in one folder and is finished in another is finished.  The order of the rows is that of
    the suite as it was written; what that does not name follows in the order of the joined suite.  Agreement
    between methods of two folders is planned, and computed by the next run.  Timed rows are those of one of
    the folders.

    Args:
        folders: two or more, with their ledgers; nothing in them is changed.
        out: new or empty.

    Raises:
        AssayError: they cannot be joined, told before anything is written, or `out` cannot be written.
    """
    _check_folders(folders, out)
    parts = sorted(map(_part, folders), key=lambda part: part.rank)
    for a, b in combinations(parts, 2):
        _check_pair(a, b)
    rows = {table: _joined(table, parts) for table in COMPARED}
    for table in ("scores", "agreement"):
        _check_twins(table, rows[table], parts)
    base = _written(parts)
    suite = joined_suite([part.made["config"] for part in parts], base)
    _write(out, parts, rows, _order(parts, [base, suite]))
    command = shlex.join(["assay", "merge", *map(str, folders), "-o", str(out)])
    said = manifest.joined([(part.folder.name, part.made) for part in parts], suite, base)
    manifest.write(out, {**said, "command": command})
    counts = manifest.cell_counts(out)
    finished = sum(manifest.cell_counts(part.folder)["finished"] for part in parts)
    return Merged(out, suite.name, len(parts), twice=finished - counts["finished"], **counts)


def _check_folders(folders: Sequence[Path], out: Path) -> None:
    if len(folders) < 2:
        raise AssayError(f"cannot merge {len(folders)} results folders; give two or more.")
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise AssayError(f"results folder {str(folder)!r} is given twice; give each folder once.")
        seen.add(folder.resolve())
    try:
        taken = out.is_file() or (out.is_dir() and any(out.iterdir()))
    except OSError as error:
        raise AssayError(f"folder {str(out)!r} cannot be read ({error.strerror}); give another.") from None
    if taken:
        raise AssayError(f"{str(out)!r} is there already and not an empty folder; give a new one with -o.")


def _part(folder: Path) -> Part:
    with manifest.reading(folder) as ledger:
        plan = ledger.execute("SELECT key, kind FROM plan ORDER BY position").fetchall()
    made = manifest.read(folder)
    if not plan:
        raise AssayError(f"the ledger of {str(folder)!r} plans no cell; give the folder of a run.")
    said = [made.get("config"), made.get("plugins"), made.get("versions"), made.get("machine") or {}]
    said += made["plugins"].values() if isinstance(said[1], dict) else []
    if not all(isinstance(one, dict) for one in said):
        raise AssayError(
            f"results folder {str(folder)!r} has no {manifest.FILE} that says suite and versions; give the "
            "folder as the run left it."
        )
    return Part(folder, made, tuple(plan))


def _check_pair(a: Part, b: Part) -> None:
    """Refuse two parts whose numbers are not of one suite, one set of plug-ins and one set of libraries."""
    ours, theirs = (_settled(part.made["config"]) for part in (a, b))
    for name in {**ours, **theirs}:
        if ours.get(name) != theirs.get(name):
            raise AssayError(
                f"suites differ in {name}: {ours.get(name)!r} in {a.name}, {theirs.get(name)!r} in {b.name}; "
                "only runs of one suite, with other lists and seeds, can be merged."
            )
    ours, theirs = (_versions(part.made) for part in (a, b))
    for name in ours:
        if name in theirs and ours[name] != theirs[name]:
            raise AssayError(
                f"versions of {name} differ: {ours[name]} in {a.name}, {theirs[name]} in {b.name}; run one "
                "of them again with the other's version."
            )


def _settled(config: Mapping[str, Any]) -> dict[str, Any]:
    """What two runs of one suite must agree in: its name and title, and whatever is no list and no seed."""
    return {name: value for name, value in config.items() if name not in MAY_DIFFER}


def _versions(made: Mapping[str, Any]) -> dict[str, str]:
    """Version of all that moves numbers, where it is known."""
    plugins = {f"{kind} {n!r}": str(v) for kind, found in made["plugins"].items() for n, v in found.items()}
    known = {name: made["versions"].get(name) for name in grid.LIBRARIES} | {"the engine": made.get("engine")}
    return plugins | {name: str(version) for name, version in known.items() if version is not None}


def _joined(table: str, parts: Sequence[Part]) -> dict[str, Row]:
    """The planned rows of one table, by key; a finished row takes the place of a failed one.

    Raises:
        AssayError: two finished rows of one key differ in a number.
    """
    columns = COLUMNS[table]
    compared = [i for i, c in enumerate(columns) if c not in {*TEXT, "family", MEASURED}]
    status = columns.index("status") if "status" in columns else None
    found: dict[str, Row] = {}
    origin: dict[str, Part] = {}
    for part in parts:
        for key, row in _rows(part, table):
            old = found.get(key)
            if old is None or (status is not None and old[status] == "failed"):
                found[key], origin[key] = row, part
            elif (status is None or row[status] != "failed") and row != old:
                for i in (i for i in compared if _differ(columns[i], old[i], row[i])):
                    raise _conflict(table, i, (origin[key], old), (part, row))
    return found


def _differ(column: str, a: Any, b: Any) -> bool:
    """Whether two numbers are not the same to the bit; what older layouts did not note is not known."""
    return a != b and not (column in ADDED and None in (a, b))


def _conflict(table: str, column: int, first: tuple[Part, Row], second: tuple[Part, Row]) -> AssayError:
    (a, old), (b, new) = first, second
    return AssayError(
        f"{table} differ in one cell, {_where(table, old)}: {COLUMNS[table][column]} is {old[column]!r} in "
        f"{a.name} and {new[column]!r} in {b.name}; run it again on one machine, or leave one folder out."
    )


def _where(table: str, row: Row) -> str:
    place = dict(zip(COLUMNS[table], row, strict=True))
    return " ".join(f"{c}={place[c]}" for c in WHERE if place.get(c) not in (None, ""))


def _rows(part: Part, table: str) -> list[tuple[str, Row]]:
    """Key and values of the planned rows of one table."""
    columns = ", ".join(f"t.{c}" for c in COLUMNS[table])
    query = f"SELECT DISTINCT t.key, {columns} FROM plan JOIN {table} t USING (key) WHERE kind = ?"
    with manifest.reading(part.folder) as ledger:
        return [(key, tuple(row)) for key, *row in ledger.execute(query, (table,))]


def _check_twins(table: str, rows: Mapping[str, Row], parts: Sequence[Part]) -> None:
    """Refuse one cell under two keys: something that moves its number was not the same."""
    places = [i for i, c in enumerate(COLUMNS[table]) if c in WHERE and c not in {"method", "other"}]
    methods = [i for i, c in enumerate(COLUMNS[table]) if c in {"method", "other"}]
    planned = [{key for key, _ in part.plan} for part in parts]
    seen: dict[Row, str] = {}
    for key, row in rows.items():
        cell = (*(row[i] for i in places), *sorted(row[i] for i in methods))
        first = seen.setdefault(cell, key)
        if first != key and not any({first, key} <= keys for keys in planned):
            a, b = (next(p.name for p in parts if (k, table) in p.plan) for k in (first, key))
            raise AssayError(
                f"two versions of one cell, {_where(table, row)}, are in {a} and {b}: its plug-ins, data or "
                "engine were not the same; run one of them again with the other's."
            )


def _written(parts: Sequence[Part]) -> Suite | None:
    """The suite as it was written, whose order is kept, with the seeds of all parts; nothing if not known."""
    found = [part.made["written"] for part in parts if "written" in part.made]
    name = parts[0].made["config"].get("name", "")
    if not found and name in suite_names():
        found = [load_suite(name).model_dump()]
    return with_seeds_of(found[0], [part.made["config"] for part in parts]) if found else None


def _order(parts: Sequence[Part], suites: Sequence[Suite | None]) -> list[Key]:
    """Every planned row, once: as the first of the suites that names it has it, then as the parts do.

    With them the agreement between methods of different parts, which only the last suite names.
    """
    loading.load_plugins()
    plans = [_plan(suite) for suite in suites if suite is not None]
    planned = dict.fromkeys(key for part in parts for key in part.plan)
    planned |= dict.fromkeys(_across(plans[-1], planned))
    known = [key for plan in plans for key in runner.planned_rows(plan)]
    return list(dict.fromkeys([*(key for key in known if key in planned), *planned]))


def _plan(suite: Suite) -> Plan:
    try:
        return grid.plan(suite)
    except AssayError:  # a plug-in of a file that is not given here: the parts' own order has to do
        return {}


def _across(plan: Plan, planned: Container[Key]) -> Iterator[Key]:
    """The pairs of two methods that are planned on the same unit, be it in two parts."""
    for cell in (cell for cells in plan.values() for cell in cells if cell.other is not None):
        two = (m for m in (cell.method, cell.other) if m is not None)
        if all((cost_key(cell.unit, m, cell.method_seed), "costs") in planned for m in two):
            yield cell.key, "agreement"


def _write(
    out: Path, parts: Sequence[Part], rows: Mapping[str, Mapping[str, Row]], order: Sequence[Key]
) -> None:
    ledger = Ledger(out)
    try:
        ledger.set_plan(order)
        for table, columns in COLUMNS.items():
            found = rows[table] if table in rows else _joined_freely(table, parts)
            for key, row in found.items():
                ledger.write(table, key, dict(zip(columns, row, strict=True)))
    finally:
        ledger.close()


def _joined_freely(table: str, parts: Sequence[Part]) -> dict[str, Row]:
    """The planned rows of a table that no two runs have alike, or that is drawn: those of the first part."""
    return dict(pair for part in reversed(parts) for pair in _rows(part, table))
