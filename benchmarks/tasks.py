"""What is left to compute of a plan, task by task, and what a process needs before it can do one."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from .evaluation import run_unit
from .grid import Cell, Unit
from .loading import load_plugins
from .records import Record

Plan: TypeAlias = Mapping[Unit, Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Task:
    """What is still missing of one unit."""

    unit: Unit
    cells: tuple[Cell, ...]


def missing(plan: Plan, done: set[str]) -> list[Task]:
    """The tasks that are left when the `done` cells need not be computed again."""
    left = ((unit, tuple(c for c in cells if c.key not in done)) for unit, cells in plan.items())
    return [Task(unit, cells) for unit, cells in left if cells]


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


def prepare(files: Sequence[Path]) -> None:
    """Make a fresh process ready: one thread, all plug-ins."""
    os.environ["OMP_NUM_THREADS"] = "1"
    load_plugins(files)
