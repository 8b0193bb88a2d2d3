"""Occlusion and RISE against loops, captum and known expectations."""

import dataclasses
import math
import warnings

import pytest
import torch
from captum.attr import Occlusion
from torch import nn

from assay.benchmarks import perturb
from assay.benchmarks.explaining import explainer
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.metering import counted
from assay.benchmarks.plugin import METHODS, Case, NotApplicable
from assay.benchmarks.randomness import seeded
from assay.benchmarks.registry import AssayError
from assay.benchmarks.spec import setting

torch.set_num_threads(1)
load_plugins()
CLASSES, ROWS = 3, 4
PICTURE, SOUND = (3, 6, 9), (4, 20)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def network(shape, activation=nn.GELU, seed=0):
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(shape), 10), activation(), nn.Linear(10, CLASSES)
    ).double()
    for i, parameter in enumerate(layers.parameters()):
        parameter.data = 0.4 * draw(*parameter.shape, seed=10 * seed + i)
    return layers.eval().requires_grad_(False)


class Weighted(nn.Module):
    """sum of weight x, plus a constant; what it is shown is kept."""

    def __init__(self, weight, constant=0.0):
        super().__init__()
        self.weight, self.constant, self.seen = weight, constant, []

    def forward(self, x):
        self.seen.append(x.clone())
        return (x * self.weight).flatten(1).sum(1, keepdim=True) + self.constant


def case(shape, model=None, **changed):
    linear = isinstance(model, Weighted)
    given = {
        "model": model or network(shape),
        "x": draw(ROWS, *shape, seed=20),
        "target": torch.zeros(ROWS, dtype=torch.int64) if linear else torch.arange(ROWS) % CLASSES,
        "baseline": draw(*shape, seed=21),
        "background": draw(3, *shape, seed=22),
        "groups": None,
        "rng": generator(),
    }
    return Case(**given | changed)


def run(name, given, **parameters):
    given = dataclasses.replace(given, rng=generator())
    return explainer(setting(METHODS[name], parameters))(given)


# ---- occlusion ------------------------------------------------------------------------------------------

WINDOWS = [(3, 3), (2, 2), (1, 1), (3, 1), (4, 4), (4, 2), (5, 3), (6, 1)]  # exact, overlapping, cut off


@pytest.mark.parametrize(("window", "stride"), WINDOWS)
@pytest.mark.parametrize("shape", [PICTURE, SOUND])
def test_occlusion_is_captums(shape, window, stride):
    given, picture = case(shape), len(shape) == 3
    whole = (shape[0], window, window) if picture else (1, window)
    steps = (shape[0], stride, stride) if picture else (1, stride)
    theirs = Occlusion(given.model).attribute(
        given.x, whole, strides=steps, baselines=given.baseline[None], target=given.target
    )
    found = run("occlusion", given, window=window, stride=stride)
    found = found.float() * (shape[0] if picture else 1)  # captum divides in float32
    torch.testing.assert_close(found, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("window", "stride"), [(2, 1), (4, 3), (50, 7)])
def test_occlusion_of_a_linear_model_is_the_mean_of_what_windows_hide(window, stride):
    """By a loop over windows and places, from the definition."""
    weight = draw(*PICTURE, seed=5)
    given = case(PICTURE, Weighted(weight))
    hidden = (weight * (given.x - given.baseline)).sum(1)
    wanted, covered = torch.zeros_like(hidden), torch.zeros(PICTURE[1:])
    starts = [[0], [0]]
    for axis, size in enumerate(PICTURE[1:]):
        while starts[axis][-1] + window < size:
            starts[axis].append(starts[axis][-1] + stride)
    for top in starts[0]:
        for left in starts[1]:
            at = (..., slice(top, top + window), slice(left, left + window))
            wanted[at] += hidden[at].sum((1, 2))[:, None, None]
            covered[at] += 1
    found = run("occlusion", given, window=window, stride=stride)
    torch.testing.assert_close(found, (wanted / covered / 3)[:, None].expand_as(found))


