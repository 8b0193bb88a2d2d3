"""The command line as users meet it: what it does, and what it says when they are wrong."""

import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch

from assay.benchmarks import cli
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import METHODS

PROBLEM = "symbolic[function=[11,14],columns=5,rows=500,explained=10]"
TINY = ["run", "smoke", "--dataset", PROBLEM, "--model", "linear", "--model", "oracle", "--jobs", "1"]
THREE = ["--method", "random", "--method", "saliency", "--method", "feature_ablation"]


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """What a test registers is forgotten after it."""
    load_plugins()
    assert len(METHODS)  # all built-ins are imported before the state is noted
    monkeypatch.setattr(METHODS, "_plugins", dict(METHODS._plugins))


@pytest.fixture
def assay(monkeypatch, capsys, tmp_path):
    """Run a command in this process, from an empty folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["assay", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished tiny run, made once."""
    folder = tmp_path_factory.mktemp("finished") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["assay", *map(str, (*TINY, *THREE, "--out", folder))])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert stop.value.code == 0
    return folder


@pytest.fixture
def results(finished, tmp_path):
    """A copy of it, for a test to do with as it likes."""
    return shutil.copytree(finished, tmp_path / "a")


def test_run_writes_every_table(results):
    found = {path.name for path in results.iterdir()}
    tables = {"scores.csv", "agreement.csv", "costs.csv", "models.csv", "problems.csv", "leaderboard.csv"}
    assert tables | {"ledger.sqlite", "leaderboard.md", "manifest.json"} <= found
    scores = pd.read_csv(results / "scores.csv")
    assert len(scores) == 2 * 2 * 2 * 3 * 13  # functions, models, seeds, methods, metrics of one method
    assert set(scores["status"]) <= {"ok", "trivial", "undefined", "unlearned"}
    assert scores["dataset"].eq("symbolic").all()
    assert set(scores["noise"]) == {"columns=5 label_sd=0.01"}
    assert scores["parameters"].nunique() == 2
    made = json.loads((results / "manifest.json").read_text())
    assert made["seeds"] == 2
    assert made["versions"]["torch"]
    assert made["end"] >= made["start"]


def test_the_leaderboard_is_best_first_and_random_is_last(results):
    board = pd.read_csv(results / "leaderboard.csv")
    overall = board[board["scope"] == "overall"]
    assert list(overall["rank"]) == [1, 2, 3]
    assert overall["skill"].is_monotonic_decreasing
    assert overall["method"].iloc[-1] == "random"


def test_a_second_run_computes_nothing_and_changes_no_byte(assay, results):
    before = (results / "scores.csv").read_bytes()
    code, out, _ = assay(*TINY, *THREE, "--out", results)
    assert code == 0
    assert "0 to compute" in out
    assert (results / "scores.csv").read_bytes() == before


def test_fresh_starts_over(assay, results):
    code, out, _ = assay(*TINY, *THREE, "--out", results, "--fresh")
    assert code == 0
    assert "384 cells, 384 to compute" in out


def test_a_new_method_in_the_suite_leaves_the_old_scores_alone(assay, results):
    before = pd.read_csv(results / "scores.csv")
    code, out, _ = assay(*TINY, *THREE, "--method", "constant", "--out", results)
    assert code == 0
    assert f"{2 * 2 * 2 * (13 + 3 * 3)} to compute" in out  # its scores, its agreement with the three others
    after = pd.read_csv(results / "scores.csv")
    kept = after[after["method"] != "constant"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)


def test_report_makes_the_same_tables_again(assay, results):
    before = (results / "leaderboard.md").read_text()
    (results / "leaderboard.md").unlink()
    code, out, _ = assay("report", results)
    assert code == 0
    assert "random" in out
    assert (results / "leaderboard.md").read_text() == before


def test_plain_output_has_no_control_characters(assay, results):
    _, out, _ = assay("report", results)
    assert "\x1b" not in out
    assert all(ord(c) < 0x2500 or ord(c) > 0x25FF for c in out)  # no box drawing


@pytest.mark.parametrize("kind", ["datasets", "models", "methods", "metrics", "suites"])
def test_list_as_json_is_an_array_of_named_objects(assay, kind):
    code, out, _ = assay("list", kind, "--json")
    assert code == 0
    found = json.loads(out)
    assert all(entry["name"] and entry["summary"] for entry in found)
    names = [entry["name"] for entry in found]
    assert names == sorted(names)


def test_list_without_a_kind_lists_all(assay):
    code, out, _ = assay("list")
    assert code == 0
    for name in ("symbolic", "boosted_trees", "kernel_shap", "average_precision", "quick"):
        assert name in out


