"""Two latents: the law that is claimed is drawn, the optimum is optimal, and one hidden layer is biased."""

import copy
import math
from statistics import mean

import pytest
import torch
from scipy.stats import norm
from torch import nn

from assay.benchmarks.embedding import Embedding, Latent, Pair
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import MODELS
from assay.benchmarks.randomness import seeded
from assay.benchmarks.training import fit
from assay.datasets.shortcut_latent import shortcut_latent

torch.set_num_threads(1)
load_plugins()
REGIONS = ("relevant", "shortcut", "distractor")
# Latents that share .6 of their noise, and columns without any, as in the paper; the core is the better one.
PAPER = {
    "predictivity": 0.95,
    "correlation": 0.8,
    "shared": 0.6,
    "noise_sd": 0.0,
    "width": 2,
    "nuisance": 5,
    "train": 500,
    "explained": 2_000,
}


def draw(seed=0, **parameters):
    return shortcut_latent(torch.Generator().manual_seed(seed), **parameters)


def read(problem, region, rows):
    """The latent times alpha, as the pattern of its columns reads it, which is found again in the rows."""
    block = problem.x[rows][:, problem.masks[region][0]]
    train = problem.x[problem.train][:, problem.masks[region][0]]
    # the first principal direction of the training rows is the pattern; what it says in training is its sign
    direction = torch.linalg.eigh(train.T @ train)[1][:, -1].sign()
    side = 2.0 * (problem.says if region == "shortcut" else problem.y)[problem.train] - 1
    direction = direction * ((train @ direction) * side).mean().sign()
    return block @ direction / len(direction)


def siding(says, problem):
    """How often `says`, a class a test row, is the shortcut's where the signs of the two latents disagree."""
    core, shortcut = (read(problem, region, problem.test) > 0 for region in ("relevant", "shortcut"))
    return ((says > 0) == shortcut)[core != shortcut].double().mean().item()


def bias(problem, model):
    """The shortcut bias: how often it sides with the shortcut, minus how often the optimum does."""
    return siding(model(problem.x[problem.test]).argmax(1), problem) - problem.facts["optimal_reliance"]


def trained(name, problem, seed, **parameters):
    rng = torch.Generator().manual_seed(seed)
    with seeded(rng):
        return MODELS[name].function(problem, rng, **parameters)


def without_activation(problem, seed):
    """The same layers, trained in the same way, and no ReLU between them."""
    rng = torch.Generator().manual_seed(seed)
    with seeded(rng):
        layers = nn.Flatten(), nn.Linear(problem.x[0].numel(), 100), nn.Linear(100, 2)
        return fit(nn.Sequential(*layers), problem, rng, "reference")


# The finding of the paper.  `reference` trains on columns as they are: `fast` standardises them first, which
# takes amplification away.  Measured over seeds 0 to 4 at availability 10, and 1:
# ReLU .33 (.27 to .38), .03; no activation .00, -.03; linear -.03, -.03.  Seeds 5 to 14 show the same.


@pytest.fixture(scope="module")
def biases():
    """By model and availability, the biases of five seeds."""
    found = {}
    for availability in (1.0, 10.0):
        problems = list(enumerate(draw(seed, availability=availability, **PAPER) for seed in range(5)))
        # next to no penalty: one on the weights is itself a preference for long patterns
        found["linear", availability] = [bias(p, trained("linear", p, s, penalty=1e-4)) for s, p in problems]
        found["no activation", availability] = [bias(p, without_activation(p, s)) for s, p in problems]
        found["relu", availability] = [
            bias(p, trained("mlp", p, s, depth=1, activation="relu", preset="reference")) for s, p in problems
        ]
    return found


@pytest.mark.parametrize("model", ["linear", "no activation"])
@pytest.mark.parametrize("availability", [1.0, 10.0])
def test_linear_models_are_close_to_unbiased(biases, model, availability):
    assert abs(mean(biases[model, availability])) < 0.08
    assert max(map(abs, biases[model, availability])) < 0.15


def test_one_hidden_relu_layer_is_biased_to_the_available_feature(biases):
    assert mean(biases["relu", 10.0]) > 0.2
    for model in ("linear", "no activation"):
        assert all(r > m + 0.1 for r, m in zip(biases["relu", 10.0], biases[model, 10.0], strict=True))


def test_it_is_the_availability_that_biases(biases):
    assert abs(mean(biases["relu", 1.0])) < 0.1
    assert all(much > one + 0.1 for much, one in zip(biases["relu", 10.0], biases["relu", 1.0], strict=True))


def test_a_penalty_on_the_weights_is_a_bias_of_its_own():
    problem = draw(availability=10.0, **PAPER)
    assert bias(problem, trained("linear", problem, 0, penalty=1.0)) > 0.5


