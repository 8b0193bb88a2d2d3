"""Whole commands, as a user waits for them: start-up, a finished run once more."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-P", "-m", "assay.benchmarks.cli"]
NOTHING = ROOT / "benchmarks" / "speed" / "nothing.py"
LARGE = ROOT / "results" / "reference" / "metrics"  # 94,800 cells
TURNS = f"turn=[{','.join(map(str, range(100)))}]"


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


@pytest.mark.benchmark(group="the tables of 94,800 cells")
@pytest.mark.parametrize("what", ["report", "compare"])
def test_tables(benchmark, tmp_path, what):
    folders = [LARGE] * (what == "compare") + [shutil.copytree(LARGE, tmp_path / "run")]
    benchmark.pedantic(command, (what, *folders), rounds=1)
