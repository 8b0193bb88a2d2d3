"""Runs of one suite made in parts become the run that one machine would have made, or are refused."""

import itertools
import json
import shutil
import sqlite3

import pytest

from assay.benchmarks import grid, loading, manifest, runner
from assay.benchmarks.merge import merge
from assay.benchmarks.registry import AssayError
from assay.benchmarks.store import Ledger
from assay.benchmarks.suite import Block, Suite
from assay.benchmarks.suite_union import joined_suite

loading.load_plugins()
SMALL = "columns=3,rows=100,explained=4"
SUITE = Suite(
    name="tiny",
    title="Enough to be split",
    seeds=2,
    grid=[
        Block(
            dataset=[f"symbolic[function=9,{SMALL}]", f"symbolic[function=7,{SMALL}]"],
            model=["linear"],
            method=["saliency", "random", "feature_ablation"],
            metric=["spearman", "auroc"],
        )
    ],
)
CELLS = 2 * 2 * (3 * 2 + 3)  # datasets, seeds, methods by metrics, and pairs of methods
HALVES = {
    "dataset": [SUITE.with_lists({"dataset": [text]}) for text in SUITE.grid[0].dataset],
    "method": [
        SUITE.with_lists({"method": texts}) for texts in (["feature_ablation"], ["saliency", "random"])
    ],
    "seeds": [SUITE.model_copy(update={"seeds": 1, "first_seed": seed}) for seed in (0, 1)],
}


def run(suite, folder, written=SUITE):
    plan = grid.plan(suite)
    ledger = Ledger(folder)
    words, means = ["assay", "run", str(folder.name)], runner.Means(jobs=1)
    made = manifest.begin(folder, suite, words, means, written=written)
    records = [record for record in runner.run(plan, ledger) if record.table in ("scores", "agreement")]
    export(folder, ledger)
    manifest.finish(folder, made)
    manifest.seal(folder)
    return len(records)


def export(folder, ledger=None):
    ledger = ledger or Ledger(folder)
    ledger.export()
    ledger.close()
    manifest.seal(folder)


def tables(folder, *leave):
    return {
        name: (folder / f"{name}.csv").read_bytes() for name in manifest.hashes(folder) if name not in leave
    }


def said(folder):
    return json.loads((folder / "manifest.json").read_text())


def rewrite(folder, **changed):
    made = said(folder) | changed
    (folder / "manifest.json").write_text(json.dumps({k: v for k, v in made.items() if v is not None}))


def change(folder, statement):
    ledger = sqlite3.connect(folder / "ledger.sqlite")
    with ledger:
        assert ledger.execute(statement).rowcount
    ledger.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(SUITE, folder)
    return folder


@pytest.fixture(scope="module")
def made_halves(tmp_path_factory):
    base = tmp_path_factory.mktemp("halves")
    for kind, suites in HALVES.items():
        for i, suite in enumerate(suites):
            run(suite, base / f"{kind}{i}")
    return base