def test_a_file_plugin_is_ranked_beside_the_suite(assay, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    code, out, err = assay(*TINY, "--plugin", "mine.py", "--jobs", "2", "--out", tmp_path / "b")
    assert code == 0, err
    scores = pd.read_csv(tmp_path / "b" / "scores.csv")
    assert scores.loc[scores["method"] == "doubled", "status"].ne("failed").all()
    assert {"doubled", "kernel_shap"} <= set(scores["method"])
    assert "doubled" in out


MINE = '''
from assay.benchmarks.plugin import Case, Samples, method


@method(paper="https://arxiv.org/abs/1605.01713")
def doubled(case: Case, *, factor: float = 2.0) -> Samples:
    """Twice the input."""
    return factor * case.x
'''


def test_an_installed_package_offers_methods_by_an_entry_point(assay, tmp_path, monkeypatch):
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[assay.methods]\nfrom_outside = outside_package:from_outside\n")
    (tmp_path / "outside_package.py").write_text(MINE.replace("doubled", "from_outside"))
    monkeypatch.syspath_prepend(tmp_path)
    code, out, err = assay("list", "methods", "--json")
    assert code == 0, err
    assert "from_outside" in {entry["name"] for entry in json.loads(out)}
    assert assay("check", "from_outside")[0] == 0


LETHAL = MINE.replace("doubled", "lethal").replace("return factor * case.x", "__import__('os')._exit(7)")
BROKEN = MINE.replace("doubled", "broken").replace(
    "return factor * case.x", "raise RuntimeError('no\\n luck')"
)
EMPTY = MINE.replace("doubled", "nan_map").replace("return factor * case.x", "return case.x * float('nan')")
SHORT = MINE.replace("doubled", "short").replace("return factor * case.x", "return case.x[:, 1:]")


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        (BROKEN, "broken", "raised RuntimeError: no luck"),
        (EMPTY, "nan_map", "are NaN or infinite"),
        (SHORT, "short", "must return the shape of x"),
        (LETHAL, "lethal", "worker process died (exit code 7)"),
    ],
)
def test_a_bad_method_costs_its_own_cells_only(assay, tmp_path, text, name, reason):
    (tmp_path / "bad.py").write_text(text)
    words = [*TINY, *THREE, "--plugin", "bad.py", "--method", name, "--jobs", "2"]
    code, out, _ = assay(*words, "--out", tmp_path / "b")
    assert code == 0
    assert name in out
    scores = pd.read_csv(tmp_path / "b" / "scores.csv")
    mine = scores["method"] == name
    assert scores.loc[mine, "status"].eq("failed").all()
    assert scores.loc[mine, "reason"].str.contains(reason, regex=False).all()
    assert scores.loc[~mine, "status"].ne("failed").all()


def test_check_passes_on_ours_and_names_what_is_wrong_with_yours(assay, tmp_path):
    code, out, _ = assay("check", "saliency")
    assert code == 0
    assert "ok   hits_its_estimand" in out
    (tmp_path / "bad.py").write_text(SHORT)
    code, out, err = assay("check", "bad.py")
    assert code == 2
    assert "FAIL keeps_shape_and_inputs" in out
    assert "must return the shape of x" in out
    assert "checks of 'bad.py' failed" in err


def test_compare_of_a_run_with_itself_sees_nothing(assay, results):
    code, out, _ = assay("compare", results, results, "--fail-on-regression")
    assert code == 0
    assert "no difference seen" in out
    assert "worse" not in out
    assert "better" not in out
    assert (results / "comparison.md").exists()


@pytest.fixture
def spoiled(assay, results, tmp_path):
    """The same run, in which saliency has lost 0.3 of its skill everywhere and one method is missing."""
    folder = tmp_path / "b"
    folder.mkdir()
    scores = pd.read_csv(results / "scores.csv", keep_default_na=False, na_values={"skill": ""})
    scores = scores[scores["method"] != "random"]
    scores.loc[scores["method"] == "saliency", "skill"] -= 0.3
    scores.to_csv(folder / "scores.csv.gz", index=False)  # a table alone, compressed, is enough
    return folder


def test_compare_finds_a_planted_drop_and_can_fail_on_it(assay, results, spoiled):
    code, out, err = assay("compare", results, spoiled, "--fail-on-regression")
    assert code == 3
    assert "worse than before: saliency; failed, or no longer comparable: random." in err
    found = pd.read_csv(spoiled / "comparison.csv")
    found = found[found["metric"].isna()].set_index(["method", "family"])
    drop = found.loc[("saliency", "ground truth")]
    assert drop["difference"] == pytest.approx(-0.3)
    assert drop["verdict"] == "worse"
    assert drop["high"] < 0
    assert found.loc[("feature_ablation", "ground truth"), "verdict"] == "no difference seen"
    assert "Cells scored in only one of them" in out
    assert assay("compare", results, spoiled)[0] == 0
    assert assay("compare", spoiled, results, "--fail-on-regression")[0] == 0  # a gain is no regression


