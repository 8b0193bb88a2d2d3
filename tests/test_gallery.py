"""Pictures of what methods saw: kept with the cells, drawn at the end, of no weight on any number."""

import itertools
import json
import re
import sys
from types import MappingProxyType

import numpy as np
import pytest
import torch
from PIL import Image

from assay.benchmarks import cli, gallery, page, thumbnails
from assay.benchmarks.problem import Problem
from assay.benchmarks.registry import AssayError
from assay.benchmarks.store import Ledger
from assay.benchmarks.thumbnails import decode, encode

VISION = "vision[train=60,explained=4,side=16,size=8,patch=4]"
AUDIO = "audio[train=40,explained=2,test=20,validation=20,classes=3,seconds=0.4,channels=3]"
METHODS = ("saliency", "random", "edge_detector")
MASS = ("--metric", "attribution_mass", "--jobs", "0")


@pytest.fixture(scope="module")
def assay():
    """The command line, in this process."""

    def call(*words):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["assay", *map(str, words)])
            with pytest.raises(SystemExit) as stop:
                cli.main()
        assert stop.value.code == 0

    return call


@pytest.fixture(scope="module")
def run(assay, tmp_path_factory):
    """The folder of a run of `linear` on a dataset with these methods."""

    def finished(dataset, methods=METHODS, *words, folder=None):
        folder = folder or tmp_path_factory.mktemp("results") / "run"
        chosen = [word for method in methods for word in ("--method", method)]
        given = ["--dataset", dataset, "--model", "linear", *chosen, *MASS, "--out", folder, *words]
        assay("run", "smoke", *given)
        return folder

    return finished


@pytest.fixture(scope="module")
def vision(run):
    return run(VISION, METHODS, "--seeds", "2")


def table(folder, name):
    ledger = Ledger(folder)
    try:
        return ledger.table(name)
    finally:
        ledger.close()


# ---------------------------------------------------------------- what is kept


@pytest.mark.parametrize("shape", [(1,), (2, 3, 4), (3, 1, 5, 5)])
def test_numbers_come_back_within_half_a_step(shape):
    values = np.random.default_rng(0).random(shape)
    found = decode(encode(values))
    assert found.shape == shape
    assert np.abs(found - values).max() <= 0.5 / 255 + 1e-12


def test_the_ends_come_back_as_they_were_and_what_lies_beyond_is_cut():
    assert decode(encode(np.array([-1.0, 0.0, 1.0, 7.0]))).tolist() == [0, 0, 1, 1]


def problem(x, y, mask, task="classification"):
    """All of whose rows after the first are explained."""
    rows = len(x) - 1
    return Problem(
        x=x,
        y=y,
        task=task,
        n_train=1,
        n_validation=0,
        n_explained=rows,
        baseline=torch.zeros(x.shape[1:]),
        background=x[:1],
        masks={"relevant": mask},
    )


def pictures(n=6, side=8, channels=3):
    mask = torch.zeros(1, channels, side, side, dtype=torch.bool)
    mask[:, 0, 1:3, 2:7] = True
    x = torch.linspace(-1, 1, (n + 1) * channels * side * side).reshape(n + 1, channels, side, side)
    return problem(x, torch.arange(n + 1) % 2, mask)


def says(labels):
    return torch.nn.functional.one_hot(torch.tensor(labels), 2).float()


@pytest.mark.parametrize(
    ("said", "rows"),
    [
        ([1, 0, 1, 0, 1, 0], [0, 1, 2]),  # all right
        ([0, 1, 1, 0, 1, 1], [2, 3, 0]),  # two right ones, then the first wrong one
        ([0, 1, 0, 0, 0, 1], [3, 0, 1]),  # but one is right
        ([0, 1, 0, 1, 0, 1], [0, 1, 2]),  # all wrong
    ],
)
def test_rows_that_the_model_gets_right_come_first_and_a_wrong_one_is_among_them(said, rows):
    kept = thumbnails.thumbnails(pictures(), says(said))
    assert kept.rows.tolist() == rows
    assert json.loads(kept.about["labels"]) == [(row + 1) % 2 for row in rows]
    assert json.loads(kept.about["predictions"]) == [said[row] for row in rows]


