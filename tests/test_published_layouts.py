"""Folders in the published layout: read as they are, and refused in one sentence where they are broken."""

import csv
import hashlib
import os
import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from assay.benchmarks import cli
from assay.benchmarks.checks import failures
from assay.benchmarks.evaluation import run_unit
from assay.benchmarks.grid import plan
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import DATASETS, NotApplicable
from assay.benchmarks.registry import AssayError
from assay.benchmarks.suite import Suite
from assay.datasets.chaosmining_audio import chaosmining_audio
from assay.datasets.chaosmining_vision import chaosmining_vision

torch.set_num_threads(1)
load_plugins()
SIZES = {"train": 18, "val": 9}
KINDS = ["cat", "dog", "eel"]
SIDE, OBJECT = 16, 4
CHANNELS, TIME, RATE = 3, 50, 800
RB = ["file_name", "foreground_label", "position_x", "position_y"]
FEW = {"train": 12, "validation": 3, "test": 6, "explained": 4}
VISION = FEW | {"foreground": OBJECT, "patch": 4}


def write(folder, columns, rows):
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(columns)
        out.writerows([[row[column] for column in columns] for row in rows])


def pictured(root, condition="RBRP", labels=KINDS, background=False):
    """Pictures of a bright square whose three channels tell its class, on dark noise."""
    draw = np.random.default_rng(0)
    for split, n in SIZES.items():
        folder = root / condition / split
        folder.mkdir(parents=True)
        rows = []
        for i in range(n):
            pixels = draw.integers(0, 100, (SIDE, SIDE, 3), dtype=np.uint8)
            down, right = (8, 4) if condition[2] == "F" else draw.integers(0, SIDE - OBJECT + 1, 2).tolist()
            pixels[down : down + OBJECT, right : right + OBJECT] = 120
            pixels[down : down + OBJECT, right : right + OBJECT, i % 3] = 250
            Image.fromarray(pixels).save(folder / f"{i}.png")
            rows.append(dict(zip(RB, (f"{i}.png", labels[i % 3], down, right), strict=True)))
            rows[-1]["background_label"] = i % 5
        columns = [*RB[:2], "background_label", *RB[2:]] if background else RB
        write(folder, columns, rows)
    return root


def spoken(root, condition="RBRP", kind=np.int16):
    """Sounds whose class is the sign and size of one channel."""
    draw = np.random.default_rng(0)
    full = np.iinfo(kind).max if np.issubdtype(kind, np.integer) else 1
    for split, n in SIZES.items():
        rows = []
        for i in range(n):
            label = KINDS[i % 3]
            folder = root / condition / split / label
            folder.mkdir(parents=True, exist_ok=True)
            position = int(draw.integers(CHANNELS))
            sound = draw.uniform(-0.1, 0.1, (TIME, CHANNELS))
            sound[:, position] = 0.8 * (i % 3 - 1)
            wavfile.write(folder / f"{i}.wav", RATE, (sound * full).astype(kind))
            rows.append({"file_name": f"{label}/{i}.wav", "label": label, "position": position})
        write(root / condition / split, ["file_name", "label", "position"], rows)
    return root


@pytest.fixture
def pictures(tmp_path):
    return pictured(tmp_path / "pictures")


@pytest.fixture
def sounds(tmp_path):
    return spoken(tmp_path / "sounds")


def seen(path, seed=0, condition="RBRP", **parameters):
    return chaosmining_vision(
        torch.Generator().manual_seed(seed), path=path, condition=condition, **VISION | parameters
    )


def heard(path, seed=0, condition="RBRP", **parameters):
    return chaosmining_audio(
        torch.Generator().manual_seed(seed), path=path, condition=condition, **FEW | parameters
    )


