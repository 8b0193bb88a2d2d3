"""The ledger: what it keeps through a kill, what it refuses to open, and the tables that it writes."""

import signal
import subprocess
import sys
import tracemalloc

import pandas as pd
import pytest

from assay.benchmarks.registry import AssayError
from assay.benchmarks.store import COLUMNS, FILE, OLDEST, SCHEMA, SEEDS, Ledger, write_atomically
from assay.benchmarks.tables import read_table

ROW = {
    "dataset": "d",
    "parameters": "",
    "noise": "columns=1",
    "model": "m",
    "method": "a",
    "metric": "hits",
    "family": "ground truth",
    "seed": 0,
    "value": 0.1,
    "chance": 0.0,
    "ceiling": 1.0,
    "skill": 0.1,
    "rows": 5,
    "nan_rows": 0,
    "status": "ok",
    "reason": "",
    "version": "1/1",
    "seconds": 1.5,
}
WRITE_FOR_EVER = """
import itertools, sys
from pathlib import Path
from assay.benchmarks.store import Ledger
ledger = Ledger(Path(sys.argv[1]))
ledger.set_plan((f"key {i}", "scores") for i in range(100_000))
for i in itertools.count():
    ledger.write("scores", f"key {i}", {"value": i / 7, "status": "ok", "reason": "x" * 500})
    print(i, flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def ledger(folder):
    ledger = Ledger(folder)
    yield ledger
    ledger.close()


def refusal(folder, **options):
    with pytest.raises(AssayError) as caught:
        Ledger(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def write(ledger, *keys, **changed):
    for key in keys:
        ledger.write("scores", key, ROW | changed)


# ---- records --------------------------------------------------------------------------------------------


def test_every_record_written_before_a_kill_is_there_and_right(folder):
    """kill -9 in the middle of writing: what the child said it had written must be found, row by row."""
    command = [sys.executable, "-P", "-c", WRITE_FOR_EVER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        said = [int(child.stdout.readline()) for _ in range(300)]
        child.send_signal(signal.SIGKILL)
        said += [int(line) for line in child.stdout if line.endswith("\n")]
    assert child.returncode == -signal.SIGKILL
    ledger = Ledger(folder)
    table = ledger.table("scores")
    assert set(said) <= {int(key.removeprefix("key ")) for key in ledger.done()}
    assert table["value"].tolist() == [i / 7 for i in range(len(table))]  # to the last bit, in order
    assert (table["reason"] == "x" * 500).all()
    write(ledger, "one more")
    ledger.close()


def test_done_are_the_keys_of_both_tables_of_cells(ledger):
    write(ledger, "k1", "k2")
    ledger.write("agreement", "k3", {"status": "ok"})
    ledger.write("models", "m", {"status": "ok"})
    assert ledger.done() == {"k1", "k2", "k3"}


@pytest.mark.parametrize(
    ("status", "kept"),
    [("failed", False)]
    + [(status, True) for status in ("ok", "skipped", "trivial", "broken", "undefined", "unlearned")],
)
def test_only_failed_cells_are_tried_again(ledger, status, kept):
    write(ledger, "k", status=status)
    ledger.write("agreement", "l", {"status": status})
    assert ledger.done() == ({"k", "l"} if kept else set())


def test_a_second_try_takes_the_place_of_the_first(ledger):
    write(ledger, "k", status="failed", reason="no luck")
    write(ledger, "k")
    ledger.set_plan([("k", "scores")])
    assert ledger.table("scores")[["status", "reason"]].values.tolist() == [["ok", ""]]


def test_records_are_found_when_the_folder_is_opened_again(folder):
    first = Ledger(folder)
    write(first, "k")
    first.close()
    second = Ledger(folder)
    assert second.done() == {"k"}
    second.close()


def test_fresh_forgets_everything(folder):
    first = Ledger(folder)
    write(first, "k")
    first.close()
    second = Ledger(folder, fresh=True)
    assert second.done() == set()
    second.close()


def test_a_table_shows_what_is_planned_and_finished_in_the_order_of_the_plan(ledger):
    write(ledger, "k1", "k2", "not planned", method="a")
    write(ledger, "k3", method="b")
    ledger.set_plan([("k3", "scores"), ("never done", "scores"), ("k1", "scores")])
    assert ledger.table("scores")["method"].tolist() == ["b", "a"]
    ledger.set_plan([("k2", "scores")])
    assert len(ledger.table("scores")) == 1


# ---- what is refused ------------------------------------------------------------------------------------


def test_a_second_opener_is_refused(folder, ledger):
    write(ledger, "k")
    message = refusal(folder)
    assert "another run is using this folder" in message
    assert "--out" in message
    write(ledger, "k2")  # the first is none the worse
    assert ledger.done() == {"k", "k2"}


def test_a_second_opener_is_refused_before_it_throws_away_what_the_first_one_has(folder, ledger):
    write(ledger, "k")
    assert "--out" in refusal(folder, fresh=True)
    ledger.close()
    again = Ledger(folder)
    assert again.done() == {"k"}
    again.close()


def test_a_folder_of_another_program_is_refused_and_left_alone(folder):
    folder.mkdir()
    (folder / "thesis.txt").write_text("ten years of work")
    for fresh in (False, True):
        message = refusal(folder, fresh=fresh)
        assert str(folder) in message
        assert "--out" in message
    assert [p.name for p in folder.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_ours(folder):
    folder.mkdir()
    Ledger(folder).close()
    assert (folder / FILE).is_file()


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "results"):
        message = refusal(path)
        assert "cannot be written" in message
        assert "--out" in message


def test_a_folder_where_the_file_should_be_is_refused(folder):
    (folder / FILE).mkdir(parents=True)
    assert str(folder) in refusal(folder)


def test_a_file_that_is_no_ledger_is_refused(folder):
    folder.mkdir()
    (folder / FILE).write_bytes(b"not a database, but quite a long text. " * 100)
    assert "--fresh" in refusal(folder)
    Ledger(folder, fresh=True).close()


@pytest.mark.parametrize("damage", ["overwritten", "cut"])
def test_a_damaged_ledger_is_refused(folder, damage):
    ledger = Ledger(folder)
    for i in range(200):
        write(ledger, f"key {i}", reason="x" * 300)
    ledger.close()
    path = folder / FILE
    good = path.read_bytes()
    middle = len(good) // 2
    bad = (
        good[: middle - 2048] + b"\xff" * 4096 + good[middle + 2048 :]
        if damage == "overwritten"
        else good[:middle]
    )
    path.write_bytes(bad)
    message = refusal(folder)
    assert "damaged" in message
    assert "--fresh" in message
    Ledger(folder, fresh=True).close()


def test_another_layout_is_refused_and_left_alone(folder):
    ledger = Ledger(folder)
    ledger._db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    ledger.close()
    before = (folder / FILE).read_bytes()
    message = refusal(folder)
    assert f"has layout {SCHEMA + 1}, this program reads {SCHEMA}" in message
    assert (folder / FILE).read_bytes() == before


def test_a_ledger_of_the_layout_before_is_brought_up_to_date(folder):
    """Its cells need not be computed again; what it lacks reads as the first seed, or as not known."""
    ledger = Ledger(folder)
    write(ledger, "k", skill_error=0.5, model_seed=7)
    ledger.write("costs", "c", {"method": "a", "seed": 1, "method_seed": 7})
    for table, columns in COLUMNS.items():
        for column in {*SEEDS[1:], "skill_error"} & set(columns):
            ledger._db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    ledger._db.execute(f"PRAGMA user_version = {OLDEST}")
    ledger.close()
    again = Ledger(folder)
    assert again.done() == {"k"}
    write(again, "new", skill_error=0.25, model_seed=1, method_seed=2)
    again.set_plan([("k", "scores"), ("new", "scores"), ("c", "costs")])
    found = again.table("scores")
    assert list(found) == list(COLUMNS["scores"])
    assert found["skill"].tolist() == [0.1, 0.1]  # in its place, though new columns stand last in the file
    assert found["model_seed"].tolist() == [0, 1]
    assert found["method_seed"].tolist() == [0, 2]
    assert found["skill_error"].isna().tolist() == [True, False]
    assert again.table("costs")[["seed", "model_seed", "method_seed"]].values.tolist() == [[1, 0, 0]]
    again.close()
    Ledger(folder).close()  # which is now of this layout


def test_a_layout_older_than_that_is_refused(folder):
    ledger = Ledger(folder)
    ledger._db.execute(f"PRAGMA user_version = {OLDEST - 1}")
    ledger.close()
    assert f"has layout {OLDEST - 1}, this program reads {SCHEMA}" in refusal(folder)


def test_a_ledger_that_can_no_longer_be_written_says_so(ledger):
    """As when the disk is full in the middle of the night."""
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(AssayError, match="full"):
        write(ledger, "k", reason="x" * 100_000)


def test_a_plan_that_cannot_be_written_says_so_and_leaves_the_one_before(ledger):
    write(ledger, "k")
    ledger.set_plan([("k", "scores")])
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(AssayError, match="full"):
        ledger.set_plan((f"k{i}", "scores") for i in range(100_000))
    assert len(ledger.table("scores")) == 1
    write(ledger, "k")  # no transaction is left open
    assert not ledger._db.in_transaction


@pytest.mark.parametrize("later", ["a cell", "a plan", "a cell when opened again"])
def test_what_a_run_told_is_forgotten_when_anything_else_is_written(folder, ledger, later):
    ledger.remember("all is well")
    kept = "SELECT told FROM finished"
    assert ledger._db.execute(kept).fetchall() == [("all is well",)]
    if later == "a plan":
        ledger.set_plan([])
    elif later == "a cell":
        write(ledger, "k")
    else:
        ledger.close()
        again = Ledger(folder)
        assert again._db.execute(kept).fetchall() == [("all is well",)]
        write(again, "k")
        ledger = again
    assert ledger._db.execute(kept).fetchall() == []
    ledger.close()


# ---- tables ---------------------------------------------------------------------------------------------


def filled(folder, keys=("k1", "k2", "k3")):
    """The tables of the same cells, finished in this order."""
    ledger = Ledger(folder)
    ledger.set_plan(
        [("u", "models"), ("k1", "scores"), ("k2", "scores"), ("k3", "agreement"), ("c", "costs")]
    )
    for i, key in enumerate(keys):
        if key == "k3":
            ledger.write(
                "agreement", key, {"method": "a", "other": "b", "value": 1 / 3, "seconds": i, "rows": 5}
            )
        else:
            write(ledger, key, method=key, value=1 / 3, skill=float("nan"), seconds=float(i))
    ledger.write("models", "u", {"model": "m", "quality": 2 / 3, "learned": True, "seed": 0})
    ledger.write("costs", "c", {"method": "a", "seconds": 0.1, "seconds_per_row": 0.1, "seed": 0})
    ledger.export()
    ledger.close()
    return {p.name: p.read_bytes() for p in folder.glob("*.csv")}


def test_tables_are_the_same_to_the_byte_in_whatever_order_and_time_the_cells_came(tmp_path):
    first, second = filled(tmp_path / "a"), filled(tmp_path / "b", ("k3", "k2", "k1"))
    assert set(first) == {"scores.csv", "agreement.csv", "models.csv", "costs.csv"}
    assert first == second


KINDS = {  # what a column may hold, in this order
    "whole": [1, 2, 10**15],
    "some whole": [1, 0.5, 3],
    "whole, one lacking": [1, None, 3],
    "real": [1 / 3, 1e-300, 1e300],
    "real, one lacking": [0.1, None, float("inf")],
    "nothing": [None, None, None],
    "text": ["a,b", 'say "so"', "two\nlines"],
    "text, one lacking": ["", None, "é"],
    "text and numbers": ["a", 1, 0.5],
    "text, number, lacking": ["a", 1, None],
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_table_has_the_bytes_of_a_frame(folder, ledger, kind):
    """pandas says how a column is written that has whole numbers and others, or lacks some."""
    for i, value in enumerate(KINDS[kind]):
        write(ledger, f"k{i}", value=value, reason=value, seconds=value)
    write(ledger, "not planned", value="x")
    ledger.set_plan([("k2", "scores"), ("k0", "scores"), ("k1", "scores"), ("never done", "scores")])
    ledger.export()
    frame = ledger.table("scores").drop(columns="seconds")
    assert (folder / "scores.csv").read_bytes() == frame.to_csv(index=False).encode()
    assert not list(folder.glob(".*"))  # nothing half is left


def test_a_table_without_rows_is_its_header(folder, ledger):
    ledger.set_plan([("k", "scores")])
    ledger.export()
    assert (folder / "scores.csv").read_text() == ",".join(COLUMNS["scores"][:-1]) + "\n"
    assert [p.name for p in folder.glob("*.csv")] == ["scores.csv"]


def test_an_export_holds_no_table_in_memory(folder, ledger):
    rows, text = 20_000, "x" * 1000
    ledger._db.execute("BEGIN")
    for i in range(rows):
        write(ledger, f"k{i}", reason=text)
    ledger._db.execute("COMMIT")
    ledger.set_plan((f"k{i}", "scores") for i in range(rows))
    tracemalloc.start()
    ledger.export()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (folder / "scores.csv").stat().st_size > rows * len(text)
    assert most < rows * len(text) / 10


def test_measured_seconds_stand_in_costs_alone(folder):
    headers = {name: text.split(b"\n")[0].split(b",") for name, text in filled(folder).items()}
    assert [name for name, header in headers.items() if b"seconds" in header] == ["costs.csv"]


def test_a_table_that_was_read_back_is_the_one_that_was_written(folder):
    filled(folder)
    scores = read_table(folder, "scores")
    assert scores["value"].tolist() == [1 / 3, 1 / 3]
    assert scores["skill"].isna().all()
    assert scores["parameters"].tolist() == ["", ""]  # an empty text is a text
    assert list(scores.columns) == [c for c in COLUMNS["scores"] if c != "seconds"]
    assert read_table(folder, "costs")["seconds"].tolist() == [0.1]


@pytest.mark.parametrize("name", ["nan", "None", "NA", "1", "true", ""])
def test_names_that_look_like_something_else_stay_names(folder, name):
    ledger = Ledger(folder)
    ledger.set_plan([("k", "scores")])
    write(ledger, "k", method=name, reason=name)
    ledger.export()
    ledger.close()
    found = read_table(folder, "scores")
    assert (found["method"][0], found["reason"][0]) == (name, name)


def test_a_compressed_table_is_read_and_a_missing_one_is_empty(folder):
    filled(folder)
    plain = read_table(folder, "scores")
    plain.to_csv(folder / "scores.csv.gz", index=False)
    (folder / "scores.csv").unlink()
    pd.testing.assert_frame_equal(read_table(folder, "scores"), plain)
    assert read_table(folder, "problems").empty
    assert list(read_table(folder, "problems").columns) == list(COLUMNS["problems"])


@pytest.mark.parametrize("text", ["", "\x00\x01", "a,b\n1,2\n", '"open\n'])
def test_a_file_that_is_no_table_of_ours_is_refused(folder, text):
    folder.mkdir()
    (folder / "scores.csv").write_text(text)
    with pytest.raises(AssayError, match=r"scores\.csv") as caught:
        read_table(folder, "scores")
    assert "\n" not in str(caught.value)


def test_a_new_plan_leaves_no_table_of_the_old_one(folder):
    """A folder that once held agreement must not show it beside the scores of a suite without."""
    assert "agreement.csv" in filled(folder)
    ledger = Ledger(folder)
    ledger.set_plan([("k1", "scores")])
    ledger.export()
    ledger.close()
    assert read_table(folder, "agreement").empty


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with monkeypatch.context() as patch:

        def full_disk(file, target):
            assert file.read_text() == "new text"
            raise OSError("no space left")

        patch.setattr("pathlib.Path.replace", full_disk)
        with pytest.raises(OSError, match="no space"):
            write_atomically(path, "new text")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]  # the half may be what fills the disk
    write_atomically(path, "new téxt")
    assert path.read_text(encoding="utf-8") == "new téxt"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_a_column_that_older_tables_lack_is_read_as_not_known(tmp_path):
    columns = [c for c in COLUMNS["costs"] if c != "control"]
    pd.DataFrame([dict.fromkeys(columns, 1)]).to_csv(tmp_path / "costs.csv", index=False)
    assert read_table(tmp_path, "costs")["control"].isna().all()


@pytest.mark.parametrize("name", [name for name, columns in COLUMNS.items() if "model_seed" in columns])
def test_a_table_older_than_the_seeds_of_models_and_methods_has_the_first(tmp_path, name):
    added = [*SEEDS[1:], "skill_error"]
    columns = [c for c in COLUMNS[name] if c not in added]
    pd.DataFrame([dict.fromkeys(columns, 1)]).to_csv(tmp_path / f"{name}.csv", index=False)
    found = read_table(tmp_path, name)
    assert found.filter(like="_seed").eq(0).all(axis=None)
    assert set(found) == set(COLUMNS[name])
    assert "skill_error" not in found or found["skill_error"].isna().all()


PLACES = {
    "dataset": "d",
    "parameters": "p",
    "noise": "n",
    "model": "m",
    "method": "a",
    "other": "b",
    "metric": "u",
}


def exported(folder, name, **columns):
    """A table of two cells with a number in every place of one, and these columns."""
    frame = pd.DataFrame({c: PLACES.get(c, 1) for c in COLUMNS[name]}, index=[0, 1]).assign(seed=[0, 1])
    frame.assign(**columns)[list(COLUMNS[name])].to_csv(folder / f"{name}.csv", index=False)


@pytest.mark.parametrize(
    ("name", "column", "value", "allowed"),
    [
        *(("scores", "value", "much", "a number"), ("scores", "rows", "many", "a number")),
        *(("scores", "skill", "inf", "a finite number"), ("scores", "skill", "-inf", "a finite number")),
        *(("scores", "seed", "one", "a whole number"), ("scores", "seed", "1.5", "a whole number")),
        *(("scores", "model_seed", "", "a whole number"), ("models", "seed", "True", "a whole number")),
        *(("models", "quality", "good", "a number"), ("costs", "seconds_per_row", "fast", "a number")),
        *(("costs", "control", "yes", "a number"), ("agreement", "skill", "x\ny", "a finite number")),
        *(("metrics", "best", "high", "a number"), ("metrics", "worst", "low", "a number")),
        ("reliance", "share", "half", "a number"),
    ],
)
def test_what_is_no_number_where_one_should_be_is_named(tmp_path, name, column, value, allowed):
    exported(tmp_path, name, **{column: ["1", value]})
    with pytest.raises(AssayError) as caught:
        read_table(tmp_path, name)
    text = str(caught.value)
    assert all(word in text for word in (f"{name}.csv", f"column {column!r}", repr(value), "row 2", allowed))
    assert text.endswith("; make it again with `report`.")
    assert "\n" not in text


def test_numbers_may_lack_and_bounds_may_be_infinite(tmp_path):
    exported(
        tmp_path, "scores", skill=["", "0.5"], rows=["", "3"], seed=["0", "1.0"], skill_error=["inf", ""]
    )
    found = read_table(tmp_path, "scores")
    assert found["skill"].isna().tolist() == [True, False]
    assert found["rows"].isna().tolist() == [True, False]
    assert found["seed"].dtype == "int64"
    exported(tmp_path, "metrics", best=["inf", "1"], family=["1", "2"])
    assert read_table(tmp_path, "metrics")["best"].tolist() == [float("inf"), 1]
    assert read_table(tmp_path, "metrics")["family"].tolist() == ["1", "2"]  # a word is a word


@pytest.mark.parametrize("name", ["scores", "agreement", "models"])
def test_one_cell_in_two_rows_is_refused_by_name(tmp_path, name):
    exported(tmp_path, name)
    assert len(read_table(tmp_path, name)) == 2
    exported(tmp_path, name, seed=[7, 7], version=["1", "2"])
    with pytest.raises(
        AssayError, match=r"has 1 cells twice, the first is dataset=d .*seed=7.*; make it"
    ) as caught:
        read_table(tmp_path, name)
    assert f"{name}.csv" in str(caught.value)


def test_what_is_written_follows_no_link(tmp_path):
    """A folder from somebody else may hold one under the name that is written aside."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / ".table.csv.half").symlink_to(precious)
    write_atomically(tmp_path / "table.csv", "new")
    assert precious.read_text() == "mine"
    assert (tmp_path / "table.csv").read_text() == "new"


@pytest.mark.parametrize("value", ["no \udcff", 10**30])
def test_a_value_that_cannot_be_written_is_told_in_one_sentence(tmp_path, value):
    ledger = Ledger(tmp_path)
    try:
        with pytest.raises(AssayError, match="a value cannot be written"):
            ledger.write("costs", "a", {"budget": value})
    finally:
        ledger.close()
