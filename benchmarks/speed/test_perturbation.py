"""The perturbation family against captum and shap: the same estimate from the same number of model rows.

Peers get fewer rows, since they take them one by one: what is compared is the time of a row.
"""

import dataclasses
import os

import numpy as np
import pytest
import torch
from captum.attr import ShapleyValueSampling

from assay.benchmarks.coalitions import Everything, table, unit_count
from assay.benchmarks.explaining import explainer
from assay.benchmarks.grid import expand
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.randomness import rng_for
from assay.benchmarks.shapley import by_enumeration

load_plugins()
BUDGET = 500
SEEDS = 5


@pytest.fixture(scope="module")
def wide(network):
    return network("symbolic[columns=100,explained=200]")


@pytest.fixture(scope="module")
def narrow(network):
    return network("symbolic[function=13,columns=3,explained=20]")


@pytest.fixture(scope="module")
def ten(network):
    return network("symbolic[function=14,columns=0,explained=64]")


def first(case, rows):
    return dataclasses.replace(case, x=case.x[:rows], target=case.target[:rows], rng=rng_for("speed"))


def time_rows(benchmark, who, function, case, rounds=3):
    benchmark.extra_info |= {"who": who, "rows": len(case.x)}
    return benchmark.pedantic(function, (case,), warmup_rounds=1, rounds=rounds)


def method(text):
    (setting,) = expand("method", [text])
    return explainer(setting)


def error(text, case):
    """Mean relative error to the exact Shapley values, over rows and seeds."""
    exact = by_enumeration(table(case, Everything()))
    gaps = []
    for seed in range(SEEDS):
        values = method(text)(dataclasses.replace(case, rng=rng_for("speed", str(seed))))
        gaps.append(((values - exact).norm(dim=1) / exact.norm(dim=1)).mean().item())
    return float(np.mean(gaps))


KERNEL = {"kernel_shap": 200, "shap_kernel": 10, "captum_kernel_shap": 2}


@pytest.fixture(params=["one thread", "torch's default threads"])
def threads(request, wide):
    """A worker of ours has one thread; a user who calls captum or shap has as many as torch takes."""
    torch.set_num_threads(1 if request.param == "one thread" else os.cpu_count())
    yield request.param
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", KERNEL)
def test_kernel_shap(benchmark, wide, narrow, threads, name):
    text = f"{name}[budget={BUDGET}]"
    assert unit_count(wide) == 110
    assert unit_count(narrow) == 12
    benchmark.group = f"kernel SHAP, {BUDGET} coalitions, {threads}: time at 110 units, error at 12"
    time_rows(benchmark, name, method(text), first(wide, KERNEL[name]))
    benchmark.extra_info["error"] = f"{error(text, narrow):.3f}"


LIME = {"lime": 200, "captum_lime": 2}


@pytest.mark.benchmark(group=f"LIME, {BUDGET} coalitions, 110 units")
@pytest.mark.parametrize("name", LIME)
def test_lime(benchmark, wide, name):
    time_rows(benchmark, name, method(f"{name}[budget={BUDGET}]"), first(wide, LIME[name]))


def by_captum(case):
    explainer_ = ShapleyValueSampling(case.model)
    return explainer_.attribute(case.x, case.baselines, target=case.target, n_samples=25)


def row_by_row(case):
    parts = [
        dataclasses.replace(case, x=x[None], target=t[None]) for x, t in zip(case.x, case.target, strict=True)
    ]
    return torch.cat([by_captum(part) for part in parts])


TEN = {
    "exact_shapley": (method("exact_shapley"), 64),
    "captum ShapleyValueSampling(25), 64 rows at once": (by_captum, 64),
    "captum ShapleyValueSampling(25), row by row": (row_by_row, 64),
    "shap_exact": (method("shap_exact"), 8),
}


@pytest.mark.benchmark(group="Shapley values of 10 units")
@pytest.mark.parametrize("who", TEN)
def test_exact_shapley(benchmark, ten, who):
    """captum's error is a sampling error: a thirtieth of it would take it a thousand times as long."""
    assert unit_count(ten) == 10
    function, rows = TEN[who]
    case = first(ten, rows)
    values = time_rows(benchmark, who, function, case)
    exact = by_enumeration(table(case, Everything()))
    benchmark.extra_info["error"] = f"{((values - exact).norm(dim=1) / exact.norm(dim=1)).mean():.1g}"
