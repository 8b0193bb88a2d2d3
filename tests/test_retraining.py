"""Remove and retrain, keep and retrain: what is taken away, what is learned from the rest, what is told."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from assay.benchmarks import variants
from assay.benchmarks.evaluation import run_unit
from assay.benchmarks.grid import REGISTRIES, plan
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.perturb import empty_output
from assay.benchmarks.plugin import METRICS, MODELS, Case, Evidence, NotApplicable, Problem
from assay.benchmarks.registry import load_file
from assay.benchmarks.shared import Store
from assay.benchmarks.stats import classification_quality, regression_quality
from assay.benchmarks.suite import Suite

torch.set_num_threads(1)
load_plugins()
WEIGHT = torch.tensor([3.0] + [0.0] * 9)  # one feature of ten carries all that there is to learn
KINDS = ("roar", "kar")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Known(nn.Module):
    def forward(self, x):
        return (x.flatten(1) @ WEIGHT.to(x))[:, None]


def problem_of(task="regression", rows=8000, shape=(10,), explained=20, **changes):
    x = torch.randn(rows, 10, generator=generator(1))
    y = x @ WEIGHT
    given = {
        "x": x.view(rows, *shape),
        "y": y if task == "regression" else (y > 0).long(),
        "task": task,
        "n_train": rows // 2,
        "n_validation": rows // 4,
        "n_explained": explained,
        "baseline": torch.zeros(shape),
        "background": x[:30].view(30, *shape),
        "masks": {"relevant": (WEIGHT != 0).view(1, *shape)},
        "oracle": Known(),
        "counterfactual": lambda _: x[:explained].view(explained, *shape),
    }
    return Problem(**given | changes)


def fitted(problem, rng=None):
    """Least squares with an intercept; of two classes, for one and against the other."""
    x, y = problem.x[problem.train].flatten(1).double(), problem.y[problem.train].double()
    if problem.task == "classification":
        y = 2 * y - 1
    design = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    solved = torch.as_tensor(np.linalg.lstsq(design.numpy(), y.numpy(), rcond=None)[0])[None]
    if problem.task == "classification":
        solved = torch.cat([-solved, solved])
    net = nn.Sequential(nn.Flatten(), nn.Linear(10, len(solved)))
    net[1].load_state_dict({"weight": solved[:, :-1], "bias": solved[:, -1]})
    return net.eval().requires_grad_(False)


def judged(method, problem, train=fitted, model=None, groups=None):
    model = model or fitted(problem)
    x = problem.x[problem.explained]
    case = Case(
        model=model,
        x=x,
        target=model(x).argmax(1),
        baseline=problem.baseline,
        background=problem.background,
        groups=groups,
        rng=generator(),
    )
    case = replace(case, shared=Store(case, "unit").lend(model))
    return Evidence(
        case=case,
        attribution=method(case).double(),
        masks=problem.masks,
        truth=None,
        empty=empty_output(case),
        other=None,
        explain=method,
        rng=generator(5),
        problem=problem,
        train=train,
    )


def score(name, e, **parameters):
    found = METRICS[name].function(e, **parameters)
    assert found.shape == (1,)
    assert found.dtype == torch.float64
    assert ((found >= 0) & (found <= 1) | found.isnan()).all()
    return found.item()


def exact(case):
    """w (x - b), with the sign of the explained class."""
    return case.model[-1].weight[case.target].view(case.x.shape) * (case.x - case.baseline)


def noise(case):
    return torch.randn(case.x.shape, generator=generator(9))


# ---- what is left, in closed form -----------------------------------------------------------------------


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("shape", [(10,), (1, 10), (5, 2)])
def test_without_the_one_feature_that_matters_nothing_is_learned_and_with_it_alone_all(task, shape):
    e = judged(exact, problem_of(task, shape=shape))
    # 2000 test rows leave an accuracy of 1/2 uncertain by 0.011, and so its share of the way by 0.022
    assert score("roar", e, rows=4000) < (0.02 if task == "regression" else 0.09)
    assert score("kar", e, rows=4000) > 0.97


def test_a_random_map_removes_it_as_often_as_it_removes_anything():
    """Where x is there with probability p, else 0, the best linear guess of 3 x is 3 x where it is there,
    whose R2 is p: 0.9, 0.7 and 0.5 are left in roar, 0.1, 0.3 and 0.5 in kar.  It is measured as the share of
    x^2 that is there; over 2000 rows its deviation is sqrt((3 p - p^2) / 2000) = 0.02 at p = 0.3."""
    e = judged(noise, problem_of())
    assert score("roar", e, rows=4000) == pytest.approx(0.7, abs=0.06)
    assert score("kar", e, rows=4000) == pytest.approx(0.3, abs=0.06)


def test_a_map_upside_down_is_the_worst():
    def reverse(case):
        return 1 / (exact(case).abs() + 1e-3)

    e = judged(reverse, problem_of())
    assert score("roar", e, rows=4000) > 0.97
    assert score("kar", e, rows=4000) < 0.05


def test_the_score_is_of_sizes_and_knows_no_scale():
    plain, other = (judged(m, problem_of()) for m in (noise, lambda c: -7 * noise(c)))
    for name in KINDS:
        assert score(name, plain) == score(name, other)
        assert {"scale", "sign"} <= set(METRICS[name].facts["claims"])


def test_a_tie_is_broken_at_random_and_not_by_position():
    """By position the first feature, the one that matters, would always go, or always stay."""
    for method in (torch.ones_like, torch.zeros_like):
        e = judged(lambda case, m=method: m(case.x), problem_of())
        assert score("roar", e, rows=4000) == pytest.approx(0.7, abs=0.06)
        assert score("kar", e, rows=4000) == pytest.approx(0.3, abs=0.06)


# ---- the twin -------------------------------------------------------------------------------------------


def quality(task, outputs, wanted, train):
    if task == "regression":
        return regression_quality(outputs[:, 0].double().numpy(), wanted.double().numpy(), train.numpy())[
            "quality"
        ]
    return classification_quality(outputs.argmax(1).numpy(), wanted.numpy(), train.numpy())["quality"]


def twin(e, most, keep):
    """One row at a time, on a map without ties."""
    problem, half, each = e.problem, (most + 1) // 2, []
    splits = ((problem.train, most), (problem.validation, half), (problem.test, half))
    index = [list(range(len(problem.x)))[split][:size] for split, size in splits]
    rows = [i for part in index for i in part]
    target = e.case.model(problem.x[rows]).argmax(1)
    maps = e.explain(replace(e.case, x=problem.x[rows], target=target))
    for share in (0.1, 0.3, 0.5):
        x = problem.x[rows].clone()
        for row, a in zip(x, maps, strict=True):
            size, unit = a.abs().flatten().tolist(), list(range(10))
            if e.case.groups is not None:
                unit = e.case.groups.flatten().tolist()
            names = sorted(set(unit))
            worth = {name: sum(s for s, u in zip(size, unit, strict=True) if u == name) for name in names}
            top = sorted(names, key=lambda name: -worth[name])[: max(1, round(share * len(names)))]
            for k in range(10):
                if (unit[k] in top) != keep:
                    row.view(-1)[k] = problem.baseline.view(-1)[k]
        sizes = [len(part) for part in index]
        left = replace(
            problem, x=x, y=problem.y[rows], n_train=sizes[0], n_validation=sizes[1], n_explained=1
        )
        model = e.train(left, generator())
        found = quality(problem.task, model(left.x[left.test]), left.y[left.test], left.y[left.train])
        each.append(max(found, 0.0))
    return sum(each) / 3


UNITS = torch.tensor([4, 4, 0, 0, 0, 7, 7, 9, 9, 9])


@pytest.mark.parametrize("groups", [None, UNITS, torch.zeros(10, dtype=torch.int64)])
@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("name", KINDS)
def test_retraining_equals_its_twin(name, task, groups):
    def mixed(case):
        return exact(case) + 2 * torch.cos(7 * case.x)

    problem = problem_of(task, rows=400, baseline=torch.full((10,), 0.25), groups=groups)
    e = judged(mixed, problem, groups=groups)
    for rows in (60, 1000):
        assert score(name, e, rows=rows) == pytest.approx(twin(e, rows, name == "kar"), abs=1e-6)


def test_a_guess_is_worth_nothing_and_where_it_is_right_there_is_nothing_to_say():
    problem = problem_of("classification", y=torch.ones(8000, dtype=torch.int64))
    train, flat = nn.Linear(10, 2).eval(), replace(problem, task="regression", y=torch.ones(8000))
    for case, model in ((problem, train), (flat, nn.Linear(10, 1).eval())):
        assert math.isnan(score("roar", judged(noise, case, lambda *_, m=model: m, model=model)))
    worse = nn.Linear(10, 1).eval().requires_grad_(False)
    worse.bias += 100
    assert score("roar", judged(noise, problem_of(), lambda *_: worse, worse)) == 0


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_the_quality_of_a_model_is_that_of_the_model_s_own_row(task):
    problem = problem_of(task, rows=80, y=torch.randint(3, (80,), generator=generator()))
    if task == "regression":
        problem = replace(problem, y=problem.y.float() ** 2)
    net = nn.Linear(10, 3).eval()
    for seed in range(5):
        net.weight.data = torch.randn(3, 10, generator=generator(seed))
        outputs = net(problem.x[problem.test])
        want = quality(task, outputs.detach(), problem.y[problem.test], problem.y[problem.train])
        assert variants._quality(problem, net).item() == pytest.approx(max(want, 0), abs=1e-9)


# ---- what models are trained on -------------------------------------------------------------------------


def trained_on(name, problem, method=exact, **parameters):
    """What models were trained on, but for the first, which tries if they can; seeds; calls of the method."""
    problems, seeds, calls = [], [], []

    def train(given, rng):
        problems.append(given)
        seeds.append(rng.initial_seed())
        return fitted(given)

    def counted(case):
        calls.append(len(case.x))
        return method(case)

    e = judged(counted, problem, train)
    score(name, e, **parameters)
    assert (problems[0].x == 0).float().mean() < 1e-3  # all is left
    return problems[1:], seeds[1:], calls, e


@pytest.mark.parametrize("name", KINDS)
def test_training_validation_and_test_rows_are_all_altered(name):
    """One that trains on whole rows and tests on altered ones measures how odd these look."""
    problem = problem_of(baseline=torch.full((10,), 0.5))
    problems, *_ = trained_on(name, problem, rows=100)
    assert len(problems) == 3
    for given, share in zip(problems, (0.1, 0.3, 0.5), strict=True):
        absent = (given.x == 0.5).sum(1)
        top = round(10 * share)
        assert (absent == (top if name == "roar" else 10 - top)).all()
        assert ((given.x[:, 0] == 0.5) == (name == "roar")).all()


def test_rows_are_as_many_as_asked_and_each_split_keeps_its_own():
    problem = problem_of(rows=1000)  # 500, 250 and 250
    for rows, want in ((100, (100, 50, 50)), (7, (7, 4, 4)), (400, (400, 200, 200)), (2000, (500, 250, 250))):
        (given, *_), _, calls, _ = trained_on("roar", problem, rows=rows)
        sizes = given.n_train, given.n_validation, len(given.x) - given.n_train - given.n_validation
        assert sizes == want
        assert calls == [20, sum(want)]
        for split in ("train", "validation", "test"):
            own, whole = getattr(given, split), getattr(problem, split)
            assert torch.equal(given.y[own], problem.y[whole][: len(given.y[own])])
            kept = given.x[own] != 0
            assert torch.equal(given.x[own][kept], problem.x[whole][: len(kept)][kept])


def test_models_are_told_nothing_of_the_truth():
    problems, *_, e = trained_on("kar", problem_of())
    for given in problems:
        assert given.oracle is None
        assert given.counterfactual is None
        assert all(mask.all() for mask in given.masks.values())
    assert e.problem.oracle is not None
    assert torch.equal(e.problem.x, problem_of().x)


def test_models_start_from_the_same_seed_whatever_the_map():
    _, first, *_ = trained_on("roar", problem_of(), exact)
    _, second, *_ = trained_on("roar", problem_of(), noise)
    assert first == second
    assert len(set(first)) == 3


def test_rows_are_explained_once_for_both_metrics_and_for_their_predicted_classes():
    problem, seen = problem_of("classification"), []

    def watching(case):
        seen.append(case)
        return exact(case)

    e = judged(watching, problem)
    for name in KINDS:
        score(name, e, rows=100)
    score("kar", e, rows=100)
    assert [len(case.x) for case in seen] == [20, 200]
    rows = torch.cat(
        [problem.x[s][:n] for s, n in ((problem.train, 100), (problem.validation, 50), (problem.test, 50))]
    )
    assert torch.equal(seen[1].x, rows)
    assert torch.equal(seen[1].target, e.case.model(rows).argmax(1))
    assert len(set(seen[1].target.tolist())) == 2


@pytest.mark.parametrize("name", KINDS)
def test_what_is_not_trained_is_not_explained_in_vain(name):
    def once(case):
        assert len(case.x) == 20, "explained in vain"
        return torch.ones_like(case.x)

    problem = problem_of()
    known = judged(once, problem, MODELS["oracle"].function, problem.oracle)
    with pytest.raises(NotApplicable, match="no known function"):  # what is left has none
        score(name, known)
    for lacking in ("problem", "train"):
        with pytest.raises(NotApplicable, match="not known how"):
            score(name, replace(judged(once, problem), **{lacking: None}))


def test_what_readers_must_know_stands_beside_the_scores():
    caveats = {name: METRICS[name].facts["caveat"] for name in KINDS}
    assert "2304.13836" in caveats["roar"]
    assert "2202.00449" in caveats["kar"]


# ---- a run ----------------------------------------------------------------------------------------------

COUNTING = """
from assay.benchmarks.plugin import model
from assay.models.linear import linear

