"""The sweep of the ChaosMining paper: 15 functions, 100 irrelevant columns, 4 methods, 2 metrics, 1 seed.

`fast` is what Assay does by default, `reference` the paper's training on the same machine in the same run.
The time is that of the whole command on all cores: start-up, data, training, explaining, scoring, tables.
"""

import subprocess
import sys

import pandas as pd
import pytest

FUNCTIONS = ",".join(map(str, range(15)))
PROBLEM = f"symbolic[function=[{FUNCTIONS}],columns=100,label_sd=0.01]"
LISTS = {
    "dataset": [PROBLEM],
    "method": ["saliency", "integrated_gradients", "deep_lift", "feature_ablation"],
    "metric": ["uscore", "functional_precision"],
}
ERRORS: dict[str, pd.Series] = {}


@pytest.mark.parametrize("preset", ["fast", "reference"])
def test_sweep(benchmark, tmp_path, preset):
    words = [word for kind, values in LISTS.items() for value in values for word in (f"--{kind}", value)]
    command = [sys.executable, "-P", "-m", "assay.benchmarks.cli", "run", "symbolic", "--seeds", "1", *words]
    command += ["--model", f"mlp[preset={preset}]", "--out", str(tmp_path), "--fresh"]
    benchmark.pedantic(subprocess.run, (command,), {"check": True, "capture_output": True}, rounds=1)
    models = pd.read_csv(tmp_path / "models.csv").set_index("parameters")
    ERRORS[preset] = models["mae"]
    benchmark.extra_info["mean_test_mae"] = float(models["mae"].mean())
    if len(ERRORS) == 2:
        assert (ERRORS["fast"] <= ERRORS["reference"]).all()
