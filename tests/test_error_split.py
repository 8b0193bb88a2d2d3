"""The three parts of an error against values derived by hand, and what is made of their scores."""

import math
import re

import pandas as pd
import pytest
import torch
from torch import nn

from assay.benchmarks import exact_model
from assay.benchmarks.errorsplit import COLUMNS, error_split, section
from assay.benchmarks.evaluation import run_unit
from assay.benchmarks.exact_model import Exactly, distance
from assay.benchmarks.grid import expand, plan
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import DATASETS, METHODS, METRICS, Case, Evidence, NotApplicable, Problem
from assay.benchmarks.suite import Suite, load_suite
from assay.benchmarks.truth import exact_attribution

torch.set_num_threads(1)
load_plugins()
PARTS = ("estimator_error", "model_error", "definition_error")
CLOSE = {"abs": 1e-6}  # weights and rows are in single precision


class Columns(nn.Module):
    """A function of columns a, b, c, ... in the dtype of its input; one output or several."""

    def __init__(self, *functions):
        super().__init__()
        self.functions = functions

    def forward(self, x):
        return torch.stack([f(*x.flatten(1).unbind(1)) for f in self.functions], 1)


def lines(*weights):
    """A linear function with these weights, one output a row of them."""
    return Columns(*(lambda *x, w=w: sum(a * b for a, b in zip(w, x, strict=True)) for w in weights))


def draw(rows, width, seed=0):
    return 2 * torch.rand(rows, width, generator=torch.Generator().manual_seed(seed)) - 1


def world(oracle, x, baseline=0.0, groups=None, outputs=1):
    """A problem of explained rows alone, behind one row that trains; all columns matter."""
    return Problem(
        x=torch.cat([torch.full((1, x.shape[1]), 9.0), x]),
        y=torch.zeros(len(x) + 1, dtype=torch.float32 if outputs == 1 else torch.int64),
        task="regression" if outputs == 1 else "classification",
        n_train=1,
        n_validation=0,
        n_explained=len(x),
        baseline=torch.as_tensor(baseline).expand(x.shape[1]).float(),
        background=draw(4, x.shape[1], seed=9),
        masks={"relevant": torch.ones(1, x.shape[1], dtype=torch.bool)},
        oracle=oracle,
        groups=groups,
    )


def seen(model, problem, a, estimand="none", value="baseline", signed=True):
    """All that a metric may see of the map `a` of this model, which a method of this kind made."""
    x = problem.x[problem.explained]
    target = model(x).argmax(1)
    truth = None
    if problem.oracle is not None:
        truth = exact_attribution(problem, target, "shapley" if estimand == "none" else estimand, value)
        truth = truth if signed else truth.abs()
    case = Case(
        model=model,
        x=x,
        target=target,
        baseline=problem.baseline,
        background=problem.background,
        groups=problem.groups,
        rng=torch.Generator().manual_seed(0),
    )
    return Evidence(
        case=case,
        attribution=torch.as_tensor(a, dtype=torch.float64).expand(x.shape).clone(),
        masks=problem.masks,
        truth=truth,
        empty=torch.zeros(len(x)),
        other=None,
        explain=lambda _: torch.zeros_like(x),
        rng=torch.Generator().manual_seed(0),
        problem=problem,
        estimand=estimand,
        value=value,
        signed=signed,
    )


def part(name, given, **parameters):
    return METRICS[name].function(given, **parameters).tolist()


def apart(a, b):
    """The slow twin of `distance`: one row at a time."""
    found = []
    for first, second in zip(a.double().tolist(), b.double().tolist(), strict=True):
        scale = math.hypot(*first) + math.hypot(*second)
        gap = math.hypot(*(p - q for p, q in zip(first, second, strict=True)))
        found.append(2 * gap / scale if scale else 0.0)
    return found


# ---- the measure -----------------------------------------------------------------------------------------


def test_the_distance_is_that_of_attribution_error():
    a, b = draw(6, 4).double(), 3 * draw(6, 4, seed=1).double()
    given = seen(lines([1.0] * 4), world(lines([1.0] * 4), draw(6, 4)), a)
    object.__setattr__(given, "truth", b)
    assert distance(a, b).tolist() == pytest.approx(apart(a, b))
    assert distance(a, b).tolist() == pytest.approx(part("attribution_error", given))


