"""The metrics: against Quantus' same numbers, and all that score a map against the truth or another map.

CPU time of one thread.  What is drawn is the same for both, and so is the method, a gradient: the scores are
then equal.  The checks of types that pytest turns on take up to half of our time: JAXTYPING_DISABLE=1.
"""

import dataclasses
import itertools
import time

import numpy as np
import pytest
import torch
from torch import nn

from assay.benchmarks.coalitions import OfSizes, table
from assay.benchmarks.evaluation import draw
from assay.benchmarks.grid import expand
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.neighbours import Nearby
from assay.benchmarks.perturb import empty_output
from assay.benchmarks.plugin import METRICS, Case, Evidence
from assay.benchmarks.randomness import rng_for
from assay.benchmarks.shared import Store
from assay.benchmarks.sharing import variant_of
from assay.benchmarks.yardstick import Aim, Remembered, Yardstick

load_plugins()
torch.set_num_threads(1)
WIDTH, ROWS = 100, 64
SUBSETS = OfSizes(sizes=10, each=100)
NEARBY = Nearby(radius=0.05, draws=50)
OFF = {"normalise": False, "return_aggregate": False, "disable_warnings": True, "display_progressbar": False}
VALUES = {}  # group -> the first one's scores

pytestmark = pytest.mark.benchmark(timer=time.process_time)


# ---- beside Quantus -------------------------------------------------------------------------------------


def gradient(model, x, target):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(model(x).gather(1, target[:, None]).sum(), x)[0]


@pytest.fixture(scope="module")
def case():
    """64 rows of 100 features, and a network of three layers of 100 units."""
    rng = rng_for("speed")
    torch.manual_seed(0)
    sizes = [WIDTH, 100, 100, 100, 3]
    layers = [nn.Flatten()]
    for size, width in itertools.pairwise(sizes):
        layers += [nn.Linear(size, width), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).eval().requires_grad_(False)
    x = torch.randn(ROWS, WIDTH, generator=rng)
    background = torch.randn(50, WIDTH, generator=rng)
    return Case(
        model=model,
        x=x,
        target=model(x).argmax(1),
        baseline=background.mean(0),
        background=background,
        groups=None,
        rng=rng,
    )


def evidence(case, store=None):
    """The gradient's map, with nothing computed of it yet, nor of the case but what the store has."""
    store = store or Store(case, "speed")
    case = dataclasses.replace(case, shared=store.lend(case.model))
    return Evidence(
        case=case,
        attribution=gradient(case.model, case.x, case.target).double(),
        masks={},
        truth=None,
        empty=empty_output(case),
        other=None,
        explain=lambda c: gradient(c.model, c.x, c.target),
        rng=rng_for("speed"),
    )


def quantus_(name, case, **settings):
    peer = pytest.importorskip("quantus", reason="pip install '.[peers]'")
    metric = getattr(peer, name)(**OFF | settings)

    def explain(model, inputs, targets, **_):
        x = torch.as_tensor(inputs)[:, 0].float()
        return gradient(model, x, torch.as_tensor(targets)).numpy()[:, None]

    return np.array(
        metric(
            model=case.model,
            x_batch=case.x.numpy()[:, None],
            y_batch=case.target.numpy(),
            a_batch=gradient(case.model, case.x, case.target).double().numpy()[:, None],
            explain_func=explain,
            channel_first=True,
            softmax=False,
            batch_size=len(case.x),
        )
    )


def to_baseline(case):
    def write(arr, indices, **_):
        out, rows = arr.copy(), np.arange(len(arr))[:, None]
        out[rows, indices] = case.baseline.numpy()[indices]
        return out

    return {"perturb_func": write}


def deletion(case, store):
    return METRICS["deletion"].function(evidence(case, store)).numpy()


def network_alone(case):
    """As many rows as the curves have, through the network and nothing else: no metric takes less."""
    with torch.no_grad():
        case.model(case.x.repeat_interleave(WIDTH + 1, 0))


def pixel_flipping(case):
    curve = quantus_("PixelFlipping", case, features_in_step=1, abs=True, **to_baseline(case))
    curve = np.column_stack([case.output(case.x).numpy(), curve])
    return np.trapezoid(np.abs(curve - curve[:, -1:]), axis=1) / WIDTH


def sensitivity_n(case):
    return METRICS["sensitivity_n"].function(evidence(case)).numpy()


def faithfulness_correlation(case):
    return METRICS["faithfulness_correlation"].function(evidence(case)).numpy()


def by_subsets(case, sizes, monkeypatch):
    """The mean, over these sizes, of Quantus' correlation over our subsets; what they are is known before."""
    removed = ~table(evidence(case).case, SUBSETS).coalitions
    subsets = {
        size: [row.nonzero()[:, 0].numpy() for row in removed[removed.sum(1) == size]] for size in sizes
    }
    peer = pytest.importorskip("quantus", reason="pip install '.[peers]'")
    settings = {
        "abs": False,
        "similarity_func": peer.similarity_func.correlation_pearson,
        **to_baseline(case),
    }

    def correlate(case):
        found = []
        for size, some in subsets.items():
            turns = (subset for subset in some for _ in case.x)
            monkeypatch.setattr(np.random, "choice", lambda *_, turns=turns, **__: next(turns))
            given = {"nr_runs": len(some), "subset_size": size}
            found.append(quantus_("FaithfulnessCorrelation", case, **given, **settings))
        return np.mean(found, 0)

    return correlate


