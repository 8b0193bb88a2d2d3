"""A run of very many cells, each of which takes no time: what plan, ledger and tables take by themselves.

    python -m assay.benchmarks.speed.million CELLS FOLDER

Cells are not computed: each has its row at once.  Writes one line of JSON: for every stage its seconds of
wall and of CPU, and the most memory that the process has held by its end, in MB.
"""

import itertools
import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

METHODS, METRICS = 100, 2  # a unit has 100 scores and 2 x 4,950 agreements
UNIT = METHODS + METRICS * METHODS * (METHODS - 1) // 2
PLUGINS = Path(__file__).with_name("nothing.py")


def suite(cells):
    """A suite of at least so many cells."""
    from assay.benchmarks.suite import Suite

    def turns(count):
        return f"turn=[{','.join(map(str, range(count)))}]"

    lists = {"dataset": ["blank"], "model": ["known"], "method": [f"turned[{turns(METHODS)}]"]}
    lists["metric"] = ["first_share", f"apart[{turns(METRICS)}]"]
    return Suite.model_validate({"name": "nothing", "seeds": -(-cells // UNIT), "grid": [lists]})


def at_once(unit, cells, *_, **__):
    """A row for every cell, with numbers of the usual length."""
    from assay.benchmarks.records import Record, row_of

    numbers = dict.fromkeys(("value", "chance", "ceiling", "skill", "skill_error"), 1 / 3)
    for cell, count in zip(cells, itertools.count(), strict=False):
        row = row_of(cell) | numbers | {"value": 1 / (1 + count), "rows": 4, "nan_rows": 0, "status": "ok"}
        yield Record("scores" if cell.other is None else "agreement", cell.key, row | {"reason": ""})


def memory():
    """The most that this process has held so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage tells at least what the process that started this one had held
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


@contextmanager
def stage(found: dict, name: str) -> Iterator[None]:
    """Keep what this stage takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    took = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak_mb": memory()}
    found[name] = took


def measure(cells: int, folder: Path) -> dict:
    """Plan, run, run again and export so many cells."""
    from assay.benchmarks import grid, loading, runner, tasks
    from assay.benchmarks.store import Ledger

    found: dict = {"start": {"seconds": 0.0, "cpu": time.process_time(), "peak_mb": memory()}}
    loading.load_plugins([PLUGINS])
    tasks.run_unit = at_once
    with stage(found, "plan"):
        plan = grid.plan(suite(cells))
    ledger = Ledger(folder)
    with stage(found, "run"):
        for _ in runner.run(plan, ledger):
            pass
    with stage(found, "run again"):
        assert not list(runner.run(plan, ledger))
    with stage(found, "export"):
        ledger.export()
    ledger.close()
    return {"cells": sum(map(len, plan.values())), "stages": found}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(int(sys.argv[1]), Path(sys.argv[2]))) + "\n")
