"""The sweep of the ChaosMining paper: 15 functions, 100 irrelevant columns, 4 methods, 2 metrics, 1 seed.

`fast` is what Assay does by default, `brief` its shorter form, `reference` the paper's training on the same
machine in the same run.  The time is that of the whole command on all cores: start-up, data, training,
explaining, scoring, tables.  That of one worker and of two begins when all is imported.
"""

import subprocess
import sys

import pandas as pd
import pytest

from assay.benchmarks import grid, loading, runner
from assay.benchmarks.store import Ledger
from assay.benchmarks.suite import load_suite, modules
from assay.benchmarks.workers import warm_up

FUNCTIONS = ",".join(map(str, range(15)))
PROBLEM = f"symbolic[function=[{FUNCTIONS}],columns=100,label_sd=0.01]"
LISTS = {
    "dataset": [PROBLEM],
    "method": ["saliency", "integrated_gradients", "deep_lift", "feature_ablation"],
    "metric": ["uscore", "functional_precision"],
}
ERRORS: dict[str, pd.Series] = {}
TIMES: dict[int, float] = {}


@pytest.mark.benchmark(group="the 15 functions of ChaosMining")
@pytest.mark.parametrize("preset", ["brief", "fast", "reference"])
def test_sweep(benchmark, tmp_path, preset):
    words = [word for kind, values in LISTS.items() for value in values for word in (f"--{kind}", value)]
    command = [sys.executable, "-P", "-m", "assay.benchmarks.cli", "run", "symbolic", "--seeds", "1", *words]
    command += ["--model", f"mlp[preset={preset}]", "--out", str(tmp_path), "--fresh"]
    benchmark.pedantic(subprocess.run, (command,), {"check": True, "capture_output": True}, rounds=1)
    models = pd.read_csv(tmp_path / "models.csv").set_index("parameters")
    ERRORS[preset] = models["mae"]
    benchmark.extra_info["mean_test_mae"] = float(models["mae"].mean())
    if len(ERRORS) == 3:
        assert (ERRORS["fast"] <= ERRORS["reference"]).all()
        assert (ERRORS["brief"] <= ERRORS["reference"]).all()


@pytest.mark.benchmark(group="the same, one worker and two, once everything is imported")
@pytest.mark.parametrize("jobs", [1, 2])
def test_workers(benchmark, tmp_path, jobs):
    suite = load_suite("symbolic").with_lists({**LISTS, "model": ["mlp"]}).with_numbers({"seeds": 1})
    loading.load_plugins()
    warm_up(modules(suite))
    plan, ledger = grid.plan(suite), Ledger(tmp_path)
    first = dict([next(iter(plan.items()))])
    list(runner.run(first, ledger, runner.Means(jobs=1)))  # the server that workers are forked from is there
    benchmark.pedantic(lambda: list(runner.run(plan, ledger, runner.Means(jobs=jobs))), rounds=1)
    ledger.close()
    TIMES[jobs] = benchmark.stats.stats.median
    if len(TIMES) == 2:
        benchmark.extra_info["times as fast as one"] = TIMES[1] / TIMES[2]
