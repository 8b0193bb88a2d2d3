"""What is measured before anything is explained: drawing each problem, and training each model."""

import copy

import pytest
import torch

from assay.benchmarks.evaluation import draw, train
from assay.benchmarks.grid import Unit, expand
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import DATASETS, NotApplicable
from assay.benchmarks.registry import AssayError

load_plugins()
SMALL = {  # where the defaults draw more than a time needs
    "vision": "vision[side=24,size=12,train=500,explained=15]",
    "chaosmining_vision": "chaosmining_vision",
}
ROWS = "symbolic[columns=20,explained=50]"
PICTURES = "vision[side=24,size=12,train=500,explained=15]"
MODELS = {
    **dict.fromkeys(("boosted_trees", "random_forest", "linear", "mlp", "mlp_adversarial", "mlp_igr"), ROWS),
    "mlp[preset=reference]": ROWS,
    "cnn[epochs=8]": PICTURES,
}


@pytest.fixture(autouse=True)
def one_thread():
    """As a worker has it."""
    torch.set_num_threads(1)


@pytest.mark.benchmark(group="drawing a problem")
@pytest.mark.parametrize("name", [plugin.name for plugin in DATASETS])
def test_draw(benchmark, name):
    try:
        (dataset,) = expand("dataset", [SMALL.get(name, name)])
        problem = benchmark.pedantic(draw.__wrapped__, (dataset, 0), warmup_rounds=1, rounds=3)
    except (AssayError, NotApplicable) as why:  # one that needs a folder
        pytest.skip(str(why))
    benchmark.extra_info["shape"] = "x".join(map(str, problem.x.shape))


@pytest.mark.benchmark(group="training a model")
@pytest.mark.parametrize("text", MODELS)
def test_train(benchmark, text):
    (dataset,), (model,) = expand("dataset", [MODELS[text]]), expand("model", [text])
    problem, unit = draw(dataset, 0), Unit(dataset, model, 0)
    benchmark.extra_info["problem"] = dataset.text
    benchmark.pedantic(train, setup=lambda: ((unit, copy.deepcopy(problem)), {}), rounds=2)