def files(folder):
    """Every picture of a split in the units of features, with its line of the metadata."""
    with (folder / "metadata.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            pixels = np.asarray(Image.open(folder / row["file_name"]), dtype=np.float64)
            yield (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.5, row


# What is read


def test_every_row_is_a_file_of_its_split_with_its_label_and_box(pictures):
    problem = seen(pictures)
    assert problem.x.shape == (21, 3, SIDE, SIDE)
    assert (problem.n_train, problem.n_validation, problem.n_explained) == (12, 3, 4)
    found = []
    for i, x in enumerate(problem.x.double().numpy()):
        split = "train" if i < 15 else "val"
        (row,) = [
            row for pixels, row in files(pictures / "RBRP" / split) if np.allclose(pixels, x, atol=1e-6)
        ]
        found.append((split, row["file_name"]))
        assert KINDS[problem.y[i]] == row["foreground_label"]
        if i in range(15, 19):
            box = np.zeros((SIDE, SIDE), dtype=bool)
            down, right = int(row["position_x"]), int(row["position_y"])  # x is the row
            box[down : down + OBJECT, right : right + OBJECT] = True
            assert (problem.masks["relevant"][i - 15].numpy() == box).all()
    assert len(set(found)) == 21
    assert problem.x.abs().max() <= 1
    assert problem.masks["relevant"].shape == (4, 3, SIDE, SIDE)


def test_classes_come_in_turn_in_every_part(pictures):
    for seed in range(5):
        problem = seen(pictures, seed, explained=3)
        for part in (problem.train, problem.validation, problem.test, problem.explained):
            counts = torch.bincount(problem.y[part], minlength=3)
            assert counts.eq(counts[0]).all()
        assert problem.facts["chance"] == pytest.approx(1 / 3)


def test_the_seed_alone_decides(pictures):
    first, again, other = seen(pictures), seen(pictures), seen(pictures, 1)
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.y, again.y)
    assert not torch.equal(first.x, other.x)


def test_only_the_rows_asked_for_are_opened(pictures):
    wanted = seen(pictures)
    opened = []
    for split in SIZES:
        for pixels, row in files(pictures / "RBRP" / split):
            if not any(np.allclose(pixels, x, atol=1e-6) for x in wanted.x.double().numpy()):
                opened.append(pictures / "RBRP" / split / row["file_name"])
    assert len(opened) == 27 - 21
    for file in opened:
        file.unlink()
    assert torch.equal(seen(pictures).x, wanted.x)


def test_structured_backgrounds_and_fixed_places_have_their_own_folders(tmp_path):
    pictured(tmp_path, "SBFP", background=True)
    assert seen(tmp_path, condition="SBFP").x.shape == (21, 3, SIDE, SIDE)


def test_whole_number_labels_are_sorted_as_numbers(tmp_path):
    problem = seen(pictured(tmp_path, labels=["10", "9", "2"]))
    assert problem.facts["classes"] == "2, 9, 10"
    colour = problem.x[problem.explained][0][:, problem.masks["relevant"][0, 0]].mean(1).argmax().item()
    assert [2, 1, 0][colour] == problem.y[problem.explained][0]  # channel 0 is of "10", the last


def test_the_facts_tell_which_version_was_read(pictures):
    lists = [(pictures / "RBRP" / split / "metadata.csv").read_bytes() for split in ("train", "val")]
    facts = seen(pictures).facts
    assert facts["sha256"] == hashlib.sha256(b"".join(lists)).hexdigest()
    assert facts["snr_db"] == "unknown"


def test_units_are_square_patches_of_all_channels(pictures):
    groups = seen(pictures, patch=5).groups
    assert groups.shape == (3, SIDE, SIDE)
    assert (groups[0] == groups[2]).all()
    assert len(groups.unique()) == 16  # 5 + 5 + 5 + 1 each way
    assert (groups[0] == groups[0, 6, 11]).nonzero().aminmax(dim=0).max.tolist() == [9, 14]


@pytest.mark.parametrize("side", [8, 6, 32])
def test_resized_pictures_keep_all_of_the_foreground_inside_the_mask(pictures, side):
    problem = seen(pictures, side=side)
    assert problem.x.shape == (21, 3, side, side)
    bright = problem.x[problem.explained].amax(1) > 2 * 100 / 255 - 1 + 0.02  # no background is as bright
    relevant = problem.masks["relevant"][:, 0]
    assert not (bright & ~relevant).any()
    size = relevant.sum((1, 2)).double().sqrt() / side * SIDE
    assert (size >= OBJECT).all()
    assert (size <= OBJECT + 2 * max(1, SIDE / side)).all()
    if side == 32:
        assert torch.equal(problem.x[:, :, ::2, ::2], seen(pictures).x)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32, np.float64])
def test_sounds_in_every_format(tmp_path, kind):
    problem = heard(spoken(tmp_path, kind=kind))
    assert problem.x.shape == (21, CHANNELS, TIME)
    assert problem.x.dtype == torch.float32
    relevant = problem.masks["relevant"]
    assert relevant.shape == (4, CHANNELS, TIME)
    assert relevant.sum(2).sort(1).values.eq(torch.tensor([0, 0, TIME])).all()
    words = problem.x[problem.explained][relevant].view(4, TIME)
    expected = (problem.y[problem.explained] - 1) * 0.8
    assert (words - expected[:, None]).abs().max() < 1e-3
    assert problem.x[problem.explained][~relevant].abs().max() <= 0.1
    assert problem.groups[:, 0].tolist() == [0, 1, 2]
    assert (problem.groups == problem.groups[:, :1]).all()
    assert problem.facts["rate"] == RATE
    assert problem.facts["classes"] == "cat, dog, eel"


