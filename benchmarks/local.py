"""Tasks on this machine: in worker processes that are watched over, or in this process."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from . import device, stacking
from .grid import Unit
from .plugin import METHODS
from .records import Record, failed
from .tasks import Progress, Task, prepare, run_task
from .workers import NONE, Limits, Pool, WorkerDied

T = TypeVar("T")
NEAR = 1000  # waiting tasks that are looked at for one of the same problem, which stand side by side


def records(
    tasks: Sequence[Task],
    jobs: int,
    files: Sequence[Path] = (),
    limits: Limits = NONE,
    log: Path | None = None,
) -> Iterator[Record]:
    """The records of these tasks, as they come; a worker that dies costs the cells of the method it was at.

    jobs: worker processes; 0 computes in this process, where nothing is watched over.
    log: file for what plug-ins print in workers; without one it goes where this process prints.

    Raises:
        AssayError: what the user asked for cannot be had.
    """
    if jobs == 0:
        for task in tasks:
            yield from run_task(task)
        return
    waiting = list(tasks)
    pool = Pool(run_task, functools.partial(prepare, tuple(files), log), jobs, _same_problem_first, limits)
    at: dict[Unit, Progress] = {}
    over: set[Unit] = set()  # of which every cell is there
    for task, record in pool.run(waiting):
        if task.unit in over:
            if not isinstance(record, WorkerDied):
                yield record
            continue
        progress = at.setdefault(task.unit, Progress(task))
        if isinstance(record, WorkerDied):
            lost = progress.lost()
            left = tuple(cell for cell in progress.unfinished() if cell not in lost)
            del at[task.unit]
            waiting += [Task(task.unit, left)] if left else []
            yield from (failed(cell, str(record)) for cell in lost)
            continue
        progress.hear(record)
        if not progress.left:
            over.add(task.unit)
            del at[task.unit]
        yield record


def import_methods(names: Sequence[str]) -> None:
    """Import these methods in a worker: what it was forked from has imported them while this process planned.

    Raises:
        AssayError: one of them cannot be imported.
    """
    pool: Pool[tuple[str, ...], Record] = Pool(_imported, functools.partial(prepare, ()), 1, _first)
    for _ in pool.run([tuple(names)]):
        pass


def _imported(names: tuple[str, ...]) -> Iterator[Record]:
    for name in names:
        METHODS[name]
    yield from ()


def train_together(
    tasks: Sequence[Task], files: Sequence[Path] = (), limits: Limits = NONE, log: Path | None = None
) -> None:
    """Train the networks of these tasks in groups, and keep them in the cache, where the tasks find them.

    In a worker: a plug-in that ends the process there is trained, and fails, by itself later.
    """
    ready = functools.partial(prepare, tuple(files), log)
    pool: Pool[tuple[Unit, ...], Record] = Pool(_trained, ready, 1, _first, limits)
    for _ in pool.run([tuple(task.unit for task in tasks)]):
        pass


def _trained(units: tuple[Unit, ...]) -> Iterator[Record]:
    for _ in stacking.in_groups(units, device.current()):
        yield Record("", "")  # a sign of life


def _first(waiting: list[T], _: T | None, __: list[T]) -> T:
    return waiting[0]


def _same_problem_first(waiting: list[Task], last: Task | None, busy: list[Task]) -> Task:
    """A model of the problem that the worker holds already, else of one that nobody is at, else any."""
    if last is not None:
        for task in waiting[:NEAR]:
            if task.unit.problem == last.unit.problem:
                return task
    taken = {task.unit.problem for task in busy}
    return next((task for task in waiting[:NEAR] if task.unit.problem not in taken), waiting[0])