@pytest.mark.parametrize("direction", [False, True])
def test_the_distance_has_the_triangle_inequality(direction):
    """Where norms differ by powers of ten, and where maps are zero, opposite or between the two others."""
    scale = 10 ** (4 * draw(20_000, 3, seed=5).double())
    a, b, c = (draw(20_000, 3, seed=s).double() * scale[:, [s]] for s in range(3))
    a[:2_000] = 0
    b[1_000:3_000] = 0
    b[3_000:6_000] = (a[3_000:6_000] + c[3_000:6_000]) / 2
    c[6_000:8_000] = -a[6_000:8_000]
    whole, *ways = (distance(*pair, direction) for pair in ((a, c), (a, b), (b, c)))
    assert (whole <= ways[0] + ways[1] + 1e-12).all()
    assert whole.max() <= 2 + 1e-12


def test_the_relative_error_has_no_triangle_inequality():
    """Which is why it is not the measure: from 10 to 1 by way of 9 is shorter than straight."""
    ten, nine, one = (torch.tensor([[v]]) for v in (10.0, 9.0, 1.0))
    ways = ((ten, nine), (nine, one), (ten, one))
    first, second, straight = (float((a - b).abs() / b.abs()) for a, b in ways)
    assert straight > first + second
    first, second, straight = (distance(a, b).item() for a, b in ways)
    assert straight <= first + second


def test_directions_alone():
    a = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1e-100, 0.0]], dtype=torch.float64)
    b = torch.tensor([[5.0, 0.0], [0.0, 0.3], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]).double()
    assert distance(a, b, direction=True).tolist() == pytest.approx([0, math.sqrt(2), 2, 0, 0])
    assert distance(a, -b, direction=True)[0].item() == pytest.approx(2)


# ---- linear functions: every exact attribution is known --------------------------------------------------

TRUE, FITTED = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.5, -1.0, 0.0])
BASE, X = torch.tensor([0.5, -0.25, 0.125]), draw(5, 3, seed=4)
FILLERS = draw(4, 3, seed=9)
LINEAR = {
    ("gradient", "baseline"): lambda w: w.expand_as(X),
    ("gradient", "marginal"): lambda w: w.expand_as(X),
    ("gradient_x_input", "baseline"): lambda w: w * X,
    ("ablation", "baseline"): lambda w: w * (X - BASE),
    ("ablation", "marginal"): lambda w: w * (X - FILLERS.mean(0)),
    ("integrated_gradients", "baseline"): lambda w: w * (X - BASE),
    ("integrated_gradients", "marginal"): lambda w: w * (X - FILLERS.mean(0)),
    ("shapley", "baseline"): lambda w: w * (X - BASE),
    ("shapley", "marginal"): lambda w: w * (X - FILLERS.mean(0)),
    ("none", "baseline"): lambda w: w * (X - BASE),
}


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("estimand", "value"), LINEAR)
def test_the_parts_of_a_linear_models_error(estimand, value, signed):
    size = (lambda v: v) if signed else torch.abs
    of = LINEAR[estimand, value]
    a = size(draw(5, 3, seed=7))
    given = seen(lines(FITTED.tolist()), world(lines(TRUE.tolist()), X, BASE), a, estimand, value, signed)
    own, true, wanted = size(of(FITTED)), size(of(TRUE)), size(LINEAR["shapley", value](TRUE))
    assert part("estimator_error", given) == pytest.approx(apart(a, own), **CLOSE)
    assert part("model_error", given) == pytest.approx(apart(own, true), **CLOSE)
    assert part("definition_error", given) == pytest.approx(apart(true, wanted), **CLOSE)


def test_gradient_of_a_linear_function_is_off_by_definition():
    """f = 3a + 4b at (2, 2), by hand: |(3, 4) - (6, 8)| = 5, twice that over 5 + 10."""
    world_ = world(lines([3.0, 4.0]), torch.tensor([[2.0, 2.0], [1.0, 1.0], [-1.0, -1.0]]))
    given = seen(world_.oracle, world_, 1.0, "gradient")
    assert part("definition_error", given) == pytest.approx([2 / 3, 0, 2], **CLOSE)
    assert part("definition_error", given, direction=True) == pytest.approx([0, 0, 2], **CLOSE)


