"""Pictures of an object on a background: what tells the class, what cannot, and where it stands."""

import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assay.benchmarks import backdrops, drawing
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import DATASETS
from assay.benchmarks.registry import AssayError

torch.set_num_threads(1)
load_plugins()
VISION = DATASETS["vision"].function
MODULE = sys.modules[VISION.__module__]
CONDITIONS = [(b, p) for b in ("random", "structured") for p in ("fixed", "random")]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(seed=0, **parameters):
    return VISION(generator(seed), **{"train": 40, "explained": 6} | parameters)


def boxes(problem):
    """First row and column, and those after the last, of every row's relevant places."""
    found = []
    for mask in problem.masks["relevant"][:, 0]:
        rows, columns = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
        found.append((rows[0].item(), columns[0].item(), rows[-1].item() + 1, columns[-1].item() + 1))
    return found


# ---- where the object is --------------------------------------------------------------------------------


@pytest.mark.parametrize(("background", "position"), CONDITIONS)
@pytest.mark.parametrize(("side", "size"), [(32, 14), (21, 9), (16, 16)])
def test_the_relevant_mask_is_the_box_of_the_tile(background, position, side, size):
    problem = draw(background=background, position=position, side=side, size=size)
    mask, drawn = problem.masks["relevant"], problem.masks["foreground"]
    assert mask.shape == drawn.shape == (6, 3, side, side)
    assert (mask.flatten(2).sum(2) == size * size).all()
    assert all((down - top, right - left) == (size, size) for top, left, down, right in boxes(problem))
    assert (mask == mask[:, :1]).all()
    assert not (drawn & ~mask).any()
    assert (drawn.flatten(1).sum(1) < mask.flatten(1).sum(1)).all()


@pytest.mark.parametrize("foreground", ["shapes", "digits"])
@pytest.mark.parametrize(("background", "position"), CONDITIONS)
def test_pixels_outside_the_box_know_nothing_of_the_object(background, position, foreground, monkeypatch):
    """They are the same bits whatever is drawn inside, and however faintly."""
    given = {"background": background, "position": position, "foreground": foreground, "pixel_sd": 0.2}
    problem = draw(**given)
    inside = problem.masks["relevant"]
    shown = problem.x[problem.explained]
    faint = draw(**given, contrast=1e-6)
    others = MODULE._objects

    def other_objects(*parts):
        label, cover = others(*parts)
        return label.roll(1), cover.roll(1, 0)

    monkeypatch.setattr(MODULE, "_objects", other_objects)
    rolled = draw(**given)
    assert not torch.equal(rolled.y, problem.y)
    for other in (faint, rolled):
        assert torch.equal(other.masks["relevant"], inside)
        there = other.x[other.explained]
        assert torch.equal(there[~inside], shown[~inside])
        assert (there[inside] != shown[inside]).float().mean() > 0.1


@pytest.mark.parametrize("background", ["random", "structured"])
def test_what_the_object_does_not_cover_is_background(background):
    problem, faint = draw(background=background), draw(background=background, contrast=1e-6)
    shown, field = (p.x[p.explained] for p in (problem, faint))
    covered = problem.masks["foreground"]
    assert torch.equal(shown[~covered], field[~covered])
    # in the middle of a stroke the object hides it: each row has its colour there, in every channel
    for row, under, mask in zip(shown, field, covered, strict=True):
        values, count = row[0][mask[0]].unique(return_counts=True)
        hidden = mask[0] & (row[0] == values[count.argmax()])
        assert count.max() > 10
        assert all(len(row[c][hidden].unique()) == 1 for c in range(3))
        assert len(under[0][hidden].unique()) > 1 or background == "structured"


def test_a_fixed_position_is_one_for_all_rows_and_hangs_on_the_seed():
    fixed = [boxes(draw(seed, explained=60)) for seed in range(8)]
    assert all(len(set(found)) == 1 for found in fixed)
    assert len({found[0] for found in fixed}) > 4
    anywhere = boxes(draw(position="random", explained=60))
    assert len(set(anywhere)) > 40
    assert {c for top, left, *_ in boxes(draw(position="random", explained=900)) for c in (top, left)} == {
        *range(32 - 14 + 1)
    }