def test_a_regression_shows_its_first_rows_and_its_numbers():
    given = pictures()
    given = problem(given.x, torch.arange(7) / 4, given.masks["relevant"], "regression")
    kept = thumbnails.thumbnails(given, torch.full((6, 1), 0.5))
    assert kept.rows.tolist() == [0, 1, 2]
    assert json.loads(kept.about["labels"]) == [0.25, 0.5, 0.75]
    assert json.loads(kept.about["predictions"]) == [0.5] * 3


def test_fewer_rows_than_are_kept_are_all_shown():
    assert thumbnails.thumbnails(pictures(n=2), says([1, 1])).rows.tolist() == [0, 1]


def test_a_table_has_no_picture():
    given = problem(torch.zeros(7, 5), torch.zeros(7).long(), torch.ones(1, 5, dtype=torch.bool))
    assert thumbnails.thumbnails(given, says([0] * 6)) is None


def test_inputs_and_mask_are_those_of_the_rows():
    given = pictures()
    kept = thumbnails.thumbnails(given, says([0, 1, 1, 0, 1, 1]))
    assert np.allclose(2 * decode(kept.about["inputs"]) - 1, given.x[1:][[2, 3, 0]], atol=1 / 255)
    expected = given.masks["relevant"].any(1).expand(3, -1, -1)
    assert (decode(kept.about["relevant"]) > 0.5).tolist() == expected.tolist()


def test_a_map_adds_up_sizes_over_channels_and_is_a_share_of_the_rows_largest():
    kept = thumbnails.thumbnails(pictures(), says([1, 0, 1, 0, 1, 0]))
    values = torch.zeros(6, 3, 8, 8)
    values[0, :, 4, 5] = torch.tensor([2.0, -1.0, 1.0])  # sizes come to 4, signed values to 2
    values[0, 0, 0, 0] = -1.0
    found = decode(kept.maps(values)) ** 2
    assert found.shape == (3, 8, 8)
    assert found[0, 4, 5] == 1
    assert found[0, 0, 0] == pytest.approx(0.25, abs=0.005)
    assert np.count_nonzero(found) == 2  # rows that are zero stay so


def test_a_large_picture_is_kept_in_means_over_areas_and_its_box_is_not_lost():
    given = pictures(side=128)
    kept = thumbnails.thumbnails(given, says([1, 0, 1, 0, 1, 0]))
    values = torch.zeros(6, 3, 128, 128)
    values[:, 0, :2, :2], values[:, 0, 10, 10] = 1, 2  # means over 2 x 2 of 1 and of a half
    found = decode(kept.maps(values)) ** 2
    assert found.shape == (3, 64, 64)
    assert found[0, 0, 0] == 1
    assert found[0, 5, 5] == pytest.approx(0.5, abs=0.005)
    box = np.argwhere(decode(kept.about["relevant"])[0] > 0)  # of pixels 1 to 2 and 2 to 6
    assert (box.min(0).tolist(), box.max(0).tolist()) == ([0, 1], [1, 3])


def test_sound_keeps_its_channels_and_is_shown_as_how_loud_it_is():
    mask = torch.zeros(6, 4, 250, dtype=torch.bool)
    mask[:, 2] = True
    x = torch.zeros(7, 4, 250)
    x[:, 1], x[:, 2] = 0.25, -0.5
    kept = thumbnails.thumbnails(problem(x, torch.arange(7) % 2, mask), says([1, 0, 1, 0, 1, 0]))
    assert decode(kept.about["inputs"]).shape == (3, 4, 100)
    assert decode(kept.about["inputs"])[0, :, 50] == pytest.approx([0, 0.5, 1, 0], abs=0.005)
    assert (decode(kept.about["relevant"]) > 0)[0].all(1).tolist() == [False, False, True, False]
    assert decode(kept.maps(mask.float()))[0, :, 3].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("channels", [1, 2])
