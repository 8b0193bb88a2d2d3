"""Objects on textures that go along with them: groups, regions, counterfactuals, what is learnt."""

import copy
import sys

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assay.benchmarks import drawing
from assay.benchmarks.association import associated
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import DATASETS, MODELS
from assay.benchmarks.randomness import seeded
from assay.benchmarks.registry import AssayError

torch.set_num_threads(1)
load_plugins()
COMPOSITION = DATASETS["composition"].function
MODULE = sys.modules[COMPOSITION.__module__]
POSITIONS = ("fixed", "random")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(seed=0, **parameters):
    return COMPOSITION(generator(seed), **{"train": 60, "explained": 6} | parameters)


def score_of(told, label):
    """Share of the last third that a linear classifier of the others gets right."""
    n = 2 * len(label) // 3
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000))
    return model.fit(told[:n], label[:n]).score(told[n:], label[n:])


# ---- what goes along with what --------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_test_rows_are_balanced_groups(classes):
    rows = associated(classes, 0.9, 4000, 1200, generator())
    y, said = rows.y[rows.test], rows.said[rows.test]
    assert len(y) == 1200
    table = torch.zeros(classes, classes).index_put_((y, said), torch.ones(1200), accumulate=True)
    assert (table.diag() == 600 / classes).all()
    assert (table.sum(1) == 1200 / classes).all()
    others = table[~torch.eye(classes, dtype=torch.bool)]
    each = 600 / classes / (classes - 1)
    assert ((others - each).abs() <= 4 * each**0.5).all()
    for part in (slice(4000), slice(4000, 4600)):
        counts = rows.y[part].bincount()
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9, 1.0])
def test_training_rows_have_the_strength_that_is_said(classes, strength):
    rows = associated(classes, strength, 8000, 1, generator())
    y, said = rows.y[: rows.test.start], rows.said[: rows.test.start]
    chance = 1 / classes
    rate = chance + strength * (1 - chance)
    for one in range(classes):
        found = (said[y == one] == one).double()
        assert abs(found.mean().item() - rate) <= 4 * (rate * (1 - rate) / len(found)) ** 0.5
        others = said[(y == one) & (said != one)].bincount(minlength=classes)
        others = torch.cat([others[:one], others[one + 1 :]])
        assert others.max() - others.min() <= 5 * max(1.0, others.double().mean().item()) ** 0.5
    assert (rows.n_train, rows.n_validation, len(rows.y)) == (8000, 1200, 10400)


@pytest.fixture
def marked(monkeypatch):
    """Textures that can be read back: kind i is a ramp along one axis, or down and up again along it."""

    def ramps(i):
        def make(n, side, rng):
            rise = torch.linspace(-1, 1, side) if i < 2 else torch.linspace(-1, 1, side).abs()
            field = rise[:, None] if i % 2 else rise[None]
            return field.expand(n, 3, side, side) + 0 * torch.rand(n, 1, 1, 1, generator=rng)

        make.__name__ = f"ramp{i}"
        return make

    kinds = tuple(ramps(i) for i in range(4))
    monkeypatch.setattr(MODULE, "TEXTURES", kinds)
    return [MODULE._levelled(make(1, 24, generator()))[0] for make in kinds]


def kinds_of(x, outside, marks):
    """The texture that each row has around its tile, bit for bit."""
    same = torch.stack([((x == mark) | ~outside).flatten(1).all(1) for mark in marks])
    assert (same.sum(0) == 1).all()
    return same.int().argmax(0)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(("correlation", "rate"), [(0.0, 0.25), (0.6, 0.7), (1.0, 1.0)])
def test_textures_follow_the_label_in_training_and_groups_in_the_test(correlation, rate, position, marked):
    problem = draw(correlation=correlation, classes=4, position=position, train=600, explained=240)
    test = problem.x[problem.test]
    outside = problem.masks["shortcut"]
    said = kinds_of(test, outside, marked)
    assert torch.equal(said, problem.says[problem.test])
    assert torch.equal(said == problem.y[problem.test], problem.aligned)
    assert problem.aligned.double().mean() == 0.5
    assert problem.facts["association"] == correlation
    assert problem.facts["chance"] == 0.25
    if position == "fixed":
        seen = problem.y[problem.train]
        found = kinds_of(problem.x[problem.train], outside, marked) == seen
        assert abs(found.double().mean().item() - rate) <= 4 * (rate * (1 - rate) / 600) ** 0.5


