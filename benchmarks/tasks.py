"""What is left to compute of a plan, task by task, and what a process needs before it can do one."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from .evaluation import run_unit
from .grid import Cell, Unit
from .loading import load_plugins
from .records import Record, cost_key
from .spec import Setting

LOG_BYTES = 10_000_000
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


def settings_of(plan: Plan) -> set[Setting]:
    """Every dataset, model, method and metric of the plan."""
    found: dict[int, Setting] = {}  # by identity: a million cells name few, and hashing one takes a while
    for unit, cells in plan.items():
        for setting in (unit.dataset, unit.model):
            found[id(setting)] = setting
        for cell in cells:
            for part in (cell.method, cell.metric, cell.other):
                if part is not None:
                    found[id(part)] = part
    return set(found.values())


@dataclass(slots=True)
class Progress:
    """How far a worker is with a task, by what it has said."""

    task: Task
    heard: set[str] = field(default_factory=set)  # keys of its records
    method: str = ""  # whose map it is at, or was last at
    left: int = field(init=False)  # cells of which nothing was heard yet

    def __post_init__(self) -> None:
        self.left = len(self.task.cells)

    def hear(self, record: Record) -> None:
        """Take note of a record."""
        if record.row:
            self.heard.add(record.key)
            self.left -= record.of_cell
        else:
            self.method = record.method

    def lost(self) -> list[Cell]:
        """The cells that the worker's death costs: those of what it was at.

        That is the unit while it is drawn and trained, a method until its map is made, then one cell.
        """
        cells = self.unfinished()
        if self.task.unit.key not in self.heard:
            return cells
        if not self.method:  # at the pairs, once all else is scored
            return cells[:1] if all(cell.other for cell in cells) else cells
        own = [c for c in cells if self.method in {c.method.text, c.other.text if c.other else ""}]
        single = [c for c in own if c.other is None]
        if single and cost_key(self.task.unit, single[0].method, single[0].method_seed) in self.heard:
            return single[:1]
        return own or cells

    def unfinished(self) -> list[Cell]:
        """Its cells of which nothing was heard."""
        return [cell for cell in self.task.cells if cell.key not in self.heard]


def run_task(task: Task) -> Iterator[Record]:
    """The records of one task; a process that a plug-in forked off, and forgot, ends here."""
    own = os.getpid()
    for record in run_unit(task.unit, task.cells):
        if os.getpid() != own:
            os._exit(0)
        _shorten_log()
        yield record


def prepare(files: Sequence[Path], log: Path | None = None) -> None:
    """Make a fresh process ready: all plug-ins; what these print goes into the log."""
    if log is not None:
        _print_into(log)
    load_plugins(files)


def _print_into(log: Path) -> None:
    """From now on what this process prints goes there, natively or not, line by line."""
    sys.stdout.flush()
    into = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(into, stream.fileno())
    os.close(into)
    _Log.redirected = True


class _Log:
    redirected = False


def _shorten_log() -> None:
    """Empty what plug-ins have printed when it is long: nobody's disk is to be filled by it."""
    if _Log.redirected:
        with suppress(OSError, ValueError):  # a plug-in has closed it
            sys.stdout.flush()
            if os.fstat(sys.stdout.fileno()).st_size > LOG_BYTES:
                os.ftruncate(sys.stdout.fileno(), 0)
