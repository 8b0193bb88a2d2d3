"""What metrics share is computed once, by the model rows that a run counts; agreement knows chance."""

import dataclasses

import pytest
import torch

from assay.benchmarks.evaluation import run_unit
from assay.benchmarks.grid import expand, plan
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import METRICS, Case, Evidence
from assay.benchmarks.sharing import explained_again, of_map
from assay.benchmarks.suite import Suite

load_plugins()
ROWS, UNITS = 6, 12  # explained rows; function 11 has seven columns that matter, and five are added
DATA = f"symbolic[function=11,columns=5,rows=400,explained={ROWS}]"


def records(methods, metrics, dataset=DATA, model="linear"):
    """The rows that a unit leaves, by table."""
    block = {"dataset": [dataset], "model": [model], "method": methods, "metric": metrics}
    ((unit, cells),) = plan(Suite.model_validate({"name": "toy", "seeds": 1, "grid": [block]})).items()
    found = {}
    for record in run_unit(unit, cells):
        found.setdefault(record.table, []).append(record.row)
    return found


def rows_taken(methods, metrics, **given):
    """Model rows by metric."""
    return {row["metric"]: row["model_rows"] for row in records(methods, metrics, **given)["scoring"]}


METHODS = ["gradient", "random", "input_x_gradient"]
MAPS = len(METHODS) + 10 + 1  # chance has ten, and the ceiling is the model's own ablation


def test_what_removes_features_in_the_maps_order_reads_one_curve_a_map():
    taken = rows_taken(METHODS, ["deletion", "comprehensiveness", "insertion", "sufficiency"])
    for first, second in (("deletion", "comprehensiveness"), ("insertion", "sufficiency")):
        curves = MAPS * ROWS * (UNITS + 1)
        assert curves <= taken[first] < curves + 300  # a few rows more for f(x), f(baseline) and the ablation
        assert taken[second] <= 2 * MAPS * ROWS  # f(x) at most


def test_a_table_of_random_subsets_is_made_once_for_all_maps_and_metrics():
    names = ["sensitivity_n", "faithfulness_correlation", "infidelity"]
    alone = rows_taken(["gradient"], names[:1])["sensitivity_n"]
    taken = rows_taken(METHODS, names)
    assert 0 < taken["sensitivity_n"] <= alone + 10 * ROWS
    assert taken["faithfulness_correlation"] == taken["infidelity"] == 0
    again = rows_taken(METHODS, names[::-1])  # whoever comes first pays
    assert again["sensitivity_n"] == 0
    assert (
        again["faithfulness_correlation"] <= MAPS * ROWS
    )  # the size of random maps; infidelity has them too
    assert again["infidelity"] > alone / 2


def test_the_neighbours_are_explained_once_a_method():
    names = ["max_sensitivity", "average_sensitivity", "local_lipschitz"]
    taken = rows_taken(METHODS, names)
    assert taken["max_sensitivity"] >= 10 * ROWS
    assert taken["average_sensitivity"] == taken["local_lipschitz"] == 0


def test_effects_of_single_features_are_found_once():
    taken = rows_taken(METHODS, ["monotonicity_correlation", "non_sensitivity", "dummy"])
    assert taken["non_sensitivity"] == taken["dummy"] == 0 < taken["monotonicity_correlation"]


def test_metrics_of_ground_truth_and_agreement_need_no_model():
    names = ["auroc", "kendall_tau", "cosine", "rank_biased_overlap", "attribution_error", "pointing_game"]
    taken = rows_taken(METHODS, names)
    chance = 40 * ROWS  # the size of a random map is that of f(x) - f(baseline)
    assert sum(taken.values()) <= chance


AGREEMENT = [p.name for p in METRICS if {"other", "reference"} & set(p.facts["needs"])]


@pytest.fixture(scope="module")
def independent():
    """Agreement of two random maps that know nothing of each other, and of a map with a near copy of it."""
    data = "symbolic[function=11,columns=5,rows=2000,explained=400]"
    found = records(["random", "untrained_gradient", "gradient", "input_x_gradient"], AGREEMENT, data, "mlp")
    return {(row["metric"], row["method"], row["other"]): row for row in found["agreement"]}