def test_the_seed_alone_decides_which_sounds(sounds):
    assert torch.equal(heard(sounds).x, heard(sounds).x)
    assert not torch.equal(heard(sounds).x, heard(sounds, 1).x)


# From the folder to the table


@pytest.mark.parametrize(
    ("text", "make"),
    [
        ("chaosmining_vision[path='{}',condition=RBFP,train=12,validation=3,test=6,explained=4,"
         "foreground=4,patch=4]", pictured),
        ("chaosmining_audio[path='{}',condition=RBRP,train=12,validation=3,test=6,explained=4]", spoken),
    ],
)  # fmt: skip
def test_a_unit_runs_end_to_end(tmp_path, text, make):
    make(tmp_path, "RBFP" if "RBFP" in text else "RBRP")
    block = {
        "dataset": [text.format(tmp_path)],
        "model": ["linear"],
        "method": ["random", "saliency", "feature_ablation"],
        "metric": ["attribution_mass", "box_iou"],
    }
    cells = plan(Suite.model_validate({"name": "toy", "seeds": 1, "grid": [block]}))
    records = [record for unit, some in cells.items() for record in run_unit(unit, some)]
    scores = {(r.row["method"], r.row["metric"]): r.row for r in records if r.table == "scores"}
    assert len(scores) == 6
    assert {row["status"] for row in scores.values()} <= {"ok", "trivial", "undefined", "unlearned"}
    best, chance = (scores[method, "attribution_mass"]["value"] for method in ("feature_ablation", "random"))
    assert best > chance + 0.05
    (model,) = [r.row for r in records if r.table == "models"]
    assert model["rows"] == 6