def test_a_method_that_fails_where_it_did_not_is_a_regression(assay, results, spoiled):
    scores = pd.read_csv(results / "scores.csv", keep_default_na=False, na_values={"skill": ""})
    lost = scores["method"] == "random"
    scores.loc[lost, "status"] = "failed"
    scores.loc[lost, "skill"] = None
    scores.to_csv(spoiled / "scores.csv.gz", index=False)
    code, out, err = assay("compare", results, spoiled, "--fail-on-regression")
    assert code == 3
    assert "failed, or no longer comparable: random." in err
    assert "failed" in out


def test_runs_that_share_no_cell_cannot_be_compared(assay, results, spoiled):
    scores = pd.read_csv(results / "scores.csv", keep_default_na=False, na_values={"skill": ""})
    scores.assign(dataset="another").to_csv(spoiled / "scores.csv.gz", index=False)
    code, _, err = assay("compare", results, spoiled)
    assert code == 2
    assert "share no scored cell" in err


def test_runs_with_other_seeds_are_compared_by_their_means(assay, results, spoiled):
    scores = pd.read_csv(results / "scores.csv", keep_default_na=False, na_values={"skill": ""})
    scores["seed"] += 50
    scores.to_csv(spoiled / "scores.csv.gz", index=False)
    code, out, _ = assay("compare", results, spoiled, "--fail-on-regression")
    assert code == 0
    assert "no difference seen" in out
    found = pd.read_csv(spoiled / "comparison.csv")
    assert set(found["pairing"].dropna()) == {"other seeds"}
    assert found["difference"].dropna().abs().max() < 1e-12


def test_a_regression_is_one_of_the_metric_and_the_size_that_were_named(assay, results, spoiled):
    scores = pd.read_csv(spoiled / "scores.csv.gz", keep_default_na=False, na_values={"skill": ""})
    whole = pd.read_csv(results / "scores.csv", keep_default_na=False, na_values={"skill": ""})
    both = pd.concat([scores, whole[whole["method"] == "random"]])
    both.to_csv(spoiled / "scores.csv.gz", index=False)
    for limit, code in {"skill>0.2": 3, "skill>.4": 0, "auroc>1E-1": 3, "auroc > 0.5": 0}.items():
        assert assay("compare", results, spoiled, "--fail-on-regression", limit)[0] == code, limit
    code, _, err = assay("compare", results, spoiled, "--fail-on-regression", "auroc>much")
    assert code == 2
    assert "give METRIC>DELTA" in err
    code, _, err = assay("compare", results, spoiled, "--fail-on-regression", "aurok>0.1")
    assert code == 2
    assert "'aurok'" in err


def test_several_are_compared_with_the_first(assay, results, spoiled, tmp_path):
    code, out, _ = assay("compare", results, results, spoiled, "--out", tmp_path / "c")
    assert code == 0
    assert out.count("Skill in B = ") == 2
    page = (tmp_path / "c" / "comparison.html").read_text(encoding="utf-8")
    assert page.count("<h2>From ") == 2
    assert "worse: saliency" in page
    code, _, err = assay("compare", results)
    assert code == 2
    assert "--baseline" in err


def test_the_baseline_can_be_the_committed_results_of_the_suite(assay, results, spoiled):
    code, _, err = assay("compare", spoiled, "--baseline", "reference")
    assert code == 2
    assert "of which no results are committed" in err
    (spoiled / "manifest.json").write_text('{"suite": "quick"}')
    code, _, err = assay("compare", spoiled, "--baseline", "reference")
    assert code == 2
    assert "share no scored cell" in err  # found, and of other problems
    assert assay("compare", spoiled, "--baseline", results)[0] == 0


def test_a_report_is_written_in_every_form(assay, results, tmp_path):
    wanted = ("--html", "--latex", "--csv", "--png")
    code, out, _ = assay("report", results, *wanted, "--out", tmp_path / "r")
    assert code == 0
    for name in ("report.html", "leaderboard.tex", "tables/pairs.csv", "charts/leaderboard.png"):
        assert (tmp_path / "r" / name).is_file(), name
        assert name in out
    code, _, err = assay("report", results, "--out", tmp_path / "r")
    assert code == 2
    assert "--html" in err
    (tmp_path / "taken").write_text("")
    code, _, err = assay("report", results, "--html", "--out", tmp_path / "taken")
    assert code == 2
    assert "cannot be written" in err


