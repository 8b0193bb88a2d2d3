"""Sprites whose cues all say the class: what says what, what a counterfactual changes, what is learnt."""

import copy
import functools
import itertools
import math
import sys

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Polygon

from assay.benchmarks import drawing, sprites
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import DATASETS, MODELS
from assay.benchmarks.randomness import seeded
from assay.benchmarks.registry import AssayError

torch.set_num_threads(1)
load_plugins()
EQUAL_CUES = DATASETS["equal_cues"].function
MODULE = sys.modules[EQUAL_CUES.__module__]
CUES = ("shape", "colour", "scale", "orientation")
PAIRS = [("shape", "colour"), ("colour", "shape"), ("scale", "orientation"), ("orientation", "scale")]
NEUTRAL = 4
TILES = {(0, 0): "relevant", (0, 1): "shortcut", (1, 0): "distractor", (1, 1): "distractor"}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(seed=0, **parameters):
    return EQUAL_CUES(generator(seed), **{"train": 60, "explained": 6, "side": 16} | parameters)


def quarter(x, down, right):
    half = x.shape[-1] // 2
    return x[..., down * half : (down + 1) * half, right * half : (right + 1) * half]


@pytest.fixture
def exact(monkeypatch):
    """Every level in its place, so that pixels say which one it is."""
    for key in MODULE.BLUR:
        monkeypatch.setitem(MODULE.BLUR, key, 0.0)


@functools.cache
def dictionary():
    """Every sprite that there can be, drawn from the words of the docstring, and its levels."""
    level = torch.tensor(list(itertools.product(range(5), repeat=4)))
    scale = torch.tensor([0.55, 1.0, 0.7, 0.85, 0.775])[level[:, 2]]
    turn = math.pi * torch.tensor([0.0, 1.0, 0.5, 1.5, 0.25])[level[:, 3]]
    ink = torch.tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, -1], [1, 1, 1]])[level[:, 1]]
    cover = sprites.covers(level[:, 0], scale, turn, 8)
    return level, (cover[:, None] * ink[:, :, None, None]).flatten(1)


def levels(x, down, right):
    """Cue -> the level that each row shows of it in that quarter."""
    level, pictures = dictionary()
    apart = torch.cdist(
        quarter(x, down, right).flatten(1), pictures, compute_mode="donot_use_mm_for_euclid_dist"
    )
    near = apart.topk(2, largest=False).values
    assert near[:, 0].max() < 1e-4
    assert near[:, 1].min() > 0.1  # no other sprite looks so
    return dict(zip(CUES, level[apart.argmin(1)].T, strict=True))


# ---- which sprite says what -----------------------------------------------------------------------------


@pytest.mark.parametrize(("core", "shortcut"), [*PAIRS, ("shape", "rest"), ("colour", "rest")])
def test_each_tile_carries_its_own_cues_and_the_neutral_level_of_the_others(core, shortcut, exact):
    problem = draw(core=core, shortcut=shortcut, correlation=1.0, train=200)
    carried = {"relevant": {core}, "distractor": set()}
    carried["shortcut"] = {*CUES} - {core} if shortcut == "rest" else {shortcut}
    seen = slice(problem.n_train + problem.n_validation)
    for place, region in TILES.items():
        found = levels(problem.x, *place)
        for cue in CUES:
            if cue in carried[region] and region == "relevant":
                assert torch.equal(found[cue], problem.y)
            elif cue in carried[region]:
                assert torch.equal(found[cue], problem.says)
                assert torch.equal(found[cue][seen], problem.y[seen])  # the diagonal
                assert torch.equal(found[cue][problem.test] == problem.y[problem.test], problem.aligned)
            elif any(cue in some for some in carried.values()):
                assert (found[cue] == NEUTRAL).all()
            else:
                assert found[cue].unique().tolist() == [0, 1, 2, 3]
                assert (found[cue] == problem.y).double().mean().item() == pytest.approx(0.25, abs=0.09)


@pytest.mark.parametrize(("correlation", "rate"), [(0.0, 1 / 3), (0.5, 2 / 3), (1.0, 1.0)])
def test_correlation_is_chance_plus_its_share_of_the_rest(correlation, rate, exact):
    problem = draw(correlation=correlation, classes=3, train=1000)
    said = levels(problem.x, 0, 1)["colour"]
    seen = slice(problem.n_train)
    error = 4 * math.sqrt(rate * (1 - rate) / 1000)
    assert abs((said[seen] == problem.y[seen]).double().mean().item() - rate) <= error
    assert said.unique().tolist() == problem.y.unique().tolist() == [0, 1, 2]
    assert problem.facts["association"] == correlation
    assert problem.facts["chance"] == pytest.approx(1 / 3)


