"""End tasks: a slow twin, models of which the answers are known, and the theorem's own counterexample."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from assay import methods, metrics
from assay.benchmarks.endtasks import Sweep
from assay.benchmarks.grid import plan
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.metric_tasks import evidence as small_evidence
from assay.benchmarks.metric_tasks import random as random_law
from assay.benchmarks.metric_tasks import tasks
from assay.benchmarks.neighbours import deviations
from assay.benchmarks.perturb import empty_output
from assay.benchmarks.plugin import METHODS, METRICS, Case, Evidence, NotApplicable
from assay.benchmarks.registry import Plugin
from assay.benchmarks.sharing import of_case
from assay.benchmarks.soundness import METRIC_CHECKS
from assay.benchmarks.suite import load_suite

torch.set_num_threads(1)
METRICS.discover(metrics)
METHODS.discover(methods)
SIGNS = ("local_behaviour", "recourse")
TASKS = (*SIGNS, "spurious")
READINGS = ("slope", "contribution")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def corners(width):
    """A background in which every column has mean 0 and deviation 1."""
    return torch.tensor([[1.0], [-1.0]], dtype=torch.float64).expand(2, width).clone()


class Of(nn.Module):
    """A model that is a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def lines(weight):
    weight = torch.as_tensor(weight, dtype=torch.float64)
    return Of(lambda x: (x @ weight)[:, None])


def case_of(model, x, background=None, groups=None, baseline=None):
    x = torch.as_tensor(x, dtype=torch.float64)
    with torch.no_grad():
        target = model(x).argmax(1)
    return Case(
        model=model,
        x=x,
        target=target,
        baseline=torch.zeros_like(x[0]) if baseline is None else baseline,
        background=corners(x.shape[1]) if background is None else background,
        groups=groups,
        rng=generator(),
    )


def score(case, a, **parameters):
    a = torch.as_tensor(a, dtype=torch.float64)
    given = {"masks": {"relevant": torch.ones_like(a[:1], dtype=torch.bool)}, "truth": None, "other": None}
    given |= {"empty": empty_output(case), "explain": lambda _: a, "rng": generator()}
    return METRICS["end_task"].function(Evidence(case=case, attribution=a, **given), **parameters)


def one(case, a, **parameters):
    found = score(case, a, **parameters)
    assert found.shape == (1,)
    return found.item()


def network(width, outputs=3):
    layers = [nn.Linear(width, 16).double(), nn.Linear(16, outputs).double()]
    for i, layer in enumerate(layers):
        layer.weight.data = 2 * draw(*layer.weight.shape, seed=20 + i) / math.sqrt(layer.in_features)
        layer.bias.data = draw(*layer.bias.shape, seed=30 + i)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1]).eval().requires_grad_(False)


# ---- the twin: one row, one feature, one step at a time ---------------------------------------------------


def f(case, row, feature=0, by=0.0):
    x = case.x[row].clone()
    x[feature] += by
    return case.model(x[None])[0, case.target[row]].item()


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else math.nan


def twin(case, a, task, delta, epsilon, read_as):
    usual = case.model(case.background).std(0, correction=0)
    right, wrong, rows = [], [], []
    for row in range(len(a)):
        kept, lost = [], []
        for feature in range(a.shape[1]):
            far = delta * case.background[:, feature].std(correction=0).item()
            least = epsilon * delta * usual[case.target[row]].item()
            up = [f(case, row, feature, far * k / 20) for k in range(1, 21)]
            down = [f(case, row, feature, -far * k / 20) for k in range(1, 21)]
            value = a[row, feature].item()
            if task == "spurious":
                way = [*up, *down]
                spread = math.sqrt(mean((v - mean(way)) ** 2 for v in way))
                (kept if spread > least else lost).append(abs(value))
                continue
            gain = up[-1] - down[-1] if task == "local_behaviour" else mean(up) - mean(down)
            if read_as == "contribution":
                value *= (case.x[row, feature] - case.baseline[feature]).item()
            says = 0.5 if value == 0 else float(value > 0)
            if gain > least:
                right.append(says)
            elif gain < -least:
                wrong.append(1 - says)
        rows.append(mean((p > q) + (p == q) / 2 for p in kept for q in lost))
    return rows if task == "spurious" else [(mean(right) + mean(wrong)) / 2]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("delta", "epsilon", "read_as"), [(1.0, 0.3, "slope"), (0.3, 0.2, "contribution")])