def test_a_report_can_be_made_of_tables_alone(assay, results, tmp_path):
    (tmp_path / "t").mkdir()
    for name in ("scores.csv", "costs.csv", "models.csv", "metrics.csv", "manifest.json"):
        (tmp_path / "t" / name).write_bytes((results / name).read_bytes())
    assert assay("report", tmp_path / "t")[0] == 0
    board = (tmp_path / "t" / "leaderboard.csv").read_text()
    assert (
        board.splitlines()[1].split(",")[:6]
        == (results / "leaderboard.csv").read_text().splitlines()[1].split(",")[:6]
    )


def test_one_broken_plugin_file_stops_no_other(assay, monkeypatch):
    def broken():
        raise NameError("name 'troch' is not defined")

    monkeypatch.setitem(METHODS._pending, "broken", broken)
    monkeypatch.setattr(METHODS, "unavailable", {})
    code, out, _ = assay("list", "methods")
    assert code == 0
    assert "unavailable: cannot be imported (NameError: name 'troch' is not defined)" in out
    code, _, err = assay("run", "smoke", "--method", "broken")
    assert code == 2
    assert "mend the file" in err


def test_compare_writes_where_it_is_told(assay, results, tmp_path):
    assert assay("compare", results, results, "--out", tmp_path / "new" / "folder")[0] == 0
    assert (tmp_path / "new" / "folder" / "comparison.csv").exists()
    (tmp_path / "taken").write_text("")
    code, _, err = assay("compare", results, results, "--out", tmp_path / "taken")
    assert code == 2
    assert "'taken'" in err.replace(str(tmp_path) + "/", "")


def test_compare_says_how_the_runs_differ(assay, results, tmp_path):
    assay(*TINY, *THREE, "--seeds", "1", "--out", tmp_path / "c")
    _, out, _ = assay("compare", results, tmp_path / "c")
    assert "seeds" in out


BAD = [
    (["run", "quik"], ["no suite is called 'quik'", "Did you mean 'quick'?"]),
    (["run", "absent.toml"], ["'absent.toml' is not there"]),
    (["run", "line.toml"], ["'line.toml'", "line 2"]),
    (["run", "key.toml"], ["'key.toml'", "sedes"]),
    (["run", "empty.toml"], ["has no cell"]),
    (["run", "smoke", "--method", "salency"], ["no method is called 'salency'", "Did you mean 'saliency'?"]),
    (["run", "smoke", "--dataset", "symbolic[colums=3]"], ["no parameter 'colums'", "'columns'"]),
    (["run", "smoke", "--dataset", "symbolic[columns=-1]"], ["columns", "-1", "greater than or equal to 0"]),
    (["run", "smoke", "--dataset", "symbolic[columns=2.5]"], ["columns", "2.5", "integer"]),
    (["run", "smoke", "--dataset", "symbolic[columns"], ["cannot read 'symbolic[columns'"]),
    (["run", "smoke", "--dataset", 'symbolic[formula="__import__(1)"]'], ["formula", "__import__"]),
    (["run", "smoke", "--model", "mlp[activation=rleu]"], ["activation", "rleu", "relu"]),
    (["run", "smoke", "--seeds", "0"], ["seeds", "0"]),
    (["run", "smoke", "--out", "a_file"], ["'a_file'", "--out"]),
    (["run", "smoke", "--out", "foreign"], ["'foreign'", "another program", "--out"]),
    (["run", "smoke", "--out", "damaged"], ["'damaged'", "damaged", "--fresh"]),
    (["run", "smoke", "--plugin", "none.py"], ["none.py", "not there"]),
    (["run", "smoke", "--plugin", "raises.py"], ["raises.py", "ZeroDivisionError"]),
    ([*TINY[:2], "--dataset", "tabular[csv=mine.csv]"], ["mine.csv", "target"]),
    ([*TINY[:2], "--dataset", "tabular[csv=mine.csv,target=incom]"], ["mine.csv", "incom", "income"]),
    (["list", "method"], ["'method'", "methods"]),
    (["report", "nowhere"], ["'nowhere'"]),
    (["compare", "foreign", "nowhere"], ["'foreign'"]),
    (["compare", "nowhere"], ["'nowhere'", "--baseline reference"]),
    (["merge", "nowhere", "foreign", "-o", "c"], ["'nowhere'"]),
    (["submit", "nowhere"], ["'nowhere'"]),
    (["run", "smoke", "--first-seed", "-1"], ["--first-seed", "-1"]),
    (["check", "salincy"], ["no plug-in is called 'salincy'", "saliency"]),
    (["check", "plain.py"], ["'plain.py' defines no plug-in"]),
    (["new", "method", "My-Method"], ["'My-Method'", "small letters"]),
    (["new", "method", "saliency"], ["'saliency' already"]),
    (["new", "dataset", "mine"], ["'dataset'", "method"]),
    (["runn"], ["runn"]),
    (["run", "--sedes", "3"], ["--sedes"]),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else None)
