"""Networks trained in groups are those that training one by one gives, but for the order of sums."""

import dataclasses
import os

import pytest
import torch
from torch import nn

from assay.benchmarks import cache, evaluation, stacking, training
from assay.benchmarks.cache import Training
from assay.benchmarks.device import STACKED, stacked
from assay.benchmarks.grid import Unit, expand
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import Problem
from assay.benchmarks.stacking import Stack, stackable, train_together
from assay.benchmarks.training import Recipe, descend, perceptron, plain_loss, postponing

torch.set_num_threads(1)
load_plugins()
CPU = torch.device("cpu")
FEW = Recipe(lr=1e-2, epochs=2, batch=32, weight_decay=0.3, one_cycle=True, patience=3, least_steps=0)
PROBLEM = "symbolic[function=[7,9],columns=5,rows=300,explained=5]"


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    monkeypatch.delenv(STACKED, raising=False)
    cache._cache.cache_clear()
    return tmp_path


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problem_of(seed=0, classes=1, rows=150, noise=0.5):
    rng = generator(seed + 1000)
    x = torch.randn(rows, 4, generator=rng)
    y = x[:, 0] + torch.sin(2 * x[:, 1]) + noise * torch.randn(rows, generator=rng)
    if classes > 1:
        y = torch.bucketize(y, torch.linspace(-1, 1, classes - 1))
        y[:classes] = torch.arange(classes)
    return Problem(
        x=x,
        y=y,
        task="regression" if classes == 1 else "classification",
        n_train=100,
        n_validation=30,
        n_explained=5,
        baseline=torch.zeros(4),
        background=x[:5],
        masks={"relevant": torch.ones(1, 4, dtype=torch.bool)},
    )


def asked(seed, recipe=FEW, classes=1, **changes):
    """What is to be trained, the same whenever it is asked for."""
    problem = problem_of(seed, classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = perceptron(problem, 2, 8, "gelu")
    given = {"net": net, "problem": problem, "rng": generator(seed), "recipe": recipe, "loss": plain_loss}
    return Training(**given | changes)


def alone(wanted):
    os.environ.pop(cache.VARIABLE, None)
    return descend(wanted.net, wanted.problem, wanted.rng, wanted.recipe, wanted.loss)


# ---- against training one by one ------------------------------------------------------------------------

RECIPES = {
    "two epochs": FEW,
    "one step": dataclasses.replace(FEW, epochs=1, batch=0),
    "all rows at once, none held out": dataclasses.replace(
        FEW, epochs=5, batch=0, patience=0, one_cycle=False
    ),
    "batches, none held out": dataclasses.replace(FEW, patience=0, weight_decay=0.0),
    "more epochs than asked, for small tables": dataclasses.replace(FEW, epochs=1, least_steps=21),
    "a best epoch that is not the last": dataclasses.replace(FEW, lr=0.3, epochs=8, one_cycle=False),
}


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("recipe", RECIPES)
def test_weights_and_later_draws_are_those_of_training_one_by_one(recipe, classes):
    seeds = range(4)
    group = [asked(seed, RECIPES[recipe], classes) for seed in seeds]
    together = Stack.of(group, CPU).trained()
    ends = set()
    for i, seed in enumerate(seeds):
        one = asked(seed, RECIPES[recipe], classes)
        wanted = dict(alone(one).named_parameters())
        for name, weight in wanted.items():
            torch.testing.assert_close(together[name][i], weight, rtol=2e-3, atol=2e-4)
        assert torch.equal(group[i].rng.get_state(), one.rng.get_state())
        ends.add(tuple(one.rng.get_state()[-5000:].tolist()))
    assert len(ends) == len(seeds)


def test_each_stops_by_its_own_patience_and_leaves_its_generator_where_it_stopped():
    recipe = dataclasses.replace(FEW, lr=0.05, epochs=40, patience=2, one_cycle=False)
    seeds = range(6)
    group, lengths = [asked(seed, recipe) for seed in seeds], set()
    together = Stack.of(group, CPU)
    best = together.trained()
    for i, seed in enumerate(seeds):
        one = asked(seed, recipe)
        net = alone(one)
        assert torch.equal(group[i].rng.get_state(), one.rng.get_state()), "it stopped at another epoch"
        fresh, epochs = generator(seed), 0
        while not torch.equal(fresh.get_state(), one.rng.get_state()):
            torch.randperm(100, generator=fresh)
            epochs += 1
        lengths.add(epochs)
        for name, weight in net.named_parameters():
            torch.testing.assert_close(best[name][i], weight, rtol=0.02, atol=2e-3)
    assert len(lengths) > 2  # they did not stop together


def test_a_network_that_comes_to_nothing_does_not_touch_the_others():
    group = [asked(seed) for seed in range(3)]
    group[1].problem.y[:] = float("nan")
    best = Stack.of(group, CPU).trained()
    sane = Stack.of([asked(0), asked(2)], CPU).trained()
    for name, weights in best.items():
        torch.testing.assert_close(weights[[0, 2]], sane[name], rtol=1e-4, atol=1e-5)


# ---- through the cache ----------------------------------------------------------------------------------


def units_of(datasets, models, seeds=2):
    found = expand("dataset", datasets), expand("model", models)
    return [Unit(d, m, s) for d in found[0] for s in range(seeds) for m in found[1]]


def model_of(unit):
    return evaluation.train(unit, evaluation.draw(*unit.problem))


def test_the_run_that_follows_trains_nothing_and_its_errors_are_those_of_one_by_one(monkeypatch, trainings):
    units = units_of([PROBLEM], ["mlp[width=16]"])
    assert train_together(units, CPU) == len(units) == 4
    assert train_together(units, CPU) == 0  # they lie there already
    monkeypatch.setenv(STACKED, "cpu")
    together = [model_of(unit) for unit in units]
    assert trainings == []
    monkeypatch.delenv(STACKED)
    for unit, net in zip(units, together, strict=True):
        problem, one = evaluation.draw(*unit.problem), model_of(unit)
        x = problem.x[problem.test]
        a, b = (evaluation.model_quality(problem, m(x))["mae"] for m in (net, one))
        assert a == pytest.approx(b, rel=0.03)
        assert not net.training
        assert not any(p.requires_grad for p in net.parameters())


def test_what_was_trained_in_a_group_is_never_served_to_a_run_that_trains_one_by_one(monkeypatch, trainings):
    units = units_of([PROBLEM], ["mlp[width=8,depth=1]"], seeds=1)
    train_together(units, CPU)
    model_of(units[0])
    assert len(trainings) == 1
    monkeypatch.setenv(STACKED, "cuda")  # nor to one whose groups are trained elsewhere
    model_of(units[1])
    assert len(trainings) == 2


def test_what_cannot_be_stacked_is_left_to_the_run(monkeypatch, trainings):
    models = [
        "mlp[width=8,depth=1]",
        "mlp[width=8,dropout=0.3]",
        "boosted_trees[trees=2]",
        "linear",
        "oracle",
    ]
    units = units_of([PROBLEM], models, seeds=1)
    assert train_together(units, CPU) == 2
    monkeypatch.setenv(STACKED, "cpu")
    for unit in units:
        if unit.model.name != "oracle":
            model_of(unit)
    assert len(trainings) == 2  # with dropout, on each of both problems


def test_a_unit_that_fails_is_left_to_the_run(monkeypatch):
    units = units_of([PROBLEM], ["mlp[width=8,depth=1]"], seeds=1)
    draw = evaluation.draw

    def broken(dataset, seed):
        if dataset == units[0].dataset:
            raise SystemExit(3)
        return draw(dataset, seed)

    monkeypatch.setattr(stacking, "draw", broken)
    assert train_together(units, CPU) == 1


def test_the_same_units_give_the_same_bits(tmp_path, monkeypatch):
    units, found = units_of([PROBLEM], ["mlp[width=8,depth=1]"], seeds=1), []
    for name in ("a", "b"):
        monkeypatch.setenv(cache.VARIABLE, str(tmp_path / name))
        train_together(units, CPU)
        files = sorted((tmp_path / name).rglob("*.network"))
        found.append([(file.name, file.read_bytes()) for file in files])
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_groups_are_of_one_build_and_fit_into_the_room_that_there_is(monkeypatch):
    models = ["mlp[width=8,depth=1]", "mlp[width=8,depth=2]"]
    units, groups = units_of([PROBLEM.replace("[7,9]", "7")], models, seeds=4), []
    monkeypatch.setattr(stacking, "_kept", lambda group, *rest: groups.append(len(group)) or 1)
    assert train_together(units, CPU) == 2
    assert groups == [4, 4]
    with postponing(), pytest.raises(training.Postponed) as caught:
        model_of(units[1])
    groups.clear()
    monkeypatch.setattr(stacking, "LIMIT", 3 * stacking._bytes(caught.value.training))
    train_together(units, CPU)
    assert sum(groups) == 8
    assert max(groups) <= 3
    monkeypatch.setattr(stacking, "LIMIT", 10)
    assert train_together(units, CPU) == 0


def test_without_a_cache_there_is_nowhere_to_hand_them_on(monkeypatch):
    monkeypatch.delenv(cache.VARIABLE)
    with pytest.raises(ValueError, match="handed on through a cache; set one"):
        train_together([], CPU)


def other_loss(net, x, y):
    return plain_loss(net, x, y)


def hooked():
    net = perceptron(problem_of(), 1, 8, "relu")
    net.register_forward_hook(lambda *_: None)
    return net


def tied():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(4, 1))