def test_facts_name_the_levels_in_use():
    facts = draw(core="colour", shortcut="rest", classes=2).facts
    assert facts["classes"] == "red, blue"
    assert facts["shortcuts"] == "cup, ell; smallest, largest; up, down"


def test_one_cue_cannot_be_both():
    with pytest.raises(
        AssayError, match=r"^core and shortcut are both 'scale'; give two cues that differ\.$"
    ):
        draw(core="scale", shortcut="scale")


@pytest.mark.parametrize("cue", ["shape", "scale", "orientation"])
def test_levels_blur_a_little_and_pixels_stay_within_their_range(cue, monkeypatch):
    blurred = draw(core=cue)
    assert blurred.x.abs().max() <= 1
    for key in MODULE.BLUR:
        monkeypatch.setitem(MODULE.BLUR, key, 0.0)
    still = draw(core=cue)
    away = (blurred.x - still.x).abs()
    assert 0.01 < away.mean() < 0.1
    assert (away > 0).flatten(1).any(1).all()


# ---- regions and counterfactuals ------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "patch"), [(16, 4), (24, 4), (24, 12)])
def test_regions_part_the_picture_and_are_unions_of_units(side, patch):
    problem = draw(side=side, patch=patch)
    assert problem.regions == ("relevant", "shortcut", "distractor")
    masks = [problem.masks[name] for name in problem.regions]
    assert all(mask.shape == (1, 3, side, side) for mask in masks)
    assert (torch.stack(masks).sum(0) == 1).all()
    for place, name in TILES.items():
        assert quarter(problem.masks[name], *place).all()
    for mask in masks:
        units = problem.groups[mask[0]].unique()
        assert torch.isin(problem.groups, units).equal(mask[0])


@pytest.mark.parametrize("region", ["relevant", "shortcut", "distractor"])
@pytest.mark.parametrize("pixel_sd", [0.0, 0.3])
def test_a_counterfactual_changes_its_region_alone(region, pixel_sd):
    problem = draw(pixel_sd=pixel_sd)
    before = problem.x.clone()
    test, inside = problem.x[problem.test], problem.masks[region][0]
    found = problem.counterfactual(region, generator(1))
    assert found.shape == test.shape
    assert torch.equal(found[:, ~inside], test[:, ~inside])
    assert (found[:, inside] != test[:, inside]).any(1).all()
    assert torch.equal(found, problem.counterfactual(region, generator(1)))
    assert not torch.equal(found, problem.counterfactual(region, generator(2)))
    assert torch.equal(copy.deepcopy(problem).counterfactual(region, generator(1)), found)
    assert torch.equal(problem.x, before)


def test_what_a_counterfactual_draws_is_of_its_law_and_knows_nothing_of_the_label(exact):
    problem = draw(train=4000)
    y = problem.y[problem.test]
    drawn = {}
    for region, place, cue, other in (
        ("relevant", (0, 0), "shape", "colour"),
        ("shortcut", (0, 1), "colour", "shape"),
    ):
        found = levels(problem.counterfactual(region, generator(3)), *place)
        drawn[region] = found[cue]
        assert (found[other] == NEUTRAL).all()
        table = torch.zeros(4, 4).index_put_((y, found[cue]), torch.ones(len(y)), accumulate=True)
        expected = len(y) / 16
        # chi square of 15 degrees of freedom is beyond 37.7 once in a thousand
        assert ((table - expected).square() / expected).sum() < 37.7
    assert drawn["relevant"].unique().tolist() == drawn["shortcut"].unique().tolist() == [0, 1, 2, 3]


def test_an_unknown_region_is_refused():
    with pytest.raises(ValueError, match="'foreground'; it must be one of relevant, shortcut, distractor"):
        draw().counterfactual("foreground", generator())


# ---- rows -----------------------------------------------------------------------------------------------


def test_rows_are_split_as_announced():
    problem = draw(train=100, explained=3)
    assert (problem.n_train, problem.n_validation, problem.n_explained, len(problem.x)) == (100, 15, 3, 315)
    assert len(draw(train=100, explained=400).x) == 515
    assert torch.equal(problem.background, problem.x[:20])
    assert not problem.baseline.any()