# ---- where things are -----------------------------------------------------------------------------------


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(("side", "size", "patch"), [(24, 12, 4), (16, 8, 4), (21, 9, 3), (17, 10, 5)])
def test_regions_part_the_picture_and_the_tile_is_on_the_grid(position, side, size, patch):
    problem = draw(position=position, side=side, size=size, patch=patch)
    box, around = problem.masks["relevant"], problem.masks["shortcut"]
    assert problem.regions == ("relevant", "shortcut")
    assert box.shape == (1 if position == "fixed" else 6, 3, side, side)
    assert torch.equal(around, ~box)
    assert (box == box[:, :1]).all()
    for mask in box[:, 0]:
        down, right = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
        assert mask[down[0] : down[0] + size, right[0] : right[0] + size].all()
        assert mask.sum() == size * size
        assert down[0] % patch == right[0] % patch == 0
        if size % patch == 0:
            inside = torch.isin(problem.groups[0], problem.groups[0][mask].unique())
            assert torch.equal(inside, mask)


def test_places_are_one_or_many_and_hang_on_the_seed():
    fixed = {tuple(draw(seed).masks["relevant"].nonzero()[0].tolist()) for seed in range(12)}
    assert len(fixed) > 5
    anywhere = draw(position="random", explained=200).masks["relevant"][:, 0].flatten(1).int().argmax(1)
    corners = {(4 * i, 4 * j) for i in range(4) for j in range(4)}
    assert {divmod(place, 24) for place in anywhere.tolist()} == corners


@pytest.mark.parametrize("position", POSITIONS)
def test_neither_reaches_into_the_place_of_the_other(position, monkeypatch):
    given = {"position": position, "pixel_sd": 0.2}
    problem, faint = draw(**given), draw(**given, contrast=0.01)
    inside = problem.masks["relevant"].expand(6, -1, -1, -1)
    shown, other = (p.x[p.explained] for p in (problem, faint))
    assert torch.equal(shown[~inside], other[~inside])
    assert (shown[inside] != other[inside]).float().mean() > 0.1
    levelled = MODULE._levelled
    monkeypatch.setattr(MODULE, "_levelled", lambda x: -levelled(x))
    turned = draw(**given)
    other = turned.x[turned.explained]
    assert torch.equal(shown[inside], other[inside])
    assert (shown[~inside] != other[~inside]).float().mean() > 0.9


def test_the_ground_of_an_object_is_noise_of_its_own():
    problem = draw(contrast=0.01, train=300)
    tile = problem.x[:, problem.masks["relevant"][0]].view(-1, 3, 12, 12)
    assert tile.std().item() == pytest.approx(3**-0.5, abs=0.01)
    assert (tile[..., 1:] * tile[..., :-1]).mean().abs() < 0.01  # independent from pixel to pixel


# ---- counterfactuals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("region", ["relevant", "shortcut"])
@pytest.mark.parametrize("pixel_sd", [0.0, 0.3])
def test_a_counterfactual_changes_its_region_alone(region, position, pixel_sd):
    problem = draw(position=position, pixel_sd=pixel_sd, explained=220)
    before = problem.x.clone()
    test = problem.x[problem.test]
    inside = problem.masks[region].expand(test.shape)
    found = problem.counterfactual(region, generator(1))
    assert torch.equal(found[~inside], test[~inside])
    assert (found[inside] != test[inside]).double().mean() > 0.95
    assert torch.equal(found, problem.counterfactual(region, generator(1)))
    assert not torch.equal(found, problem.counterfactual(region, generator(2)))
    assert torch.equal(copy.deepcopy(problem).counterfactual(region, generator(1)), found)
    assert torch.equal(problem.x, before)


def test_redrawn_textures_know_nothing_of_the_label_nor_of_the_old_texture(marked):
    problem = draw(classes=4, explained=2000)
    y, outside = problem.y[problem.test], problem.masks["shortcut"]
    old = kinds_of(problem.x[problem.test], outside, marked)
    new = kinds_of(problem.counterfactual("shortcut", generator(1)), outside, marked)
    for other in (y, old):
        table = torch.zeros(4, 4).index_put_((other, new), torch.ones(2000), accumulate=True)
        expected = other.bincount()[:, None] / 4
        # chi square of 12 degrees of freedom is beyond 32.9 once in a thousand
        assert ((table - expected).square() / expected).sum() < 32.9


def test_redrawn_objects_are_of_every_class_whatever_the_label(monkeypatch):
    problem, asked, shapes = draw(classes=3, explained=900), [], MODULE.shapes

    def watched(label, size, rng):
        asked.append(label)
        return shapes(label, size, rng)

    monkeypatch.setattr(MODULE, "shapes", watched)
    problem.counterfactual("relevant", generator(1))
    y = problem.y[problem.test]
    table = torch.zeros(3, 3).index_put_((y, asked[0]), torch.ones(900), accumulate=True)
    # chi square of 8 degrees of freedom is beyond 26.1 once in a thousand
    assert ((table - 100).square() / 100).sum() < 26.1