def test_the_twin_says_the_same(task, delta, epsilon, read_as):
    x = draw(6, 7, seed=1)
    case = case_of(network(7), x, background=2 * draw(30, 7, seed=2) + 1, baseline=draw(7, seed=3) / 2)
    assert len(case.target.unique()) > 1
    a = (3 * draw(6, 7, seed=4)).round()  # with ties and zeros
    assert (a == 0).any()
    given = {"task": task, "delta": delta, "epsilon": epsilon, "read_as": read_as}
    expected = torch.tensor(twin(case, a, **given), dtype=torch.float64)
    assert expected.isfinite().any()
    assert torch.allclose(score(case, a, **given), expected, atol=1e-12, equal_nan=True)


# ---- models of which the answers are known ----------------------------------------------------------------

WEIGHT = [2.0, -1.0, 0.5, 0.0, -0.7, 0.0]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("delta", [0.1, 1.0, 3.0])
def test_slopes_answer_everything_about_a_linear_model(task, delta):
    case = case_of(lines(WEIGHT), draw(5, 6))
    assert (score(case, torch.tensor(WEIGHT).expand(5, 6), task=task, delta=delta) == 1).all()


@pytest.mark.parametrize("task", SIGNS)
def test_contributions_answer_it_when_read_as_such_and_else_by_the_sign_of_x(task):
    x = draw(400, 6)
    case, a = case_of(lines(WEIGHT), x), x * torch.tensor(WEIGHT)
    assert one(case, a, task=task, read_as="contribution") == 1
    above, up, down = (x > 0).double(), [0, 2], [1, 4]
    expected = (above[:, up].mean() + above[:, down].mean()) / 2
    assert one(case, a, task=task) == pytest.approx(expected.item(), abs=1e-12)
    assert one(case, a, task=task) == pytest.approx(0.5, abs=0.05)


def test_a_curve_has_a_mean_way_and_ends_that_differ():
    """u^3 - 0.8 u rises from -1 to 1 by its ends, is smaller above 0 in the mean, and falls close by."""
    curve = Of(lambda x: (x[:, :1] ** 3 - 0.8 * x[:, :1]) + 0 * x[:, 1:2] - x[:, 1:2])
    case = case_of(curve, torch.zeros(1, 2))
    says = torch.tensor([[1.0, -1.0]])  # the ends: 1 - 0.8 > 0; the mean over (0, 1]: 1/4 - 0.4 < 0
    assert one(case, says, task="local_behaviour") == 1
    assert math.isnan(one(case, says, task="recourse"))  # now both fall
    assert math.isnan(one(case, says, task="local_behaviour", delta=0.1))


def test_unused_is_what_moves_the_output_by_less_than_the_tolerance():
    case = case_of(lines([1.0, 0.04]), torch.zeros(1, 2))  # deviations: of uniform steps, and of the output
    on_the_way = torch.cat([torch.arange(1, 21), -torch.arange(1, 21)]).double().div(20).std(correction=0)
    limit = 0.04 * on_the_way.item() / 1.04
    a = torch.tensor([[3.0, 1.0]])
    assert math.isnan(score(case, a, epsilon=0.99 * limit).item())
    assert score(case, a, epsilon=1.01 * limit).item() == 1
    assert score(case, -a.flip(1), epsilon=1.01 * limit).item() == 0


@pytest.mark.parametrize("delta", [0.1, 1.0])
def test_unused_features_are_told_apart_as_by_scikit_learn(delta):
    case, a = case_of(lines(WEIGHT), draw(9, 6)), draw(9, 6, seed=5).mul(2).round()
    depends = torch.tensor(WEIGHT) != 0
    expected = [roc_auc_score(depends, row.abs()) for row in a]
    assert score(case, a, delta=delta).tolist() == pytest.approx(expected)


# ---- the theorem: complete and linear methods are no better than guessing ----------------------------------

CLOSE = 0.25  # how far the output follows its local slope
VALUE = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)  # f_j(1) - f_j(0)
LOCAL = torch.tensor([3.0, -3.0, 3.0, -3.0], dtype=torch.float64)  # what decides how f_j goes near 1


