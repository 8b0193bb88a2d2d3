"""Very many cells that cost nothing: time and memory of plan, ledger and tables, in a process of its own.

ASSAY_CELLS=1000000 measures a million of them, in some minutes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CELLS = int(os.environ.get("ASSAY_CELLS", "100000"))
SCRIPT = Path(__file__).with_name("million.py")


@pytest.mark.benchmark(group=f"{CELLS:,} cells that cost nothing")
def test_cells(benchmark, tmp_path):
    command = [sys.executable, "-P", str(SCRIPT), str(CELLS), str(tmp_path / "out")]
    done = benchmark.pedantic(
        subprocess.run, (command,), {"check": True, "capture_output": True, "text": True}, rounds=1
    )
    found = json.loads(done.stdout)
    stages = found["stages"]
    for name, took in stages.items():
        benchmark.extra_info |= {f"{name}, {key}": round(value, 2) for key, value in took.items()}
    benchmark.extra_info |= {
        "cells": found["cells"],
        "cells a second, written": round(found["cells"] / stages["run"]["seconds"]),
        "most memory, MB": round(max(took["peak_mb"] for took in stages.values())),
    }
