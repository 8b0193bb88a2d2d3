"""The runner's own share: what of a run's CPU time is not drawing, training, explaining or scoring."""

import time
from collections import Counter

import pytest

from assay.benchmarks import evaluation, grid, loading, runner, scoring
from assay.benchmarks.store import Ledger
from assay.benchmarks.suite import load_suite

# a part of the suite `quick`, with all of its methods and metrics
DATASET = ["symbolic[function=11,columns=[0,20,100],explained=50]"]
WORK = {
    "drawing": (evaluation, "draw"),
    "training": (evaluation, "train"),
    "judging the model": (evaluation, "_about"),
    "explaining": (scoring, "attribute"),
    "scoring": (scoring.Explained, "_score"),
    "agreement": (scoring.Explained, "_agreement"),
}


@pytest.fixture
def took(monkeypatch):
    """CPU seconds of each kind of work, as it goes on; what one kind does inside another counts once."""
    found, depth = Counter(), [0]

    def timed(name, function):
        def call(*given, **named):
            if depth[0]:
                return function(*given, **named)
            depth[0], start = 1, time.process_time()
            try:
                return function(*given, **named)
            finally:
                found[name] += time.process_time() - start
                depth[0] = 0

        return call

    for name, (owner, attribute) in WORK.items():
        monkeypatch.setattr(owner, attribute, timed(name, getattr(owner, attribute)))
    return found


@pytest.mark.benchmark(group="the runner's own share", timer=time.process_time)
def test_share(benchmark, tmp_path, took):
    loading.load_plugins()
    suite = load_suite("quick")
    block = suite.grid[0].model_copy(update={"dataset": DATASET})
    suite = suite.model_copy(update={"grid": [block], "seeds": 1})

    def run():
        plan, ledger = grid.plan(suite), Ledger(tmp_path)
        found = sum(record.table in {"scores", "agreement"} for record in runner.run(plan, ledger))
        ledger.export()
        ledger.close()
        return found

    start = time.process_time()
    cells = benchmark.pedantic(run, rounds=1)
    whole = time.process_time() - start
    own = whole - sum(took.values())
    benchmark.extra_info |= {"cells": cells, "share": own / whole, "own ms a cell": 1000 * own / cells}
    benchmark.extra_info |= {name: took[name] / whole for name in WORK}
