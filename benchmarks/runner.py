"""Runs what is missing from a results folder, here or in workers, and writes it down cell by cell."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from . import local
from .grid import Cell
from .local import NONE, Limits
from .problem import REGIONS
from .records import (
    Record,
    cost_key,
    facts_key,
    facts_row,
    maps_key,
    pictures_key,
    problem_key,
    reliance_key,
    scoring_key,
)
from .spec import Setting
from .store import Ledger
from .tasks import Plan, missing
from .thumbnails import SEED


def run(
    plan: Plan, ledger: Ledger, *, jobs: int, files: Sequence[Path] = (), limits: Limits = NONE
) -> Iterator[Record]:
    """Compute what is missing; every record is in the ledger before it is yielded.

    Raises:
        AssayError: what the user asked for cannot be had.
    """
    ledger.set_plan(planned_rows(plan))
    for metric in _metrics(plan):
        ledger.write("metrics", facts_key(metric), facts_row(metric))
    tasks = missing(plan, ledger.done())
    for record in local.records(tasks, jobs, files, limits):
        if record.row:
            ledger.write(record.table, record.key, record.row)
        yield record


def planned_rows(plan: Plan) -> Iterator[tuple[str, str]]:
    """Key and table of every row that the plan's tables show, in their order."""
    for unit, cells in plan.items():
        yield unit.key, "models"
        yield from ((reliance_key(unit, region), "reliance") for region in REGIONS)
        for cell in cells:
            yield cell.key, "scores" if cell.other is None else "agreement"
        runs = dict.fromkeys((method, c.method_seed) for c in cells for method in _methods([c]))
        yield from ((cost_key(unit, *run), "costs") for run in runs)
        if (unit.seed, unit.model_seed) == (SEED, 0):
            yield pictures_key(unit), "pictures"
            yield from ((maps_key(unit, method), "maps") for method in _methods(cells))
        yield from ((scoring_key(unit, m), "scoring") for m in dict.fromkeys(c.metric for c in cells))
    problems = {unit.problem: unit for unit in plan}
    yield from ((problem_key(unit), "problems") for unit in problems.values())
    yield from ((facts_key(metric), "metrics") for metric in _metrics(plan))


def _metrics(plan: Plan) -> list[Setting]:
    return list(dict.fromkeys(cell.metric for cells in plan.values() for cell in cells))


def _methods(cells: Sequence[Cell]) -> list[Setting]:
    return list(dict.fromkeys(m for c in cells for m in (c.method, c.other) if m is not None))