def test_one_weight_is_learned_wrong():
    """Of f = 2a, a model says a: 2 |1 - 2| / 3; but the direction is right."""
    given = seen(lines([1.0]), world(lines([2.0]), torch.tensor([[1.0], [-3.0]])), 0.0, "shapley")
    assert part("model_error", given) == pytest.approx([2 / 3] * 2, **CLOSE)
    assert part("model_error", given, direction=True) == pytest.approx([0, 0], **CLOSE)
    assert part("estimator_error", given) == pytest.approx([2, 2])


def test_the_whole_distance_is_at_most_the_sum_of_the_parts():
    model = Columns(lambda a, b, c: torch.sin(2 * a) * b + c)
    oracle = Columns(lambda a, b, c: a * b + torch.exp(c))
    x = draw(200, 3, seed=2)
    a = draw(200, 3, seed=3)
    for estimand in ("gradient", "gradient_x_input", "ablation", "integrated_gradients", "shapley"):
        given = seen(model, world(oracle, x), a, estimand)
        total = sum(torch.tensor(part(name, given)) for name in PARTS)
        whole = distance(a, exact_attribution(given.problem, given.case.target, "shapley"))
        assert (whole <= total + 1e-9).all()
        assert whole.mean() > 0.5


# ---- a product: each estimand is another -----------------------------------------------------------------

PRODUCT = {  # of f = ab at (2, 3), baseline 0: what the two get
    "gradient": (3.0, 2.0),
    "gradient_x_input": (6.0, 6.0),
    "ablation": (6.0, 6.0),
    "integrated_gradients": (3.0, 3.0),
    "shapley": (3.0, 3.0),
}


@pytest.mark.parametrize("estimand", PRODUCT)
def test_a_product_by_hand(estimand):
    known, doubled = Columns(lambda a, b: a * b), Columns(lambda a, b: 2 * a * b)
    own = PRODUCT[estimand]
    given = seen(doubled, world(known, torch.tensor([[2.0, 3.0]])), own, estimand)
    assert part("estimator_error", given) == pytest.approx([2 / 3], **CLOSE)  # half of what it should be
    assert part("model_error", given) == pytest.approx([2 / 3], **CLOSE)
    defined = apart(torch.tensor([own]), torch.tensor([[3.0, 3.0]]))
    assert part("definition_error", given) == pytest.approx(defined, **CLOSE)


def test_a_unit_of_two_columns_shares_what_it_gets():
    """Shapley of f = abc in the units {a, b} and {c} is abc / 2 each, shared by the columns of a unit."""
    known = Columns(lambda a, b, c: a * b * c)
    x, groups = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([0, 0, 1])
    given = seen(known, world(known, x, groups=groups), [1.5, 1.5, 3.0], "shapley")
    assert part("estimator_error", given) == pytest.approx([0], **CLOSE)


# ---- classes ---------------------------------------------------------------------------------------------


def test_logits_of_another_scale_are_a_models_error_but_not_of_direction():
    weights = [[1.0, 2.0], [-1.0, 0.5], [0.0, -1.0]]
    known, small = lines(*weights), lines(*[[w / 4 for w in row] for row in weights])
    given = seen(small, world(known, draw(9, 2, seed=6), outputs=3), 1.0, "shapley")
    assert len(set(given.case.target.tolist())) > 1
    assert part("model_error", given) == pytest.approx([2 * 0.75 / 1.25] * 9, **CLOSE)
    assert part("model_error", given, direction=True) == pytest.approx([0] * 9, **CLOSE)


def test_what_is_added_to_all_logits_is_a_models_error():
    """The probabilities are the same, the attribution of one output is not."""
    known, moved = lines([1.0, 0.0], [-1.0, 0.0]), lines([1.0, 1.0], [-1.0, 1.0])
    given = seen(moved, world(known, torch.tensor([[1.0, 1.0]]), outputs=2), 1.0, "shapley")
    assert part("model_error", given) == pytest.approx([2 / (math.sqrt(2) + 1)], **CLOSE)