def test_an_unknown_region_is_refused():
    with pytest.raises(ValueError, match="'distractor'; it must be one of relevant, shortcut"):
        draw().counterfactual("distractor", generator())


# ---- what tells the class -------------------------------------------------------------------------------


def test_texture_tells_its_kind_and_mean_colour_hardly_does():
    law = MODULE.Law(classes=4, size=12, side=24, contrast=1.0, pixel_sd=0.0)
    kind = torch.arange(3000)[torch.randperm(3000, generator=generator())] % 4
    x = law.texture(kind, generator(1))
    assert x.abs().max() <= 1
    mean = x.mean((2, 3))
    assert mean.abs().max() < 0.2
    assert score_of(torch.cat([mean, mean.abs()], 1), kind) < 0.5  # chance is a quarter
    step = torch.cat([x.diff(dim=axis).abs().mean(1).flatten(1) for axis in (2, 3)], 1)
    finer = x.diff(n=2, dim=3).abs().mean(1).flatten(1)
    told = [step.mean(1), step.std(1), (step < 1e-6).float().mean(1), finer.mean(1), finer.std(1)]
    assert score_of(torch.stack(told, 1), kind) > 0.8


def test_textures_have_mean_0_in_each_channel_and_one_power_before_they_are_clipped():
    bits = torch.randint(2, (50, 3, 24, 24), generator=generator()).float()
    x = MODULE._levelled(5 * bits + 2)  # of two values, so that nothing is clipped
    assert x.mean((2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(x.square().mean((1, 2, 3)), torch.full((50,), 1 / 3), rtol=1e-4, atol=0)


def test_shape_tells_the_object_and_colour_does_not():
    problem = draw(train=2000, contrast=1.0)
    tile = problem.x[:, problem.masks["relevant"][0]].view(len(problem.x), 3, 144)
    told = torch.cat([tile.mean(2), tile.std(2), tile.abs().mean(2)], 1)
    assert score_of(told, problem.y) < 0.65
    assert score_of(drawing.shapes(problem.y, 12, generator()).flatten(1), problem.y) > 0.95


def test_a_faint_object_adds_less_by_the_square_of_its_opacity():
    low, high = (draw(contrast=c).facts["snr_db"] for c in (0.01, 0.02))
    assert high - low == pytest.approx(6.02, abs=0.1)


def test_signal_and_noise_are_what_two_draws_say(monkeypatch):
    problem = draw(pixel_sd=0.3, train=300)
    monkeypatch.setattr(MODULE, "colours", lambda n, rng: 1e-9 * drawing.colours(n, rng))
    rest = draw(pixel_sd=0.3, train=300).x.double()
    added = problem.x.double() - rest
    found = 10 * (added.square().mean() / rest.square().mean()).log10().item()
    assert problem.facts["snr_db"] == pytest.approx(found, abs=1e-3)


@pytest.mark.parametrize(("correlation", "low", "high"), [(0.0, 0.8, 1.0), (1.0, 0.0, 0.4)])
def test_a_network_learns_the_core_where_nothing_else_tells_and_the_texture_where_it_does(
    correlation, low, high
):
    problem, rng = COMPOSITION(generator(), correlation=correlation), generator(1)
    with seeded(rng):
        model = MODELS["mlp"].function(problem, rng)
    right = model(problem.x[problem.test]).argmax(1) == problem.y[problem.test]
    assert right[problem.aligned].double().mean() > 0.85
    assert low <= right[~problem.aligned].double().mean() <= high


# ---- the problem as a whole -----------------------------------------------------------------------------


def test_rows_are_split_as_announced():
    problem = draw(train=100, explained=3)
    assert (problem.n_train, problem.n_validation, problem.n_explained, len(problem.x)) == (100, 15, 3, 315)
    assert len(draw(train=100, explained=400).x) == 515
    assert torch.equal(problem.background, problem.x[:20])
    assert not problem.baseline.any()
    assert problem.x.abs().max() <= 1
    assert problem.facts["classes"] == "ring, plus"
    assert problem.facts["shortcuts"] == "stripes, cells"


@pytest.mark.parametrize("position", POSITIONS)
def test_same_seed_same_bits_and_no_other_source_of_random_numbers(position):
    found = []
    for outside in range(2):
        torch.manual_seed(outside)
        found.append(draw(pixel_sd=0.1, correlation=0.5, position=position))
    assert torch.equal(found[0].x, found[1].x)
    assert torch.equal(found[0].y, found[1].y)
    assert not torch.equal(draw(1, pixel_sd=0.1, correlation=0.5, position=position).x, found[0].x)


def test_an_object_that_leaves_no_texture_is_refused():
    message = r"^size = 16 leaves no texture at side = 16; give a size below 16\.$"
    with pytest.raises(AssayError, match=message):
        draw(side=16, size=16)
