"""Coloured digits: what the colour says, what is held back for test, and what redrawing does."""

import copy
import sys

import pytest
import torch
from sklearn.datasets import load_digits

from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import DATASETS, MODELS
from assay.benchmarks.randomness import seeded
from assay.benchmarks.registry import AssayError

torch.set_num_threads(1)
load_plugins()
COLOURED = DATASETS["coloured_digits"].function
MODULE = sys.modules[COLOURED.__module__]
PLACES = ("background", "patch", "digit")
HUES = {  # -1 to 1, evenly around the wheel from red
    2: [(1, -1, -1), (-1, 1, 1)],
    3: [(1, -1, -1), (-1, 1, -1), (-1, -1, 1)],
    4: [(1, -1, -1), (0, 1, -1), (-1, 1, 1), (0, -1, 1)],
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(seed=0, **parameters):
    return COLOURED(generator(seed), **{"train": 40, "explained": 20} | parameters)


def hue_of(problem, x, classes):
    """Which hue every row's frame or patch shows, where colours do not vary."""
    colour = x[:, :, problem.masks["shortcut"][0, 0]]
    assert (colour == colour[..., :1]).all()
    away = torch.cdist(colour[..., 0], torch.tensor(HUES[classes]).float())
    assert away.amin(1).max() < 1e-5
    return away.argmin(1)


def tiles(problem, x):
    """The ink in every row's tile."""
    where = problem.masks["relevant"][0, 0]
    size = int(where.sum() ** 0.5)
    return (x[:, 0, where].view(-1, size, size) + 1) / 2


def shipped(ink):
    """Which shipped image every tile of 8 x 8 shows, and what it is."""
    library = load_digits()
    away = torch.cdist(ink.flatten(1), torch.from_numpy(library.images).float().flatten(1) / 16)
    assert away.amin(1).max() < 1e-3
    which = away.argmin(1)
    return which, torch.from_numpy(library.target)[which]


# ---- what the colour says -------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["background", "patch"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_the_colour_says_the_class_as_often_as_is_said(place, classes, correlation):
    given = {"place": place, "classes": classes, "correlation": correlation, "colour_sd": 0.0}
    problem = draw(**given, train=4000, side=20, size=8, margin=2)
    first = problem.n_train + problem.n_validation
    hue, label = hue_of(problem, problem.x, classes), problem.y
    share = 1 / classes + correlation * (1 - 1 / classes)
    for one in range(classes):
        said = hue[:first][label[:first] == one]
        error = (0.25 / len(said)) ** 0.5
        assert abs((said == one).float().mean().item() - share) <= (4 * error if correlation < 1 else 0)
        others = [(said == other).float().mean().item() for other in range(classes) if other != one]
        assert others == pytest.approx([(1 - share) / (classes - 1)] * (classes - 1), abs=4 * error)
    assert problem.facts["shortcut_accuracy"] == pytest.approx(share)
    test = problem.test
    assert torch.equal(problem.says, hue)
    assert torch.equal(problem.aligned, hue[test] == label[test])
    counts = torch.stack([label[test][problem.aligned == group].bincount() for group in (True, False)])
    assert counts.max() - counts.min() <= 1
    apart = (hue[test] - label[test])[~problem.aligned] % classes  # every other class is said as often
    assert apart.bincount(minlength=classes)[1:].min() > 0.7 * len(apart) / (classes - 1)


def test_colours_vary_around_their_hue():
    still, varied = draw(colour_sd=0.0, train=2000), draw(colour_sd=0.2, train=2000)
    where = still.masks["shortcut"][0, 0]
    colour = varied.x[:, :, where]
    assert (colour == colour[..., :1]).all()
    away = colour[..., 0] - still.x[:, :, where][..., 0]
    # cut at +-1, where every channel of the two hues lies: half of the rows keep it, the rest move inwards
    assert (away == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert away[away != 0].square().mean().item() == pytest.approx(0.04, rel=0.1)


# ---- what is drawn --------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_tile_shows_a_shipped_digit_of_the_class_and_test_rows_show_others_than_training(classes):
    problem = draw(classes=classes, train=2000)
    which, digit = shipped(tiles(problem, problem.x))
    assert torch.equal(digit * classes // 10, problem.y)
    first = problem.n_train + problem.n_validation
    assert not set(which[:first].tolist()) & set(which[first:].tolist())
    assert digit[:first].unique().tolist() == digit[first:].unique().tolist() == list(range(10))
    new = tiles(problem, problem.counterfactual("relevant", generator(2)))
    assert not set(which[:first].tolist()) & set(shipped(new)[0].tolist())
    names = {2: "0-4, 5-9", 3: "0-3, 4-6, 7-9", 10: ", ".join(map(str, range(10)))}
    assert problem.facts["classes"] == names[classes]


@pytest.mark.parametrize("classes", [2, 3])
def test_label_noise_shows_a_digit_of_another_class(classes):
    problem = draw(classes=classes, label_noise=0.25, train=3000, correlation=1.0, colour_sd=0.0)
    _, digit = shipped(tiles(problem, problem.x))
    for rows in (problem.train, problem.test):
        right = (digit * classes // 10 == problem.y)[rows].float()
        assert right.mean().item() == pytest.approx(0.75, abs=4 * (0.1875 / len(right)) ** 0.5)
    assert torch.equal(hue_of(problem, problem.x, classes)[problem.train], problem.y[problem.train])
    assert problem.facts["core_accuracy"] == 0.75
    assert problem.y.bincount().max() - problem.y.bincount().min() <= 3


@pytest.mark.parametrize("place", PLACES)
def test_regions_are_disjoint_cover_the_picture_and_are_whole_units(place):
    problem = draw(place=place)
    masks = problem.masks
    assert problem.regions == (("relevant", "distractor") if place == "digit" else tuple(masks))
    assert (sum(mask.int() for mask in masks.values()) == 1).all()
    assert masks["relevant"][0, 0].sum() == 64
    if place != "digit":
        assert masks["shortcut"][0, 0].sum() == {"background": 144 - 64, "patch": 16}[place]
    for mask in masks.values():
        assert len(mask) == 1
        for unit in problem.groups.unique():
            assert len(mask[0][problem.groups == unit].unique()) == 1
    assert len({tuple(draw(seed, place=place).masks["relevant"].flatten().tolist()) for seed in range(8)}) > 3


def test_a_frame_is_around_the_tile():
    masks = draw(seed=3).masks
    tile, frame = masks["relevant"][:, :1].float(), masks["shortcut"][:, :1]
    grown = torch.nn.functional.max_pool2d(tile, 5, stride=1, padding=2) > 0  # by the margin of 2
    assert torch.equal(frame, grown & (tile == 0))


def test_ink_is_coloured_as_in_the_paper():
    problem = draw(place="digit", colour_sd=0.0, correlation=1.0, train=300)
    seen = slice(problem.n_train + problem.n_validation)
    inside = problem.x[seen][:, :, problem.masks["relevant"][0, 0]]
    for one, inked in ((0, [0]), (1, [1, 2])):  # red, cyan
        rows = inside[problem.y[seen] == one]
        dark = [channel for channel in range(3) if channel not in inked]
        assert (rows[:, dark] == -1).all()
        assert (rows[:, inked].amax(2) > 0.8).all()
    assert "shortcut" not in problem.masks
    assert problem.aligned.float().mean().item() == 0.5


# ---- redrawing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_redrawing_changes_one_region_and_nothing_else(place):
    problem = draw(place=place, pixel_sd=0.1)
    x = problem.x[problem.test]
    for region in problem.regions:
        new = problem.counterfactual(region, generator(5))
        inside = problem.masks[region].expand(x.shape)
        assert torch.equal(new[~inside], x[~inside])
        assert ((new != x) & inside).flatten(1).any(1).float().mean() > 0.95
        assert torch.equal(problem.counterfactual(region, generator(5)), new)
        assert torch.equal(copy.deepcopy(problem).counterfactual(region, generator(5)), new)
        assert not torch.equal(problem.counterfactual(region, generator(6)), new)
    allowed = "relevant, distractor" if place == "digit" else "relevant, shortcut, distractor"
    with pytest.raises(ValueError, match=rf"^region 'ink' is not one of {allowed}; name one of these$"):
        problem.counterfactual("ink", generator())


def test_redrawn_colours_and_digits_know_nothing_of_the_label():
    problem = draw(classes=2, colour_sd=0.0, correlation=1.0, explained=2000)
    label = problem.y[problem.test]
    hue = hue_of(problem, problem.counterfactual("shortcut", generator(1)), 2)
    _, digit = shipped(tiles(problem, problem.counterfactual("relevant", generator(1))))
    for found in (hue, digit // 5):
        for one in range(2):
            share = (found[label == one] == 1).float().mean().item()
            assert share == pytest.approx(0.5, abs=4 * 0.5 / 1000**0.5)
    assert not torch.equal(hue, digit // 5)


# ---- the problem as a whole -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_pixels_are_bounded_before_noise(place):
    problem = draw(place=place, train=300, colour_sd=0.5)
    assert problem.x.abs().max() <= 1
    noise = draw(place=place, train=300, colour_sd=0.5, pixel_sd=0.5).x - problem.x
    assert noise.std().item() == pytest.approx(0.5, abs=0.01)
    assert noise.mean().abs() < 0.01


def test_rows_are_split_as_announced():
    problem = draw(explained=3)
    assert (problem.n_train, problem.n_validation, problem.n_explained, len(problem.x)) == (40, 6, 3, 246)
    assert len(draw(explained=300).aligned) == 300


def test_what_does_not_fit_is_refused():
    message = (
        r"^size = 14 and a background of margin = 2 do not fit into side = 16 on a grid of 2 pixels; give"
    )
    with pytest.raises(AssayError, match=message):
        draw(size=14)
    for given in ({"size": 14, "place": "patch"}, {"size": 20, "place": "digit"}, {"margin": 9}):
        with pytest.raises(AssayError, match="do not fit into side = 16"):
            draw(**given)


def test_a_network_learns_the_digit_without_a_shortcut_and_takes_a_perfect_one():
    for correlation, lowest, highest in ((0.0, 0.8, 1.0), (1.0, 0.0, 0.3)):
        problem, rng = draw(correlation=correlation, train=800), generator(1)
        with seeded(rng):
            model = MODELS["cnn"].function(problem, rng, epochs=6)
        with torch.no_grad():
            right = (model(problem.x[problem.test]).argmax(1) == problem.y[problem.test]).float()
        assert right[problem.aligned].mean() > 0.8
        assert lowest <= right[~problem.aligned].mean() <= highest
