"""Runs what is missing from a results folder, here or in workers, and writes it down cell by cell."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import cache, device, local
from .grid import Cell
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
from .tasks import Plan, Task, missing
from .thumbnails import SEED
from .workers import NONE, Limits

LOG = "plugins.log"  # in the results folder: what plug-ins have printed


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a run is computed with; none of it moves a number.

    jobs: worker processes on this machine; 0 computes in this process.
    cluster: address of a Dask scheduler, whose workers compute instead.
    files: plug-ins of the user's own.
    limits: what a worker may take before it is ended.
    """

    jobs: int = 0
    cluster: str = ""
    files: tuple[Path, ...] = ()
    limits: Limits = NONE


def run(plan: Plan, ledger: Ledger, means: Means = Means()) -> Generator[Record, None, None]:
    """Compute what is missing; every record is in the ledger before it is yielded.

    Raises:
        AssayError: what the user asked for cannot be had.
    """
    ledger.set_plan(planned_rows(plan))
    for metric in _metrics(plan):
        ledger.write("metrics", facts_key(metric), facts_row(metric))
    for record in _records(missing(plan, ledger.done()), ledger.folder, means):
        if record.row:
            ledger.write(record.table, record.key, record.row)
        yield record


def _records(tasks: Sequence[Task], folder: Path, means: Means) -> Iterator[Record]:
    if means.cluster:
        from . import cluster

        yield from cluster.records(tasks, means.cluster, means.files, means.limits)
        return
    log = folder / LOG
    log.unlink(missing_ok=True)
    if device.stacked() and cache.current() is not None:
        local.train_together(tasks, means.files, means.limits, log)
    yield from local.records(tasks, means.jobs, means.files, means.limits, log)
    if log.exists() and not log.stat().st_size:
        log.unlink()


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