# The law


def test_signs_agree_with_the_label_as_often_as_stated():
    problem = draw(correlation=0.6, predictivity=0.8, noise_sd=0.0, train=40_000)
    side = 2.0 * problem.y[problem.train] - 1
    for region, wanted in (("relevant", 0.8), ("shortcut", 0.8)):
        z = read(problem, region, problem.train)
        assert ((z > 0) == (side > 0)).double().mean().item() == pytest.approx(wanted, abs=0.01)
        size = {"relevant": 0.25, "shortcut": 1.0}[region]
        assert z.abs().mean().item() == pytest.approx(size, rel=0.02)
    assert torch.equal(problem.says[problem.train] > 0, read(problem, "shortcut", problem.train) > 0)


@pytest.mark.parametrize("correlation", [0.0, 1.0])
def test_the_ends_of_the_strength(correlation):
    problem = draw(correlation=correlation, train=20_000)
    agrees = (problem.says == problem.y)[problem.train].double().mean().item()
    assert agrees == pytest.approx((1 + correlation) / 2, abs=0.02 if correlation < 1 else 1e-12)
    assert problem.facts["association"] == correlation


@pytest.mark.parametrize("shared", [0.0, 0.6])
def test_noises_of_a_class_are_correlated_as_stated(shared):
    problem = draw(shared=shared, noise_sd=0.0, train=20_000)
    rows = problem.y[problem.train] == 1
    pair = torch.stack([read(problem, r, problem.train)[rows] for r in ("relevant", "shortcut")])
    assert torch.corrcoef(pair)[0, 1].item() == pytest.approx(shared, abs=0.03)


def test_test_rows_are_aligned_in_half_and_independently():
    problem = draw(explained=20_000, train=1_000, shared=0.6, noise_sd=0.0)
    y = problem.y[problem.test]
    assert torch.equal(problem.aligned, problem.says[problem.test] == y)
    assert problem.aligned.double().mean() == 0.5
    assert y.double().mean().item() == pytest.approx(0.5, abs=0.01)
    core, shortcut = (read(problem, r, problem.test) for r in ("relevant", "shortcut"))
    assert abs(torch.corrcoef(torch.stack([core, shortcut]))[0, 1]) < 0.03
    assert abs(torch.corrcoef(torch.stack([core.abs(), shortcut.abs()]))[0, 1]) < 0.03


# The optimum