# ---- what tells the class -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [{}, {"background": "structured", "position": "random"}, {"contrast": 0.5, "pixel_sd": 0.3}],
    ids=str,
)
def test_signal_and_noise_are_what_two_draws_say(given, monkeypatch):
    """With grey paint instead of colour, the same draw is all but what the object adds."""
    problem = draw(**given, train=200)
    monkeypatch.setattr(MODULE, "colours", lambda n, rng: 1e-9 * drawing.colours(n, rng))
    rest = draw(**given, train=200).x.double()
    added = problem.x.double() - rest
    found = 10 * np.log10(float(added.square().mean() / rest.square().mean()))
    assert problem.facts["snr_db"] == pytest.approx(found, abs=1e-3)
    assert -25 < found < -5


def test_a_faint_object_adds_less_by_the_square_of_its_opacity():
    """At a thousandth and at a hundredth the background is as good as whole: 20 dB apart."""
    low, high = (draw(contrast=c).facts["snr_db"] for c in (1e-3, 1e-2))
    assert high - low == pytest.approx(20, abs=0.05)


@pytest.mark.parametrize(("background", "contrast"), [("random", 1.0), ("structured", 1.0), ("random", 0.5)])
def test_colour_and_amount_do_not_tell_the_class(background, contrast):
    """A tenth is chance; ink alone gets .15, as strokes overlap more in some shapes than in others."""
    problem = draw(train=2000, background=background, contrast=contrast)
    box = problem.x[:, problem.masks["relevant"][0]].view(len(problem.x), 3, -1)
    told = [box.mean(2), box.std(2), problem.x.mean((2, 3)), box.abs().mean((1, 2))[:, None]]
    told.append(((box - box.median(2, keepdim=True).values).abs() > 0.5).double().mean((1, 2))[:, None])
    assert score_of(torch.cat(told, 1), problem.y) < 0.2


def test_ink_alone_hardly_tells_the_shape():
    label = torch.arange(3000)[torch.randperm(3000, generator=generator())] % 10
    cover = drawing.shapes(label, 14, generator())
    ink = cover.sum((1, 2))
    assert score_of(ink[:, None], label) < 0.2
    assert score_of(cover.flatten(1), label) > 0.9  # what is where does
    # stroke width times length, in half sides squared, of .9 to 1.3; ends and corners are drawn besides
    assert 1.0 < ink.mean().item() / 7**2 / 1.1 < 1.15


def score_of(told, label):
    """Share of the last third that a linear classifier of the others gets right."""
    n = 2 * len(label) // 3
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000))
    return model.fit(told[:n], label[:n]).score(told[n:], label[n:])