@pytest.mark.parametrize("metric", AGREEMENT)
def test_agreement_is_zero_for_random_maps_and_not_by_definition(independent, metric):
    row = independent[metric, "random", "untrained_gradient"]
    assert row["status"] == "ok"
    assert abs(row["skill"]) < 0.12, row
    close = independent[metric, "gradient", "input_x_gradient"]
    assert close["skill"] == pytest.approx((close["value"] - close["chance"]) / (1 - close["chance"]))


def test_there_are_eleven_metrics_of_agreement():
    assert len(AGREEMENT) == 11
    assert all(METRICS[name].facts["family"] == "ground truth" for name in AGREEMENT)


# ---- memos ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Doubled:
    """A reading, and a variant that leaves the case as it is."""

    def read(self, evidence, rng):
        return 2 * evidence.attribution

    def of(self, evidence, rng):
        return evidence.case


def evidence(values):
    case = Case(
        model=torch.nn.Linear(2, 1).eval().requires_grad_(False),
        x=torch.ones(3, 2),
        target=torch.zeros(3, dtype=torch.int64),
        baseline=torch.zeros(2),
        background=torch.randn(5, 2),
        groups=None,
        rng=torch.Generator().manual_seed(0),
    )
    calls = []

    def explain(case):
        calls.append(case)
        return values

    masks = {"relevant": torch.tensor([[True, False]])}
    found = Evidence(
        case=case,
        attribution=values,
        masks=masks,
        truth=None,
        empty=torch.zeros(3),
        other=None,
        explain=explain,
        rng=torch.Generator().manual_seed(0),
    )
    return found, calls


def test_a_map_is_read_and_explained_again_once():
    given, calls = evidence(torch.rand(3, 2, dtype=torch.float64))
    assert of_map(given, Doubled()) is of_map(given, Doubled())
    for _ in range(3):
        explained_again(given, Doubled())
    assert len(calls) == 1


def test_what_was_read_of_one_map_is_never_taken_for_anothers():
    given, _ = evidence(torch.rand(3, 2, dtype=torch.float64))
    of_map(given, Doubled())
    other = dataclasses.replace(given, attribution=given.attribution + 1)
    assert torch.equal(of_map(other, Doubled()), 2 * given.attribution + 2)
    assert torch.equal(of_map(given, Doubled()), 2 * given.attribution)


# ---- statuses -------------------------------------------------------------------------------------------


def test_a_metric_without_a_ceiling_has_a_value_and_chance_and_no_skill():
    (row,) = records(["gradient"], ["sparseness"])["scores"]
    assert row["status"] == "ok"
    assert 0 < row["chance"] < 1
    assert 0 <= row["value"] <= 1
    assert row["skill"] != row["skill"]
    assert row["ceiling"] != row["ceiling"]


def test_one_metric_serves_as_ground_truth_and_as_agreement():
    found = records(["gradient", "input_x_gradient"], ["spearman"])
    assert [row["family"] for row in found["scores"]] == ["ground truth"] * 2
    assert [row["other"] for row in found["agreement"]] == ["input_x_gradient"]


def test_the_suite_of_all_metrics_has_all_but_those_with_a_suite_of_their_own():
    from assay.benchmarks.suite import load_suite

    def named(*suites):
        blocks = [block for suite in suites for block in load_suite(suite).grid]
        return {s.name for block in blocks for s in expand("metric", block.metric)}

    own = {"reliance_error", "shortcut_mass", "shapley_error", "end_task"}
    own |= {"estimator_error", "model_error", "definition_error"}
    of_pictures = {"attention_iou", "attention_iou_classes"}
    assert own <= named("spurious", "games", "end_tasks", "splits")
    assert of_pictures <= named("quick")
    assert named("metrics") == {plugin.name for plugin in METRICS} - own - of_pictures


@pytest.mark.parametrize("metrics", [["auroc", "deletion"], ["auroc", "spearman"]])
def test_a_unit_ends_with_a_cell_so_that_nothing_told_of_it_is_lost_with_a_kill(metrics):
    block = {"dataset": [DATA], "model": ["linear"], "method": ["gradient", "random"], "metric": metrics}
    ((unit, cells),) = plan(Suite.model_validate({"name": "toy", "grid": [block]})).items()
    found = [record for record in run_unit(unit, cells) if record.row]
    assert found[-1].key == cells[-1].key
    assert [r.row["metric"] for r in found if r.table == "scoring"] == metrics
