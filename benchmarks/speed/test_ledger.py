"""What the benchmark itself costs: one transaction a cell, the plan, the tables."""

from itertools import count

import pytest

from assay.benchmarks import grid, loading, report, runner
from assay.benchmarks.store import COLUMNS, Ledger
from assay.benchmarks.suite import load_suite

loading.load_plugins()


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path)
    yield opened
    opened.close()


def test_write_a_cell(benchmark, ledger):
    row = dict.fromkeys(COLUMNS["scores"], 0.5)
    keys = count()
    benchmark(lambda: ledger.write("scores", str(next(keys)), row))


def test_plan_quick(benchmark):
    benchmark(lambda: grid.plan(load_suite("quick")))


def test_report_of_a_thousand_cells(benchmark, tmp_path):
    suite = load_suite("smoke")
    opened = Ledger(tmp_path)
    for _ in runner.run(grid.plan(suite), opened, jobs=0):
        pass
    opened.close()
    benchmark(report.write, tmp_path)
