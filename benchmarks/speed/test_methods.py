"""Every method on one trained network: 50 rows of 110 columns, 100 of them irrelevant."""

import pytest

from assay.benchmarks.explaining import explainer
from assay.benchmarks.grid import expand
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import METHODS, NotApplicable

load_plugins()


@pytest.fixture(scope="module")
def case(network):
    return network("symbolic[explained=50]")


@pytest.mark.filterwarnings("ignore::assay.benchmarks.signals.Note")
@pytest.mark.filterwarnings("ignore::assay.benchmarks.signals.Remark")
@pytest.mark.parametrize("name", [plugin.name for plugin in METHODS])
def test_method(benchmark, case, name):
    (setting,) = expand("method", [name])
    benchmark.extra_info["parameters"] = str(setting.params)
    try:
        explainer(setting)(case)  # warms up too
    except NotApplicable as why:
        pytest.skip(str(why))
    benchmark.pedantic(explainer(setting), (case,), rounds=3)
