"""A finished run started again: what it showed is shown once more, if and only if nothing has changed."""

import importlib.metadata
import shutil

import pytest

from assay.benchmarks import finished, spec
from assay.benchmarks.finished import Told, recall, remember, request
from assay.benchmarks.grid import REGISTRIES
from assay.benchmarks.store import Ledger
from assay.benchmarks.suite import Suite

SUITE = Suite.model_validate({"name": "toy", "grid": [{"method": ["saliency"]}]})
TOLD = Told(1, ["method", "skill"], [["a", "0.5"]], ["It is so."], qualified=False)
SETTING = spec.Setting("a", (("steps", 3),), "1", "a")


@pytest.fixture(autouse=True)
def nothing_lacks(monkeypatch):
    """Whatever other tests have tried to import."""
    for registry in REGISTRIES.values():
        monkeypatch.setattr(registry, "unavailable", {})


def ended(folder, *, status="ok", settings=(SETTING,)):
    """A folder as a run leaves it."""
    ledger = Ledger(folder)
    ledger.set_plan([("k", "scores")])
    ledger.write("scores", "k", {"value": 0.5, "status": status})
    ledger.export()
    (folder / "leaderboard.md").write_text("# Leaderboard")
    remember(ledger, request(SUITE, []), TOLD, settings)
    ledger.close()
    return folder


def test_what_was_told_is_told_again_from_a_copy_too(tmp_path):
    folder = ended(tmp_path / "a")
    assert recall(folder, request(SUITE, [])) == TOLD
    shutil.copytree(folder, tmp_path / "b")
    assert recall(tmp_path / "b", request(SUITE, [])) == TOLD
    Ledger(folder).close()  # to look at it is to change nothing
    assert recall(folder, request(SUITE, [])) == TOLD


def add_a_cell(folder):
    ledger = Ledger(folder)
    ledger.write("scores", "other", {"status": "ok"})
    ledger.close()


def plan_anew(folder):
    ledger = Ledger(folder)
    ledger.set_plan([("k", "scores")])
    ledger.close()


CHANGES = {
    "a table": lambda folder: (folder / "scores.csv").write_text("value\n0.9\n"),
    "a table that is gone": lambda folder: (folder / "scores.csv").unlink(),
    "a table more": lambda folder: (folder / "agreement.csv").write_text("value\n"),
    "the leaderboard": lambda folder: (folder / "leaderboard.md").write_text("# Mine"),
    "a record": add_a_cell,
    "a plan": plan_anew,
    "the ledger": lambda folder: (folder / "ledger.sqlite").write_bytes(b"damaged, and quite long. " * 100),
    "no ledger": lambda folder: (folder / "ledger.sqlite").unlink(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_has_changed_the_run_is_gone_through_again(tmp_path, what):
    folder = ended(tmp_path / "a")
    CHANGES[what](folder)
    assert recall(folder, request(SUITE, [])) is None


def test_another_suite_file_source_or_library_is_another_run(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text("one = 1")
    seen = [request(SUITE, []), request(SUITE.model_copy(update={"seeds": 2}), []), request(SUITE, [file])]
    file.write_text("one = 2")
    seen.append(request(SUITE, [file]))
    with monkeypatch.context() as patch:
        patch.setattr(finished.importlib.metadata, "version", lambda _: "0.0")
        seen.append(request(SUITE, []))
    source = tmp_path / "benchmarks" / "grid.py"
    source.parent.mkdir()
    for text in ("ENGINE = 1", "ENGINE = 2"):
        source.write_text(text)
        with monkeypatch.context() as patch:
            patch.setattr(finished, "ROOT", tmp_path)
            seen.append(request(SUITE, []))
    assert len(set(seen)) == len(seen) == 7
    assert request(SUITE, []) == seen[0]


def test_failed_cells_are_tried_again(tmp_path):
    assert recall(ended(tmp_path / "a", status="failed"), request(SUITE, [])) is None


def test_a_setting_that_names_a_file_is_looked_at_again(tmp_path):
    setting = spec.Setting("a", (("table", tmp_path / "table.csv"),), "1", "a")
    assert recall(ended(tmp_path / "a", settings=[setting]), request(SUITE, [])) is None


def test_plugins_that_could_not_be_imported_are_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(REGISTRIES["method"], "unavailable", {"a": "needs b"})
    assert recall(ended(tmp_path / "a"), request(SUITE, [])) is None


def test_plugins_installed_beside_ours_are_looked_at_again(tmp_path, monkeypatch):
    folder = ended(tmp_path / "before")
    point = importlib.metadata.EntryPoint("mine", "mine:mine", "assay.methods")
    monkeypatch.setattr(finished.importlib.metadata, "entry_points", lambda **_: [point])
    assert recall(folder, request(SUITE, [])) is None  # it came since
    assert recall(ended(tmp_path / "a"), request(SUITE, [])) is None


def test_a_folder_that_is_not_there_or_in_use_tells_nothing(tmp_path):
    assert recall(tmp_path / "none", request(SUITE, [])) is None
    folder = ended(tmp_path / "a")
    ledger = Ledger(folder)
    ledger._db.execute("UPDATE plan SET kind = kind")
    assert recall(folder, request(SUITE, [])) is None
    ledger.close()
    assert recall(folder, request(SUITE, [])) == TOLD