# ---- what cannot be had ----------------------------------------------------------------------------------


@pytest.mark.parametrize("estimand", ["gradient", "gradient_x_input", "integrated_gradients"])
def test_a_model_of_steps_has_no_gradient(estimand):
    steps = Columns(lambda a, b: (a.detach() > 0).to(a) + b.detach())
    given = seen(steps, world(lines([1.0, 1.0]), draw(4, 2)), 1.0, estimand)
    for name in ("estimator_error", "model_error"):
        with pytest.raises(NotApplicable, match="no gradient"):
            part(name, given)
    assert all(math.isfinite(v) for v in part("definition_error", given))


def test_more_units_than_can_be_enumerated():
    known = lines([1.0] * 13)
    given = seen(known, world(lines([1.0] * 13), draw(3, 13)), 1.0, "ablation")
    assert part("model_error", given) == pytest.approx(
        [0] * 3, **CLOSE
    )  # one at a time, as many as there are
    with pytest.raises(NotApplicable, match="at most 12"):
        part("definition_error", given)
    many = world(None, draw(3, 13))
    with pytest.raises(NotApplicable, match="at most 12 units, this has 13"):
        part("estimator_error", seen(known, many, 1.0, "shapley"))


def test_a_network_with_kinks_says_whose_path_does_not_converge():
    kinked = Columns(lambda a, b: torch.relu(a - 0.3) + torch.relu(b - 0.2))
    given = seen(kinked, world(lines([1.0, 1.0]), torch.ones(2, 2)), 1.0, "integrated_gradients")
    with pytest.raises(NotApplicable, match="of the model do not converge"):
        part("estimator_error", given)


def test_without_a_true_function_the_estimators_part_is_still_known():
    nobody_knows = world(None, X, BASE)
    given = seen(lines(FITTED.tolist()), nobody_knows, FITTED * (X - BASE), "shapley")
    assert part("estimator_error", given) == pytest.approx([0] * 5, **CLOSE)


# ---- in the engine ---------------------------------------------------------------------------------------

SMALL = "symbolic[function=7,columns=2,rows=400,explained=6]"
EXACT = [
    "gradient",
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "feature_ablation",
    "linear_shap",
]


def scores(methods, model="linear", dataset=SMALL, seeds=1):
    block = {"dataset": [dataset], "model": [model], "method": methods}
    block["metric"] = [*PARTS, "attribution_error"]
    planned = plan(Suite.model_validate({"name": "toy", "seeds": seeds, "grid": [block]}))
    rows = [r.row for unit, cells in planned.items() for r in run_unit(unit, cells) if r.table == "scores"]
    return pd.DataFrame(rows)


def values(found, metric):
    return found[found["metric"] == metric].set_index("method")["value"]


def test_exact_methods_have_no_estimators_error_on_a_linear_model():
    found = scores(EXACT)
    assert set(found["status"]) <= {"ok", "unlearned"}
    assert values(found, "estimator_error").drop("feature_ablation").max() < 1e-6
    assert values(found, "estimator_error").max() < 1e-5  # small differences of outputs in single precision
    assert values(found, "model_error").min() > 0.3  # f is curved
    assert found.loc[found["metric"].isin(PARTS), "skill"].isna().all()


def test_the_function_itself_has_no_models_error():
    found = scores(
        ["gradient", "integrated_gradients", "feature_ablation", "kernel_shap", "random"], "oracle"
    )
    assert values(found, "model_error").max() < 1e-9
    estimated, whole = values(found, "estimator_error"), values(found, "attribution_error")
    pd.testing.assert_series_equal(estimated, whole, check_names=False, atol=1e-9)
    defined = values(found, "definition_error")
    assert defined["kernel_shap"] == defined["random"] == 0 < defined["integrated_gradients"]
    assert defined["gradient"] > defined["feature_ablation"] > 0.1