UNFIT = {
    "dropout": {"net": perceptron(problem_of(), 1, 8, "relu", 0.1)},
    "batch norm": {"net": nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))},
    "a layer of its own": {"net": nn.Sequential(type("Mine", (nn.Linear,), {})(4, 1))},
    "no weights": {"net": nn.Sequential(nn.Flatten())},
    "one layer twice": {"net": tied()},
    "a frozen layer": {"net": nn.Sequential(nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 1))},
    "double precision": {"net": nn.Sequential(nn.Linear(4, 1)).double()},
    "a hook": {"net": hooked()},
    "another loss": {"loss": other_loss},
}


@pytest.mark.parametrize("what", UNFIT)
def test_only_simple_networks_are_stacked(what):
    assert stackable(asked(0))
    assert not stackable(asked(0, **UNFIT[what]))


def test_the_device_decides_whether_tables_are_trained_in_groups(monkeypatch):
    for given, gpu, wanted in (
        ("cpu", True, ""),
        ("auto", True, ""),
        ("cuda", True, "cuda"),
        ("cuda", False, ""),
    ):
        monkeypatch.setenv("ASSAY_DEVICE", given)
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert stacked() == wanted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
def test_a_gpu_trains_what_the_cpu_trains(monkeypatch, trainings):
    units = units_of([PROBLEM], ["mlp[width=16]"])
    assert train_together(units, torch.device("cuda")) == len(units)
    one = [model_of(unit) for unit in units]
    monkeypatch.setenv("ASSAY_DEVICE", "cuda")
    for unit, net in zip(units, one, strict=True):
        problem = evaluation.draw(*unit.problem)
        x = problem.x[problem.test]
        a, b = (evaluation.model_quality(problem, m(x))["mae"] for m in (model_of(unit), net))
        assert a == pytest.approx(b, rel=0.05)
    assert len(trainings) == len(units)
