"""Networks that run elsewhere: rows travel, and no number changes."""

import pytest
import torch
from torch import nn

from assay.benchmarks import device, evaluation
from assay.benchmarks.device import Away, current, device_of, placed
from assay.benchmarks.grid import Suite, plan
from assay.benchmarks.linear_task import linear_problem, pattern_problem
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.registry import AssayError

torch.set_num_threads(1)
load_plugins()
PICTURES = {
    "dataset": ["vision[train=60,explained=3,side=16,size=8]"],
    "model": ["cnn[epochs=1,depth=2]"],
    "method": [
        "gradient",
        "deep_lift",
        "lrp",
        "grad_cam",
        "guided_backprop",
        "occlusion",
        "kernel_shap[budget=40]",
    ],
    "metric": ["attribution_mass", "deletion", "mprt", "max_sensitivity[draws=2]"],
}


def rows():
    suite = Suite(name="t", grid=[PICTURES])
    (unit, cells), *_ = plan(suite).items()
    found = [r.row for r in evaluation.run_unit(unit, cells) if r.table in {"scores", "agreement"}]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


def test_every_method_and_metric_works_on_a_network_that_is_elsewhere(monkeypatch):
    """The CPU stands in for a GPU: what is tested is that nobody minds the wrapping."""
    here = rows()
    monkeypatch.setattr(evaluation, "placed", lambda net, problem: Away(net, torch.device("cpu")).eval())
    away = rows()
    assert len(here) == len(PICTURES["method"]) * len(PICTURES["metric"])
    assert all(row["status"] == "ok" or "unlearned" in row["status"] for row in here), here
    assert str(here) == str(away)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
def test_a_gpu_gives_the_same_tables_within_a_thousandth(monkeypatch):
    monkeypatch.setenv(device.VARIABLE, "cpu")
    here = rows()
    monkeypatch.setenv(device.VARIABLE, "cuda")
    away = rows()
    for a, b in zip(here, away, strict=True):
        assert a["status"] == b["status"]
        assert a["value"] == pytest.approx(b["value"], rel=1e-3, abs=1e-3)


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(device.VARIABLE, "auto")
    assert current().type == "cpu"
    net = nn.Linear(2, 2)
    assert placed(net, pattern_problem((3, 8, 8))) is net
    monkeypatch.setenv(device.VARIABLE, "cuda")
    with pytest.raises(AssayError, match="--device cuda cannot be had, torch sees no GPU; give auto or cpu"):
        current()


def test_tables_stay_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv(device.VARIABLE, "auto")
    assert device_of(linear_problem()).type == "cpu"
    assert device_of(pattern_problem((3, 8, 8))).type == "cuda"
