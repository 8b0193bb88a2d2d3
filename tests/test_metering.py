"""Rows forward and backward, and memory, of pieces of work whose costs are known."""

import dataclasses
import sys

import pytest
import torch
from captum.attr import DeepLift, IntegratedGradients
from torch import nn

from assay.benchmarks import metering
from assay.benchmarks.explaining import attribute
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.metering import counted, memory_now, peak_since
from assay.benchmarks.plugin import METHODS, MODELS, Case
from assay.benchmarks.spec import setting

torch.set_num_threads(1)
load_plugins()
NETWORK = setting(MODELS["mlp"], {})
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets the peak start anew")


def network(width=6):
    layers = nn.Sequential(nn.Flatten(), nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, 2))
    return layers.eval().requires_grad_(False)


def case(rows=4, width=6):
    rng = torch.Generator().manual_seed(0)
    return Case(
        model=network(width),
        x=torch.randn(rows, width, generator=rng),
        target=torch.arange(rows) % 2,
        baseline=torch.zeros(width),
        background=torch.randn(5, width, generator=rng),
        groups=None,
        rng=rng,
    )


# ---- rows -----------------------------------------------------------------------------------------------


def test_rows_are_counted_forward_where_they_go_in_and_backward_where_a_gradient_comes_back():
    model, x = network(), torch.randn(7, 6)
    with counted(model) as rows:
        model(x)
        assert (rows.forward, rows.backward) == (7, 0)
        with torch.no_grad():
            model(x[:2].clone().requires_grad_())
        assert (rows.forward, rows.backward) == (9, 0)
        inputs = x.clone().requires_grad_()
        outputs = model(inputs)
        assert (rows.forward, rows.backward) == (16, 0)  # not before it is asked for
        torch.autograd.grad(outputs[:, 0].sum(), inputs, retain_graph=True)
        assert (rows.forward, rows.backward) == (16, 7)
        torch.autograd.grad(outputs[:, 1].sum(), inputs)
        assert (rows.forward, rows.backward) == (16, 14)  # once for every output that is asked
    model(x)
    assert rows.forward == 16
    assert not model._forward_hooks


def test_the_count_ends_where_the_work_fails():
    model = network()
    with pytest.raises(KeyError), counted(model):
        raise KeyError
    assert not model._forward_hooks


def test_rows_of_captum_s_methods():
    model, x = network(), torch.randn(4, 6)
    inputs = x.clone().requires_grad_()
    with counted(model) as rows:
        IntegratedGradients(model).attribute(inputs, target=0, n_steps=10, internal_batch_size=8)
    assert (rows.forward, rows.backward) == (40, 40)
    with counted(model) as rows, pytest.warns(UserWarning, match="hooks"):
        DeepLift(model).attribute(inputs, torch.zeros(4, 6), target=0)
    assert (rows.forward, rows.backward) == (8, 8)  # rows and baselines


COSTS = {
    "gradient": (1, 1),
    "input_x_gradient": (1, 1),
    "feature_ablation": (6 + 2, 0),
    "exact_shapley": (2**6, 0),
    "feature_permutation": (1 + 6 * 50, 0),
}


@pytest.mark.parametrize("name", COSTS)
def test_rows_of_methods(name):
    given = case()
    found = attribute(setting(METHODS[name], {}), NETWORK, given, "key")
    assert (found.model_rows / 4, found.backward_rows / 4) == COSTS[name]
    assert not given.model._forward_hooks


# ---- memory ---------------------------------------------------------------------------------------------

HELD = 300  # MB


def held():
    return torch.ones(HELD * 250_000)


@LINUX
def test_the_peak_rises_with_what_is_held_and_starts_anew():
    start = memory_now()
    held()
    high = peak_since(start)
    assert HELD * 0.9 < high < HELD * 1.3
    assert peak_since(start) >= high  # it is gone by now, and yet the peak
    again = memory_now()
    assert peak_since(again) < HELD * 0.1


@LINUX
def test_what_is_held_already_is_nobody_s_cost():
    given, mine = case(), held()
    assert attribute(setting(METHODS["gradient"], {}), NETWORK, given, "key").peak_mb < HELD * 0.3
    assert len(mine)


@LINUX
def test_a_method_is_charged_with_its_own_memory_and_not_with_that_of_the_one_before(monkeypatch):
    def hungry(case):
        held()
        return case.x.clone()

    given = case()
    plugin = METHODS["input_x_gradient"]
    eats = setting(plugin, {})
    frugal = attribute(eats, NETWORK, given, "key").peak_mb
    monkeypatch.setitem(METHODS._plugins, plugin.name, dataclasses.replace(plugin, function=hungry))
    most = attribute(eats, NETWORK, given, "key").peak_mb
    monkeypatch.undo()
    after = attribute(eats, NETWORK, given, "key").peak_mb
    assert most > frugal + HELD * 0.9
    assert after < most - HELD * 0.9


def test_a_system_that_lets_nobody_reset_or_read_the_peak_costs_no_method(monkeypatch, tmp_path):
    """Some containers have /proc/self/clear_refs and refuse to be written to; some have no VmHWM."""
    status = tmp_path / "status"
    status.write_text("Name:\tpython\n")
    monkeypatch.setattr(metering, "RESET", tmp_path)  # there, and cannot be written
    monkeypatch.setattr(metering, "STATUS", status)
    found = attribute(setting(METHODS["gradient"], {}), NETWORK, case(), "key")
    assert found.status == "ok", found.reason
    assert found.peak_mb >= 0
    monkeypatch.setattr(metering, "STATUS", tmp_path / "none")
    assert memory_now() > 10
