"""Scores -> who is better than whom, how surely, and on which cells that was found."""

import hashlib
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from tabulate import tabulate

from . import stats
from .controls import controls
from .intervals import Sample, drawn, draws, estimates, rank_interval
from .store import GROUP_ACCURACY

PROBLEM = ["dataset", "parameters", "noise"]
CLUSTER = ["dataset", "parameters"]  # one function at several noise levels is one problem, drawn once
CELL = [
    *PROBLEM,
    "model",
    "metric",
    "seed",
    "model_seed",
    "method_seed",
]  # what two methods must share to be compared
CODES = {"problem_code": CLUSTER, "condition_code": PROBLEM}
RANKED_BY = "ground truth"
IN_ITS_PLACE = "reliance"  # where no such metric was run: another truth, what models use, is not mixed in
TRUTHS = (RANKED_BY, IN_ITS_PLACE)
RANKED_SHARE = 0.25  # a method with fewer than this share of the usual cells is listed, not ranked


@dataclass(frozen=True)
class Tables:
    """The exported tables of one run."""

    scores: pd.DataFrame
    agreement: pd.DataFrame
    models: pd.DataFrame
    costs: pd.DataFrame
    metrics: pd.DataFrame = field(default_factory=pd.DataFrame)  # what each metric declares
    reliance: pd.DataFrame = field(default_factory=pd.DataFrame)  # what models were measured to use
    problems: pd.DataFrame = field(default_factory=pd.DataFrame)


def judge(scores: pd.DataFrame) -> str:
    """The family of metrics that methods are ranked by."""
    families = set(scores.loc[(scores["status"] == "ok") & scores["skill"].notna(), "family"])
    return IN_ITS_PLACE if IN_ITS_PLACE in families and RANKED_BY not in families else RANKED_BY


def skills(scores: pd.DataFrame, family: str) -> pd.DataFrame:
    """Skill of every method (columns) on every cell (rows) of one family, NaN where there is none."""
    ok = scores[(scores["family"] == family) & (scores["status"] == "ok") & scores["skill"].notna()]
    methods = list(dict.fromkeys(scores["method"]))
    wide = ok.pivot_table(index=CELL, columns="method", values="skill", aggfunc="first", dropna=True)
    order = pd.MultiIndex.from_frame(ok[CELL].drop_duplicates())  # of the plan: 0, 20, 100 and not 0, 100, 20
    return wide.reindex(index=order[order.isin(wide.index)], columns=methods)


def shared(wide: pd.DataFrame) -> pd.DataFrame:
    """The cells on which every ranked method has a skill: no mean is over easier cells than another's.

    A method with too few cells to be ranked does not take cells away from the others.
    """
    known = wide.notna().to_numpy()
    counts = known.sum(axis=0)
    enough = max(1.0, RANKED_SHARE * counts.max()) if counts.size else 1.0
    common, ranked = np.ones(len(wide), dtype=bool), np.zeros(len(counts), dtype=bool)
    for method in np.argsort(-counts, kind="stable"):
        left = common & known[:, method]
        if left.sum() >= enough:  # else it would leave too few cells to compare anybody on
            common, ranked[method] = left, True
    return wide.loc[common, ranked]


def shared_cells(scores: pd.DataFrame) -> pd.DataFrame:
    """Skill of the ranked methods on the cells that methods are ranked by."""
    return shared(skills(scores, judge(scores)))


def sample(common: pd.DataFrame) -> Sample:
    """The draws behind cells that all methods (columns) have, with where they belong in the index."""
    where = common.index.to_frame(index=False)
    codes = (where.groupby(by, sort=False).ngroup().to_numpy() for by in (CLUSTER, PROBLEM, ["seed"]))
    return drawn(common.to_numpy(dtype=float), *codes)


