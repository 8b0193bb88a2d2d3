"""A results folder is taken when it is whole and as it was exported, and refused by name of what is wrong."""

import gzip
import json
import shutil
import sqlite3

import pandas as pd
import pytest

from assay.benchmarks import grid, loading, manifest, runner, vetting
from assay.benchmarks import leaderboard as lead
from assay.benchmarks.findings import load
from assay.benchmarks.registry import AssayError
from assay.benchmarks.store import Ledger
from assay.benchmarks.submit import COLUMNS, blank_board, escaped, submit
from assay.benchmarks.suite import Block, Suite

loading.load_plugins()
DATASET = "symbolic[function=9,columns=3,rows=100,explained=4]"
OURS = Suite(
    name="tiny",
    seeds=1,
    grid=[
        Block(
            dataset=[DATASET],
            model=["oracle"],
            method=["saliency", "random"],
            metric=["auroc", "average_precision", "spearman"],
        )
    ],
)
CELLS = 2 * 3 + 1  # methods by metrics, and one pair of methods


@pytest.fixture(autouse=True)
def ours(monkeypatch):
    """As if the tiny suite came with the package."""
    monkeypatch.setattr(vetting, "suite_names", lambda: ["other", "tiny"])
    monkeypatch.setattr(vetting, "load_suite", {"tiny": OURS}.__getitem__)


def run(suite, folder):
    plan = grid.plan(suite)
    ledger = Ledger(folder)
    made = manifest.begin(folder, suite, ["assay", "run", "tiny"], runner.Means(jobs=1))
    for _ in runner.run(plan, ledger):
        pass
    manifest.finish(folder, made)
    export(ledger)