def max_sensitivity(case):
    e = evidence(case)
    return METRICS["max_sensitivity"].function(e, radius=NEARBY.radius, draws=NEARBY.draws).numpy()


def by_neighbours(case):
    near = variant_of(evidence(case), NEARBY).x.view(ROWS, NEARBY.draws, WIDTH).transpose(0, 1)

    def largest(case):
        left = iter(near)
        given = {
            "perturb_func": lambda arr, **_: next(left).numpy()[:, None].reshape(arr.shape),
            "abs": False,
        }
        return quantus_("MaxSensitivity", case, nr_samples=NEARBY.draws, **given)

    return largest


def beside(benchmark, case, group, who, function, rounds):
    benchmark.group = group
    benchmark.extra_info |= {"who": who, "rows": len(case.x)}
    found = benchmark.pedantic(function, (case,), warmup_rounds=1, rounds=rounds)
    first = VALUES.setdefault(group, found)
    if first is not found:
        gap = np.abs(first - found).max()
        benchmark.extra_info["error"] = f"{gap:.0e}, of scores up to {np.abs(first).max():.2g}"
        assert gap < 1e-4 * np.abs(first).max() + 1e-5


@pytest.mark.parametrize("who", ["Assay", "the network alone", "Quantus"])
def test_pixel_flipping(benchmark, case, who):
    group, store = f"pixel flipping, {ROWS} rows, d = {WIDTH}", Store(case, "speed")  # one serves all methods
    if who == "the network alone":
        benchmark.group = group
        benchmark.extra_info |= {"who": who, "rows": len(case.x)}
        benchmark.pedantic(network_alone, (case,), warmup_rounds=1, rounds=30)
    elif who == "Assay":
        beside(benchmark, case, group, who, lambda case: deletion(case, store), 30)
    else:
        beside(benchmark, case, group, who, pixel_flipping, 5)


@pytest.mark.parametrize("who", ["Assay", "Quantus"])
def test_sensitivity_n(benchmark, case, monkeypatch, who):
    ours = who == "Assay"
    sizes = (~table(evidence(case).case, SUBSETS).coalitions).sum(1).unique().tolist()
    function = sensitivity_n if ours else by_subsets(case, sizes, monkeypatch)
    beside(benchmark, case, "sensitivity-n, 10 sizes of 100 subsets", who, function, 5 if ours else 1)


@pytest.mark.parametrize("who", ["Assay", "Quantus"])
def test_faithfulness_correlation(benchmark, case, monkeypatch, who):
    """Ours evaluates the subsets of all ten sizes, of which `sensitivity_n` has the others for nothing."""
    ours = who == "Assay"
    function = faithfulness_correlation if ours else by_subsets(case, [23], monkeypatch)
    beside(
        benchmark, case, "faithfulness correlation, 100 subsets of a size", who, function, 5 if ours else 3
    )


@pytest.mark.parametrize("who", ["Assay", "Quantus"])
def test_max_sensitivity(benchmark, case, who):
    ours = who == "Assay"
    function = max_sensitivity if ours else by_neighbours(case)
    beside(benchmark, case, f"max-sensitivity, {NEARBY.draws} draws", who, function, 10 if ours else 3)


# ---- maps against the truth, and against each other -----------------------------------------------------

LAID_OUT = {"box_iou", "channel_share", "earth_mover"}  # metrics of features that lie in a plane
METHODS = 20


def wanted():
    """The metrics that hold a map against the truth, and those that hold it against another map."""
    truth = [m for m in METRICS if m.facts["family"] == "ground truth" and m.name not in LAID_OUT]
    pairs = [m for m in METRICS if {"reference", "other"} & set(m.facts["needs"])]
    return [expand("metric", [m.name for m in found]) for found in (truth, pairs)]


def score_all(yardstick, maps, of_truth, of_pairs):
    """Every map against the truth, then every pair of maps; what is known of a map is kept as in a run."""
    count = 0
    for values in maps:
        memo = {}
        for metric in of_truth:
            yardstick.rows_of(metric, yardstick.evidence(values, Aim(), memo=memo))
            count += 1
    remembered = [Remembered(values, {}) for values in maps]
    for first, second in itertools.combinations(remembered, 2):
        for metric in of_pairs:
            evidence = yardstick.evidence(first.values, Aim(), memo=first.memo, other=second)
            yardstick.rows_of(metric, evidence)
            count += 1
    return count


def test_truth_and_agreement(benchmark):
    (dataset,) = expand("dataset", ["symbolic[columns=100,explained=2000]"])
    problem = draw(dataset, 0)
    x = problem.x[problem.explained]
    case = Case(
        model=problem.oracle,
        x=x,
        target=torch.zeros(len(x), dtype=torch.int64),
        baseline=problem.baseline,
        background=problem.background,
        groups=None,
        rng=rng_for("speed"),
    )
    assert x.shape == (2000, 110)
    yardstick = Yardstick(problem, case, "speed")
    yardstick.truth(Aim())  # known before
    maps = torch.randn(METHODS, *x.shape, generator=rng_for("speed maps"), dtype=torch.float64)
    benchmark.group = "ground truth and agreement metrics, 2,000 rows x 110 columns, 20 methods"
    count = benchmark.pedantic(score_all, (yardstick, [*maps], *wanted()), warmup_rounds=1, rounds=2)
    benchmark.extra_info |= {"who": f"Assay: {count:,} scores", "rows": len(x)}