def bumps(x):
    """Sum of f_j(u) = VALUE_j u + LOCAL_j b(u - 1), where b rises through 0 and is 0 again farther away."""
    away = x - 1
    above, below = away.clamp(CLOSE, 2 * CLOSE) - CLOSE, away.clamp(-2 * CLOSE, -CLOSE) + CLOSE
    bump = away.clamp(-CLOSE, CLOSE) - above - below
    return (VALUE * x + LOCAL * bump).sum(1, keepdim=True)


@pytest.mark.filterwarnings("ignore::assay.benchmarks.plugin.Remark")
@pytest.mark.parametrize("task", SIGNS)
@pytest.mark.parametrize("read_as", READINGS)
@pytest.mark.parametrize("method", ["exact_shapley", "integrated_gradients"])
def test_complete_and_linear_methods_guess_where_the_value_tells_nothing_of_the_way(task, read_as, method):
    case = case_of(Of(bumps), torch.ones(3, 4))
    a = METHODS[method].function(case).double()
    assert torch.equal(a.sign(), VALUE.sign().expand(3, 4))
    assert a.sum(1).tolist() == pytest.approx([0.0] * 3, abs=0.05)  # complete: f(1) - f(0)
    assert one(case, a, task=task, delta=CLOSE, read_as=read_as) == 0.5


@pytest.mark.parametrize("task", SIGNS)
def test_slopes_and_brute_force_are_right_there(task):
    case = case_of(Of(bumps), torch.ones(3, 4))
    assert one(case, METHODS["gradient"].function(case), task=task, delta=CLOSE) == 1
    assert one(case, brute_force(case, CLOSE, 8), task=task, delta=CLOSE) == 1


def brute_force(case, delta, moves):
    """The method, with so many moves of every feature to either side."""
    return METHODS["brute_force"].function(case, budget=2 * moves * case.x.shape[1], delta=delta)


def test_brute_force_of_a_line_is_twice_the_mean_move_times_the_slope():
    weight = torch.tensor([2.0, -1.0, 0.0, 0.5])
    case = case_of(Of(lambda x: (x * weight.to(x)).sum(1, keepdim=True)), draw(6, 4))
    found = brute_force(case, 0.5, 4000) / deviations(case)
    torch.testing.assert_close(
        found[0], 0.5 * weight.to(found), rtol=0.05, atol=1e-6
    )  # E of a share: delta / 2


def test_brute_force_comes_near_perfect_with_its_budget_and_contributions_do_not():
    model = Of(lambda x: (6 * x).sin().sum(1, keepdim=True))
    case = case_of(model, 2 * draw(60, 4))
    found = [one(case, brute_force(case, 0.5, n), task="recourse", delta=0.5) for n in (1, 10, 1000)]
    assert found[0] < found[1] < found[2]
    assert found[0] < 0.9
    assert found[2] > 0.97
    value = (6 * case.x).sin()  # Shapley values, and integrated gradients: the function is a sum
    for read_as in READINGS:
        assert one(case, value, task="recourse", delta=0.5, read_as=read_as) == pytest.approx(0.5, abs=0.1)


# ---- what says nothing scores 1/2 --------------------------------------------------------------------------