def test_occlusion_where_windows_are_units_has_their_ablations():
    groups = (torch.arange(6)[:, None] // 3 * 3 + torch.arange(9) // 3).expand(PICTURE).clone()
    given = case(PICTURE, groups=groups)
    found, units = run("occlusion", given, window=3, stride=3), run("feature_ablation", given)
    torch.testing.assert_close(found, 9 * units)  # a unit's value is shared by its places too


def test_occlusion_of_a_sum_is_the_sum():
    first, second = network(PICTURE, seed=1), network(PICTURE, seed=2)

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([first, second])

        def forward(self, x):
            return first(x) + second(x)

    for name in ("occlusion", "rise"):
        parts = [run(name, case(PICTURE, m)) for m in (first, second)]
        torch.testing.assert_close(run(name, case(PICTURE, Both())), sum(parts))


def test_by_default_windows_are_an_eighth_and_half_of_each_is_new():
    given = case((3, 16, 24))
    torch.testing.assert_close(run("occlusion", given), run("occlusion", given, window=2, stride=1))
    sound = case((2, 80))
    torch.testing.assert_close(run("occlusion", sound), run("occlusion", sound, window=10, stride=5))
    small = case((3, 4, 4))
    torch.testing.assert_close(run("occlusion", small), run("occlusion", small, window=1, stride=1))


def test_occlusion_takes_one_row_a_window_and_one_whole():
    given = case(PICTURE)
    with counted(given.model) as rows:
        METHODS["occlusion"].function(given, window=3, stride=3)
    assert rows.forward == ROWS * (2 * 3 + 1)


def test_occlusion_leaves_no_place_out():
    with pytest.raises(AssayError, match=r"stride cannot be 4 with a window of 3.*give a stride of 1 to 3"):
        run("occlusion", case(PICTURE), window=3, stride=4)


def test_occlusion_serves_no_table_and_rise_no_sound():
    for name, shape in (("occlusion", (5,)), ("rise", (5,)), ("rise", SOUND)):
        with pytest.raises(NotApplicable, match="takes pictures"):
            run(name, case(shape))


@pytest.mark.parametrize(("name", "parameters"), [("occlusion", {"window": 3}), ("rise", {"budget": 20})])
def test_blocks_get_the_same_maps(name, parameters, monkeypatch):
    whole = run(name, case(PICTURE), **parameters)
    monkeypatch.setattr(perturb, "MEMORY", 1)
    alone = run(name, case(PICTURE), **parameters)
    torch.testing.assert_close(alone, whole)


# ---- RISE -----------------------------------------------------------------------------------------------


def masks(budget, shape=PICTURE, seed=0, **parameters):
    """Those that a run shows its model, of pictures of ones before a baseline of zeros."""
    baseline = torch.zeros(shape, dtype=torch.float64)
    model, rng = Weighted(baseline), generator(seed)
    x, target = torch.ones(1, *shape, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    given = case(shape, model, x=x, baseline=baseline, target=target, rng=rng)
    with seeded(rng):
        METHODS["rise"].function(given, budget=budget, **parameters)
    shown = torch.cat(model.seen)[-budget:]  # before these comes what is measured of the memory
    torch.testing.assert_close(shown, shown[:, :1].expand_as(shown), rtol=0, atol=0)
    return shown[:, 0]


@pytest.mark.parametrize("keep", [0.5, 0.2])
def test_rise_is_the_weighted_mean_of_the_masks_that_it_shows(keep):
    """The paper's sum, over masks recorded as the model sees them."""
    given = case(PICTURE, network(PICTURE))
    shown = masks(30, cells=4, keep=keep)
    plain, centred = torch.zeros(2, ROWS, *PICTURE[1:], dtype=torch.float64)
    for n in range(ROWS):
        behind = shown[:, None] * given.x[n] + (1 - shown[:, None]) * given.baseline
        outputs = given.model(behind)[:, given.target[n]]
        plain[n] = sum(f * mask for f, mask in zip(outputs, shown, strict=True)) / (30 * keep)
        pairs = zip(outputs - outputs.mean(), shown - shown.mean(0), strict=True)
        centred[n] = sum(f * mask for f, mask in pairs) / (29 * keep)  # the sample covariance
    for estimator, wanted in (("paper", plain), ("centred", centred)):
        found = run("rise", given, cells=4, keep=keep, budget=30, estimator=estimator)
        torch.testing.assert_close(found, (wanted / 3)[:, None].expand_as(found))


def along(size, cells, shift):
    """What each place of one axis takes of each cell: bilinear upsampling, cut at the shift."""
    cell = -(-size // cells)
    large = (cells + 1) * cell
    share = torch.zeros(size, cells, dtype=torch.float64)
    for place in range(size):
        at = min(max((place + shift + 0.5) * cells / large - 0.5, 0.0), cells - 1.0)
        low = min(int(at), cells - 1)
        share[place, low] += 1 - (at - low)
        if at > low:
            share[place, low + 1] += at - low
    return share


def spread(size, cells):
    """The covariance of the places of one axis over that of a cell, averaged over the shifts."""
    shifts = [along(size, cells, s) for s in range(-(-size // cells) + 1)]
    return sum(b @ b.T for b in shifts) / len(shifts)


@pytest.mark.parametrize(("keep", "cells"), [(0.5, 4), (0.3, 3)])
def test_rise_of_a_linear_model_goes_to_its_expectation(keep, cells):
    """cov(f, M) / p in closed form, plus, in the paper's estimator, the mean output."""
    weight = draw(*PICTURE, seed=5)
    given = case(PICTURE, Weighted(weight, constant=0.7))
    gain = (weight * (given.x - given.baseline)).sum(1)
    high, wide = (spread(size, cells) for size in PICTURE[1:])
    wanted = (1 - keep) * torch.einsum("ir,js,nrs->nij", high, wide, gain)
    ground = (weight * given.baseline).sum() + 0.7 + keep * gain.sum((1, 2))
    for estimator, level in (("centred", 0.0), ("paper", ground[:, None, None])):
        errors = []
        for budget in (300, 30_000):
            found = run("rise", given, cells=cells, keep=keep, budget=budget, estimator=estimator).sum(1)
            errors.append(float((found - wanted - level).norm() / (wanted + level).norm()))
        assert errors[1] < 0.05
        assert errors[1] < errors[0] / 3


def test_masks_keep_every_place_as_often_and_lie_between_0_and_1():
    for keep in (0.5, 0.2):
        shown = masks(4000, cells=4, keep=keep)
        assert ((shown >= 0) & (shown <= 1)).all()
        assert (shown.mean(0) - keep).abs().max() < 0.05
        assert ((shown > 0.05) & (shown < 0.95)).any()


def test_one_cell_for_each_place_is_the_most():
    assert torch.equal(masks(20, cells=50), masks(20, cells=9))
    assert not torch.equal(masks(20, cells=9), masks(20, cells=5))
    assert not torch.equal(masks(20), masks(20, seed=1))


def test_one_cell_alone_keeps_all_or_nothing():
    shown = masks(40, cells=1).flatten(1)
    torch.testing.assert_close(shown, shown.round(), rtol=0, atol=1e-6)
    assert (shown.round() == shown[:, :1].round()).all()
    assert set(shown[:, 0].round().tolist()) == {0.0, 1.0}


def test_a_constant_added_to_the_output_is_seen_by_the_papers_estimator_alone():
    weight = draw(*PICTURE, seed=5)
    for estimator, same in (("centred", True), ("paper", False)):
        maps = [
            run("rise", case(PICTURE, Weighted(weight, c)), budget=50, estimator=estimator)
            for c in (0.0, 9.0)
        ]
        assert torch.allclose(*maps, rtol=0, atol=1e-9) == same


def test_rise_takes_its_budget():
    given = case(PICTURE)
    with counted(given.model) as rows, warnings.catch_warnings():
        METHODS["rise"].function(given, budget=25)
    assert rows.forward == ROWS * 25