def test_same_seed_same_bits_and_no_other_source_of_random_numbers():
    found = []
    for outside in range(2):
        torch.manual_seed(outside)
        found.append(draw(pixel_sd=0.1, correlation=0.5))
    assert torch.equal(found[0].x, found[1].x)
    assert torch.equal(found[0].y, found[1].y)
    assert not torch.equal(draw(1, pixel_sd=0.1, correlation=0.5).x, found[0].x)


def test_noise_is_added_to_every_pixel():
    x = draw(pixel_sd=0.5).x
    corner = x[:, :, 0, 0]  # where no sprite reaches
    assert corner.std().item() == pytest.approx(0.5, abs=0.05)
    assert (draw().x[:, :, 0, 0] == 0).all()
    assert (x != draw().x).all()


@pytest.mark.parametrize(("correlation", "low", "high"), [(0.0, 0.8, 1.0), (1.0, 0.0, 0.4)])
def test_a_network_learns_the_core_where_nothing_else_tells_and_colour_where_all_do(correlation, low, high):
    problem, rng = EQUAL_CUES(generator(), correlation=correlation), generator(1)
    with seeded(rng):
        model = MODELS["mlp"].function(problem, rng)
    right = model(problem.x[problem.test]).argmax(1) == problem.y[problem.test]
    assert right[problem.aligned].double().mean() > 0.85
    assert low <= right[~problem.aligned].double().mean() <= high


# ---- sprites --------------------------------------------------------------------------------------------


def tiles(scale=1.0, turn=0.0, size=40):
    n = len(sprites.SHAPES)
    return sprites.covers(torch.arange(n), torch.full((n,), scale), torch.full((n,), turn), size)


@pytest.mark.parametrize(("scale", "turn"), [(1.0, 0.0), (0.6, 0.0), (0.8, 1.0)])
def test_a_figure_covers_what_is_within_its_outline(scale, turn):
    """Against the polygons of another library, but for the pixels that the edge crosses."""
    centre = (np.arange(40) + 0.5) / 20 - 1
    place = np.stack(np.meshgrid(centre, centre), -1).reshape(-1, 2)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    for name, tile in zip(sprites.SHAPES, tiles(scale, turn), strict=True):
        corners = sprites._outline(name).numpy() @ rotation * scale
        inside = Polygon(np.vstack([corners, corners[:1]]), closed=True).contains_points(place)
        cover = tile.flatten().numpy()
        clear = (cover == 0) | (cover == 1)
        assert clear.mean() > 0.85
        assert (inside[clear] == (cover[clear] == 1)).all()


def test_all_shapes_are_of_one_area_that_grows_by_the_square_of_the_scale():
    area = torch.stack([tiles(scale, size=80).sum((1, 2)) for scale in (0.5, 1.0)])
    assert area[1].max() / area[1].min() < 1.01
    torch.testing.assert_close(area[1] / area[0], torch.full((5,), 4.0), rtol=0.02, atol=0)


@pytest.mark.parametrize("turn", [0.0, 0.7, 2.0, 4.5])
def test_no_figure_leaves_its_tile(turn):
    tile = tiles(turn=turn)
    assert not torch.cat([tile[:, 0], tile[:, -1], tile[:, :, 0], tile[:, :, -1]]).any()


def test_a_quarter_turn_turns_the_tile_clockwise():
    torch.testing.assert_close(tiles(turn=math.pi / 2), tiles().rot90(-1, (1, 2)), atol=1e-3, rtol=0)


def test_no_shape_looks_like_another_or_like_itself_turned():
    every = torch.cat([tiles(0.55, k * math.pi / 2, 12) for k in range(4)]).flatten(1)
    apart = torch.cdist(every, every) + 9 * torch.eye(len(every))
    assert apart.min() > 0.9  # of about 3 from an empty tile


def test_paint_hides_the_ground_as_far_as_the_figure_covers():
    cover = torch.tensor([[[0.0, 1.0], [0.25, 0.5]]])
    ground = torch.full((1, 3, 1, 1), -1.0)
    found = drawing.painted(ground, cover, torch.tensor([[1.0, 0.0, -1.0]]))
    expected = [[[-1.0, 1.0], [-0.5, 0.0]], [[-1.0, 0.0], [-0.75, -0.5]], [[-1.0, -1.0], [-1.0, -1.0]]]
    assert torch.equal(found, torch.tensor([expected]))