def blocks(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean skill of every ranked method (columns) on every draw (rows), over the cells that all share."""
    return shared_cells(scores).groupby(level=[*PROBLEM, "seed"], sort=False).mean()


def summary(wide: pd.DataFrame, scope: str) -> pd.DataFrame:
    """Mean skill and rank, with their intervals, of every method that has all the shared cells."""
    common = shared(wide)
    columns = ["skill", "low", "high", "low_here", "high_here", "rank_low", "rank_high"]
    frame = pd.DataFrame(np.nan, index=common.columns, columns=columns)
    if len(common) and len(common.columns):
        whole = sample(common)
        frame[columns[:5]] = np.stack(estimates(whole), 1)
        frame[columns[5:]] = np.stack(rank_interval(draws(whole, generator(scope))), 1)
    frame = frame.reindex(wide.columns).rename_axis("method").reset_index()
    frame.insert(0, "rank", stats.ranks(frame["skill"].to_numpy()))
    return frame


def placed(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with whose they are in numbers, for `mean_of` of any part of them."""
    codes = {name: cells.groupby(by, sort=False).ngroup() for name, by in CODES.items()}
    return cells.assign(**codes)


def mean_of(cells: pd.DataFrame, column: str) -> tuple[float, float, float]:
    """Mean of a column of placed cells, as of skills, with its interval on problems like these."""
    if cells.empty:
        return (float("nan"),) * 3
    own = cells[[column]].to_numpy(dtype=float)
    problem, condition, seed = (cells[name].to_numpy() for name in (*CODES, "seed"))
    found = estimates(drawn(own, problem, condition, seed))
    return float(found.mean[0]), float(found.low[0]), float(found.high[0])


def clustered(common: pd.DataFrame) -> "pd.Series[float]":
    """Mean skill of every method over cells that all have, a problem counting once."""
    if common.empty:
        return pd.Series(np.nan, index=common.columns, dtype=float)
    return pd.Series(sample(common).mean, index=common.columns)


def generator(*parts: str) -> np.random.Generator:
    """A numpy generator that depends on the named parts only."""
    return np.random.default_rng(list(hashlib.sha256("\n".join(parts).encode()).digest()))


def leaderboard(tables: Tables, scope: str) -> pd.DataFrame:
    """One row a method, best first."""
    scores, known = tables.scores, controls(tables.costs)
    board = summary(skills(scores, judge(scores)), scope)
    faith = summary(skills(scores, "faithfulness"), scope)
    board["faithfulness"] = faith["skill"]
    board = board.merge(_agreement(tables.agreement, known), on="method", how="left")
    board = board.merge(_costs(tables.costs), on="method", how="left")
    board = board.merge(_counts(scores), on="method", how="left")
    board["control"] = board["method"].isin(known)
    board["note"] = [_note(scores[scores["method"] == m]) for m in board["method"]]
    return board.sort_values(["skill", "method"], ascending=[False, True], ignore_index=True)


def by_group(scores: pd.DataFrame, *groups: str) -> pd.DataFrame:
    """Mean skill of every method over all rows, and over each of these groups of rows.

    Over the cells in which all are known, of all ranked methods alike; empty where there are no such groups.
    """
    columns = {group: f"skill_{group}" for group in groups}
    known = scores[scores[[*columns.values()]].notna().all(axis=1)]
    family = judge(scores)
    whole = skills(known, family)
    if whole.empty:
        return pd.DataFrame()
    common = shared(whole)
    found = {"all rows": clustered(common)}
    for group, column in columns.items():
        part = skills(known.assign(skill=known[column]), family)
        found[f"rows {group}"] = clustered(part.loc[common.index, list(common)])
    return pd.DataFrame(found).rename_axis("method")


def leaderboards(tables: Tables) -> dict[str, pd.DataFrame]:
    """The overall leaderboard, and one for each dataset where there are several."""
    names = list(dict.fromkeys(tables.scores["dataset"]))
    boards = {"overall": leaderboard(tables, "overall")}
    if len(names) > 1:
        boards |= {name: leaderboard(_of_dataset(tables, name), name) for name in names}
    return boards


def _of_dataset(tables: Tables, name: str) -> Tables:
    names = ("scores", "agreement", "models", "costs", "reliance", "problems")
    frames = {frame: getattr(tables, frame) for frame in names}
    own = {key: frame[frame["dataset"] == name] for key, frame in frames.items() if len(frame)}
    return replace(tables, **own)


def _agreement(agreement: pd.DataFrame, controls: set[str]) -> pd.DataFrame:
    """Mean agreement of every method's maps with those of the other methods that are no controls."""
    both = both_ways(agreement[agreement["metric"] == "spearman"])
    both = both[~both["other"].isin(controls)]
    means = both.groupby("method", as_index=False)[["skill"]].mean()
    return means.rename(columns={"skill": "agreement"})


def both_ways(agreement: pd.DataFrame) -> pd.DataFrame:
    """Every pair twice, so that each method stands in the column `method` beside all others."""
    ok = agreement[agreement["status"] == "ok"]
    return pd.concat([ok, ok.rename(columns={"method": "other", "other": "method"})])


def _costs(costs: pd.DataFrame) -> pd.DataFrame:
    """Median seconds and model rows for one explained row."""
    return cost_table(costs)[["method", "seconds_per_row", "model_rows_per_row"]]


def cost_table(costs: pd.DataFrame) -> pd.DataFrame:
    """What a row explained takes, the median over all units, and the most memory that a unit took."""
    columns = ["seconds_per_row", "model_rows_per_row", "backward_rows_per_row", "peak_mb"]
    by = costs.groupby("method", as_index=False)
    return by[columns].median().assign(peak_mb=by["peak_mb"].max()["peak_mb"])


def _counts(scores: pd.DataFrame) -> pd.DataFrame:
    """How many cells of every method came to which end."""
    wanted = ["ok", "trivial", "unlearned", "undefined", "broken", "skipped", "failed"]
    counts = scores.groupby(["method", "status"]).size().unstack(fill_value=0)
    return counts.reindex(columns=wanted, fill_value=0).reset_index()


def _note(rows: pd.DataFrame) -> str:
    """What a reader of the method's row must know: broken promises and failures, on which models."""
    models: dict[str, set[str]] = {}
    worst = 0.0
    told = rows[(rows["reason"].fillna("") != "") & ~rows["status"].isin(["skipped", "failed"])]
    for model, reason in told[["model", "reason"]].drop_duplicates().itertuples(index=False):
        for said in reason.split("; "):
            models.setdefault(said.partition(":")[0], set()).add(model)
            worst = max(
                [worst, *(float(share) for share in re.findall(r"^promise broken.* by ([\d.]+)%", said))]
            )
    failed = rows[rows["status"] == "failed"]
    if len(failed):
        models["failed"] = set(failed["model"])
    notes = {what: f"{what} on {', '.join(sorted(where))}" for what, where in models.items()}
    if "promise broken" in notes:
        notes["promise broken"] += f" (by up to {worst:.3g}%)"
    return "; ".join(notes.values())


def mean_skill(scores: pd.DataFrame, columns: Sequence[Hashable]) -> pd.DataFrame:
    """Mean skill of every method (rows) by `columns`, within each over the shared cells."""
    wide = skills(scores, judge(scores))
    parts = {
        key if len(columns) > 1 else key[0]: clustered(shared(part))
        for key, part in wide.groupby(level=list(columns), sort=False)
    }
    return pd.DataFrame(parts).reindex(wide.columns).dropna(how="all")


def mean_value(scores: pd.DataFrame, family: str) -> pd.DataFrame:
    """Mean value of every method (rows) by the metrics of one family, within each over the shared cells."""
    valued = scores.assign(skill=scores["value"])
    wide = skills(valued, family)
    parts = {metric: clustered(shared(part)) for metric, part in wide.groupby(level="metric", sort=False)}
    return pd.DataFrame(parts).reindex(wide.columns).dropna(how="all")


def model_table(models: pd.DataFrame) -> pd.DataFrame:
    """How well every model predicts, by problem, averaged over the seeds."""
    by = [*PROBLEM, "model"]
    columns = ["quality", "mae", "mae_of_mean", "accuracy", "accuracy_of_mode", *GROUP_ACCURACY, "learned"]
    return models.groupby(by, sort=False, as_index=False, dropna=False)[columns].mean()


def reasons(scores: pd.DataFrame) -> pd.DataFrame:
    """Why cells have no score or a qualified one, and how many."""
    said = scores[scores["reason"].fillna("") != ""]
    by = ["method", "model", "status", "reason"]
    return said.groupby(by, as_index=False).size().rename(columns={"size": "cells"})


def shown(value: float, form: str) -> str:
    """A number as people read it; nothing where it is not known."""
    return format(value, form) if pd.notna(value) else ""


def escaped(text: str) -> str:
    """A text from outside in a cell of a markdown table: no tag, column, line, link or formula of its own."""
    found = re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;")
    found = found.replace(">", "&gt;") if "<" in text else found  # as in >100, where it closes nothing
    return re.sub(r"([\\|$]|(?<=\])\()", r"\\\1", found)


def in_prose(text: str) -> str:
    """A text from outside in a heading or a sentence, where backquotes and asterisks are text too."""
    return re.sub(r"([*`~])", r"\\\1", escaped(text))


def code(text: str) -> str:
    """A text from outside between backquotes, of which it can have none."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"


def markdown_table(frame: pd.DataFrame) -> str:
    """A frame as a table, every cell and title escaped; nothing where a cell is not known."""
    cells = [
        ["" if pd.isna(value) else escaped(str(value)) for value in row] for row in frame.values.tolist()
    ]
    return tabulate(cells, [escaped(str(c)) for c in frame.columns], "github", disable_numparse=True)