def test_the_command_line_runs_it_and_skips_it_without_a_path(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = "train=12,validation=3,test=6,explained=4,foreground=4,patch=4,condition=RBRP"
    for dataset in (f"chaosmining_vision[path=pictures,{small}]", "chaosmining_vision"):
        words = ["run", "smoke", "--dataset", dataset, "--model", "linear", "--method", "saliency"]
        out = tmp_path / f"out{len(dataset)}"
        monkeypatch.setattr(sys, "argv", ["assay", *words, "--jobs", "1", "--seeds", "1", "--out", str(out)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        text = capsys.readouterr()
        scores = pd.read_csv(out / "scores.csv")
        if "path" in dataset:
            assert stop.value.code == 0, text.err
            assert {"ok", "unlearned"} & set(scores["status"])
        else:
            assert set(scores["status"]) == {"skipped"}
            assert scores["reason"].str.contains("needs path").all()


# What is refused


def test_without_a_path_it_does_not_apply():
    for function in (chaosmining_vision, chaosmining_audio):
        with pytest.raises(NotApplicable, match=r"^needs path, the folder of the published data set"):
            function(torch.Generator().manual_seed(0))


def test_the_checks_say_that_they_do_not_apply_and_do_not_fail():
    for name in ("chaosmining_vision", "chaosmining_audio"):
        found = dict(failures(DATASETS[name]))
        assert not any(found.values())
        assert sum(": not applicable: needs path" in check for check in found) == 5
    assert not any("not applicable" in check for check, _ in failures(DATASETS["symbolic"]))


def edit(root, change, split="train", condition="RBRP"):
    """Put changed text into a metadata.csv."""
    file = root / condition / split / "metadata.csv"
    file.write_text(change(file.read_text()), encoding="utf-8")


def first_line(column, value):
    """The change that puts this value into the first row."""

    def change(text):
        lines = text.splitlines()
        cells = lines[1].split(",")
        cells[lines[0].split(",").index(column)] = value
        return "\n".join([lines[0], ",".join(cells), *lines[2:]])

    return change


ALL = {"train": 15, "validation": 3, "test": 9}  # every row is drawn, so every mistake is met

LISTS = [
    (lambda text: text.replace("position_x", "position"), "has 0 columns 'position_x', and must have one"),
    (lambda text: text.replace("position_y", "position_x"), "has 2 columns 'position_x', and must have one"),
    (lambda text: text.replace("\n", ",1\n").replace("_y,1", "_y,size"), "has a column 'size' that is not"),
    (lambda _: "", "has 0 columns 'file_name'"),
    (lambda text: text.splitlines()[0] + "\n", "lists no row; complete the folder"),
    (lambda text: text.replace("1.png,", "1.png,,", 1), "it has 5 values and the header 4; give as many"),
    (lambda text: text.replace("cat", "", 1), "line 2: foreground_label is empty; fill it in"),
    (lambda text: text.replace("dog", "cat").replace("eel", "cat"), "is 'cat' in every line; list at least"),
    (lambda text: text.replace("cat", '"cat', 1), "is no CSV in UTF-8"),
    (first_line("position_x", "-1"), "line 2: position_x is '-1', and must be a whole number of 0 or more"),
    (first_line("position_y", "1.5"), "line 2: position_y is '1.5', and must be a whole number"),
    (first_line("position_x", "13"), "line 2: position_x is 13, and a foreground of 4 pixels there leaves"),
    (first_line("position_y", "13"), "line 2: position_y is 13, and a foreground of 4 pixels there leaves"),
    (first_line("file_name", "99.png"), "line 2: the file '99.png' is not there; complete the folder"),
    (first_line("file_name", "../val/0.png"), "line 2: file_name '../val/0.png' leaves the folder"),
    (first_line("file_name", "sub/../0.png"), "line 2: file_name 'sub/../0.png' leaves the folder"),
    (first_line("file_name", "/etc/hostname"), "line 2: file_name '/etc/hostname' leaves the folder"),
    (first_line("file_name", "x" * 5000), "is not there; complete the folder or drop the line"),
    (first_line("file_name", "a\0b"), "is not there; complete the folder or drop the line"),
]  # fmt: skip


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize(("change", "said"), LISTS, ids=lambda v: v[:50] if isinstance(v, str) else "")
def test_a_broken_list_is_refused_in_one_sentence(pictures, change, said):
    edit(pictures, change)
    with pytest.raises(AssayError, match=re.escape(said)) as error:
        seen(pictures, **ALL)
    assert "metadata.csv'" in one_sentence(error)


def test_a_list_that_is_no_text_is_refused(pictures):
    (pictures / "RBRP" / "val" / "metadata.csv").write_bytes(b"file_name\xff\xfe")
    with pytest.raises(AssayError, match=r"val/metadata\.csv' is no CSV in UTF-8"):
        seen(pictures)


def test_a_label_that_only_val_has_is_refused(pictures):
    edit(pictures, lambda text: text.replace("eel", "yak", 1), "val")
    with pytest.raises(
        AssayError, match=r"line 4: foreground_label 'yak' is in no line of '.*train/met"
    ) as error:
        seen(pictures)
    one_sentence(error)


def test_a_column_of_another_condition_is_refused(tmp_path):
    pictured(tmp_path, "RBFP", background=True)
    pictured(tmp_path, "SBFP")
    with pytest.raises(AssayError, match=r"has a column 'background_label' that is not of this condition"):
        seen(tmp_path, condition="RBFP")
    with pytest.raises(AssayError, match=r"has 0 columns 'background_label', and must have one"):
        seen(tmp_path, condition="SBFP")


def test_missing_folders_and_lists_are_named(pictures, tmp_path):
    for path, condition in ((tmp_path / "nowhere", "RBRP"), (pictures, "SBFP")):
        with pytest.raises(
            AssayError, match=rf"has no folder '{condition}'; give the folder of the pub"
        ) as error:
            seen(path, condition=condition)
        one_sentence(error)
    (pictures / "RBRP" / "val" / "metadata.csv").unlink()
    with pytest.raises(AssayError, match=r"val/metadata\.csv' cannot be read \(No such file") as error:
        seen(pictures)
    one_sentence(error)


def test_a_link_that_leads_out_is_refused_and_one_that_stays_in_is_read(pictures, tmp_path):
    file = pictures / "RBRP" / "train" / "0.png"
    kept = file.rename(file.with_name("kept.png"))
    file.symlink_to("kept.png")
    assert seen(pictures, **ALL).x.shape[0] == 27
    file.unlink()
    kept.rename(tmp_path / "kept.png")
    file.symlink_to(tmp_path / "kept.png")
    with pytest.raises(AssayError, match=r"line 2: file_name '0\.png' leaves the folder.* no link out"):
        seen(pictures, **ALL)


def test_names_with_dots_and_links_to_the_whole_folder_are_fine(pictures, tmp_path):
    folder = pictures / "RBRP" / "train"
    (folder / "0.png").rename(folder / "a..b.png")
    edit(pictures, first_line("file_name", "a..b.png"))
    (tmp_path / "link").symlink_to(pictures)
    assert torch.equal(seen(tmp_path / "link", **ALL).x, seen(pictures, **ALL).x)


def test_home_is_expanded(pictures, monkeypatch):
    monkeypatch.setitem(os.environ, "HOME", str(pictures.parent))
    assert torch.equal(seen(type(pictures)("~/pictures")).x, seen(pictures).x)


@pytest.mark.parametrize(
    "broken",
    [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(100), None],
    ids=["empty", "text", "header", "cut"],
)
def test_an_unreadable_picture_is_refused(pictures, broken):
    file = pictures / "RBRP" / "val" / "3.png"
    file.write_bytes(file.read_bytes()[:300] if broken is None else broken)
    with pytest.raises(
        AssayError, match=r"^picture '.*val/3\.png' cannot be read \(.*\); replace the fi"
    ) as error:
        seen(pictures, **ALL)
    one_sentence(error)


def test_pictures_of_two_sizes_are_refused(pictures):
    Image.new("RGB", (SIDE, SIDE + 1)).save(pictures / "RBRP" / "val" / "3.png")
    for side in (0, 8):
        with pytest.raises(
            AssayError, match=r"val/3\.png' is 17 pixels high and 16 wide, and others are 16 and"
        ):
            seen(pictures, side=side, **ALL)


def test_more_rows_than_there_are_is_refused(pictures, sounds):
    for draw, root in ((seen, pictures), (heard, sounds)):
        with pytest.raises(
            AssayError, match=r"^train \+ validation = 19 rows is more than the 18 that '.*train"
        ):
            draw(root, train=16)
        with pytest.raises(AssayError, match=r"^test = 10 rows is more than the 9 that '.*val/metadata"):
            draw(root, test=10)
        with pytest.raises(
            AssayError, match=r"^explained = 7 is more than test = 6; explain fewer or test more"
        ):
            draw(root, explained=7)
        with pytest.raises(
            AssayError, match=r"^train = 2 is fewer than the 3 classes of '.*ask for at least 3"
        ):
            draw(root, train=2)


def clip(shape=(TIME, CHANNELS), kind=np.int16, rate=RATE, value=0):
    return rate, np.full(shape, value, dtype=kind)


CLIPS = [
    (clip((TIME - 1, CHANNELS)), "has 3 channels of 49 samples at 800 Hz, and others have 3 of 50 at 800 Hz"),
    (clip((TIME, CHANNELS - 1)), "has 2 channels of 50 samples at 800 Hz, and others have 3 of 50"),
    (clip((TIME,)), "has 1 channels of 50 samples"),
    (clip(rate=400), "has 3 channels of 50 samples at 400 Hz, and others have 3 of 50 at 800 Hz"),
    (clip(kind=np.float32, value=1.5), "has values that are not within -1 and 1; scale it"),
    (clip(kind=np.float32, value=np.nan), "has values that are not within -1 and 1; scale it"),
    (clip(kind=np.uint8), "holds 150 numbers of type uint8; give some, of type int16, int32, float32"),
]


@pytest.mark.parametrize(("sound", "said"), CLIPS, ids=[said[:40] for _, said in CLIPS])
def test_a_sound_unlike_the_others_is_refused(sounds, sound, said):
    wavfile.write(sounds / "RBRP" / "val" / "cat" / "3.wav", *sound)
    with pytest.raises(AssayError, match=rf"^sound '.*val/cat/3\.wav' {re.escape(said)}") as error:
        heard(sounds, **ALL)
    one_sentence(error)


@pytest.mark.parametrize("broken", [b"", b"no sound", None], ids=["empty", "text", "cut"])
def test_an_unreadable_sound_is_refused(sounds, broken):
    file = sounds / "RBRP" / "val" / "cat" / "3.wav"
    file.write_bytes(file.read_bytes()[:30] if broken is None else broken)
    with pytest.raises(
        AssayError, match=r"^sound '.*val/cat/3\.wav' cannot be read \(.*\); replace the file"
    ):
        heard(sounds, **ALL)


def test_sounds_of_one_channel_are_refused(sounds):
    for file in sounds.rglob("*.wav"):
        wavfile.write(file, *clip((TIME,)))
    with pytest.raises(
        AssayError, match=r"has one channel, so that none is irrelevant; give sounds of at least"
    ):
        heard(sounds)


def test_a_channel_that_is_not_there_is_refused(sounds):
    edit(sounds, first_line("position", "3"))
    with pytest.raises(
        AssayError, match=r"line 2: position is 3, and the channels are 0 to 2; mend it"
    ) as error:
        heard(sounds, **ALL)
    one_sentence(error)
    edit(sounds, first_line("file_name", "cat/none.wav"))
    with pytest.raises(AssayError, match=r"line 2: the file 'cat/none\.wav' is not there"):
        heard(sounds, **ALL)
