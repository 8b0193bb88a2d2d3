"""Runs what is missing from a results folder, here or in workers, and writes it down cell by cell."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from .grid import Cell, Unit
from .problem import REGIONS
from .records import (
    Record,
    cost_key,
    facts_key,
    facts_row,
    failed,
    maps_key,
    pictures_key,
    problem_key,
    reliance_key,
    scoring_key,
)
from .spec import Setting
from .store import Ledger
from .tasks import Plan, Task, after_death, missing, prepare, run_task
from .thumbnails import SEED
from .workers import Pool, WorkerDied


def run(plan: Plan, ledger: Ledger, *, jobs: int, files: Sequence[Path] = ()) -> Iterator[Record]:
    """Compute what is missing; every record is in the ledger before it is yielded.

    Raises:
        AssayError: what the user asked for cannot be had.
    """
    ledger.set_plan(planned_rows(plan))
    for metric in _metrics(plan):
        ledger.write("metrics", facts_key(metric), facts_row(metric))
    tasks = missing(plan, ledger.done())
    for record in _records(tasks, jobs, files):
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


def _records(tasks: Sequence[Task], jobs: int, files: Sequence[Path]) -> Iterator[Record]:
    if jobs == 1:
        for task in tasks:
            yield from run_task(task)
        return
    waiting = list(tasks)
    pool = Pool(run_task, functools.partial(prepare, tuple(files)), jobs, _same_problem_first)
    finished: set[str] = set()
    at: dict[Unit, str] = {}
    for task, record in pool.run(waiting):
        if isinstance(record, WorkerDied):
            lost, left = after_death(task, finished, at.get(task.unit, ""))
            waiting += [left] if left.cells else []
            yield from (failed(cell, str(record)) for cell in lost)
            continue
        if record.row:
            finished.add(record.key)
        else:
            at[task.unit] = record.method
        yield record


def _same_problem_first(waiting: list[Task], last: Task | None, busy: list[Task]) -> Task:
    """A model of the problem that the worker holds already, else of one that nobody is at, else any."""
    if last is not None:
        for task in waiting:
            if task.unit.problem == last.unit.problem:
                return task
    taken = {task.unit.problem for task in busy}
    return next((task for task in waiting if task.unit.problem not in taken), waiting[0])
