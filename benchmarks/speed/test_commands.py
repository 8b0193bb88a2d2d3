"""Whole commands, as a user waits for them: start-up, a finished run once more, one worker and two."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-P", "-m", "assay.benchmarks.cli"]
NOTHING = ROOT / "benchmarks" / "speed" / "nothing.py"
LARGE = ROOT / "results" / "reference" / "metrics"  # 94,800 cells
TURNS = f"turn=[{','.join(map(str, range(100)))}]"
PAIRED = ["--method", "saliency", "--method", "lime", "--method", "kernel_shap", "--metric", "auroc"]
TIMES = {}


def command(*words):
    subprocess.run([*COMMAND, *map(str, words)], check=True, capture_output=True)


@pytest.mark.benchmark(group="start-up")
@pytest.mark.parametrize("words", ["--help", "list suites", "list", "list --json"])
def test_start(benchmark, words):
    benchmark.pedantic(command, words.split(), warmup_rounds=1, rounds=3)


@pytest.mark.benchmark(group="a finished run of 10,000 cells, started again")
def test_finished(benchmark, tmp_path):
    suite = tmp_path / "nothing.toml"
    lists = {"dataset": ["blank"], "model": ["known"], "method": [f"turned[{TURNS}]"]}
    lists["metric"] = ["first_share", "apart[turn=[0,1]]"]
    suite.write_text("\n".join(["[[grid]]", *(f"{kind} = {texts}" for kind, texts in lists.items())]))
    words = ("run", suite, "--plugin", NOTHING, "--out", tmp_path / "out", "--jobs", "1")
    for kind, texts in lists.items():  # the plug-ins of a file are run too where a kind is not listed
        words += tuple(word for text in texts for word in (f"--{kind}", text))
    command(*words)
    benchmark.pedantic(command, words, rounds=3)


@pytest.mark.benchmark(group="100,000 cells")
@pytest.mark.parametrize("what", ["compare"])
def test_compare(benchmark, tmp_path, what):
    benchmark.pedantic(command, (what, LARGE, LARGE), rounds=1)


@pytest.mark.benchmark(group="workers")
@pytest.mark.parametrize("jobs", [1, 2])
def test_workers(benchmark, tmp_path, jobs):
    lists = [
        "--dataset",
        "symbolic[function=[7,11,13,14],columns=100,explained=200]",
        "--model",
        "mlp",
        *PAIRED,
    ]
    words = ("run", "smoke", *lists, "--seeds", "2", "--jobs", jobs, "--out", tmp_path, "--fresh")
    benchmark.pedantic(command, words, rounds=1)
    TIMES[jobs] = benchmark.stats.stats.median
    if len(TIMES) == 2:
        benchmark.extra_info["times as fast as one"] = TIMES[1] / TIMES[2]