def export(ledger):
    ledger.export()
    ledger.close()
    manifest.seal(ledger.folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(OURS, folder)
    return folder


@pytest.fixture
def results(whole, tmp_path):
    """A finished run, to be spoiled, of a clean commit."""
    shutil.copytree(whole, tmp_path / "mine")
    rewrite(tmp_path / "mine", git_commit="0123456789abcdef" * 2 + "01234567")
    return tmp_path / "mine"


def said(folder):
    return json.loads((folder / "manifest.json").read_text())


def rewrite(folder, **changed):
    made = {key: value for key, value in (said(folder) | changed).items() if value != "gone"}
    (folder / "manifest.json").write_text(json.dumps(made))


def edit(folder, table, change):
    """Change a table, as a forger would: with its hash."""
    path = folder / f"{table}.csv"
    path.write_text(change(path.read_text()))
    rewrite(folder, tables=manifest.hashes(folder))


def rows(board):
    lines = [line for line in board.read_text().splitlines() if line.startswith("|")][2:]
    return [dict(zip(COLUMNS, line.strip("| ").split(" | "), strict=True)) for line in lines]


def refused(folder, *words, board=None):
    board = board or folder.parent / "LEADERBOARD.md"
    before = board.read_bytes() if board.is_file() else None
    with pytest.raises(AssayError) as error:
        submit(folder, board)
    text = str(error.value)
    assert all(word in text for word in words), text
    assert text.endswith(".")
    assert "; " in text
    assert (board.read_bytes() if board.is_file() else None) == before
    assert not list(folder.parent.glob("*.half"))


def test_the_row_says_what_the_run_says(results, tmp_path):
    board = tmp_path / "new" / "LEADERBOARD.md"
    done = submit(results, board)
    (row,) = rows(board)
    assert row == done.row | {"best method": escaped(done.row["best method"])}
    best = lead.leaderboard(load(results), "overall").iloc[0]
    assert (row["suite"], row["best method"], row["by"]) == ("tiny", best["method"], "mine")
    assert float(row["mean skill"]) == pytest.approx(best["skill"], abs=5e-4)
    assert (row["methods"], row["cells"], row["failed"], row["seeds"]) == ("2", str(CELLS), "0", "1")
    made = said(results)
    assert (row["commit"], row["date"]) == ("0123456789", made["end"][:10])
    assert f"torch {made['versions']['torch'].split('+')[0]}" in row["versions"]
    assert made["tables"]["scores"].startswith(row["scores"])
    assert done.notes == ()
    assert "tiny by mine" in done.told


def test_the_best_method_is_no_control_and_its_interval_is_of_these_problems(results, tmp_path, monkeypatch):
    frame = pd.DataFrame(
        {
            "method": ["random", "gradient", "saliency", "lime"],
            "control": [False, False, True, True],  # as the costs say
            "skill": [0.9, float("nan"), 0.75, 0.5],
            "low": 0.1,
            "high": 0.95,
            "low_here": 0.5,
            "high_here": 0.875,
        }
    )
    monkeypatch.setattr(lead, "leaderboard", lambda tables, scope: frame)
    row = submit(results, tmp_path / "a.md").row
    assert (row["best method"], row["mean skill"], row["95% interval"]) == (
        *("saliency", "0.750", "0.500 to 0.875"),
    )
    frame = frame.drop(columns=["low_here", "high_here"]).assign(low=float("nan"))
    assert submit(results, tmp_path / "b.md").row["95% interval"] == ""
    frame = frame[:2]
    assert submit(results, tmp_path / "c.md").row["best method"] == "none"


def test_a_compressed_table_is_the_same_table(results, tmp_path):
    for name in ("scores", "models"):
        path = results / f"{name}.csv"
        path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (results / "ledger.sqlite").unlink()
    assert submit(results, tmp_path / "board.md").row["cells"] == str(CELLS)


def test_an_edited_value_is_named_by_its_table(results):
    for name in ("scores", "agreement", "models", "problems", "metrics"):
        path = results / f"{name}.csv"
        text = path.read_text()
        path.write_text(text.replace("0", "1", 1))
        refused(results, f"table {name}.csv", "was changed after it was exported", "report")
        path.write_text(text)
    submit(results, results.parent / "board.md")


def test_tables_that_are_missing_or_cannot_be_read_are_refused(results):
    scores = (results / "scores.csv").read_bytes()
    (results / "scores.csv").unlink()
    refused(results, "table scores.csv is not in")
    (results / "scores.csv.gz").write_bytes(gzip.compress(scores)[:-20])
    refused(results, "'scores'", "cannot be read")
    (results / "scores.csv.gz").unlink()
    (results / "scores.csv").write_bytes(scores)
    edit(results, "scores", lambda text: text.replace("skill", "skull"))
    refused(results, "has no column")
    (results / "scores.csv").write_bytes(scores)
    rewrite(results, tables={k: v for k, v in manifest.hashes(results).items() if k != "models"})
    refused(results, "models.csv", "is not one that its manifest.json names")


def test_missing_rows_are_refused_even_with_a_hash_that_fits(results):
    edit(results, "scores", lambda text: "".join(text.splitlines(keepends=True)[:-1]))
    refused(results, f"{CELLS - 1} of {CELLS} planned cells", "go on")
    rewrite(results, cells={"planned": CELLS - 1, "finished": CELLS - 1, "failed": 0})
    refused(results, f"lacks 1 of {CELLS} cells", "'tiny'", "method=random", "metric=spearman")


def test_a_part_of_the_suite_is_refused(tmp_path):
    run(OURS.with_lists({"method": ["random"]}), tmp_path / "part")
    refused(tmp_path / "part", f"lacks {CELLS - 3} of {CELLS} cells", "method=saliency")


def test_a_run_that_was_stopped_is_refused(results):
    rewrite(results, end=None)
    refused(results, "has not finished")
    rewrite(results, end="2026-01-01T00:00:00", cells={"planned": CELLS, "finished": CELLS - 1, "failed": 0})
    refused(results, f"of {CELLS} planned cells")


def test_other_versions_are_refused_by_name(results):
    plugins = said(results)["plugins"]
    for method, version, words in (
        ("saliency", "41", ["method 'saliency' had version 41 in this run and is 1 here"]),
        ("from_a_file", "ab12", ["method 'from_a_file' had version ab12", "is not installed here"]),
    ):
        rewrite(results, plugins=plugins | {"method": plugins["method"] | {method: version}})
        refused(results, *words)
    rewrite(results, plugins=plugins | {"method": {"random": "1"}})
    refused(results, "version of method 'saliency' is not known")
    rewrite(results, plugins=plugins, engine=1)
    refused(results, "the engine had version 1 in this run")


def test_rows_of_another_version_than_the_manifest_says_are_refused(results):
    edit(results, "scores", lambda text: text.replace("1/1/1/1\n", "1/1/9/1\n"))
    refused(results, "made by versions 1/1/9/1, here they are 1/1/1/1")


def test_what_the_manifest_does_not_say_is_refused(results):
    rewrite(results, tables="gone", cells="gone")
    refused(results, "does not say tables, cells", "report")
    (results / "manifest.json").unlink()
    refused(results, "has no manifest.json")
    (results / "manifest.json").write_text("{")
    refused(results, "cannot be read")


@pytest.mark.parametrize(
    ("key", "value"),
    [("cells", {"planned": "many"}), ("tables", ["scores"]), ("plugins", {"kind": {"a": "1"}}), ("suite", 3)],
)
def test_a_manifest_of_another_make_is_refused(results, key, value):
    rewrite(results, **{key: value})
    refused(results, "cannot be", key)


def test_a_suite_of_ones_own_is_refused_with_the_reason(results):
    rewrite(results, suite="my_question")
    refused(results, "suite 'my_question'", "not one of ours", "other, tiny")


def test_only_methods_and_seeds_may_be_added(tmp_path):
    more = OURS.model_copy(update={"seeds": 2, "method_seeds": 2})
    run(more.with_lists({"method": ["saliency", "random", "constant"]}), tmp_path / "more")
    row = submit(tmp_path / "more", tmp_path / "board.md").row
    assert (row["methods"], row["seeds"]) == ("3", "2, 2 method seeds")
    run(OURS.with_lists({"dataset": [DATASET, DATASET.replace("9", "7")]}), tmp_path / "wide")
    refused(
        tmp_path / "wide", f"{CELLS} cells that suite 'tiny' has not", "function=7", "only methods and seeds"
    )


def test_failed_cells_and_unknown_code_are_told_and_not_refused(results, tmp_path):
    db = sqlite3.connect(results / "ledger.sqlite")
    with db:
        db.execute("UPDATE scores SET status = 'failed', skill = NULL WHERE method = 'random'")
    db.close()
    export(Ledger(results))
    rewrite(results, git_commit="f" * 40 + "-changed")
    done = submit(results, tmp_path / "board.md")
    assert (done.row["failed"], done.row["commit"]) == ("3", "f" * 10 + "-changed")
    assert "3 cells failed, of random." in done.told
    assert "changed after its commit" in done.told
    rewrite(results, git_commit="")
    done = submit(results, tmp_path / "again.md")
    assert done.row["commit"] == "unknown"
    assert "commit of the code is not known" in done.told


def test_the_same_scores_are_taken_once(results, whole, tmp_path):
    board = tmp_path / "LEADERBOARD.md"
    submit(results, board)
    refused(whole, "are in", "already", "once", board=board)


def test_rows_are_by_suite_and_date_and_what_stands_above_is_kept(results, tmp_path):
    board = tmp_path / "LEADERBOARD.md"
    for i, (name, end) in enumerate(
        [("late", "2026-05-02"), ("early", "2026-05-01"), ("later", "2026-11-01")]
    ):
        # what differs from run to run is a reason, say; each is another table
        frame = pd.read_csv(results / "scores.csv", dtype=str, keep_default_na=False).assign(
            reason=f"run {i}"
        )
        edit(results, "scores", lambda _, frame=frame: frame.to_csv(index=False))
        rewrite(results, end=f"{end}T10:00:00+00:00")
        submit(results, board, name)
    assert [row["by"] for row in rows(board)] == ["early", "late", "later"]
    board.write_text("Above.\n\n" + board.read_text())
    edit(results, "scores", lambda text: text.replace("run 2", "run 3"))
    submit(results, board, "last")
    assert board.read_text().startswith("Above.\n\n# Leaderboard")
    assert [row["by"] for row in rows(board)][:2] == ["early", "late"]
    assert len(rows(board)) == 4


def test_names_are_text_and_no_markup(results, tmp_path):
    board = tmp_path / "LEADERBOARD.md"
    submit(results, board, "a|b <i>`x`</i> [l](u) *b* _i_ $m$ a_b\n# h &amp; http://x")
    (row,) = rows(board)
    plain = (
        "a&#124;b &#60;i&#62;&#96;x&#96;&#60;/i&#62; &#91;l&#93;(u) &#42;b&#42; &#95;i&#95; &#36;m&#36; a_b"
    )
    assert row["by"] == f"{plain} &#35; h &#38;amp; http&#58;//x"
    refused(results, "already", board=board)  # and it can be read again


def test_another_file_in_the_boards_place_is_left_alone(results, tmp_path):
    board = tmp_path / "README.md"
    board.write_text("# Mine\n")
    refused(results, "is no board of this program", board=board)
    board.write_text(blank_board() + "\n| one | cell |\n")
    refused(results, "is no board of this program", board=board)
    board.unlink()
    board.mkdir()
    refused(results, "cannot be read", board=board)


def test_sealing_again_is_harmless_and_a_folder_without_manifest_is_left(results):
    before = said(results)
    manifest.seal(results)
    assert said(results) == before
    assert before["cells"] == {"planned": CELLS, "finished": CELLS, "failed": 0}
    assert set(before["tables"]) == {"scores", "agreement", "models", "problems", "metrics"}
    (results / "manifest.json").unlink()
    manifest.seal(results)
    assert not (results / "manifest.json").exists()


def test_cells_that_are_planned_and_not_finished_are_counted(results):
    db = sqlite3.connect(results / "ledger.sqlite")
    with db:
        db.execute("DELETE FROM scores WHERE metric = 'auroc'")
        db.execute("UPDATE agreement SET status = 'failed'")
    db.close()
    assert manifest.cell_counts(results) == {"planned": CELLS, "finished": 4, "failed": 1}


def test_who_is_a_control_is_not_for_the_costs_to_say(results, tmp_path):
    """costs.csv is measured, no hash holds it: an edit there must not make another method best."""
    costs = pd.read_csv(results / "costs.csv")
    costs["control"] = (costs["method"] != "random").astype(int)
    costs.to_csv(results / "costs.csv", index=False)
    assert submit(results, tmp_path / "board.md").row["best method"] == "saliency"


def test_parameters_of_a_control_make_it_no_other(results, tmp_path, monkeypatch):
    frame = pd.DataFrame({"method": ["random[x=1]", "lime[budget=9]"], "skill": [0.9, 0.5], "control": False})
    monkeypatch.setattr(lead, "leaderboard", lambda tables, scope: frame.assign(low=0.1, high=0.9))
    assert submit(results, tmp_path / "board.md").row["best method"] == "lime[budget=9]"
