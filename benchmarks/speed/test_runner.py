"""The runner's own share: what of a run's time is not drawing, training, explaining or scoring."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

COMMAND = """
from assay.benchmarks import cli, workers

workers.PRELOAD.append("assay.benchmarks.speed.clocked")
cli.main()
"""
JOBS = 2


@pytest.mark.benchmark(group="the runner's own share of the time of `quick`")
def test_share(benchmark, tmp_path):
    """Of the whole command: imports, the ledger, waiting for one another and the tables are the runner's."""
    clocks = tmp_path / "clocks"
    clocks.mkdir()
    command = [sys.executable, "-P", "-c", COMMAND, "run", "quick", "--jobs", str(JOBS)]
    command += ["--out", str(tmp_path / "run")]
    how = {"check": True, "capture_output": True, "env": {**os.environ, "ASSAY_CLOCKED": str(clocks)}}
    benchmark.pedantic(subprocess.run, (command,), how, rounds=1)
    took = sum((Counter(json.loads(file.read_text())) for file in clocks.iterdir()), Counter())
    assert took
    whole = JOBS * benchmark.stats.stats.median
    benchmark.extra_info["own"] = 1 - sum(took.values()) / whole
    benchmark.extra_info |= {name: seconds / whole for name, seconds in took.items()}
