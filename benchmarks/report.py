"""Results folder -> leaderboard.csv, leaderboard.md and, where there are any, pictures."""

from pathlib import Path
from typing import Any

import pandas as pd

from . import (
    accord,
    breakdown,
    errorsplit,
    estimators,
    gallery,
    shortcuts,
    significance,
    trust,
    variance,
)
from . import leaderboard as lead
from .findings import Findings, find
from .leaderboard import Tables, in_prose
from .leaderboard import markdown_table as as_markdown
from .manifest import read as read_manifest
from .manifest import seal
from .store import FILE, GROUP_ACCURACY, Ledger, write_atomically

HOW_TO_READ = """\
Skill is measured against exact truth: 0 is what a random attribution scores in the same cell, 1 what the
exact attribution of the true function scores (where there is no known function: the metric's best). A rank is
over the cells that every ranked method completed, so nobody's mean is over easier cells. The first 95%
interval, and that of the rank, is for these problems if their data were drawn and their models trained again;
the second is for other problems of which these are a sample (a function or table is one problem, at all its
noise levels), and is not known from fewer than three. Faithfulness (deletion, insertion) is skill too, with 1
for the model's own exact single ablation. Agreement is the mean Spearman correlation with the other methods
that are no controls, 0 for two random maps; it is not correctness. Where methods are ranked on reliance
cells, the truth is what each model was measured to use."""
UNSAID = {"git_commit": "unknown", "end": "unfinished"}  # what is told where a manifest does not say
QUALITY = """\
Quality is R2, or the share of the way from always saying the commonest class to perfect accuracy, on test
rows, against the noiseless truth where it is known. Below 0.1 a model has learned nothing, and its
explanations do not count; where there is a shortcut, a model that says what the shortcut says has learned."""

COST = """\
Medians over all units: milliseconds, rows forward through the model and backward for a row explained; and the
most memory that a unit took beyond what its worker held before."""


def write(folder: Path) -> Findings:
    """Make all tables and pictures of a results folder, from its ledger where there is one; what they say.

    Without a ledger, as in the committed results, they are made from the tables that it left.

    Raises:
        AssayError: there is neither, or it cannot be read, or it holds nothing.
    """
    if not (folder / FILE).is_file():
        return _from_tables(folder)
    read_manifest(folder)  # a wrong one is told before any table is made again
    ledger = Ledger(folder)
    try:
        return from_ledger(ledger)
    finally:
        ledger.close()


def from_ledger(ledger: Ledger) -> Findings:
    """The same of a ledger that is open, as that of a run is at its end."""
    ledger.export()
    seal(ledger.folder, ledger.cell_counts())
    found = _from_tables(ledger.folder)
    gallery.from_ledger(ledger)
    return found


def _from_tables(folder: Path) -> Findings:
    found = find(folder)
    write_atomically(folder / "leaderboard.csv", found.board.to_csv(index=False))
    write_atomically(folder / "leaderboard.md", markdown(found))
    if len(found.tables.agreement):
        matrices = accord.agreement_matrices(found.tables.agreement)
        write_atomically(folder / "agreement_matrices.csv", matrices.to_csv(index=False))
    if found.shortcuts:
        stacked = pd.concat([methods.assign(metric=metric) for metric, methods in found.shortcuts.items()])
        write_atomically(folder / "shortcuts.csv", stacked.to_csv(index=False))
    return found


def display(board: pd.DataFrame) -> pd.DataFrame:
    """A leaderboard as people read it: text in every place."""
    shown = pd.DataFrame({"rank": [lead.shown(r, ".0f") for r in board["rank"]]})
    shown["95% of rank"] = _interval(board, "rank_low", "rank_high", ".0f")
    shown["method"] = board["method"]
    shown["skill"] = [lead.shown(v, ".3f") for v in board["skill"]]
    shown["on these problems"] = _interval(board, "low_here", "high_here", ".3f")
    shown["on problems like these"] = _interval(board, "low", "high", ".2f")
    for column in ("faithfulness", "agreement"):
        shown[column] = [lead.shown(v, ".2f") for v in board[column]]
    shown["ms/row"] = [lead.shown(1000 * v, ".3g") for v in board["seconds_per_row"]]
    shown["model rows/row"] = [lead.shown(v, ",.0f") for v in board["model_rows_per_row"]]
    for column in ("skipped", "failed"):
        shown[column] = board[column].astype(str)
    shown["note"] = board["note"]
    return shown


def _interval(board: pd.DataFrame, low: str, high: str, form: str) -> list[str]:
    """From which to which value, where that is known."""
    ends = zip(board[low], board[high], strict=True)
    return [f"{a:{form}} to {b:{form}}" if pd.notna(a) else "" for a, b in ends]


