"""Tables that the methods of a unit share: whose they are, that nobody can spoil them, what they cost."""

import copy
import dataclasses
import itertools

import pytest
import torch
from torch import nn

from assay.benchmarks.coalitions import Alone, Everything, Played, Sampled, Walks, table
from assay.benchmarks.evaluation import run_unit
from assay.benchmarks.explaining import attribute
from assay.benchmarks.grid import REGISTRIES, plan
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.perturb import outputs_under
from assay.benchmarks.plugin import METHODS, MODELS, Case
from assay.benchmarks.plugin import Shared as SharedProtocol
from assay.benchmarks.registry import load_file
from assay.benchmarks.shared import Loan, Store
from assay.benchmarks.spec import setting
from assay.benchmarks.suite import Suite

torch.set_num_threads(1)
load_plugins()
NETWORK = setting(MODELS["mlp"], {})
READERS = ["kernel_shap", "lime", "shapley_sampling", "permutation_shap", "feature_ablation", "exact_shapley"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed))


def network(width=12, outputs=2):
    layers = nn.Sequential(nn.Flatten(), nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, outputs))
    for i, parameter in enumerate(layers.parameters()):
        parameter.data = draw(*parameter.shape, seed=10 + i)
    return layers.eval().requires_grad_(False)


def case(width=12, key="unit", groups=None, rows=4):
    """A case with tables, as a run makes it."""
    given = Case(
        model=network(width),
        x=draw(rows, width, seed=1),
        target=torch.arange(rows) % 2,
        baseline=torch.full((width,), 0.3),
        background=draw(5, width, seed=2),
        groups=groups,
        rng=generator(),
    )
    return dataclasses.replace(given, shared=Store(given, key).lend(given.model))


def same(first, second):
    return all(
        torch.equal(getattr(first, name), getattr(second, name))
        for name in ("coalitions", "weights", "outputs", "whole", "empty")
    )


WANTED = list(
    itertools.product([Sampled(100), Sampled(50), Walks(3), Alone(), Everything()], ["baseline", "marginal"])
)


# ---- what a table hangs on ------------------------------------------------------------------------------


def test_a_table_hangs_on_nothing_that_was_asked_before():
    first, second = case(), case()
    found = {want: table(first, *want) for want in WANTED}
    torch.rand(3)
    for want in reversed(WANTED):
        torch.rand(1, generator=second.rng)
        assert same(table(second, *want), found[want]), want
    for want in WANTED:
        assert same(table(case(), *want), found[want]), want


def test_a_table_hangs_on_the_unit_and_on_its_design():
    given = case()
    assert not torch.equal(
        table(given, Sampled(100)).coalitions, table(case(key="b"), Sampled(100)).coalitions
    )
    # the same coalitions for both values, so that these differ in nothing else
    assert torch.equal(
        table(given, Sampled(100)).coalitions, table(given, Sampled(100), "marginal").coalitions
    )
    assert not torch.equal(table(given, Sampled(100)).outputs, table(given, Sampled(100), "marginal").outputs)


@pytest.mark.parametrize("value", ["baseline", "marginal"])
def test_a_shared_table_is_right(value):
    given = case()
    found = table(given, Sampled(60), value)
    wanted = outputs_under(given, found.coalitions[None], value)
    torch.testing.assert_close(found.outputs, wanted.double(), rtol=0, atol=1e-6)


def test_a_table_is_made_once():
    given, calls = case(), []
    inner = given.shared.store.case.model
    inner.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    for _ in range(3):
        found = table(given, Sampled(100))
    assert sum(calls) == found.rows == 100 * 4
    table(given, Sampled(2**12))
    table(given, Sampled(2**13))  # all coalitions are all coalitions, whatever else the budget would pay
    table(given, Everything())
    assert sum(calls) == (100 + 2**12) * 4


