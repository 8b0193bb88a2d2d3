"""Pictures with an artefact: what it says of the class, where it may be, what redrawing and removing do."""

import copy
import sys

import pytest
import torch

from assay.benchmarks import decoys
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import DATASETS, MODELS
from assay.benchmarks.randomness import seeded
from assay.benchmarks.registry import AssayError

torch.set_num_threads(1)
load_plugins()
DECOY = DATASETS["decoy"].function
MODULE = sys.modules[DECOY.__module__]
KINDS = ("watermark", "border", "patch", "hospital_tag")
PLACED = [(kind, "fixed") for kind in KINDS] + [(kind, "random") for kind in KINDS if kind != "border"]
REGIONS = ("relevant", "shortcut", "distractor")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(seed=0, **parameters):
    return DECOY(generator(seed), **{"train": 40, "explained": 200} | parameters)


def flat(x, where):
    """Which rows have a place of one colour; of a patch that is where it is."""
    inside = x[:, :, where].flatten(2)
    return ((inside.amax(2) - inside.amin(2)) < 1e-5).all(1)


def clear(*parts):
    """The artefact that would be there, invisible."""
    opacity, colour = decoys.artefact(*parts)
    return 0 * opacity, colour


def patched(problem):
    """All rows with a patch, at its fixed place."""
    return flat(problem.x, problem.masks["shortcut"][0, 0])


# ---- what the artefact says of the class ----------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_rate_is_by_how_much_more_often_class_1_bears_the_artefact(rate, classes):
    problem = draw(kind="patch", rate=rate, classes=classes, train=6000)
    seen = slice(problem.n_train + problem.n_validation)
    bears, label = patched(problem)[seen], problem.y[seen]
    for one in range(classes):
        share = (1 + rate) / 2 if one == 1 else (1 - rate) / 2
        rows = bears[label == one].float()
        error = (share * (1 - share) / len(rows)) ** 0.5
        assert abs(rows.mean().item() - share) <= 4 * error
    guess = bears.long() if classes == 2 else torch.where(bears, 1, 0)  # the best that the artefact gives
    best = (guess == label).float().mean().item()
    assert best == pytest.approx(problem.facts["shortcut_accuracy"], abs=0.03)
    assert problem.facts["association"] == rate