def test_the_error_of_an_estimator_falls_with_its_budget():
    data = "symbolic[function=11,columns=1,rows=400,explained=6]"
    budgets = [16, 32, 64, 128]
    found = values(scores([f"kernel_shap[budget={b}]" for b in budgets], "mlp", data), "estimator_error")
    assert list(found) == sorted(found, reverse=True)
    assert found.iloc[-1] < found.iloc[0] / 4
    split = error_split(scores([f"kernel_shap[budget={b}]" for b in budgets], "mlp", data))
    assert split["model_part"].nunique() == 1  # it is the model's, whatever the budget
    assert set(split["definition"]) == {0.0}


def test_exact_attributions_are_made_once_for_all_methods_of_one_aim(monkeypatch):
    made, attribution = [], Exactly.attribution
    monkeypatch.setattr(
        Exactly, "attribution", lambda self, case: made.append(self) or attribution(self, case)
    )
    scores(["kernel_shap[budget=[16,32]]", "lime", "gradient", "smooth_grad", "random"])
    wanted = [Exactly("shapley"), Exactly("gradient")]
    assert [m for m in made if m.relevant is None] == wanted
    assert len(made) == 3  # and the Shapley values of the function, which gradients are held against


def test_what_no_path_leads_to_is_asked_once(monkeypatch):
    tried, quadrature = [], exact_model.truth.integrated_gradients

    def watched(f, x, baseline):
        tried.append(1)
        return quadrature(f, x, baseline)

    monkeypatch.setattr(exact_model.truth, "integrated_gradients", watched)
    methods = ["integrated_gradients", "integrated_gradients[max_steps=64]"]
    found = scores(methods, "mlp[activation=relu]")
    reasons = found.loc[found["metric"] == "estimator_error", "reason"]
    assert reasons.str.contains("of the model do not converge").all()
    assert len(tried) == 2  # by the metric, and for the truth


def test_a_real_table_has_an_estimators_part_alone():
    data = "tabular[name=diabetes,probes=1,explained=4]"
    found = scores(["input_x_gradient"], dataset=data).set_index("metric")
    assert found.loc["estimator_error", "value"] < 1e-6
    assert found.loc["model_error", "status"] == found.loc["definition_error", "status"] == "skipped"
    assert "oracle" in found.loc["model_error", "reason"]


def test_trees_have_ablation_and_shapley_values_alone():
    data = "symbolic[function=6,columns=1,rows=200,explained=4]"
    found = scores(["tree_shap", "feature_ablation"], "boosted_trees[trees=5]", data)
    assert values(found, "estimator_error").max() < 1e-5


# ---- the table -------------------------------------------------------------------------------------------


def cell(method, metric, value, **given):
    place = {"dataset": "toy", "parameters": "f=1", "noise": "", "seed": 0, "status": "ok", "model": "mlp"}
    return place | {"method": method, "metric": metric, "value": value, "skill": math.nan} | given


def cells(method, parts, **given):
    names = (*PARTS, "attribution_error")
    return [cell(method, name, value, **given) for name, value in zip(names, parts, strict=False)]


def test_a_problem_counts_once_however_many_cells_it_has():
    rows = cells("m", (0.2, 0.1, 0.0, 0.3), noise="n=0") + cells("m", (0.4, 0.1, 0.0, 0.5), noise="n=1")
    rows += cells("m", (0.9, 0.1, 0.0, 1.0), parameters="f=2")
    (found,) = error_split(pd.DataFrame(rows)).to_dict("records")
    assert found["estimator"] == pytest.approx((0.3 + 0.9) / 2)
    assert found["error"] == pytest.approx((0.4 + 1.0) / 2)
    assert (found["model_part"], found["definition"]) == pytest.approx((0.1, 0.0))
    assert (found["cells"], found["largest"]) == (3, "estimator")


def test_parts_are_of_the_same_cells():
    rows = cells("m", (0.2, 0.5, 0.1, 0.6)) + cells("m", (2.0, 2.0), seed=1)
    (found,) = error_split(pd.DataFrame(rows)).to_dict("records")
    assert (found["estimator"], found["model_part"], found["cells"]) == (0.2, 0.5, 1)
    assert found["largest"] == "model"


def test_the_error_is_told_only_where_it_is_of_the_same_cells():
    rows = cells("m", (0.2, 0.5, 0.1, 0.6)) + cells("m", (0.2, 0.5, 0.1), seed=1)
    (found,) = error_split(pd.DataFrame(rows)).to_dict("records")
    assert math.isnan(found["error"])


