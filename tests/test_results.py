"""The object for notebooks, on a folder whose numbers are known."""

import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import assay.benchmarks
from assay.benchmarks import findings
from assay.benchmarks.findings import Findings
from assay.benchmarks.leaderboard import Tables
from assay.benchmarks.registry import AssayError
from assay.benchmarks.results import Results, csv, frames, load
from assay.benchmarks.significance import Significance
from assay.benchmarks.store import COLUMNS, TEXT

NASTY = "<script>alert(1)</script>|$x$"
SKILL = {  # by dataset, noise, model and metric: what is added to a method's own skill
    "d": {"n=0": 0.0, "n=9": -0.2},
    "e": {"m=1": -0.1},
}
OWN = {"lime[budget=64]": 0.6, "lime[budget=512]": 0.8, NASTY: 0.5, "random": 0.3}


def row(table, **given):
    """A row of one of the ledger's tables, with what is not given left empty."""
    empty = {c: "" if c in TEXT else 0 if c.endswith("seed") else math.nan for c in COLUMNS[table]}
    return empty | given


def scores():
    rows = []
    for dataset, noises in SKILL.items():
        for noise, less in noises.items():
            for model, more in {"mlp": 0.0, "oracle": 0.1}.items():
                for method, skill in OWN.items():
                    where = {"dataset": dataset, "parameters": "p", "noise": noise, "model": model}
                    facts = {"metric": "auroc", "family": "ground truth", "seed": 0, "status": "ok"}
                    rows.append(row("scores", **where, **facts, method=method, skill=skill + less + more))
    return pd.DataFrame(rows)


def agreement():
    where = {"dataset": "d", "parameters": "p", "noise": "n=0", "model": "mlp", "seed": 0, "status": "ok"}
    return pd.DataFrame(
        [row("agreement", **where, method="random", other=NASTY, metric="spearman", skill=0.25)]
    )


def costs():
    where = {"dataset": "d", "parameters": "p", "noise": "n=0", "model": "mlp", "seed": 0}
    each = dict.fromkeys(("seconds_per_row", "model_rows_per_row", "backward_rows_per_row", "peak_mb"), 0.5)
    return pd.DataFrame([row("costs", **where, **each, method=m, control=int(m == "random")) for m in OWN])


def models():
    return pd.DataFrame(columns=list(COLUMNS["models"]))


@pytest.fixture
def results():
    return Results(Path("nowhere"), Tables(scores(), agreement(), models(), costs()))


@pytest.fixture
def folder(tmp_path):
    for name, frame in {"scores": scores(), "agreement": agreement(), "costs": costs()}.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def test_what_a_run_wrote_is_loaded(folder):
    found = assay.benchmarks.load(str(folder))
    assert isinstance(found, assay.benchmarks.Results)
    assert len(found.scores) == 3 * 2 * 4
    assert repr(found) == f"Results({str(folder)!r}: 4 methods, 2 datasets, 24 scores)"
    assert sorted(p.name for p in folder.iterdir()) == ["agreement.csv", "costs.csv", "scores.csv"]


def test_a_folder_without_results_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(AssayError, match="has no finished cell"):
            load(path)


def test_the_whole_leaderboard_is_the_reports(results):
    board = results.leaderboard()
    assert board["method"].tolist() == ["lime[budget=512]", "lime[budget=64]", NASTY, "random"]
    # a problem counts once: d is 0.1 below its own skill in the mean over its noise levels, e 0.1 too
    assert board["skill"].tolist() == pytest.approx([0.75, 0.55, 0.45, 0.25])
    assert board["control"].tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("by", "columns", "levels", "means"),
    [
        ("noise", ["dataset", "noise"], [("d", "n=0"), ("d", "n=9"), ("e", "m=1")], [0.85, 0.65, 0.75]),
        ("model", ["model"], [("mlp",), ("oracle",)], [0.7, 0.8]),
        ("metric", ["metric"], [("auroc",)], [0.75]),
        ("dataset", ["dataset"], [("d",), ("e",)], [0.75, 0.75]),
    ],
)
def test_a_leaderboard_by_something_has_a_block_for_every_level(results, by, columns, levels, means):
    board = results.leaderboard(by=by)
    assert board.columns[: len(columns) + 3].tolist() == [*columns, "rank", "method", "skill"]
    assert list(dict.fromkeys(board[columns].itertuples(index=False, name=None))) == levels
    assert len(board) == len(levels) * len(OWN)
    first = board[board["rank"] == 1]
    assert first["method"].tolist() == ["lime[budget=512]"] * len(levels)
    assert first["skill"].tolist() == pytest.approx(means)


def test_by_method_the_variants_of_a_plugin_are_compared(results):
    results.scores["method"] = results.scores["method"].replace({NASTY: "lrp"})
    board = results.leaderboard(by="method")
    assert board[["plugin", "rank", "method"]].to_numpy().tolist() == [
        ["lime", 1.0, "lime[budget=512]"],
        ["lime", 2.0, "lime[budget=64]"],
        ["lrp", 1.0, "lrp"],
        ["random", 1.0, "random"],
    ]


