"""Suite -> cells: what is refused, what `all` means, and keys that change when the number may."""

import os
import pickle
import subprocess
import sys
import tracemalloc

import pytest

from assay.benchmarks import grid, records
from assay.benchmarks import suite as suites
from assay.benchmarks.grid import digest, expand, noise_of, parameters_of, plan
from assay.benchmarks.plugin import DATASETS, METHODS, METRICS, MODELS, dataset, method, metric, model
from assay.benchmarks.registry import AssayError, load_file
from assay.benchmarks.suite import Suite, load_suite, suite_names

REGISTRIES = (DATASETS, MODELS, METHODS, METRICS)
URL = "https://example.org"
TOYS = """
from pathlib import Path
from assay.benchmarks.plugin import dataset, method, metric, model

@dataset(paper="https://example.org", noise=("columns",), instead={"table": "power"})
def sums(rng, /, *, columns: int = 3, power: int = 1, share: float = 0.5, table: Path | None = None): ...

@model(paper="https://example.org", has=("gradient", "layers"))
def line(problem, rng, /, *, penalty: float = 1.0): ...

@method(paper="https://example.org")
def ant(case, /, *, steps: int = 5): ...

@method(paper="https://example.org")
def bee(case, /): ...

@method(paper="https://example.org")
def cat(case, /): ...

@metric(paper="https://example.org", family="ground truth", best=1.0, worst=0.0)
def hits(evidence, /): ...

@metric(paper="https://example.org", family="agreement", best=1.0, worst=0.0, needs=("other",))
def same(evidence, /): ...
"""
PRINT_KEYS = """
import sys
from pathlib import Path
from assay.benchmarks.grid import plan
from assay.benchmarks.registry import load_file
from assay.benchmarks.suite import Suite
load_file(Path(sys.argv[1]))
for cells in plan(Suite.model_validate_json(sys.argv[2])).values():
    print(*(cell.key for cell in cells), sep="\\n")
"""


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    """Only the toys are registered, and only while a test runs; gives the path of their file."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_plugins", {})
        monkeypatch.setattr(registry, "_pending", {})
    file = tmp_path / "toys.py"
    file.write_text(TOYS)
    load_file(file)
    return file


def suite(*blocks, seeds=1):
    return Suite.model_validate({"name": "toy", "seeds": seeds, "grid": list(blocks) or [{}]})


def cells(*blocks, seeds=1):
    return [cell for group in plan(suite(*blocks, seeds=seeds)).values() for cell in group]


def refusal(call, *given):
    with pytest.raises(AssayError) as caught:
        call(*given)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def suite_file(folder, text):
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


# ---- files ----------------------------------------------------------------------------------------------


def test_a_suite_file_is_read(tmp_path):
    found = load_suite(suite_file(tmp_path, 'title = "T"\nseeds = 2\n[[grid]]\nmethod = ["ant"]\n'))
    assert (found.name, found.title, found.seeds) == ("mine", "T", 2)
    assert found.grid[0].method == ["ant"]
    assert found.grid[0].metric == ["all"]


def test_wrong_toml_is_refused_with_its_line(tmp_path):
    message = refusal(load_suite, suite_file(tmp_path, 'title = "T"\nseeds = = 2\n'))
    assert "not valid TOML" in message
    assert "line 2" in message
    assert "mine.toml" in message


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b'title = "\xff"')
    assert "not valid TOML" in refusal(load_suite, str(path))


WRONG = [
    ('seeds = 1\ncolour = "red"\n[[grid]]\n', "colour"),
    ('[[grid]]\nmethods = ["ant"]\n', "grid.0.methods"),
    ('[[grid]]\nmethod = "ant"\n', "grid.0.method"),
    ("[[grid]]\nmethod = [1]\n", "grid.0.method.0"),
    ("seeds = 0\n[[grid]]\n", "seeds"),
    ("seeds = true\n[[grid]]\n", "seeds"),
    ("seeds = 1.5\n[[grid]]\n", "seeds"),
    ("model_seeds = 0\n[[grid]]\n", "model_seeds"),
    ("method_seeds = 0\n[[grid]]\n", "method_seeds"),
    ("first_seed = -1\n[[grid]]\n", "first_seed"),
    ("seeds = 1\n", "grid"),
    ("grid = []\n", "grid"),
]


@pytest.mark.parametrize(("text", "where"), WRONG)
def test_a_wrong_entry_is_refused_with_its_place(tmp_path, text, where):
    message = refusal(load_suite, suite_file(tmp_path, text))
    assert f": {where}: " in message
    assert "dataset, model, method, metric" in message  # what is allowed


def test_a_suite_file_that_is_not_there(tmp_path):
    assert "is not there" in refusal(load_suite, str(tmp_path / "none.toml"))


def test_an_unknown_suite_comes_with_the_nearest(monkeypatch):
    monkeypatch.setattr(suites, "suite_names", lambda: ["quick", "smoke"])
    message = refusal(load_suite, "quik")
    assert "no suite is called 'quik'. Did you mean 'quick'?" in message
    assert "smoke" in message


def test_our_own_suites_are_read():
    assert {load_suite(name).name for name in suite_names()} == set(suite_names())


@pytest.mark.parametrize("kind", ["dataset", "model", "method", "metric"])
def test_an_empty_list_leaves_no_cell(kind):
    assert "no cell" in refusal(plan, suite({kind: []}))


def test_only_a_metric_of_pairs_and_one_method_leave_no_cell():
    assert "no cell" in refusal(plan, suite({"method": ["ant"], "metric": ["same"]}))


def test_a_wrong_name_in_a_suite_comes_with_the_nearest():
    assert "Did you mean 'bee'?" in refusal(plan, suite({"method": ["beee"]}))


# ---- what is in the grid --------------------------------------------------------------------------------


def test_all_is_every_plugin_of_the_kind():
    assert [s.text for s in expand("method", ["all"])] == ["ant", "bee", "cat"]
    assert [s.text for s in expand("metric", ["all"])] == ["hits", "same"]


def test_all_beside_a_name_adds_only_what_is_new():
    texts = [s.text for s in expand("method", ["cat", "all", "ant[steps=9]", "ant[steps=5]"])]
    assert texts == ["cat", "ant", "bee", "ant[steps=9]"]


def test_the_grid_is_the_product():
    block = {"dataset": ["sums[columns=[1,2]]"], "method": ["ant", "bee"], "metric": ["hits"]}
    found = cells(block, seeds=3)
    assert len(found) == 2 * 3 * 2
    assert {(c.unit.dataset.params["columns"], c.unit.seed, c.method.name) for c in found} == {
        (columns, seed, name) for columns in (1, 2) for seed in range(3) for name in ("ant", "bee")
    }


def test_an_overlap_of_blocks_is_planned_once():
    block = {"method": ["ant", "bee"]}
    assert [c.key for c in cells(block, block)] == [c.key for c in cells(block)]
    grown = cells(block, {"method": ["bee", "cat", "ant"]})
    assert len({c.key for c in grown}) == len(grown)
    assert sum(c.other is None for c in grown) == 3


def test_every_pair_is_planned_once():
    pairs = [{c.method.name, c.other.name} for c in cells({"metric": ["same"]})]
    assert pairs == [{"ant", "bee"}, {"ant", "cat"}, {"bee", "cat"}]


def test_a_pair_in_the_other_order_is_the_same_pair():
    forwards, backwards = {"method": ["ant", "bee"]}, {"method": ["bee", "ant"]}
    assert sum(c.other is not None for c in cells(forwards, backwards)) == 1


def test_a_metric_of_one_map_is_no_metric_of_pairs():
    found = cells()
    assert {c.metric.name for c in found if c.other is None} == {"hits"}
    assert {c.metric.name for c in found if c.other is not None} == {"same"}


def test_two_names_of_one_file_are_planned_once(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("1\n")
    second.write_text("1\n")
    keys = [c.key for c in cells({"dataset": [f"sums[table=['{first}','{second}']]"]})]
    assert len(set(keys)) == len(keys)


def test_lists_given_by_hand_replace_those_of_every_block():
    given = suite({"method": ["ant"]}, {"method": ["bee"]}).with_lists({"method": ["cat"], "metric": []})
    assert [(b.method, b.metric) for b in given.grid] == [(["cat"], ["all"])]


def test_a_plugin_can_be_added_to_every_block():
    given = suite({"method": ["ant"]}, {"method": ["bee"]}).with_added("method", ["cat"])
    assert [b.method for b in given.grid] == [["ant", "cat"], ["bee", "cat"]]


def test_noise_axes_stand_apart_from_the_other_parameters():
    """All that has a value is told, but for the argument that another one takes the place of."""
    (setting,) = expand("dataset", ["sums[columns=7,power=2]"])
    assert (noise_of(setting), parameters_of(setting)) == ("columns=7", "power=2 share=0.5")
    (setting,) = expand("dataset", ["sums[table=a.csv]"])
    assert (noise_of(setting), parameters_of(setting)) == ("columns=3", "share=0.5 table=a.csv")


# ---- keys -----------------------------------------------------------------------------------------------


def test_parts_of_a_digest_do_not_run_together():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", 1) == digest("a", "1")


def test_keys_are_the_same_in_another_process_with_another_hash_seed(toys):
    """Sweeps, defaults, several plug-ins: nothing of a key may hang on the order of a set."""
    asked = suite(
        {"dataset": ["sums[share=0.1,columns=[1,2]]"], "method": ["ant[steps=[1,2]]", "all"]}, seeds=2
    )
    own = [c.key for c in (cell for group in plan(asked).values() for cell in group)]
    command = [sys.executable, "-P", "-c", PRINT_KEYS, str(toys), asked.model_dump_json()]
    outputs = [
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] == own


DECLARE = {
    "dataset": (DATASETS, "sums", lambda v: dataset(paper=URL, noise=("columns",), version=v)),
    "model": (MODELS, "line", lambda v: model(paper=URL, has=("gradient", "layers"), version=v)),
    "method": (METHODS, "ant", lambda v: method(paper=URL, version=v)),
    "metric": (METRICS, "hits", lambda v: metric(paper=URL, family="axiom", best=1.0, worst=0.0, version=v)),
}


@pytest.mark.parametrize("kind", DECLARE)
def test_a_new_version_changes_the_keys_of_its_own_cells_and_no_other(kind):
    registry, name, declare = DECLARE[kind]
    before = cells()
    function = registry[name].function
    del registry._plugins[name]
    function.__module__ = __name__  # of a file, the version would hold its hash too
    declare(2)(function)
    after = cells()
    for old, new in zip(before, after, strict=True):
        used = {old.unit.dataset.name, old.unit.model.name, old.method.name, old.metric.name}
        used |= {old.other.name} if old.other else set()
        assert (old.key != new.key) == (name in used)


def test_an_edited_plugin_file_is_a_new_version(toys, tmp_path):
    before = METHODS["ant"].version
    for registry in REGISTRIES:
        registry._plugins.clear()
    edited = tmp_path / "edited.py"
    edited.write_text(TOYS + "\n# mended\n")
    load_file(edited)
    assert METHODS["ant"].version != before


def test_every_part_of_a_cell_is_in_its_key():
    blocks = [
        {"dataset": ["sums[columns=[1,2],power=[1,2]]"], "model": ["line[penalty=[1,2]]"]},
        {"method": ["ant[steps=[1,2]]", "bee"]},
    ]
    found = cells(*blocks, seeds=2)
    assert len({c.key for c in found}) == len(found)
    assert len({c.unit.key for c in found}) == (4 * 2 + 1) * 2  # the second block has the defaults


# ---- seeds of three kinds -------------------------------------------------------------------------------


FROZEN = """\
from assay.benchmarks.plugin import dataset, method, metric, model
URL = "https://example.org"