def markdown(found: Findings) -> str:
    """The whole of leaderboard.md."""
    tables, boards = found.tables, found.boards
    parts = [f"# Leaderboard: {in_prose(found.name)}", _provenance(tables, found.made)]
    parts += ["\n".join(f"* {_sentence(text)}" for text in found.overview)]
    parts += [*shortcuts.section(found.shortcuts, tables), HOW_TO_READ]
    for scope, board in boards.items():
        title = f"## {scope.capitalize()}" if scope == "overall" else f"## Dataset {in_prose(scope)}"
        parts += [title, _coverage(tables, scope), as_markdown(display(board))]
    scores = tables.scores
    matrices = {
        "Skill by noise": lead.mean_skill(scores, ["dataset", "noise"]),
        "Skill by model": lead.mean_skill(scores, ["model"]),
        "Skill by metric": lead.mean_skill(scores, ["metric"]),
        "Skill over the rows that the model predicts right": lead.by_group(scores, "right"),
        "Skill over rows whose shortcut is right, and wrong": lead.by_group(scores, "aligned", "conflicting"),
        "Agreement between methods (Spearman)": _beside_skill(found.agreement, boards["overall"]),
    }
    best_first = boards["overall"]["method"]
    for title, matrix in (matrices | _values(tables)).items():
        if not matrix.empty:
            parts += [f"## {title}", _matrix(matrix.reindex([m for m in best_first if m in matrix.index]))]
    parts += _statistics(found)
    parts += trust.section(found.trust) if found.trust else []
    parts += estimators.section(tables)
    parts += _caveats(tables.metrics)
    parts += ["## Cost", COST, as_markdown(_cost(tables.costs))]
    parts += ["## What the models learned", _models(tables.models)]
    parts += ["## Skipped, failed, qualified", as_markdown(lead.reasons(scores))]
    return "\n\n".join(parts) + "\n"


def _sentence(text: str) -> str:
    """A sentence with what stands between backquotes as it is, and no other markup."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backquote without its partner is one of a name
        return in_prose(text)
    return "`".join(" ".join(p.split()) if i % 2 else lead.escaped(p) for i, p in enumerate(parts))


def _statistics(found: Findings) -> list[str]:
    """Who is told from whom, where half of the skill is left, where spread and error come from."""
    parts = significance.section(found.significance) if found.significance else []
    parts += breakdown.section(found.breakdowns) if len(found.breakdowns) else []
    parts += variance.section(found.variance) if len(found.variance) else []
    return parts + (errorsplit.section(found.errors) if len(found.errors) else [])


def _beside_skill(matrix: pd.DataFrame, board: pd.DataFrame) -> pd.DataFrame:
    """Who agrees with whom, beside who is right."""
    shown = matrix.copy()
    if not shown.empty:
        shown.insert(0, "**skill**", board.set_index("method")["skill"])
    return shown


def _values(tables: Tables) -> dict[str, pd.DataFrame]:
    """Mean value by metric of every family that has no skill, or more than one number to show, by title."""
    families = [str(f) for f in tables.scores["family"].unique() if f != lead.RANKED_BY]
    facts = tables.metrics
    best = dict(zip(facts["metric"], facts["best"], strict=True)) if len(facts) else {}
    found = {}
    for family in families:
        matrix = lead.mean_value(tables.scores, family)
        names = {name: f"{name} (best {best[name]:g})" for name in map(str, matrix) if name in best}
        found[f"{family.capitalize()}: mean value by metric"] = matrix.rename(columns=names)
    return found


def _caveats(metrics: pd.DataFrame) -> list[str]:
    """What a reader of some metrics must know."""
    told = metrics[metrics["caveat"].fillna("") != ""] if len(metrics) else metrics
    said = zip(told["metric"], told["caveat"], strict=True) if len(told) else ()
    lines = [f"* {lead.code(str(metric))}: {_sentence(str(caveat))}" for metric, caveat in said]
    return ["## Read with care", "\n".join(lines)] if lines else []


def _cost(costs: pd.DataFrame) -> pd.DataFrame:
    found = lead.cost_table(costs)
    shown = pd.DataFrame({"method": found["method"]})
    shown["ms/row"] = [lead.shown(1000 * v, ".3g") for v in found["seconds_per_row"]]
    for title, column in {
        "model rows/row": "model_rows_per_row",
        "backward/row": "backward_rows_per_row",
    }.items():
        shown[title] = [lead.shown(v, ",.0f") for v in found[column]]
    shown["peak MB"] = [lead.shown(v, ",.0f") for v in found["peak_mb"]]
    return shown


def _provenance(tables: Tables, made: dict[str, Any]) -> str:
    count = tables.scores["status"].value_counts()
    ends = ", ".join(f"{n:,} {status}" for status, n in count.items())
    text = f"{len(tables.scores):,} scores: {ends}."
    if made:
        commit, end = (in_prose(str(made.get(key) or no)) for key, no in UNSAID.items())
        with_what = (
            f"with {lead.code(str(made['command']))}" if made.get("command") else "by a command not known"
        )
        text += f" Made {with_what} at commit {commit}, {end}."
    return text


def _coverage(tables: Tables, scope: str) -> str:
    scores = tables.scores if scope == "overall" else tables.scores[tables.scores["dataset"] == scope]
    family = lead.judge(scores)
    wide = lead.skills(scores, family)
    common = lead.shared(wide)
    models = ", ".join(dict.fromkeys(common.index.get_level_values("model")))
    of = f"{len(wide):,} {family.replace(' ', '-')} cells"
    return f"Ranked on {len(common):,} of {of}; models: {in_prose(models) or 'none'}."


def _matrix(matrix: pd.DataFrame, form: str = ".2f") -> str:
    shown = matrix.map(lambda v: lead.shown(v, form))
    shown.columns = [" ".join(c) if isinstance(c, tuple) else c for c in matrix.columns]
    return as_markdown(shown.reset_index())


def _models(models: pd.DataFrame) -> str:
    table = lead.model_table(models)
    shown = table[[*lead.PROBLEM, "model"]].copy()
    shown["quality"] = [lead.shown(v, ".3f") for v in table["quality"]]
    for column in ("mae", "mae_of_mean", "accuracy", "accuracy_of_mode", *GROUP_ACCURACY):
        shown[column] = [lead.shown(v, ".4f") for v in table[column]]
    shown["learned"] = [f"{v:.0%}" for v in table["learned"]]
    return f"{QUALITY}\n\n{as_markdown(shown.loc[:, (shown != '').any()])}"
