"""What is timed, what is kept of it, and those that do the same side by side."""

from collections import defaultdict

import pytest
import torch
from tabulate import tabulate

from assay.benchmarks.evaluation import draw, train
from assay.benchmarks.grid import Unit, expand
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import Case
from assay.benchmarks.randomness import rng_for
from assay.benchmarks.store import COLUMNS, SEEDS


@pytest.fixture(scope="session")
def network():
    """A function that trains a network on a problem, and hands it back with the rows to explain."""
    load_plugins()
    torch.set_num_threads(1)

    def trained(problem_text):
        (dataset,), (model,) = expand("dataset", [problem_text]), expand("model", ["mlp"])
        problem = draw(dataset, 0)
        x = problem.x[problem.explained]
        return Case(
            model=train(Unit(dataset, model, 0), problem),
            x=x,
            target=torch.zeros(len(x), dtype=torch.int64),
            baseline=problem.baseline,
            background=problem.background,
            groups=None,
            rng=rng_for("speed"),
        )

    return trained


@pytest.fixture
def row():
    """A row of scores, as long as they usually are."""
    texts = {
        "dataset": "symbolic",
        "parameters": "function=7 explained=50 label_sd=0.01",
        "noise": "columns=100",
        "model": "mlp",
        "method": "integrated_gradients[steps=50]",
        "metric": "functional_precision",
        "family": "ground truth",
        "status": "ok",
        "reason": "",
        "version": "1/1/1/1",
    }
    numbers = dict.fromkeys(COLUMNS["scores"], 1 / 3) | dict.fromkeys(SEEDS, 0)
    return numbers | {"rows": 50, "nan_rows": 0} | texts


def pytest_benchmark_update_machine_info(machine_info):
    """The kept times say what kind of machine they are of, and not which."""
    machine_info.pop("node", None)


def pytest_benchmark_update_json(output_json):
    """Nor in which folder it has the program."""
    for bench in output_json["benchmarks"]:
        bench["params"] = {name: str(value)[:200] for name, value in (bench["params"] or {}).items()}
    output_json["commit_info"] = {
        name: value for name, value in output_json["commit_info"].items() if name in {"id", "time", "dirty"}
    }


def pytest_terminal_summary(terminalreporter):
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    groups = defaultdict(list)
    for bench in session.benchmarks if session else []:
        if "rows" in bench.extra_info:
            groups[bench.group].append(bench)
    for group, benches in groups.items():
        each = [bench.stats.median / bench.extra_info["rows"] for bench in benches]
        table = [
            [
                bench.extra_info["who"],
                f"{1000 * seconds:.3g}",
                f"{seconds / each[0]:,.1f}",
                bench.extra_info.get("error", ""),
            ]
            for bench, seconds in zip(benches, each, strict=True)
        ]
        terminalreporter.write_sep("-", group)
        headers = ["who", "ms a row", "times the first", "error"]
        terminalreporter.write_line(tabulate(table, headers, disable_numparse=True))