def test_a_level_that_one_method_lacks_is_not_ranked_for_it(results):
    cells = results.scores
    less = cells.drop(cells.index[(cells["method"] == "random") & (cells["dataset"] == "e")])
    board = Results(Path("x"), Tables(less, agreement(), models(), costs())).leaderboard(by="dataset")
    assert board.groupby("dataset")["method"].count().to_dict() == {"d": 4, "e": 3}


def test_an_unknown_way_to_take_it_apart_is_refused(results):
    with pytest.raises(AssayError, match=r"by 'nois'\. Did you mean 'noise'\?"):
        results.leaderboard(by="nois")


def test_agreement_is_method_by_method(results):
    found = results.agreement()
    assert found.loc[NASTY, "random"] == found.loc["random", NASTY] == 0.25
    assert results.agreement("top_k").empty


def small(results, **parts):
    board = results.leaderboard()
    fixed = {"boards": {"overall": board}, "pairs": pd.DataFrame(), "made": {}, "name": "n"}
    return Findings(folder=results.folder, tables=results.tables, **fixed | parts)


def test_findings_are_computed_once_and_when_asked(results, monkeypatch):
    calls = []
    monkeypatch.setattr(findings, "find", lambda folder: calls.append(folder) or small(results))
    assert not calls
    assert results.findings is results.findings
    assert calls == [results.folder]


def test_a_notebook_shows_the_overview_and_the_leaderboard_escaped(results, monkeypatch):
    told = small(results, overview=["Use <b> & not c."])
    monkeypatch.setattr(findings, "find", lambda folder: told)
    shown = results._repr_html_()
    assert "<p>Use &lt;b&gt; &amp; not c.</p>" in shown
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;|$x$" in shown
    assert shown.index("lime[budget=512]") < shown.index("lime[budget=64]") < shown.index("random")


def test_every_table_with_rows_is_written_and_none_of_the_ledgers_is_overwritten(results, tmp_path):
    told = Significance(
        mean_ranks=pd.Series({"a": 1.0, "b": 2.0}),
        cliques=[["a", "b"]],
        pairs=pd.DataFrame({"a": ["a"], "b": ["b"], "p_holm": [0.5]}),
        **{"friedman_statistic": 2.0, "friedman_p": 0.2, "blocks": 3, "critical_difference": 1.5},
        **{"iman_davenport": 2.5, "iman_davenport_p": 0.1},
    )
    whole = small(
        results,
        significance=told,
        iqm=pd.Series({"a": 0.5, "b": 0.25}),
        agreement=results.agreement(),
        curves=pd.DataFrame({"method": [NASTY], "skill": [0.1 + 0.2]}),
        shortcuts={"m": pd.DataFrame({"method": ["a"]})},
    )
    written = csv(whole, tmp_path / "new")
    names = [path.stem for path in written]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(f"{n}.csv" for n in names)
    assert {"ranks", "tests", "friedman", "cliques", "curves", "agreement_matrix", "shortcuts"} < {*names}
    assert not {*names} & {*COLUMNS}
    assert "profiles" not in names
    back = {path.stem: pd.read_csv(path) for path in written}
    assert back["leaderboard"]["scope"].unique().tolist() == ["overall"]
    assert back["leaderboard"]["skill"].tolist() == results.leaderboard()["skill"].tolist()
    assert back["curves"].to_numpy().tolist() == [[NASTY, 0.1 + 0.2]]
    assert back["ranks"].to_numpy().tolist() == [["a", 1.0, 0.5], ["b", 2.0, 0.25]]
    assert back["agreement_matrix"].columns.tolist() == ["method", "random", NASTY]
    assert [*frames(whole)] == names


def test_a_folder_that_cannot_be_written_is_an_error_of_the_user(results, tmp_path):
    (tmp_path / "x").write_text("in the way")
    with pytest.raises(AssayError, match="cannot be written"):
        csv(small(results), tmp_path / "x")


def test_importing_the_engine_imports_nothing_heavy():
    code = (
        "import sys, assay.benchmarks; print(*(m for m in ('torch', 'pandas', 'numpy') if m in sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
    assert not hasattr(assay.benchmarks, "no_such_name")


def test_the_code_in_the_documentation_runs(folder, monkeypatch):
    page = Path(__file__).resolve().parent.parent / "docs" / "notebook.md"
    blocks = page.read_text(encoding="utf-8").split("```python\n")[1:]
    code = "".join(block.partition("```")[0] for block in blocks)
    namespace = {}
    exec(code.replace("results/reference/quick", str(folder)), namespace)
    written = {path.name for path in namespace["folder"].iterdir()}
    assert {"charts", "leaderboard.tex", "leaderboard.csv"} <= written
