"""Every method on one trained network: 50 rows of 110 columns, 100 of them irrelevant."""

import pytest
import torch

from assay.benchmarks.evaluation import draw, train
from assay.benchmarks.explaining import explainer
from assay.benchmarks.grid import Unit, expand
from assay.benchmarks.plugin import METHODS, Case
from assay.benchmarks.randomness import rng_for
from assay.benchmarks.runner import load_plugins

load_plugins()


@pytest.fixture(scope="module")
def case():
    torch.set_num_threads(1)
    (dataset,), (model,) = expand("dataset", ["symbolic[explained=50]"]), expand("model", ["mlp"])
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


@pytest.mark.parametrize("name", [plugin.name for plugin in METHODS])
def test_method(benchmark, case, name):
    (setting,) = expand("method", [name])
    benchmark.extra_info["parameters"] = str(setting.params)
    benchmark.pedantic(explainer(setting), (case,), warmup_rounds=1, rounds=5)