@pytest.fixture
def halves(made_halves, tmp_path):
    """The two halves by `dataset`, to be spoiled."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for i, folder in enumerate(folders):
        shutil.copytree(made_halves / f"dataset{i}", folder)
    return folders


@pytest.mark.parametrize("kind", ["dataset", "seeds"])
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_two_halves_are_the_whole_to_the_bit(tmp_path, whole, made_halves, kind, order):
    out = tmp_path / "out"
    done = merge([made_halves / f"{kind}{i}" for i in order], out)
    export(out)
    assert tables(out) == tables(whole)
    assert (done.planned, done.finished, done.failed, done.twice) == (CELLS, CELLS, 0, 0)
    a, b = said(out), said(whole)
    assert all(
        a[key] == b[key] for key in ("config", "config_hash", "tables", "cells", "plugins", "versions")
    )


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_halves_by_method_lack_the_agreement_across_them_until_the_run_goes_on(
    tmp_path, whole, made_halves, order
):
    out = tmp_path / "out"
    done = merge([made_halves / f"method{i}" for i in order], out)
    export(out)
    assert tables(out, "agreement") == tables(whole, "agreement")
    across = 2 * 2 * 2  # pairs of methods, datasets, seeds
    assert (done.planned, done.finished) == (CELLS, CELLS - across)
    assert f"{across} left for `run`" in done.told
    assert run(SUITE, out) == across
    assert tables(out) == tables(whole)


def test_without_the_suite_as_written_the_order_does_not_depend_on_that_of_the_folders(tmp_path, halves):
    for folder in halves:
        rewrite(folder, written=None)
    for i, folders in enumerate(itertools.permutations(halves)):
        merge(folders, tmp_path / f"out{i}")
        export(tmp_path / f"out{i}")
    assert tables(tmp_path / "out0") == tables(tmp_path / "out1")


def test_what_is_joined_can_be_joined_again_and_says_where_all_of_it_came_from(tmp_path, whole, made_halves):
    quarters = [
        half.model_copy(update=dict(seeds=1, first_seed=s)) for half in HALVES["dataset"] for s in (0, 1)
    ]
    for i, suite in enumerate(quarters):
        run(suite, tmp_path / f"q{i}")
    rewrite(tmp_path / "q1", machine={"processor": "another", "cores": 8}, git_commit="1" * 40)
    merge([tmp_path / "q0", tmp_path / "q3"], tmp_path / "first")  # no two in one list
    merge([tmp_path / "q2", tmp_path / "q1"], tmp_path / "second")
    done = merge([tmp_path / "second", tmp_path / "first"], tmp_path / "out")
    export(tmp_path / "out")
    assert tables(tmp_path / "out") == tables(whole)
    assert done.twice == 0
    made = said(tmp_path / "out")
    assert made["config"] == SUITE.model_dump()
    assert sorted(source["folder"] for source in made["merged_from"]) == ["q0", "q1", "q2", "q3"]
    other = next(source for source in made["merged_from"] if source["folder"] == "q1")
    assert (other["machine"]["cores"], other["command"]) == (8, "assay run q1")
    assert {"another"} < set(made["machine"]["processor"].split(", "))
    assert "1" * 40 in made["git_commit"].split(", ")
    assert run(SUITE, tmp_path / "out") == 0  # nothing is left
    merge([tmp_path / "out", tmp_path / "q0"], tmp_path / "again")
    sources = said(tmp_path / "again")["merged_from"]
    assert sorted(source["folder"] for source in sources) == ["out", "q0", "q1", "q2", "q3"]


def test_overlapping_runs_share_their_cells(tmp_path, whole, made_halves):
    done = merge([whole, made_halves / "dataset0", made_halves / "seeds1"], tmp_path / "out")
    export(tmp_path / "out")
    assert tables(tmp_path / "out") == tables(whole)
    assert (done.planned, done.finished, done.twice) == (CELLS, CELLS, CELLS)
    assert done.told.endswith(f": {CELLS} cells, {CELLS} came twice, with the same numbers.")


def test_a_finished_cell_takes_the_place_of_a_failed_one(tmp_path, whole, halves):
    spoil = "UPDATE scores SET status = 'failed', value = NULL, reason = 'ran out of memory'"
    change(halves[0], spoil)
    merge([halves[0], whole, halves[1]], tmp_path / "out")
    export(tmp_path / "out")
    assert tables(tmp_path / "out") == tables(whole)
    assert merge(halves, tmp_path / "failing").failed == CELLS // 3


def test_a_killed_run_is_read_with_its_journal_and_left_alone(tmp_path, whole, halves):
    db = sqlite3.connect(halves[0] / "ledger.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("UPDATE scores SET value = value")
    names = ("ledger.sqlite", "ledger.sqlite-wal")
    killed = tmp_path / "killed"
    shutil.copytree(halves[0], killed)  # while it is open: as a kill leaves it
    db.close()
    before = [(killed / name).read_bytes() for name in names]
    merge([killed, halves[1]], tmp_path / "out")
    export(tmp_path / "out")
    assert tables(tmp_path / "out") == tables(whole)
    assert [(killed / name).read_bytes() for name in names] == before


def refused(folders, out, *words):
    before = sorted(out.iterdir()) if out.is_dir() else None
    with pytest.raises(AssayError) as error:
        merge(folders, out)
    text = str(error.value)
    assert all(word in text for word in words), text
    assert text.endswith(".")
    assert "; " in text
    assert (sorted(out.iterdir()) if out.is_dir() else None) == before


@pytest.mark.parametrize("table", ["scores", "agreement", "models"])
def test_one_cell_with_two_numbers_is_refused_however_near_they_are(tmp_path, whole, halves, table):
    column = "quality" if table == "models" else "value"
    change(
        halves[1], f"UPDATE {table} SET {column} = {column} + 1e-9 WHERE {column} > 0.1 AND {column} < 0.999"
    )
    refused(
        [whole, halves[1]],
        tmp_path / "out",
        f"{table} differ in one cell",
        "dataset=symbolic",
        column,
        "whole",
    )


def test_a_status_that_differs_is_refused(tmp_path, whole, halves):
    change(halves[1], "UPDATE scores SET status = 'trivial' WHERE metric = 'auroc'")
    refused([halves[1], whole], tmp_path / "out", "status is", "'trivial'", "metric=auroc")


@pytest.mark.parametrize(
    ("where", "name", "words"),
    [
        ("plugins", "method", ["versions of method 'saliency' differ: ", " 999 in "]),
        ("versions", "torch", ["versions of torch differ", "0.0.1"]),
        ("engine", "", ["versions of the engine differ", "77"]),
    ],
)
def test_different_versions_are_refused(tmp_path, halves, where, name, words):
    made = said(halves[1])
    new = {
        "plugins": made["plugins"] | {"method": made["plugins"]["method"] | {"saliency": "999"}},
        "versions": made["versions"] | {name: "0.0.1"},
        "engine": 77,
    }
    rewrite(halves[1], **{where: new[where]})
    refused(halves, tmp_path / "out", *words, str(halves[0]), str(halves[1]))


def test_other_packages_and_machines_are_told_and_not_refused(tmp_path, halves):
    rewrite(halves[1], versions=said(halves[1])["versions"] | {"pandas": "0.0.1"})
    merge(halves, tmp_path / "out")
    assert set(said(tmp_path / "out")["versions"]["pandas"].split(", ")) > {"0.0.1"}


def test_one_cell_under_two_keys_is_refused(tmp_path, whole, halves):
    for table in ("plan", "scores", "agreement"):  # as a change of the engine makes them
        change(halves[1], f"UPDATE {table} SET key = 'x' || key")
    refused([whole, halves[1]], tmp_path / "out", "two versions of one cell", "whole")


@pytest.mark.parametrize("key", ["name", "title", "later_setting"])
def test_another_suite_is_refused(tmp_path, halves, key):
    rewrite(halves[1], config=said(halves[1])["config"] | {key: "another"})
    refused(halves, tmp_path / "out", f"suites differ in {key}", "'another'", "one suite")


def test_folders_that_cannot_be_joined_are_refused(tmp_path, halves):
    out = tmp_path / "out"
    refused(halves[:1], out, "cannot merge 1 results folders")
    refused([halves[0], tmp_path / "b" / ".." / "a"], out, "given twice")
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    refused(halves, full, "not an empty folder", "-o")
    refused(halves, halves[0] / "manifest.json", "not an empty folder")
    refused([halves[0], full], out, "has no ledger.sqlite")
    (halves[1] / "manifest.json").unlink()
    refused(halves, out, "has no manifest.json")


def test_a_ledger_of_another_layout_or_in_pieces_is_refused(tmp_path, halves):
    db = sqlite3.connect(halves[1] / "ledger.sqlite")
    db.execute("PRAGMA user_version = 5")
    db.commit()
    db.close()
    refused(halves, tmp_path / "out", "has layout 5", "report")
    (halves[1] / "ledger.sqlite").write_bytes(b"SQLite format 3\0" + b"\1" * 5000)
    refused(halves, tmp_path / "out", "cannot be read", str(halves[1]))


def test_a_ledger_in_use_is_refused(tmp_path, halves):
    ledger = Ledger(halves[1])
    refused(halves, tmp_path / "out", "wait for it")
    ledger.close()


def test_an_empty_folder_will_do(tmp_path, halves):
    (tmp_path / "out").mkdir()
    assert merge(halves, tmp_path / "out").finished == CELLS


def texts(suite):
    return [block.model_dump() for block in suite.grid]


def test_a_suite_of_several_blocks_split_by_method_and_seed_is_itself_again():
    first = Block(dataset=["d1", "d2"], model=["m"], method=["a", "b"], metric=["u"])
    second = Block(dataset=["p"], model=["cnn"], method=["b", "c", "a"], metric=["v"])
    suite = Suite(name="s", seeds=5, grid=[first, second])
    parts = [
        suite.with_lists({"method": [method]}).model_copy(update={"seeds": n, "first_seed": start})
        for method in "cba"
        for n, start in ((2, 3), (3, 0))
    ]
    whole = joined_suite([part.model_dump() for part in parts], suite)
    assert texts(whole) != texts(suite)  # the parts ran c on the first block too
    assert {(k, t) for b in texts(whole) for k in b for t in b[k]} == {
        (k, t) for b in texts(suite) for k in b for t in b[k]
    }
    assert (whole.seeds, whole.first_seed) == (5, 0)
    by_seed = [suite.model_copy(update={"seeds": n, "first_seed": start}) for n, start in ((2, 3), (3, 0))]
    assert joined_suite([part.model_dump() for part in by_seed], suite) == suite
    assert joined_suite([part.model_dump() for part in reversed(by_seed)]) == suite


def test_a_joined_suite_plans_what_its_parts_plan_and_no_more():
    corner = {"model": ["oracle"], "method": ["random"], "metric": ["auroc"]}
    here, there = (Suite(name="s", grid=[Block(dataset=[text], **corner)]) for text in SUITE.grid[0].dataset)
    other = Suite(name="s", grid=[Block(dataset=here.grid[0].dataset, **corner | {"method": ["saliency"]})])
    for parts in itertools.permutations([here, there, other]):
        joined = joined_suite([part.model_dump() for part in parts])
        keys = {cell.key for cells in grid.plan(joined).values() for cell in cells}
        assert keys == {c.key for part in parts for cells in grid.plan(part).values() for c in cells}


def spans(*ranges):
    return [SUITE.model_copy(update={"first_seed": a, "seeds": n}).model_dump() for a, n in ranges]


def test_seeds_that_nobody_ran_are_not_said_to_have_been_run(tmp_path):
    for first in (0, 3):
        run(SUITE.model_copy(update={"seeds": 1, "first_seed": first}), tmp_path / f"from{first}")
    refused([tmp_path / "from3", tmp_path / "from0"], tmp_path / "out", "seeds 1 to 2", "leave no gap")
    assert not (tmp_path / "out").exists()


def test_seeds_may_meet_and_overlap_and_be_within_each_other():
    for ranges in ([(2, 2), (0, 2)], [(0, 3), (1, 3)], [(0, 4), (1, 1)], [(3, 1), (0, 2), (2, 1)]):
        joined = joined_suite(spans(*ranges))
        assert (joined.first_seed, joined.seeds) == (0, 4)
    with pytest.raises(AssayError, match="seeds 4 to 9"):
        joined_suite(spans((0, 4), (1, 1), (10, 2)))


@pytest.mark.parametrize(
    "changed", [{"config": []}, {"plugins": {"method": 1}}, {"versions": "1"}, {"machine": [1]}]
)
def test_a_manifest_of_another_make_is_refused(tmp_path, halves, changed):
    rewrite(halves[1], **changed)
    refused(halves, tmp_path / "out", "manifest.json", str(halves[1]))