@dataset(paper=URL, noise=("columns",))
def sums(rng, /, *, columns: int = 3): ...

@model(paper=URL, has=())
def line(problem, rng, /): ...

@method(paper=URL)
def ant(case, /, *, steps: int = 5): ...

@method(paper=URL)
def bee(case, /): ...

@metric(paper=URL, family="ground truth", best=1.0, worst=0.0)
def hits(evidence, /): ...

@metric(paper=URL, family="agreement", best=1.0, worst=0.0, needs=("other",))
def same(evidence, /): ...
"""
KEYS = {  # as they were when one seed drew data, models and methods alike
    "model": "f342f0d46610387dc206e07d",
    "cells": ["9c395f25986017a3cf4c51c0", "3797554832efdcf5c54b6f82", "b74e1d997f7125a2df75985c"],
    "cost": "504fd3680bd183b6d5fbbac6",
    "maps": "44a3ebe4215324299d1cf8ac",
    "pictures": "70755c40248d09e3d86f78f5",
    "reliance": "5e900bd192c5c5049dff718e",
    "scoring": "0d4b631d0cac515c38965a65",
    "problem": "f7aca74f84814397ada01dd7",
}


@pytest.fixture
def frozen(monkeypatch, tmp_path):
    """Plug-ins, an engine and libraries whose versions never change."""
    for registry in REGISTRIES:
        registry._plugins.clear()
    file = tmp_path / "frozen.py"
    file.write_text(FROZEN)
    load_file(file)
    monkeypatch.setattr(grid, "ENGINE", 2)
    monkeypatch.setattr(grid, "library_versions", lambda: {"torch": "1"})


@pytest.mark.usefixtures("frozen")
def test_keys_of_first_seeds_are_what_they_were_before_there_were_others():
    asked = {"name": "toy", "seeds": 2, "grid": [{}]}
    for more in ({}, {"model_seeds": 2, "method_seeds": 3}):
        planned = plan(Suite.model_validate(asked | more))
        unit = next(u for u in planned if (u.seed, u.model_seed) == (1, 0))
        cells = [cell for cell in planned[unit] if cell.method_seed == 0]
        found = {
            "model": unit.key,
            "cells": [cell.key for cell in cells],
            "cost": records.cost_key(unit, cells[0].method, cells[0].method_seed),
            "maps": records.maps_key(unit, cells[0].method),
            "pictures": records.pictures_key(unit),
            "reliance": records.reliance_key(unit, "core"),
            "scoring": records.scoring_key(unit, cells[0].metric),
            "problem": records.problem_key(unit),
        }
        assert found == KEYS


def test_every_draw_is_trained_on_and_every_model_explained_so_many_times():
    asked = suite({"method": ["ant", "bee"]}).model_copy(
        update={"seeds": 2, "model_seeds": 3, "method_seeds": 2, "first_seed": 5}
    )
    planned = plan(asked)
    assert [(u.seed, u.model_seed) for u in planned] == [(s, m) for s in (5, 6) for m in range(3)]
    found = [cell for group in planned.values() for cell in group]
    assert len({cell.key for cell in found}) == len(found) == 2 * 3 * 2 * (2 + 1)
    assert len({unit.problem for unit in planned}) == 2  # models of one draw share its data
    costs = {records.cost_key(c.unit, c.method, c.method_seed) for c in found}
    assert len(costs) == 2 * 3 * 2 * 2
    for pair in (cell for cell in found if cell.other):
        row = records.row_of(pair)
        assert (row["seed"], row["model_seed"]) == (pair.unit.seed, pair.unit.model_seed)
        assert row["method_seed"] == pair.method_seed


def test_seeds_can_begin_anywhere_and_each_stays_what_it_is():
    four = cells(seeds=4)
    later = plan(suite(seeds=2).model_copy(update={"first_seed": 2}))
    keys = [cell.key for group in later.values() for cell in group]
    assert keys == [cell.key for cell in four if cell.unit.seed >= 2]


def test_a_suite_without_more_seeds_is_told_as_it_was(tmp_path):
    """The manifest of a run holds it, and its hash."""
    assert set(suite().model_dump()) == {"name", "title", "seeds", "grid"}
    text = "seeds = 2\nmodel_seeds = 2\nmethod_seeds = 3\nfirst_seed = 7\n[[grid]]\n"
    found = load_suite(suite_file(tmp_path, text))
    assert (found.model_seeds, found.method_seeds, found.first_seed) == (2, 3, 7)
    assert Suite.model_validate_json(found.model_dump_json()) == found


# ---- very many cells ------------------------------------------------------------------------------------


def test_a_cell_and_a_unit_come_through_a_pipe_with_their_keys():
    """As they go to workers; a key is not computed again there."""
    cell = cells()[-1]
    again = pickle.loads(pickle.dumps(cell))
    assert again == cell
    assert (again.key, again.unit.key) == (cell.key, cell.unit.key)
    assert not hasattr(cell, "__dict__")


def test_a_plan_takes_few_bytes_a_cell():
    """A million of them are to fit beside everything else."""
    steps = f"ant[steps=[{','.join(map(str, range(1, 121)))}]]"
    asked = suite({"method": [steps]}, seeds=2)
    plan(asked)
    tracemalloc.start()
    planned = plan(asked)
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    count = sum(map(len, planned.values()))
    assert count == 2 * (120 + 120 * 119 // 2)
    assert held / count < 200
    assert most / count < 300


def test_blocks_that_share_a_unit_are_one_list_in_the_order_asked():
    blocks = (
        {"method": ["bee"]},
        {"dataset": ["sums[columns=9]"], "method": ["ant"]},
        {"method": ["ant", "cat"]},
    )
    planned = plan(suite(*blocks))
    found = {
        unit.dataset.text: [c.method.name for c in group if not c.other] for unit, group in planned.items()
    }
    assert found == {"sums": ["bee", "ant", "cat"], "sums[columns=9]": ["ant"]}
    assert [*found] == ["sums", "sums[columns=9]"]


AS_READ = """
import sys
from assay.benchmarks import grid, loading, manifest
from assay.benchmarks.suite import load_suite

loading.load_plugins()
methods = {name for block in load_suite("quick").grid for name in block.method}
print(len(grid.plan(load_suite("quick"))), bool({"captum", "shap"} & set(sys.modules)))
assert methods <= set(manifest._plugin_versions()["method"])
found = grid.expand("method", grid.REGISTRIES["method"].files())
registry = grid.REGISTRIES["method"]
read = [(s, s.key, str(s.values)) for s in found]
wanted = [grid.settings(registry, s.name)[0] for s in found if registry[s.name]]
assert read == [(s, s.key, str(s.values)) for s in wanted]
assert {"captum", "shap"} <= set(sys.modules)
print(len(wanted))
"""


def test_methods_are_planned_without_captum_and_shap_as_they_would_be_with_them():
    done = subprocess.run([sys.executable, "-P", "-c", AS_READ], capture_output=True, text=True, check=True)
    count, imported, methods = done.stdout.split()
    assert int(count) > 50
    assert imported == "False"
    assert int(methods) > 50