TRAINED = []

@model(paper="https://example.org", has=("gradient", "layers", "linear"))
def counting(problem, rng, /):
    TRAINED.append((len(problem.x), rng.initial_seed()))
    return linear(problem, rng)
"""


@pytest.fixture
def counting(tmp_path):
    file = tmp_path / "counting.py"
    file.write_text(COUNTING)
    load_file(file)
    yield REGISTRIES["model"]["counting"].function.__globals__["TRAINED"]
    for registry in REGISTRIES.values():
        registry._plugins.pop("counting", None)


def run(model, methods, metrics, data="symbolic[formula='2 * a',columns=9,rows=3000,explained=10]"):
    block = {"dataset": [data], "model": [model], "method": methods, "metric": metrics}
    ((unit, cells),) = plan(Suite.model_validate({"name": "toy", "seeds": 1, "grid": [block]})).items()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what methods say of themselves
        records = list(run_unit(unit, cells))
    return {(r.row["method"], r.row["metric"]): r.row for r in records if r.table == "scores"}


def test_a_run_trains_three_models_for_every_map_and_compares_like_with_like(counting):
    methods = ["gradient", "feature_ablation", "random"]
    found = run("counting", methods, list(KINDS))
    assert {row["status"] for row in found.values()} == {"ok"}
    draws = METRICS["roar"].facts["draws"]
    # the unit's own and one to try; then on 1000 rows, with 240 and 500 more, for three methods and chance
    assert [rows for rows, _ in counting] == [3000] + [1000 + 240 + 500] * (1 + 2 * 3 * (3 + draws))
    assert len({seed for _, seed in counting}) == 2 + 3
    for method in ("gradient", "feature_ablation"):
        assert found[method, "roar"]["value"] < 0.05
        assert found[method, "kar"]["value"] > 0.95
    for name, chance in (("roar", 0.7), ("kar", 0.3)):
        assert found["random", name]["value"] == pytest.approx(chance, abs=0.08)
        assert found["random", name]["chance"] == pytest.approx(chance, abs=0.08)
        assert math.isnan(found["random", name]["skill"])
    alone = run("counting", ["random"], ["kar"])
    assert alone["random", "kar"]["value"] == found["random", "kar"]["value"]


@pytest.mark.parametrize(
    "model", ["mlp[depth=1,width=8]", "boosted_trees[trees=5]", "random_forest[trees=5]"]
)
def test_every_model_that_learns_can_be_trained_on_what_is_left(model):
    data = "tabular[name=wine,probes=2,explained=5]"
    found = run(model, ["feature_ablation"], ["roar"], data)
    assert {row["status"] for row in found.values()} == {"ok"}


def test_the_known_function_is_skipped():
    found = run("oracle", ["gradient"], list(KINDS))
    assert {row["status"] for row in found.values()} == {"skipped"}
