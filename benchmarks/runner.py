"""Runs what is missing from a results folder, here or in workers, and writes it down cell by cell."""

import functools
import importlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from .evaluation import run_unit
from .grid import REGISTRIES, Cell, Unit
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
from .registry import AssayError, Plugin, load_file, near_miss
from .spec import Setting
from .store import Ledger
from .thumbnails import SEED
from .workers import Pool, WorkerDied

Plan: TypeAlias = Mapping[Unit, Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Task:
    """What is still missing of one unit."""

    unit: Unit
    cells: tuple[Cell, ...]


def load_plugins(files: Sequence[Path] = ()) -> dict[str, list[str]]:
    """Note all built-in and installed plug-ins, import the user's files, and name what these define."""
    for kind, registry in REGISTRIES.items():
        registry.discover(importlib.import_module(f"..{kind}s", __package__))
    modules = [load_file(file).__name__ for file in files]
    return {kind: [n for m in modules for n in r.defined_in(m)] for kind, r in REGISTRIES.items()}


def plugins_named(name: str) -> list[Plugin[Any]]:
    """The plug-ins, of any kind, that carry this name, or that this .py file defines.

    Raises:
        AssayError: there are none.
    """
    if name.endswith(".py"):
        added = load_plugins([Path(name)])
        found = [REGISTRIES[kind][n] for kind, names in added.items() for n in names]
        if not found:
            raise AssayError(
                f"plug-in file {name!r} defines no plug-in; decorate its function with @method(...)."
            )
        return found
    load_plugins()
    found = [registry[name] for registry in REGISTRIES.values() if name in registry]
    if not found:
        known = [plugin.name for registry in REGISTRIES.values() for plugin in registry]
        raise AssayError(f"no plug-in is called {name!r}.{near_miss(name, known)} Or give a .py file.")
    return found


def missing(plan: Plan, done: set[str]) -> list[Task]:
    """The tasks that are left when the `done` cells need not be computed again."""
    left = ((unit, tuple(c for c in cells if c.key not in done)) for unit, cells in plan.items())
    return [Task(unit, cells) for unit, cells in left if cells]


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
    pool = Pool(run_task, functools.partial(_prepare, tuple(files)), jobs, _same_problem_first)
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


def after_death(task: Task, finished: set[str], method: str) -> tuple[list[Cell], Task]:
    """The cells that a worker's death costs, those of the method it was at, and the task that remains."""
    cells = [cell for cell in task.cells if cell.key not in finished]
    lost = [c for c in cells if method in {c.method.text, c.other.text if c.other else ""}]
    if not method or not lost:
        return cells, Task(task.unit, ())
    return lost, Task(task.unit, tuple(c for c in cells if c not in lost))


def run_task(task: Task) -> Iterable[Record]:
    """The records of one task."""
    return run_unit(task.unit, task.cells)


def _prepare(files: Sequence[Path]) -> None:
    """Make a fresh process ready: one thread, all plug-ins."""
    os.environ["OMP_NUM_THREADS"] = "1"
    load_plugins(files)


def _same_problem_first(waiting: list[Task], last: Task | None, busy: list[Task]) -> Task:
    """A model of the problem that the worker holds already, else of one that nobody is at, else any."""
    if last is not None:
        for task in waiting:
            if task.unit.problem == last.unit.problem:
                return task
    taken = {task.unit.problem for task in busy}
    return next((task for task in waiting if task.unit.problem not in taken), waiting[0])