def test_other_channels_than_red_green_and_blue_are_shown_in_grey(channels):
    kept = thumbnails.thumbnails(pictures(channels=channels), says([1, 0, 1, 0, 1, 0]))
    assert decode(kept.about["inputs"]).shape == (3, 1, 8, 8)


# ---------------------------------------------------------------- runs


def test_a_run_on_pictures_draws_them(vision):
    with Image.open(vision / "gallery.png") as image:
        assert image.size[0] == page.WIDTH == 1200
        assert 200 < image.size[1] < 1200


def test_only_the_first_seed_is_kept_and_nothing_of_it_is_exported(vision):
    pictures, maps = table(vision, "pictures"), table(vision, "maps")
    assert pictures["seed"].tolist() == [0]
    assert maps["method"].tolist() == list(METHODS)
    assert maps["control"].tolist() == [0, 1, 1]
    assert not {"pictures.csv", "maps.csv"} & {path.name for path in vision.iterdir()}


def test_scores_are_the_same_to_the_bit_as_without(vision, run, monkeypatch):
    monkeypatch.setattr("assay.benchmarks.scoring.thumbnails", lambda *_: None)
    without = run(VISION, METHODS, "--seeds", "2")
    assert not (without / "gallery.png").exists()
    for name in ("scores.csv", "models.csv", "problems.csv"):
        assert (without / name).read_bytes() == (vision / name).read_bytes()


def test_a_run_that_goes_on_keeps_the_pictures(vision, run):
    resumed = run(VISION, METHODS[:1], "--seeds", "2")
    first = table(resumed, "maps")
    run(VISION, METHODS, "--seeds", "2", folder=resumed)
    assert table(resumed, "maps")["map"][0] == first["map"][0]
    for name in ("pictures", "maps"):
        assert table(resumed, name).equals(table(vision, name))
    assert (resumed / "gallery.png").read_bytes() == (vision / "gallery.png").read_bytes()


def test_the_same_ledger_gives_the_same_bytes(vision, assay, capsys):
    before = (vision / "gallery.png").read_bytes()
    (vision / "gallery.png").unlink()
    assay("report", vision)
    assert f"{vision / 'gallery.png'}" in capsys.readouterr().out
    assert (vision / "gallery.png").read_bytes() == before


def test_a_run_of_tables_draws_none_and_says_nothing_of_it(run, capsys):
    folder = run("symbolic[rows=200,explained=4]", ("saliency", "random"), "--seeds", "1")
    assert not (folder / "gallery.png").exists()
    assert "gallery" not in capsys.readouterr().out
    (folder / "gallery.png").write_bytes(b"of a former plan")
    assert gallery.write(folder) is None
    assert not (folder / "gallery.png").exists()


def test_a_run_on_sound_draws_it(run):
    folder = run(AUDIO, ("saliency", "random"), "--seeds", "1")
    assert decode(table(folder, "maps")["map"][0]).shape == (2, 3, 100)
    with Image.open(folder / "gallery.png") as image:
        assert image.size[0] == page.WIDTH


# ---------------------------------------------------------------- the page

BOX = np.zeros((3, 16, 16))
BOX[:, 4:12, 6:10] = 1