def test_all_classes_are_alike_often_and_none_is_missing():
    assert draw(train=1000).y.bincount().unique().numel() <= 2
    assert draw().facts["chance"] == draw(foreground="digits", train=300).facts["chance"] == 0.1
    assert draw().facts["classes"].split(", ") == list(drawing.SHAPES)
    assert draw(foreground="digits").facts["classes"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"


# ---- shapes and digits ----------------------------------------------------------------------------------


def test_every_pair_of_shapes_differs():
    label = torch.arange(2000) % 10
    cover = drawing.shapes(label, 14, generator()).flatten(1)
    assert cover.min() >= 0
    assert cover.max() <= 1
    means = torch.stack([cover[label == i].mean(0) for i in range(10)])
    apart = torch.cdist(means, means)[~torch.eye(10, dtype=torch.bool)]
    assert apart.min() > 1.5  # of about 7 from an empty tile
    known = KNeighborsClassifier(1).fit(cover[:1500], label[:1500])
    assert known.score(cover[1500:], label[1500:]) > 0.99


# what leaves an upright shape as it is: left to right, top to bottom, half a turn
MIRRORS = {
    "plus": (True, True, True),
    "aitch": (True, True, True),
    "square": (True, True, True),
    "ring": (True, True, True),
    "tee": (True, False, False),
    "vee": (True, False, False),
    "triangle": (True, False, False),
    "zed": (False, False, True),
    "ess": (False, False, True),
    "ell": (False, False, False),
}


@pytest.fixture
def upright(monkeypatch):
    """One tile of each shape, all of full scale and of as much ink."""
    for name, value in (("TURN", 0.0), ("SCALES", (1.0, 1.0)), ("INK", (1.0, 1.0))):
        monkeypatch.setattr(drawing, name, value)
    return dict(zip(drawing.SHAPES, drawing.shapes(torch.arange(10), 20, generator()), strict=True))


def test_upright_shapes_have_their_symmetries(upright):
    assert {*MIRRORS} == {*drawing.SHAPES}
    for name, tile in upright.items():
        turned = (tile.flip(1), tile.flip(0), tile.flip(0, 1))
        found = tuple(torch.allclose(tile, other, atol=1e-4) for other in turned)
        assert found == MIRRORS[name], name
    for name in ("plus", "square", "ring"):
        torch.testing.assert_close(upright[name], upright[name].rot90(), atol=1e-4, rtol=0)
    torch.testing.assert_close(upright["zed"], upright["ess"].flip(1), atol=1e-4, rtol=0)


def test_the_arm_of_a_plus_is_as_thick_as_its_ink_over_its_length(upright):
    """Ink 1 on 2 x 1.8 x .9 half sides of ten pixels: 3.086 pixels, soft edges counted by half."""
    arm = upright["plus"][:, 4]  # a column well away from the upright
    assert arm.sum().item() == pytest.approx(10 / (2 * 1.8 * 0.9), abs=1e-3)


def test_a_quarter_turn_turns_the_tile():
    found = []
    for turn in (0.0, torch.pi / 2):
        strokes = [drawing._strokes(name) for name in drawing.SHAPES]
        far = [drawing._distance(s, 12, torch.ones(1), torch.tensor([turn])) for s in strokes]
        found.append([f.view(12, 12) for f in far])
    for i in range(10):
        turned = [found[0][i].rot90(k) for k in (1, -1)]
        assert any(torch.allclose(found[1][i], other, atol=1e-4) for other in turned)


def test_digits_are_those_that_are_shipped():
    shipped = load_digits()
    label, ink = drawing.digits(generator(), 200, 8)
    images = torch.from_numpy(shipped.images).float() / 16
    for one, tile in zip(label.tolist(), ink, strict=True):  # at the size of the files nothing is resized
        same = (images - tile).abs().amax((1, 2)) < 1e-6
        assert one in shipped.target[same.numpy()]
    label, ink = drawing.digits(generator(), 300, 16)
    small = torch.nn.functional.avg_pool2d(ink, 2).flatten(1)
    known = KNeighborsClassifier(1).fit(images.flatten(1), shipped.target)
    assert known.score(small, label) > 0.95
    assert label.unique().numel() == 10
    assert ink.min() >= 0
    assert ink.max() <= 1


def test_colours_are_of_full_strength_and_grey_on_average():
    colour = drawing.colours(4000, generator())
    torch.testing.assert_close(colour.abs().amax(1), torch.ones(4000))
    assert colour.mean(0).abs().max() < 0.05


# ---- backgrounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [k.__name__ for k in backdrops.KINDS])
@pytest.mark.parametrize("side", [16, 33])
def test_every_kind_of_background_is_bounded_and_none_is_flat(kind, side, monkeypatch):
    monkeypatch.setattr(backdrops, "KINDS", (getattr(backdrops, kind),))
    x = backdrops.structured(30, side, generator())
    assert x.shape == (30, 3, side, side)
    assert x.abs().max() <= 1
    power = x.square().mean((1, 2, 3))
    assert power.min() > 0.03
    assert power.mean().item() == pytest.approx(1 / 3, abs=0.1)
    assert len({row.sum().item() for row in x}) > 25  # rows differ


def test_backgrounds_have_the_power_that_is_said_and_a_mean_of_grey():
    for make, power in ((backdrops.uniform, 1 / 3), (backdrops.structured, 0.29)):
        x = make(400, 32, generator())
        assert x.abs().max() <= 1
        assert x.square().mean().item() == pytest.approx(power, abs=0.02)
        assert x.mean().abs() < 0.02


def test_pixels_of_noise_are_independent_and_those_of_structure_are_not():
    for make, low, high in ((backdrops.uniform, -0.02, 0.02), (backdrops.structured, 0.6, 1.0)):
        x = make(100, 32, generator())
        near = (x[..., 1:] * x[..., :-1]).mean() / x.square().mean()
        assert low < near < high


def test_photographs_come_with_the_library_and_not_from_the_network(monkeypatch, tmp_path):
    from skimage.data import _fetchers

    class Offline:
        abspath = tmp_path  # a cache with nothing in it

        def fetch(self, name):
            raise AssertionError(f"{name} is not bundled")

    monkeypatch.setattr(_fetchers, "_image_fetcher", Offline())
    for name in backdrops.PHOTOGRAPHS:
        photo = backdrops._photograph.__wrapped__(name)
        assert photo.dtype == torch.float32
        assert len(photo) == 3
        assert min(photo.shape[1:]) >= 224  # the largest side that a picture can have
        assert photo.abs().max() <= 1
        assert photo.std() > 0.05
    assert not list(tmp_path.iterdir())
    backdrops._photograph.cache_clear()
    assert backdrops.photographs(12, 16, generator()).abs().max() <= 1


# ---- the problem as a whole -----------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "patch"), [(32, 4), (33, 5), (16, 16), (16, 64), (17, 1)])
def test_units_are_square_patches_with_all_channels(side, patch):
    groups = draw(side=side, size=8, patch=patch).groups
    assert groups.shape == (3, side, side)
    across = -(-side // patch)
    assert groups.unique().tolist() == list(range(across**2))
    assert (groups == groups[:1]).all()
    for unit in range(across**2):
        top, left = (patch * i for i in divmod(unit, across))
        where = groups[0] == unit
        assert where[top : top + patch, left : left + patch].all()
        assert where.sum() == min(patch, side - top) * min(patch, side - left)


@pytest.mark.parametrize("foreground", ["shapes", "digits"])
def test_same_seed_same_bits_and_no_other_source_of_random_numbers(foreground):
    given = {"background": "structured", "position": "random", "pixel_sd": 0.1, "foreground": foreground}
    found = []
    for outside in range(2):
        torch.manual_seed(outside)
        found.append(draw(**given))
    assert torch.equal(found[0].x, found[1].x)
    assert torch.equal(found[0].y, found[1].y)
    assert torch.equal(found[0].masks["foreground"], found[1].masks["foreground"])
    assert not torch.equal(draw(1, **given).x, found[0].x)


def test_rows_are_split_as_announced_and_the_background_is_of_train_rows():
    problem = draw(train=10, explained=4)
    assert (problem.n_train, problem.n_validation, problem.n_explained, len(problem.x)) == (10, 2, 4, 16)
    assert torch.equal(problem.background, problem.x[:10])
    assert draw(train=40).background.shape == (20, 3, 32, 32)
    assert len(draw(train=100, explained=3).x) == 100 + 15 + 15
    assert problem.x.abs().max() <= 1
    assert not problem.baseline.any()
    assert draw(pixel_sd=1.0).x.abs().max() > 1


def test_noise_is_added_to_every_pixel():
    still, noisy = draw(), draw(pixel_sd=0.5)  # drawn last, so that all else is the same
    added = noisy.x - still.x
    assert torch.equal(noisy.y, still.y)
    assert added.std().item() == pytest.approx(0.5, abs=0.01)
    assert added.mean().abs() < 0.01


def test_an_object_that_does_not_fit_is_refused():
    message = r"^size = 20 does not fit into side = 16; give a size of at most 16\.$"
    with pytest.raises(AssayError, match=message):
        draw(side=16, size=20)