@pytest.mark.parametrize("task", SIGNS)
def test_one_sign_everywhere_is_a_guess_and_the_negative_the_rest_to_1(task):
    case = case_of(network(7), draw(8, 7, seed=1))
    a = draw(8, 7, seed=6)
    for guess in (a.abs(), -a.abs(), 0 * a):
        assert one(case, guess, task=task) == pytest.approx(0.5, abs=1e-12)
    assert one(case, a, task=task) != pytest.approx(0.5, abs=0.01)
    assert one(case, -a, task=task) == pytest.approx(1 - one(case, a, task=task), abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_one_answer_alone_is_no_task(task):
    case = case_of(lines([1.0, 2.0]), draw(3, 2))
    assert score(case, draw(3, 2), task=task).isnan().all()
    assert score(case_of(lines([0.0, 0.0]), draw(3, 2)), draw(3, 2), task=task).isnan().all()


# ---- what is not asked about -------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_features_that_cannot_be_moved_alone_do_not_count(task):
    """The last is constant in the background, two share a unit: what a map says of them changes nothing."""
    weight = [2.0, -1.0, 0.0, 9.0, 9.0, 9.0]
    background = corners(6)
    background[:, 5] = 4.0
    groups = torch.tensor([0, 1, 5, 3, 3, 4])
    case = case_of(lines(weight), draw(4, 6), background, groups)
    alone = case_of(lines(weight[:3]), case.x[:, :3])
    alone = replace(alone, background=torch.cat([corners(3)]))
    a = draw(4, 6, seed=8)
    found, expected = score(case, a, task=task, epsilon=0.0), score(alone, a[:, :3], task=task, epsilon=0.0)
    assert found.isfinite().all()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("task", TASKS)
def test_where_the_model_has_no_output_there_is_no_answer(task):
    root = Of(lambda x: (x[:, :1] - x[:, 1:2] + x[:, 3:].sqrt()) + 0 * x[:, 2:3])
    case = case_of(root, torch.full((2, 4), 0.5), background=corners(4).abs() + draw(2, 4).abs())
    wide = {"task": task, "delta": 10.0, "epsilon": 1e-6}
    answers = of_case(case, Sweep(10.0, 20))
    assert answers.gain[:, 3].isnan().all()
    assert answers.gain[:, :3].isfinite().all()
    right = torch.tensor([[1.0, -1.0, 0.0, 0.0]]).expand(2, 4)
    assert (score(case, right, **wide) == 1).all()


@pytest.mark.parametrize(
    ("shape", "groups", "why"),
    [
        ((1, 4, 4), None, "more than one axis"),
        ((4,), torch.tensor([0, 0, 1, 1]), "in units with others"),
        ((10_000,), None, "at most 262,144 model rows"),
    ],
)
def test_what_it_refuses(shape, groups, why):
    x = draw(2, *shape)
    case = Case(
        model=Of(lambda x: x.flatten(1).sum(1, keepdim=True)),
        x=x,
        target=torch.zeros(2, dtype=torch.int64),
        baseline=torch.zeros_like(x[0]),
        background=x,
        groups=groups,
        rng=generator(),
    )
    with pytest.raises(NotApplicable, match=why):
        score(case, x)


def test_nothing_varies():
    case = case_of(lines([1.0, 2.0]), draw(2, 2), background=torch.ones(3, 2, dtype=torch.float64))
    with pytest.raises(NotApplicable, match="none has any"):
        score(case, draw(2, 2))


# ---- in the engine -----------------------------------------------------------------------------------------


def test_the_model_is_asked_once_for_all_methods_readings_and_tolerances(monkeypatch):
    asked, make = [], Sweep.make
    monkeypatch.setattr(Sweep, "make", lambda self, *given: asked.append(self) or make(self, *given))
    given = small_evidence(tasks()[0], random_law)
    other = replace(given, attribution=given.attribution.flip(1), memo={})
    metric = METRICS["end_task"].function
    assert not torch.equal(metric(other), metric(given))
    for read_as in READINGS:
        metric(other, task="recourse", epsilon=0.2, read_as=read_as)
    assert asked == [Sweep(1.0, 20)]
    metric(other, task="local_behaviour")
    assert asked == [Sweep(1.0, 20), Sweep(1.0, 1)]  # two rows a feature, where 40 are not needed


@pytest.mark.parametrize("task", SIGNS)
@pytest.mark.parametrize("check", METRIC_CHECKS, ids=lambda c: c.__name__)
def test_the_other_tasks_are_sound_too(task, check):
    """But for contributions, the exact ones too, which may well answer worse than their negative."""
    if check.__name__ == "prefers_truth_to_noise":
        return
    ours = METRICS["end_task"]
    function = partial(ours.function, task=task)
    function.__doc__ = ours.function.__doc__
    check(Plugin("metric", ours.name, function, "1", ours.paper, ours.facts))


def test_the_suite_is_planned():
    load_plugins()
    suite = load_suite("end_tasks")
    texts = {cell.metric.text for cells in plan(suite).values() for cell in cells}
    assert len(texts) == 10
    assert all(text.startswith("end_task") for text in texts)