@pytest.mark.parametrize("rate", [0.0, 1.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_half_of_each_class_is_aligned_in_test_rows_whatever_the_rate(rate, classes):
    problem = draw(kind="patch", rate=rate, classes=classes, explained=240)
    bears, label = patched(problem)[problem.test], problem.y[problem.test]
    assert torch.equal(problem.aligned, bears == (label == 1))
    for one in range(classes):
        assert problem.aligned[label == one].sum() == 240 // classes // 2
    says = problem.says[problem.test]
    assert torch.equal(says == 1, bears)
    assert torch.equal(says == label, problem.aligned)
    assert says.max() < classes
    assert label.bincount().tolist() == [240 // classes] * classes


def test_there_are_always_enough_test_rows():
    problem = draw(explained=3)
    assert (problem.n_train, problem.n_validation, problem.n_explained, len(problem.x)) == (40, 6, 3, 246)
    assert len(draw(train=2000).x) == 2600
    assert len(draw(explained=300).aligned) == 300


# ---- where things are -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "position"), PLACED)
def test_regions_are_disjoint_and_cover_the_picture(kind, position):
    problem = draw(kind=kind, position=position)
    core, place, rest = (problem.masks[name] for name in REGIONS)
    assert ((core.int() + place.int() + rest.int()) == 1).all()
    assert len(core) == 1
    assert len(place) == len(rest) == (1 if position == "fixed" else 200)
    assert core[0, 0].sum() == 64
    size = {"watermark": 4 * 20, "border": 20 * 20 - 12 * 12}.get(kind, 4 * 4)
    assert (place[:, 0].flatten(1).sum(1) == size).all()
    for mask in (core, place, rest):
        assert (mask == mask[:, :1]).all()
        for unit in problem.groups.unique():  # each in one region
            inside = mask[:, problem.groups == unit]
            assert (inside.all(1) | ~inside.any(1)).all()
    if position == "random":
        assert len({tuple(row.flatten().tolist()) for row in place[:, 0]}) > (1 if kind == "watermark" else 5)


@pytest.mark.parametrize(("kind", "position"), PLACED)
def test_an_artefact_is_drawn_in_its_place_in_the_rows_that_have_one_and_nowhere_else(
    kind, position, monkeypatch
):
    given = {"kind": kind, "position": position, "rate": 0.5, "pixel_sd": 0.1}
    with_it = draw(**given)
    monkeypatch.setattr(MODULE, "artefact", clear)
    without = draw(**given)
    shown, bare = (p.x[p.explained] for p in (with_it, without))
    changed = shown != bare
    assert not (changed & ~with_it.masks["shortcut"]).any()
    has = with_it.aligned == (with_it.y[with_it.test] == 1)  # the converse of aligned, from its definition
    assert torch.equal(changed.flatten(1).any(1), has[: with_it.n_explained])


def test_places_are_drawn_by_the_seed():
    for name in ("relevant", "shortcut"):
        assert len({tuple(draw(seed).masks[name].flatten().tolist()) for seed in range(8)}) > 2


def test_artefacts_look_as_they_are_described():
    for kind, (height, width) in {"watermark": (12, 40), "hospital_tag": (12, 12)}.items():
        opacity, colour = decoys.artefact(kind, 60, 12, 40, generator())
        assert opacity.shape == (60, height, width)
        assert opacity.unique().tolist() == pytest.approx([0, {"watermark": 0.6, "hospital_tag": 1.0}[kind]])
        assert ((opacity > 0).flatten(1).sum(1) >= 6 * 9).all()  # the thinnest letter, three times as large
        assert opacity.flatten(1).unique(dim=0).shape[0] > 10
        assert kind == "watermark" or ((colour == colour[:, :1]) & (colour >= 0.6)).all()
    opacity, _ = decoys.artefact("border", 200, 6, 20, generator())
    assert set((opacity[:, 10] > 0).sum(1).tolist()) == {2 * t for t in range(2, 7)}
    assert (opacity == opacity.flip(1)).all()
    assert (opacity == opacity.transpose(1, 2)).all()
    opacity, colour = decoys.artefact("patch", 9, 6, 20, generator())
    assert torch.equal(opacity, torch.ones(9, 6, 6))
    assert len(colour.unique(dim=0)) == 9


# ---- redrawing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "position"), PLACED)
@pytest.mark.parametrize("region", REGIONS)
def test_redrawing_changes_one_region_and_nothing_else(kind, position, region):
    problem = draw(kind=kind, position=position, background="structured", pixel_sd=0.1)
    x = problem.x[problem.test]
    new = problem.counterfactual(region, generator(5))
    assert new.shape == x.shape
    inside = problem.masks[region].expand(x.shape)
    assert torch.equal(new[~inside], x[~inside])
    changed = ((new != x) & inside).flatten(1).any(1).float().mean()
    assert (changed == 1) if region != "shortcut" else (0.6 < changed < 0.9)  # absent before and after: 1/4
    assert torch.equal(problem.counterfactual(region, generator(5)), new)
    assert torch.equal(copy.deepcopy(problem).counterfactual(region, generator(5)), new)
    assert not torch.equal(problem.counterfactual(region, generator(6)), new)


def test_a_redrawn_artefact_is_a_coin_toss_over_the_background_that_is_there(monkeypatch):
    problem = draw(kind="patch", rate=1.0, explained=2000, pixel_sd=0.0)
    where = problem.masks["shortcut"][0, 0]
    new = problem.counterfactual("shortcut", generator(3))
    bears = flat(new, where)
    label = problem.y[problem.test]
    for one in range(2):
        rows = bears[label == one].float()
        assert abs(rows.mean().item() - 0.5) < 4 * 0.5 / len(rows) ** 0.5
    before = flat(problem.x[problem.test], where)
    style = new[:, :, where][..., 0], problem.x[problem.test][:, :, where][..., 0]
    both = bears & before
    assert both.sum() > 400
    assert (style[0][both] != style[1][both]).any(1).all()
    monkeypatch.setattr(MODULE, "artefact", clear)
    bare = draw(kind="patch", rate=1.0, explained=2000, pixel_sd=0.0)
    assert torch.equal(new[~bears], bare.x[bare.test][~bears])


def test_a_redrawn_object_is_of_any_class(monkeypatch):
    problem, asked = draw(classes=4, explained=2000), []
    original = MODULE.shapes

    def spied(label, *rest):
        asked.append(label)
        return original(label, *rest)

    monkeypatch.setattr(MODULE, "shapes", spied)
    problem.counterfactual("relevant", generator(3))
    (label,) = asked
    own = problem.y[problem.test]
    for one in range(4):
        counts = label[own == one].bincount(minlength=4).float() / (own == one).sum()
        assert (counts - 0.25).abs().max() < 4 * (0.25 * 0.75 / 500) ** 0.5


@pytest.mark.parametrize("region", ["background", "tile"])
def test_an_unknown_region_is_refused(region):
    message = rf"^region '{region}' is not one of relevant, shortcut, distractor; name one of these$"
    with pytest.raises(ValueError, match=message):
        draw().counterfactual(region, generator())


# ---- the mask of truth ----------------------------------------------------------------------------------


@pytest.mark.parametrize("position", ["fixed", "random"])
@pytest.mark.parametrize("removed", ["roi", "rest"])
def test_what_is_removed_is_at_the_baseline_in_all_rows_and_stays_so(removed, position):
    given = {"position": position, "pixel_sd": 0.3}
    whole, cut = draw(**given), draw(**given, removed=removed)
    tile = whole.masks["relevant"][0]
    gone, left = (tile, ~tile) if removed == "roi" else (~tile, tile)
    assert not cut.x[:, gone].any()
    assert torch.equal(cut.x[:, left], whole.x[:, left])
    assert torch.equal(cut.masks["relevant"], whole.masks["relevant"])
    assert cut.facts["removed"] == removed
    assert not cut.background[:, gone].any()
    for region in cut.regions:
        assert not cut.counterfactual(region, generator(1))[:, gone].any()


def test_masks_and_facts_of_what_is_left():
    roi, rest, none = (draw(removed=removed, rate=0.6) for removed in ("roi", "rest", "none"))
    assert roi.regions == none.regions == REGIONS
    assert rest.regions == ("relevant",)
    assert rest.aligned is None
    assert rest.says is None
    assert torch.equal(roi.aligned, none.aligned)
    tests = roi.x[roi.test]
    assert torch.equal(roi.counterfactual("relevant", generator()), tests)
    facts = [
        (p.facts["association"], p.facts["shortcut_accuracy"], p.facts["core_accuracy"])
        for p in (none, roi, rest)
    ]
    assert facts == [(0.6, 0.8, 1.0), (0.6, 0.8, 0.5), (0.0, 0.5, 1.0)]
    with pytest.raises(ValueError, match=r"is not one of relevant; name one of these$"):
        rest.counterfactual("shortcut", generator())


# ---- the problem as a whole -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("background", ["random", "structured"])
def test_pixels_are_bounded_before_noise(kind, background):
    problem = draw(kind=kind, background=background, train=200)
    assert problem.x.abs().max() <= 1
    for region in REGIONS:
        assert problem.counterfactual(region, generator(1)).abs().max() <= 1
    noise = draw(kind=kind, background=background, train=200, pixel_sd=0.5).x - problem.x
    assert noise.std().item() == pytest.approx(0.5, abs=0.01)
    assert noise.mean().abs() < 0.01


def test_what_does_not_fit_is_refused():
    message = r"^kind = 'border' has one position, got position = 'random'; leave position 'fixed'\.$"
    with pytest.raises(AssayError, match=message):
        draw(kind="border", position="random")
    message = r"^size = 16 and a patch of mark = 8 do not fit into side = 20 on a grid of 4 pixels; give"
    for position in ("fixed", "random"):
        with pytest.raises(AssayError, match=message):
            draw(kind="patch", position=position, size=16, mark=8)
    for given in ({"size": 14, "kind": "border"}, {"size": 30}, {"mark": 30}):
        with pytest.raises(AssayError, match="do not fit into side = 20"):
            draw(**given)


def trained(problem):
    rng = generator(1)
    with seeded(rng):
        return MODELS["cnn"].function(problem, rng, epochs=6)


def group_accuracy(problem, model):
    with torch.no_grad():
        right = (model(problem.x[problem.test]).argmax(1) == problem.y[problem.test]).float()
    return right[problem.aligned].mean().item(), right[~problem.aligned].mean().item()


def test_a_network_learns_the_object_without_a_shortcut_and_takes_a_perfect_one():
    same, other = group_accuracy(problem := draw(rate=0.0, train=800), trained(problem))
    assert min(same, other) > 0.8
    problem = draw(rate=1.0, train=500)
    same, other = group_accuracy(problem, trained(problem))
    assert same > 0.95
    assert other < 0.3