def made(
    folder, maps, conditions=1, models=None, classes="cross, disc", elsewhere=MappingProxyType({}), **given
):
    """A ledger with these maps, and nothing else that a run would have but scores of a table, `elsewhere`."""
    ledger, plan = Ledger(folder), []

    def put(name, **row):
        plan.append((f"{name} {len(plan)}", name))
        ledger.write(name, plan[-1][0], row)

    for i, (model, quality) in itertools.product(range(conditions), (models or {"m": 0.5}).items()):
        where = {"dataset": "d", "parameters": "p", "noise": f"sd={i}", "model": model, "seed": 0}
        kept = {"labels": "[0, 1, 1]", "predictions": "[0, 1, 0]"} | given
        put("pictures", **where, inputs=encode(np.zeros((3, 3, 16, 16))), relevant=encode(BOX), **kept)
        put("models", **where, quality=quality, accuracy=quality, learned=1)
        put("problems", **where, facts=json.dumps({"classes": classes}))
        for name, (values, control, skill) in maps.items():
            put("maps", **where, method=name, map=encode(values), control=control)
            put("scores", **where, method=name, metric="box_iou", skill=skill, status="ok")
            table = where | {"dataset": "a table", "method": name, "metric": "reliance_error", "status": "ok"}
            put("scores", **table, skill=elsewhere.get(name, 0.0))
    ledger.set_plan(plan)
    ledger.close()
    return folder


def drawn(folder, monkeypatch, **given):
    """What is handed to the page."""
    found = []
    monkeypatch.setattr(gallery, "draw", lambda path, *rest: found.append(rest) or path.touch())
    gallery.write(folder, **given)
    return found[0]


