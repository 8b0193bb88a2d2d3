"""Tetrominoes: the law that is claimed is the law that is drawn, and its closed forms hold."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from assay.benchmarks.registry import AssayError
from assay.datasets.tetromino import Law, Noise, tetromino

torch.set_num_threads(1)
SCENARIOS = ["linear", "multiplicative", "translations_rotations", "xor"]
TEE = {(1, 1), (2, 1), (3, 1), (2, 2)}
ELL = {(4, 5), (5, 5), (6, 5), (6, 6)}


def draw(seed=0, **parameters):
    return tetromino(torch.Generator().manual_seed(seed), **parameters)


def pixels(mask):
    return {tuple(place) for place in mask.nonzero().tolist()}


def accuracy(oracle, problem):
    return (oracle(problem.x.double()).argmax(1) == problem.y).double().mean().item()


def fitted(problem):
    """Linear discriminant analysis by hand, on half of the rows: its weights, and accuracy on the others."""
    x, y = problem.x.flatten(1).double().numpy(), problem.y.numpy()
    half = len(x) // 2
    means = [x[:half][y[:half] == label].mean(0) for label in (0, 1)]
    within = np.cov((x[:half] - np.stack(means)[y[:half]]).T)
    weight = np.linalg.solve(within, means[1] - means[0])
    score = (x[half:] - np.mean(means, 0)) @ weight
    return weight, np.mean((score > 0) == y[half:])


# The picture


def test_the_pieces_of_the_paper_lie_where_it_puts_them():
    problem = draw(rows=200, explained=20)
    assert problem.x.shape == (200, 1, 8, 8)
    assert pixels(problem.masks["relevant"][0, 0]) == TEE | ELL
    labels = problem.y[problem.explained]
    for label, own in zip(labels.tolist(), problem.masks["foreground"][:, 0], strict=True):
        assert pixels(own) == (ELL if label else TEE)
    bright = problem.x[problem.y == 0].mean(0) - problem.x[problem.y == 1].mean(0)
    assert {tuple(p) for p in (bright[0] > 0.5 * bright.max()).nonzero().tolist()} == TEE
    assert problem.groups is None


def test_pattern_and_background_have_the_stated_sizes():
    problem = draw(alpha=0.4, rows=40_000)
    # alpha / 2 on four pixels, (1 - alpha) / 8 of standard deviation on each, up to one scale of all
    ratio = (0.4 / 2) / (0.6 / 8)
    off = problem.x[:, 0, 0, 0].double()
    on = problem.x[problem.y == 0][:, 0, 1, 1].double()
    assert on.mean().item() / off.std().item() == pytest.approx(ratio, rel=0.02)
    assert off.mean().abs() < 0.02 * on.mean()
    assert problem.x.abs().max() == 1


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("background", ["white", "correlated", "textured"])
def test_every_combination_is_balanced_split_and_bounded(scenario, background):
    problem = draw(scenario=scenario, background=background, rows=500, explained=40)
    assert (problem.n_train, problem.n_validation, len(problem.x[problem.test])) == (400, 50, 50)
    for part in (problem.train, problem.validation, problem.explained):
        assert problem.y[part].double().mean() == 0.5
    assert problem.x.dtype == torch.float32
    assert problem.x.abs().max() == 1
    assert torch.equal(problem.background, problem.x[:100])
    assert not problem.baseline.any()
    assert problem.facts["chance"] == 0.5
    exact = background == "white" and scenario != "translations_rotations"
    assert (problem.oracle is not None) == exact
    assert ("suppressor" in problem.masks) == (scenario == "linear" and background == "correlated")
    assert math.isfinite(problem.facts["snr_db"])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_large_pictures(scenario):
    problem = draw(
        scenario=scenario, side=64, background="correlated", smoothing=10.0, rows=100, explained=10
    )
    assert problem.x.shape == (100, 1, 64, 64)
    assert len(problem.groups.unique()) == 64
    assert (problem.groups == problem.groups[0, 9, 17]).nonzero().amin(0).tolist() == [0, 8, 16]
    assert (problem.groups == problem.groups[0, 9, 17]).sum() == 64
    relevant = problem.masks["relevant"]
    if scenario == "translations_rotations":  # 64 pixels, and what the blur adds around them
        assert (relevant.sum((1, 2, 3)) > 64).all()
        assert (relevant.sum((1, 2, 3)) < 64 * 12).all()
    else:
        assert relevant[0, 0, 8, 8]
        assert relevant[0, 0, 2, 8]  # the blur reaches 6 pixels
        assert not relevant[0, 0, 1].any()
        assert not relevant[0, 0, :26, 30:].any()


def test_moved_pieces_are_those_pieces_turned_and_masked_row_by_row():
    problem = draw(scenario="translations_rotations", alpha=0.99, rows=2_000, explained=200)
    masks = problem.masks["relevant"][:, 0]
    assert masks.sum((1, 2)).eq(4).all()
    assert len({tuple(sorted(pixels(mask))) for mask in masks}) > 100
    x = problem.x[problem.explained][:, 0]
    assert torch.equal(x > 0.5, masks)  # with hardly any noise the picture is its pattern
    for label, mask in zip(problem.y[problem.explained].tolist(), masks, strict=True):
        rows, columns = mask.any(1).sum().item(), mask.any(0).sum().item()
        assert {rows, columns} == {2, 3}
        # the T has a pixel with three neighbours in it, the L has none
        neighbours = [sum(abs(a - c) + abs(b - d) == 1 for c, d in pixels(mask)) for a, b in pixels(mask)]
        assert max(neighbours) == (2 if label else 3)


def test_multiplicative_patterns_dim_the_background():
    problem = draw(scenario="multiplicative", alpha=0.7, rows=40_000)
    spread = problem.x[problem.y == 0][:, 0].std(0)
    for place in TEE:
        assert spread[place] / spread[0, 0] == pytest.approx(0.3, rel=0.03)
    for place in ELL:
        assert spread[place] / spread[0, 0] == pytest.approx(1, rel=0.03)
    assert problem.x.mean(0).abs().max() < 0.01 * problem.x.std() * 5


def test_photographs_are_neither_white_nor_repeated():
    x = draw(background="textured", alpha=0.01, rows=400, explained=9).x[:, 0].double()
    assert x.mean((1, 2)).abs().max() < 0.02
    beside = torch.corrcoef(torch.stack([x[:, :, :-1].flatten(), x[:, :, 1:].flatten()]))[0, 1]
    assert beside > 0.3
    assert len(x.flatten(1).unique(dim=0)) > 0.99 * len(x)  # a few cuts are of one grey


# The closed forms


@pytest.mark.parametrize("parameters", [{"grain": 1.0}, {"grain": 0.2, "smoothing": 1.0}, {"grain": 0.01}])
def test_noise_has_the_covariance_that_its_inverse_inverts(parameters):
    noise = Noise(8, **{"smoothing": 3.0} | parameters)
    drawn = noise.draw(60_000, torch.Generator().manual_seed(0)).flatten(1).double()
    covariance = drawn.T @ drawn / len(drawn)
    assert covariance.trace().item() == pytest.approx(1, rel=0.02)
    eye = torch.eye(64, dtype=torch.float64)
    inverse = noise.whitened(eye.view(64, 8, 8)).flatten(1)
    exact = torch.linalg.inv(inverse)
    assert (covariance - exact).abs().max() < 0.03 * exact.abs().max()
    assert (exact.diagonal().sum() - 1).abs() < 1e-9
    # whitening brings the drawn covariance back to the identity, in its small directions too
    assert torch.linalg.eigvals(inverse @ covariance).real.sub(1).abs().max() < 0.1


def test_blur_is_that_of_scipy():
    noise = Noise(8, 2.0, 1e-6)
    picture = np.zeros((8, 8))
    picture[2, 5] = 1
    found = noise.blur @ torch.from_numpy(picture) @ noise.blur.T
    expected = scipy.ndimage.gaussian_filter(picture, 2.0)
    ratio = found.numpy() / expected
    assert ratio == pytest.approx(np.full((8, 8), ratio[0, 0]))


def test_grain_alone_is_white_noise():
    for scenario in ("linear", "xor"):
        grained = draw(scenario=scenario, background="correlated", grain=1.0, rows=200, explained=10)
        white = draw(scenario=scenario, rows=200, explained=10)
        assert torch.equal(grained.x, white.x)
        assert grained.facts["bayes_accuracy"] == white.facts["bayes_accuracy"]
    assert not draw(background="correlated", grain=1.0).masks["suppressor"].any()


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"alpha": 0.1},
        {"background": "correlated", "alpha": 0.03},
        {"background": "correlated", "alpha": 0.01},
    ],
)
def test_discriminant_analysis_approaches_the_optimum(parameters):
    problem = draw(rows=100_000, **parameters)
    weight, found = fitted(problem)
    bayes = problem.facts["bayes_accuracy"]
    assert 0.6 < bayes < 0.99
    assert found == pytest.approx(bayes, abs=0.006)  # 50,000 rows: 0.002 is a standard error
    if "background" in parameters:
        outside = ~problem.masks["relevant"].flatten()
        suppressor = problem.masks["suppressor"].flatten()
        assert not (suppressor & ~outside).any()
        assert suppressor.sum() > 20
        size = np.abs(weight) / np.abs(weight).max()
        assert np.median(size[suppressor]) > 0.05
        assert size[outside & ~suppressor].max(initial=0) < 0.1
    else:
        x = problem.x[:10].double().requires_grad_()
        odds = problem.oracle(x).diff(dim=1)
        exact = torch.autograd.grad(odds.sum(), x)[0][0].flatten().numpy()
        assert np.corrcoef(weight, exact)[0, 1] > 0.995
        assert np.linalg.norm(weight) / np.linalg.norm(exact) == pytest.approx(1, abs=0.05)


def test_suppressors_tell_nothing_of_the_class_and_yet_help():
    problem = draw(background="correlated", alpha=0.03, rows=40_000)
    x, y = problem.x.flatten(1).double(), problem.y.double()
    suppressor = problem.masks["suppressor"].flatten()
    centred = (x - x.mean(0)) / x.std(0)
    alone = (centred * (y - 0.5)[:, None] * 2).mean(0)[suppressor]
    assert alone.abs().max() < 5 / math.sqrt(len(x))
    relevant = problem.masks["relevant"].flatten()
    gap = (x[problem.y == 1].mean(0) - x[problem.y == 0].mean(0))[relevant]
    within = torch.cov(x[:, relevant].T)
    without = torch.special.ndtr((gap @ torch.linalg.solve(within, gap)).sqrt() / 2)
    assert problem.facts["bayes_accuracy"] > without + 0.05


def test_accuracy_on_white_noise_by_hand():
    # eight pixels of alpha / 2 between the means, (1 - alpha) / 8 of noise
    z = math.sqrt(8) * (0.18 / 2) / (0.82 / 8) / 2
    assert draw().facts["bayes_accuracy"] == pytest.approx(scipy.stats.norm.cdf(z), abs=1e-6)
    p = scipy.stats.norm.cdf(math.sqrt(4) * (0.3 / math.sqrt(8)) / (0.7 / 8))
    found = draw(scenario="xor", alpha=0.3).facts["bayes_accuracy"]
    assert found == pytest.approx(p * p + (1 - p) ** 2, abs=1e-6)


@pytest.mark.parametrize(("scenario", "alpha"), [("linear", 0.1), ("xor", 0.3), ("multiplicative", 0.5)])
def test_the_oracle_reaches_the_accuracy_and_is_calibrated(scenario, alpha):
    problem = draw(scenario=scenario, alpha=alpha, rows=100_000)
    bayes = problem.facts["bayes_accuracy"]
    assert 0.65 < bayes < 0.99
    assert accuracy(problem.oracle, problem) == pytest.approx(bayes, abs=0.005)
    sure = problem.oracle(problem.x.double()).softmax(1)[:, 1]
    for low in np.arange(0, 1, 0.2):  # log-odds are right where such a share of the rows is of class 1
        rows = (sure >= low) & (sure < low + 0.2)
        share, claimed = problem.y[rows].double().mean(), sure[rows].mean()
        assert abs(share - claimed) < 4 * math.sqrt(0.25 / rows.sum())


def by_hand(scenario):
    """The patterns of both classes, pixel by pixel."""
    signs = {  # scenario -> of each class, of each of its pictures, the signs of T and L
        "linear": [[(1, 0)], [(0, 1)]],
        "multiplicative": [[(1, 0)], [(0, 1)]],
        "xor": [[(1, 1), (-1, -1)], [(1, -1), (-1, 1)]],
    }[scenario]
    patterns = np.zeros((2, len(signs[0]), 8, 8))
    for label, m in np.ndindex(patterns.shape[:2]):
        for piece, sign in zip((TEE, ELL), signs[label][m], strict=True):
            for place in piece:
                patterns[label, m][place] = sign
    return patterns


@pytest.mark.parametrize("scenario", ["linear", "xor", "multiplicative"])
def test_log_odds_against_densities(scenario):
    alpha, size, scale = 0.3, 0.5, 2.0
    patterns = by_hand(scenario)
    if scenario == "multiplicative":
        densities = scipy.stats.norm(0, scale * (1 - alpha * patterns) / 8)
    else:
        densities = scipy.stats.norm(scale * alpha * size * patterns, scale * (1 - alpha) / 8)
    law = Law(torch.from_numpy(patterns), Noise(8, 3.0, 1.0), alpha, size, scale)
    points = np.random.default_rng(1).normal(size=(20, 8, 8)) / 4
    found = law.log_odds(scenario)(torch.from_numpy(points)[:, None])
    for point, (against, odds) in zip(points, found.tolist(), strict=True):
        logs = np.logaddexp.reduce(densities.logpdf(point).sum((2, 3)), 1)
        assert 2 * odds == pytest.approx(logs[1] - logs[0], rel=1e-9, abs=1e-9)
        assert against == -odds


def test_a_line_cannot_solve_xor_but_can_solve_linear():
    _, found = fitted(draw(scenario="xor", alpha=0.6, rows=20_000))
    assert found == pytest.approx(0.5, abs=0.03)
    assert draw(scenario="xor", alpha=0.6).facts["bayes_accuracy"] > 0.99
    _, found = fitted(draw(alpha=0.6, rows=20_000))
    assert found > 0.99


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("background", ["white", "textured"])
def test_more_pattern_is_more_signal(scenario, background):
    snr = [
        draw(scenario=scenario, background=background, alpha=alpha, rows=500, explained=10).facts["snr_db"]
        for alpha in (0.05, 0.2, 0.5, 0.9)
    ]
    assert snr == sorted(set(snr))
    if scenario != "multiplicative":
        for alpha, found in zip((0.05, 0.2, 0.5, 0.9), snr, strict=True):
            assert found == pytest.approx(20 * math.log10(alpha / (1 - alpha)), abs=0.3)


def test_same_seed_same_bits_and_seed_0_is_a_seed():
    for background in ("white", "correlated", "textured"):
        first, again, other = (draw(seed, background=background, rows=200, explained=9) for seed in (0, 0, 1))
        assert torch.equal(first.x, again.x)
        assert not torch.equal(first.x, other.x)


def test_wrong_requests_get_one_sentence():
    with pytest.raises(AssayError, match=r"^explained = 100 is more than the 10 test rows .*more rows\.$"):
        draw(rows=100)