OTHERS = {
    "x": lambda c: {"x": c.x.clone().index_fill_(0, torch.tensor([2]), 0.0)},
    "fewer rows": lambda c: {"x": c.x[:2], "target": c.target[:2]},
    "target": lambda c: {"target": 1 - c.target},
    "baseline": lambda c: {"baseline": c.baseline + 1},
    "background": lambda c: {"background": c.background[:3]},
    "groups": lambda c: {"groups": torch.arange(12) // 2},
    "model": lambda c: {"model": copy.deepcopy(c.model)},
    "precision": lambda c: {"x": c.x.double(), "model": copy.deepcopy(c.model).double()},
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_table_is_not_served_to_another_case(what):
    given = case()
    table(given, Sampled(100))
    before = dict(given.shared.read)
    other = dataclasses.replace(given, **OTHERS[what](given), rng=generator(5))
    assert given.shared.serves(given)
    assert not given.shared.serves(other)
    if what != "precision":  # whose baseline would have to follow
        alone = dataclasses.replace(other, shared=None, rng=generator(5))
        assert same(table(other, Sampled(100)), table(alone, Sampled(100)))
        assert given.shared.read == before


def test_an_equal_copy_of_the_rows_is_served():
    given = case()
    copied = {name: getattr(given, name).clone() for name in ("x", "target", "baseline", "background")}
    assert same(table(given, Sampled(100)), table(dataclasses.replace(given, **copied), Sampled(100)))


def test_a_model_that_was_altered_is_another_model():
    """A method that randomises its own copy of the model must not be handed what the whole one put out."""
    given = case()
    own = given.shared.lend(copy.deepcopy(given.model))
    mine = dataclasses.replace(given, model=own.model, shared=own)
    assert own.serves(mine)
    before = table(mine, Alone())
    own.model[1].weight.data.zero_()
    assert not own.serves(mine)
    assert table(mine, Alone()).outputs.std(1).max() < 1e-6 < before.outputs.std(1).min()


def test_what_is_done_to_a_table_or_to_a_model_reaches_nobody_else():
    given = case()
    clean = {want: table(case(), *want) for want in WANTED}
    loan = given.shared.lend(copy.deepcopy(given.model))
    mine = dataclasses.replace(given, model=loan.model, x=given.x.clone(), shared=loan)
    for want in WANTED:
        found = table(mine, *want)
        for tensor in (found.coalitions, found.weights, found.outputs, found.whole, found.empty):
            tensor.zero_()
    mine.x.zero_()
    for parameter in mine.model.parameters():
        parameter.data.zero_()
    for want in WANTED:
        assert same(table(given, *want), clean[want]), want


def test_a_loan_is_what_the_contract_calls_shared_outputs():
    assert isinstance(case().shared, SharedProtocol)
    assert isinstance(case().shared, Loan)


# ---- methods that read ----------------------------------------------------------------------------------


def explain(name, given, **parameters):
    return attribute(setting(METHODS[name], parameters), NETWORK, given, "unit")


@pytest.mark.parametrize("name", READERS)
def test_a_method_s_copy_of_the_case_is_served(name):
    given = case()
    found = explain(name, given)
    assert found.status == "ok", found.reason
    assert len(given.shared.store.found) == 1
    assert torch.equal(found.values, explain(name, given).values)
    assert len(given.shared.store.found) == 1


def test_kernel_shap_and_lime_read_the_same_table_and_so_do_all_that_enumerate():
    given = case()
    for name in ("kernel_shap", "lime"):
        explain(name, given)
    assert list(given.shared.store.found) == [Played(Sampled(2048), "baseline")]
    few = case(8)
    for name in ("kernel_shap", "lime", "shapley_sampling", "permutation_shap", "exact_shapley"):
        explain(name, few)
    assert list(few.shared.store.found) == [Played(Everything(), "baseline")]


ROWS = {  # by hand, of 12 units
    "kernel_shap": (500, 2 + 498),
    "lime": (500, 2 + 498),
    "shapley_sampling": (500, 2 + 45 * 11),
    "permutation_shap": (500, 2 + 22 * 22),
    "feature_ablation": (None, 2 + 12),
    "exact_shapley": (None, 2**12),
}


@pytest.mark.parametrize("value", ["baseline", "marginal"])
@pytest.mark.parametrize("name", ROWS)
def test_a_method_costs_the_same_model_rows_whoever_had_the_table_made(name, value):
    budget, rows = ROWS[name]
    parameters = {"value": value} | ({} if budget is None else {"budget": budget})
    given, fillers = case(), 1 if value == "baseline" else 5
    alone = dataclasses.replace(given, shared=None)
    found = [explain(name, c, **parameters) for c in (given, given, alone)]
    assert [f.model_rows for f in found] == [rows * fillers * 4] * 3
    assert [f.backward_rows for f in found] == [0] * 3


def test_the_time_that_a_table_took_is_paid_by_all_that_read_it(monkeypatch):
    given = case()
    first = explain("kernel_shap", given)
    tables = given.shared.store.found
    ((key, made),) = tables.items()
    assert 0 < made.seconds <= first.seconds
    tables[key] = dataclasses.replace(made, seconds=made.seconds + 100.0)  # as if it had taken long
    second = explain("lime", given)
    assert 100 < second.seconds < 101
    assert explain("feature_ablation", given).seconds < 50  # which reads another
    twice = dataclasses.replace(given, shared=given.shared.lend(given.model))
    for _ in range(2):
        table(twice, Sampled(2048))
    assert 99 < twice.shared.seconds < 101  # once, however often it is read


@pytest.mark.parametrize("name", [*READERS, "gradient", "random", "feature_permutation"])
def test_nothing_takes_less_than_no_time(name):
    given = case(8)
    assert all(explain(name, given).seconds > 0 for _ in range(3))


# ---- a run ----------------------------------------------------------------------------------------------

DATA = "symbolic[function=7,columns=9,rows=400,explained=10]"


def run(methods, metrics=("attribution_error", "uscore", "deletion", "completeness")):
    block = {"dataset": [DATA], "model": ["oracle"], "method": methods, "metric": list(metrics)}
    suite = Suite.model_validate({"name": "toy", "seeds": 1, "grid": [block]})
    ((unit, cells),) = plan(suite).items()
    scores, costs = {}, {}
    for record in run_unit(unit, cells):
        row = {k: repr(v) for k, v in record.row.items() if "seconds" not in k and k != "peak_mb"}
        if record.table == "scores":
            scores[row["method"], row["metric"]] = row
        elif record.table == "costs":
            costs[row["method"]] = row
            assert record.row["seconds"] > 0
    return scores, costs


SPOILER = """
import torch
from assay.benchmarks.coalitions import Sampled, table
from assay.benchmarks.plugin import method

@method(paper="https://example.org")
def spoiler(case, /):
    found = table(case, Sampled(2048))
    for name in ("coalitions", "weights", "outputs", "whole", "empty"):
        getattr(found, name).zero_()
    values = found.outputs.mean(1).float()[:, None] + case.x
    case.x.fill_(7)
    for parameter in case.model.parameters():
        parameter.data.zero_()
    return values
"""


@pytest.fixture
def spoiler(tmp_path):
    file = tmp_path / "spoiler.py"
    file.write_text(SPOILER)
    load_file(file)
    yield "spoiler"
    for registry in REGISTRIES.values():
        registry._plugins.pop("spoiler", None)


def test_scores_do_not_hang_on_which_methods_ran(spoiler):
    name = "kernel_shap"
    alone = run([name])
    for others in (["lime", name, "shapley_sampling"], ["feature_ablation", "lime[budget=100]", name]):
        scores, costs = run(others)
        assert {k: v for k, v in scores.items() if k[0] == repr(name)} == alone[0]
        assert costs[repr(name)] == alone[1][repr(name)]
    scores, costs = run([spoiler, name])
    assert {k: v for k, v in scores.items() if k[0] == repr(name)} == alone[0]
    assert costs[repr(name)] == alone[1][repr(name)]
    assert costs[repr(name)]["model_rows_per_row"] == "2048.0"