def cells(path, columns, row, top):
    """The pixels of a row's cells."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L")).astype(float)
    y = top + row * (columns.cell + page.GAP)
    count = len(columns.methods) + 1
    return [pixels[y : y + columns.cell, x : x + columns.cell] for x in map(columns.left, range(count))]


def test_what_a_table_says_of_a_method_does_not_order_the_pictures(tmp_path, monkeypatch):
    maps = {"first": (BOX, 0, 0.6), "second": (BOX, 0, 0.5)}
    folder = made(tmp_path / "r", maps, elsewhere={"first": -1.0, "second": 1.0})
    (_, note), _, columns = drawn(folder, monkeypatch)
    assert columns.methods == ["first", "second"]
    assert "Methods by mean skill in box_iou, best first." in note


def test_a_map_that_is_the_mask_is_bright_in_the_box_and_black_elsewhere(tmp_path):
    folder = made(tmp_path / "r", {"true": (BOX, 0, 1.0), "false": (1 - BOX, 0, 0.0)})
    columns = page.Columns(["true", "false"], 0)
    top = page.TOP + 4 * page.LINE + columns.head
    _, true, false = cells(gallery.write(folder), columns, 2, top)
    inside, outside = (slice(40, 90), slice(55, 75)), (slice(None), slice(0, 40))  # of cells of 130 pixels
    assert columns.cell == 130
    assert true[inside].min() > 200
    assert true[outside].max() < 20
    assert false[inside].max() < 20
    assert false[outside].min() > 200
    edge = true[:, 45:52].min(0)  # the box begins at 6 / 16 of the width
    assert edge.max() < 200


def test_the_outline_runs_around_the_box():
    lines = page.outline(BOX[0] > 0)
    assert len(lines) == 2 * (8 + 4)
    assert (lines.min((0, 1)).tolist(), lines.max((0, 1)).tolist()) == ([6, 4], [10, 12])
    assert len(page.outline(np.ones((2, 3), dtype=bool))) == 2 * (2 + 3)


def test_the_brightest_hundredth_is_cut_and_a_map_of_nothing_is_black():
    values = np.ones((10, 100))
    values[0, :5] = 1000
    assert page._exposed(values).min() == 1
    assert not page._exposed(np.zeros((4, 4))).any()
    alone = np.zeros((100, 100))
    alone[3, 3] = 0.2
    assert page._exposed(alone)[3, 3] == 1


def test_methods_stand_best_first_and_controls_last(tmp_path, monkeypatch):
    maps = {"random": (BOX, 1, 0.9), "bad": (BOX, 0, -0.1), "unranked": (BOX, 0, None), "good": (BOX, 0, 0.8)}
    (_, note), _, columns = drawn(made(tmp_path / "r", maps), monkeypatch)
    assert columns == page.Columns(["good", "bad", "unranked", "random"], 1)
    assert "Methods by mean skill in box_iou, best first." in note


def test_of_many_methods_the_best_are_shown_and_two_controls(tmp_path, monkeypatch):
    maps = {f"m{i}": (BOX, 0, i / 30) for i in range(30)}
    maps |= {name: (BOX, 1, 0.0) for name in ("random", "constant", "edge_detector[x=1]")}
    (_, note), _, columns = drawn(made(tmp_path / "r", maps), monkeypatch)
    assert columns.methods == [*(f"m{i}" for i in range(29, 13, -1)), "random", "edge_detector[x=1]"]
    assert "The best 16 of 30 methods" in note
    assert columns.left(18) + columns.cell <= page.WIDTH - page.MARGIN


def test_what_is_left_out_is_said(tmp_path, monkeypatch):
    (title, _), blocks, _ = drawn(made(tmp_path / "r", {"a": (BOX, 0, 1.0)}, conditions=18), monkeypatch)
    assert len(blocks) == 16
    assert "the first 16 of 18 conditions" in title


def test_the_best_model_is_shown_or_the_one_that_is_asked_for(tmp_path, monkeypatch):
    folder = made(tmp_path / "r", {"a": (BOX, 0, 1.0)}, models={"weak": 0.2, "strong": 0.9, "lost": None})
    assert drawn(folder, monkeypatch)[1][0].title == "d   sd=0   strong, accuracy 90%"
    assert "weak, accuracy 20%" in drawn(folder, monkeypatch, model="weak")[1][0].title
    with pytest.raises(AssayError, match="no pictures are kept of model 'wek'"):
        gallery.write(folder, model="wek")


def test_captions_name_classes_and_tell_right_from_wrong(tmp_path, monkeypatch):
    folder = made(tmp_path / "r", {"a": (BOX, 0, 1.0)}, classes="cross, a very long name")
    captions = drawn(folder, monkeypatch)[1][0].captions
    assert [text for text, _ in captions] == [
        "is cross\nmodel: cross",
        "is a very lo…\nmodel: a very lo…",
        "is a very lo…\nmodel: cross",
    ]
    assert [colour for _, colour in captions] == [page.RIGHT, page.RIGHT, page.WRONG]


def test_classes_without_names_are_numbers_and_targets_stay_targets(tmp_path, monkeypatch):
    numbers = drawn(made(tmp_path / "a", {"a": (BOX, 0, 1.0)}, classes=""), monkeypatch)[1][0]
    assert numbers.captions[2][0] == "is 1\nmodel: 0"
    given = {"labels": "[0.5, 1.0, 2.0]", "predictions": "[0.25, 1.0, 2.0]"}
    targets = drawn(made(tmp_path / "b", {"a": (BOX, 0, 1.0)}, **given), monkeypatch)[1][0]
    assert targets.captions[0] == ("is 0.5\nmodel: 0.25", page.QUIET)


def test_names_that_no_font_has_and_signs_of_formulas_do_not_stop_it(tmp_path):
    maps = {"rise[file=$a_1$]": (BOX, 0, 1.0), "x" * 60: (BOX, 0, None)}
    assert gallery.write(made(tmp_path / "r", maps, classes="漢字, $\\frac$")).is_file()


@pytest.mark.parametrize(
    "name", ["rise", "guided_grad_cam", "rise[budget=40,grid=7]", "_x__y", "a[b=[1,2],c=d_e]"]
)
def test_names_are_broken_between_words_and_nothing_is_lost(name):
    lines = page.broken(name, 10).split("\n")
    assert "".join(lines) == name
    assert all(len(line) <= 10 or len(re.findall(r"[^_\[,]+", line)) <= 1 for line in lines)


def test_names_go_upwards_where_a_word_is_wider_than_its_map():
    assert not page.Columns(["deconvolution"] * 3, 0).turned
    assert page.Columns(["deconvolution"] * 18, 0).turned