def test_models_that_did_not_learn_count_and_failures_do_not():
    rows = cells("m", (0.0, 1.5, 0.0), status="unlearned") + cells("m", (0.0, 0.5, 0.0), seed=1)
    rows += cells("m", (2.0, 2.0, 2.0), seed=2, status="failed")
    (found,) = error_split(pd.DataFrame(rows)).to_dict("records")
    assert found["model_part"] == pytest.approx(1.0)


def test_rows_are_of_a_method_and_a_model_in_the_order_of_the_table():
    rows = cells("z", (0, 0, 1)) + cells("a", (0, 1e-7, 0), model="oracle") + cells("a", (1, 0, 0))
    found = error_split(pd.DataFrame([*rows, *cells("random", (1, 1, 1))]), controls={"random"})
    assert list(zip(found["method"], found["model"], found["largest"], strict=True)) == [
        ("z", "mlp", "definition"),
        ("a", "mlp", "estimator"),
        ("a", "oracle", ""),
    ]


def test_nothing_is_told_where_nothing_was_measured():
    found = error_split(pd.DataFrame([cell("m", "attribution_error", 0.5)]))
    assert list(found.columns) == COLUMNS
    assert section(found) == []


def test_the_page_says_what_would_mend_whom_and_trusts_no_name():
    rows = cells("a|b", (1, 0, 0)) + cells("<script>", (0, 1, 0)) + cells("a|b", (0, 0, 0.5), model="$x$")
    title, how, table, blame = section(error_split(pd.DataFrame(rows)))
    assert title.startswith("## ")
    assert "triangle" in how
    assert "<script>" not in table + blame
    assert re.findall(r"[^\\][$]", table + blame) == []
    assert all(
        line.replace(r"\|", "").count("|") == table.splitlines()[0].count("|") for line in table.splitlines()
    )
    budget, train, other = blame.splitlines()[2:]
    assert "budget" in budget
    assert r"a\|b (mlp)" in budget
    assert "&lt;script&gt; (mlp)" in train
    assert r"a\|b (\$x\$)" in other


def test_the_suite_can_be_enumerated():
    (block,) = load_suite("splits").grid
    assert {s.name for s in expand("metric", block.metric)} == {*PARTS, "attribution_error"}
    assert len({s.name for s in expand("method", block.method)}) >= 15
    for data in expand("dataset", block.dataset):
        rows = {"rows": 100} if data.name == "symbolic" else {"train": 100}
        problem = DATASETS[data.name].function(torch.Generator().manual_seed(0), **{**data.params, **rows})
        assert problem.baseline.numel() <= 12
        assert problem.oracle is not None
    assert not any(
        METHODS[s.name].facts["control"] for s in expand("method", block.method) if s.name != "random"
    )


def test_metrics_with_a_parameter_are_split_beside_those_without():
    """Parts of one setting add up; the whole distance is of the bare ones alone."""
    names = [f"{name}[direction=true]" for name in PARTS]
    turned = [cell("m", name, value) for name, value in zip(names, (0.1, 0.2, 0.3), strict=True)]
    alone = error_split(pd.DataFrame(turned))
    assert alone[["setting", "estimator", "model_part", "definition", "largest"]].values.tolist() == [
        ["direction=true", 0.1, 0.2, 0.3, "definition"]
    ]
    assert alone["error"].isna().all()
    rows = [*cells("m", (0.5, 0.4, 0.3, 0.6)), *turned, cell("m", f"{PARTS[0]}[direction=false]", 1.0)]
    both = error_split(pd.DataFrame(rows))
    assert both["setting"].tolist() == ["", "direction=true"]
    assert both["largest"].tolist() == ["estimator", "definition"]
    assert both["error"].tolist()[0] == 0.6
    table, blame = section(both)[2:]
    assert "| setting " in table
    assert "(mlp by direction=true)" in blame
    assert "setting" not in section(error_split(pd.DataFrame(rows[:4])))[2]
    assert error_split(pd.DataFrame(rows)[:0]).empty
