"""What the benchmark itself costs: one transaction a cell, the plan, the tables."""

from itertools import count

import pytest

from assay.benchmarks import grid, loading, report, runner
from assay.benchmarks.store import Ledger
from assay.benchmarks.suite import load_suite

loading.load_plugins()


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path)
    yield opened
    opened.close()


@pytest.mark.benchmark(group="ledger")
def test_write_a_cell(benchmark, ledger, row):
    keys = count()
    benchmark(lambda: ledger.write("scores", grid.digest(next(keys)), row))


@pytest.mark.benchmark(group="plan")
@pytest.mark.parametrize("suite", ["quick", "methods"])
def test_plan(benchmark, suite):
    found = benchmark.pedantic(grid.plan, (load_suite(suite),), rounds=3, warmup_rounds=1)
    benchmark.extra_info["cells"] = sum(map(len, found.values()))


@pytest.mark.benchmark(group="report")
def test_report_of_smoke(benchmark, tmp_path):
    suite = load_suite("smoke")
    opened = Ledger(tmp_path)
    for _ in runner.run(grid.plan(suite), opened):
        pass
    opened.close()
    benchmark.pedantic(report.write, (tmp_path,), rounds=3, warmup_rounds=1)