@pytest.mark.parametrize("shared", [0.0, 0.6])
@pytest.mark.parametrize("correlation", [0.0, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("noise_sd", [0.0, 1.0])
def test_the_optimum_is_what_discriminant_analysis_finds(shared, correlation, noise_sd):
    problem = draw(
        shared=shared,
        correlation=correlation,
        noise_sd=noise_sd,
        availability=0.5,
        train=40_000,
        explained=40_000,
    )
    train, test = (
        torch.stack([read(problem, region, part).double() for region in REGIONS[:2]], 1)
        for part in (problem.train, problem.test)
    )
    y = problem.y[problem.train]
    means = torch.stack([train[y == label].mean(0) for label in (0, 1)])
    within = torch.cov((train - means[y]).T) + 1e-9 * torch.eye(2)
    weight = torch.linalg.solve(within, means[1] - means[0])
    facts, tight = problem.facts, 0.012
    right = (train @ weight > 0) == (y > 0)
    assert facts["bayes_accuracy"] == pytest.approx(right.double().mean().item(), abs=tight)
    right = (test @ weight > 0) == (problem.y[problem.test] > 0)
    for group, rows in (("aligned", problem.aligned), ("conflicting", ~problem.aligned)):
        share = right[rows].double().mean().item()
        assert facts[f"bayes_accuracy[{group}]"] == pytest.approx(share, abs=2 * tight)
    assert facts["optimal_reliance"] == pytest.approx(siding(test @ weight > 0, problem), abs=2 * tight)


def test_of_equal_features_the_optimum_prefers_the_one_that_is_larger_in_the_row():
    equal, rng = Pair(Latent.of(0.8), Latent.of(0.8)), torch.Generator().manual_seed(0)
    core, shortcut = (latent.marginal(1_000_000, rng).abs() for latent in (equal.core, equal.asked))
    assert equal.reliance == pytest.approx(float((shortcut > core).double().mean()), abs=0.002)
    assert Pair(Latent.of(0.9), Latent.of(0.6)).reliance < 0.3
    assert Pair(Latent.of(0.9), Latent.of(0.5)).reliance == 0
    assert Pair(Latent.of(0.9), Latent.of(1.0)).reliance == 1
    assert Pair(Latent.of(0.9), Latent.of(0.5)).accuracy == pytest.approx(0.9)
    assert Pair(Latent.of(0.9), Latent.of(0.5)).group_accuracy(False) == pytest.approx(0.9)


@pytest.mark.parametrize("form", ["vector", "pictures"])
def test_the_oracle_is_the_log_odds_of_the_core(form):
    problem = draw(form=form, predictivity=0.8, noise_sd=1.0, width=4, train=20_000)
    odds = problem.oracle(problem.x.double())
    assert torch.allclose(odds[:, 0], -odds[:, 1])
    # calibrated: among rows that are told a probability, that share is of class 1
    told = torch.sigmoid(2 * odds[:, 1])
    label = problem.y.double()
    for low in (0.1, 0.3, 0.5, 0.7):
        rows = (told > low) & (told < low + 0.2)
        assert label[rows].mean().item() == pytest.approx(told[rows].mean().item(), abs=0.04)
    assert told.std() > 0.2
    changed = problem.counterfactual("shortcut", torch.Generator().manual_seed(1)).double()
    assert torch.equal(problem.oracle(changed), odds[problem.test])


# Columns and pictures


def test_nesting_bends_the_core_and_nothing_else():
    flat, bent = (draw(depth=depth, noise_sd=0.0) for depth in (0, 2))
    assert flat.oracle is not None
    assert bent.oracle is None
    ranks = {}
    for name, problem in (("flat", flat), ("bent", bent)):
        for region in ("relevant", "shortcut"):
            block = problem.x[:, problem.masks[region][0]].double()
            size = torch.linalg.svdvals(block)
            ranks[name, region] = int((size > 1e-3 * size[0]).sum())
    assert ranks["flat", "relevant"] == ranks["flat", "shortcut"] == ranks["bent", "shortcut"] == 1
    assert ranks["bent", "relevant"] > 3
    assert bent.x[:, bent.masks["relevant"][0]].abs().max() <= 1


def test_a_nested_embedding_by_hand():
    layer = torch.tensor([[0.5, -1.0], [2.0, 0.25]])
    embedding = Embedding(torch.tensor([1.0, -1.0]), 3.0, (layer,))
    found = embedding(torch.tensor([0.4]))[0].tolist()
    wanted = [3 * math.tanh(0.5 * 0.4 + 1.0 * 0.4), 3 * math.tanh(2.0 * 0.4 - 0.25 * 0.4)]
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("availability", [0.25, 1.0, 4.0, 30.0])
def test_objects_keep_apart_and_availability_is_the_ratio_of_their_patterns(availability):
    problem = draw(form="pictures", availability=availability, noise_sd=0.0, train=100)
    masks = [problem.masks[name][0] for name in REGIONS]
    assert torch.stack(masks).sum(0).eq(1).all()
    assert problem.x.shape[1:] == (1, 16, 16)
    assert not masks[0][:, :, 8:].any()
    assert not masks[1][:, :, :8].any()
    for unit in problem.groups.unique():  # a unit is in one region
        assert sum(bool(mask[problem.groups == unit].any()) for mask in masks) == 1
    # each row's object is one brightness; the mean size of a latent is 1
    power = [problem.x[:, m].square().sum(1).mean() for m in masks[:2]]
    assert (power[1] / power[0]).sqrt().item() == pytest.approx(availability, rel=0.25)
    sizes = [int(m.sum()) for m in masks[:2]]
    assert (sizes[1] - sizes[0]) * (availability - 1) >= 0
    assert problem.x[:, masks[0]].std(1).max() < 1e-6


@pytest.mark.parametrize("form", ["vector", "pictures"])
@pytest.mark.parametrize("region", REGIONS)
def test_a_redrawn_region_has_its_marginal_law(form, region):
    problem = draw(form=form, explained=4_000, train=100, correlation=1.0)
    before, y = problem.x[problem.test], problem.y[problem.test]
    after = copy.deepcopy(problem).counterfactual(region, torch.Generator().manual_seed(5))
    mask = problem.masks[region][0]
    assert torch.equal(after[:, ~mask], before[:, ~mask])
    old, new = before[:, mask].double(), after[:, mask].double()
    assert torch.allclose(
        old.T @ old / len(old), new.T @ new / len(new), atol=0.12 * old.square().mean().item()
    )
    shift = new[y == 1].mean(0) - new[y == 0].mean(0)
    assert shift.abs().max() < 0.15 * new.std()


def test_an_unknown_region_is_refused():
    with pytest.raises(ValueError, match="'core' is none of relevant, shortcut, distractor"):
        draw().counterfactual("core", torch.Generator())


def test_the_law_of_the_paper_up_to_scale():
    latent = Latent.of(0.85)
    assert latent.mean / latent.sd == pytest.approx(norm.ppf(0.85))
    drawn = latent.mean + latent.sd * torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    assert drawn.abs().mean().item() == pytest.approx(1, abs=0.005)