def test_bad_input_is_one_line_and_exit_code_2(assay, tmp_path, words, said):
    (tmp_path / "a_file").write_text("")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("precious")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "ledger.sqlite").write_bytes(b"SQLite format 3\x00" + bytes(range(256)) * 40)
    (tmp_path / "line.toml").write_text("seeds = 2\n[[grid]\n")
    (tmp_path / "key.toml").write_text('sedes = 2\n[[grid]]\ndataset = ["symbolic"]\n')
    (tmp_path / "empty.toml").write_text("[[grid]]\nmethod = []\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "plain.py").write_text("x = 1\n")
    (tmp_path / "mine.csv").write_text("age,income\n" + "".join(f"{i},{i * i}\n" for i in range(50)))
    code, _, err = assay(*words)
    assert code == 2
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    for text in said:
        assert text in lines[0]
    assert (tmp_path / "foreign" / "thesis.tex").read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_ledger_is_left_as_it_was_found(assay, tmp_path):
    (tmp_path / "damaged").mkdir()
    content = b"SQLite format 3\x00" + bytes(range(256)) * 40
    (tmp_path / "damaged" / "ledger.sqlite").write_bytes(content)
    assert assay("run", "smoke", "--out", "damaged")[0] == 2
    assert (tmp_path / "damaged" / "ledger.sqlite").read_bytes() == content


@pytest.mark.parametrize(
    "more", [("--device", "cuda"), ("--cluster", "dask://127.0.0.1:1")], ids=["gpu", "cluster"]
)
def test_a_run_that_cannot_be_begun_forgets_nothing(assay, tmp_path, more):
    if more[1] == "cuda" and torch.cuda.is_available():
        pytest.skip("torch sees a GPU here")
    few = [*TINY, *THREE, "--out", tmp_path / "r"]
    assert assay(*few)[0] == 0
    before = (tmp_path / "r" / "scores.csv").read_bytes()
    code, _, err = assay(*few, "--fresh", *more)
    assert code == 2, err
    assert err.count("\n") == 1
    assert "0 to compute" in assay(*few)[1]
    assert (tmp_path / "r" / "scores.csv").read_bytes() == before


@pytest.mark.parametrize("jobs", ["0", "1"])
def test_a_method_whose_library_is_broken_is_told_before_anything_is_written(results, tmp_path, jobs):
    """Its file is read where a run is planned, not imported: that it can be is seen to all the same."""
    (tmp_path / "shap").mkdir()
    (tmp_path / "shap" / "__init__.py").write_text("raise ImportError('it does not fit numpy')")
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    words = [*TINY, "--jobs", jobs, *THREE, "--method", "shap_kernel", "--out", str(results)]
    command = [sys.executable, "-P", "-m", "assay.benchmarks.cli", *words]
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "error: method 'shap_kernel' cannot be imported (ImportError: it does not fit numpy): mend the file "
        "and run again.\n"
    )
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before


def test_a_cache_inside_the_results_is_refused_before_anything_is_made(assay, tmp_path):
    code, _, err = assay(*TINY, "--out", tmp_path / "r", "--cache", tmp_path / "r" / "cache")
    assert code == 2
    assert "is inside the results folder" in err
    assert not (tmp_path / "r").exists()


def test_the_folder_one_stands_in_can_hold_the_results(assay, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = assay(*TINY, *THREE, "--out", ".")
    assert code == 0, err
    assert (tmp_path / "scores.csv").is_file()


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)], ids=str)
def test_a_closed_stream_is_taken_by_no_file(tmp_path, closed):
    """Some schedulers start programs so; what is printed went into a worker's pipe or, worse, into a file."""
    code = (
        "import os\n"
        "from assay.benchmarks.screen import console, fill_streams\n"
        "fill_streams()\n"
        f"assert os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY) > 2\n"
        f"assert all(os.get_inheritable(number) for number in {closed})\n"
        "console().out('said')\n"
    )
    command = [sys.executable, "-P", "-c", code]
    subprocess.run(command, check=True, preexec_fn=lambda: [os.close(number) for number in closed])
    assert not (tmp_path / "file").read_bytes()
