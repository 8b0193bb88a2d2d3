"""Tasks on this machine: in worker processes that are watched over, or in this process."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .grid import Unit
from .records import Record, failed
from .tasks import Task, after_death, prepare, run_task
from .workers import Pool, WorkerDied


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may take before it is ended, at the cost of the cells of the method it was at.

    timeout: seconds from one finished cell to the next; 0 for as long as it takes.
    memory: bytes that it holds; 0 for as much as there is.
    """

    timeout: float = 0.0
    memory: int = 0


NONE = Limits()


def records(
    tasks: Sequence[Task], jobs: int, files: Sequence[Path] = (), limits: Limits = NONE
) -> Iterator[Record]:
    """The records of these tasks, as they come; a worker that dies costs the cells of the method it was at.

    jobs: worker processes; 0 computes in this process, where nothing is watched over.

    Raises:
        AssayError: what the user asked for cannot be had.
    """
    if jobs == 0:
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
