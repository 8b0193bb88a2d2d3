"""Scores -> whether estimator, model or definition is to blame for a method's error."""

import itertools
from collections.abc import Collection

import pandas as pd

from . import leaderboard as lead

PARTS = {"estimator_error": "estimator", "model_error": "model_part", "definition_error": "definition"}
COLUMNS = ["method", "model", "setting", *PARTS.values(), "largest", "error", "cells"]
COUNTED = ("ok", "unlearned")  # what a model that did not learn gets wrong is the model's part
ERROR = "attribution_error"
NOTHING = 1e-4  # maps are in single precision
NAMES = {"estimator": "estimator", "model_part": "model", "definition": "definition"}
MENDED = {
    "estimator": "Give the estimator more budget, or take another (of a method that names nothing that it "
    "estimates, it may be the definition)",
    "model_part": "Train the model better, or take another kind of model",
    "definition": "Take a method that estimates something else, if Shapley values are what is wanted",
}

HOW_TO_READ = """\
A map can differ from the exact Shapley values of the true function for three reasons, each measured alone, in
the unit of `attribution_error`, 0 to 2. Estimator: the map is not what the method estimates on this model;
more budget mends that, or another estimator of the same quantity. Model: what the method estimates is another
on this model than on the true function; better training mends that. Definition: what it estimates is not the
Shapley value, even exactly and on the true function; another method mends that, if Shapley values are what is
wanted. The parts are distances along one way, from the map to the truth, by a measure that has the triangle
inequality: the whole distance is at most their sum, and may be less, since errors can cancel. `error` is
`attribution_error` on the same cells: held against what the method itself estimates, it is at most estimator
and model. All are means over problems, of the mean over seeds, of the cells in which all three parts can be
had exactly: compare within a row, and across rows only where these cells are as many. A method that names
nothing that it estimates is held against Shapley values throughout, so that its definition counts as its
estimator's. A derivative differs from a contribution by its unit too, and a classifier's outputs from
log-odds by their scale: `direction=true` leaves scale out."""


def error_split(scores: pd.DataFrame, controls: Collection[str] = ()) -> pd.DataFrame:
    """The three parts of every method's error on every model, over the cells where all three are known.

    Args:
        scores: the table of that name.
        controls: methods to leave out: those that know nothing of the model have no error worth splitting.

    Returns:
        One row a method, model and `setting` of the metrics ("" or "direction=true": parts add up only where
        they were measured alike), in the order of the table: `estimator`, `model_part` and `definition`, each
        0 to 2 and 0 at best; `largest`, which of them is, or "" where there is nothing to split; `error`, the
        mean attribution_error of the same cells, NaN where it is not known in all, or has not this setting;
        `cells`.
        No row where the metrics of the split were not run.
    """
    known = scores[scores["status"].isin(COUNTED) & scores["value"].notna()]
    split = known["metric"].str.extract(r"^(?P<metric>[^[]*)(?:\[(?P<setting>.*)\])?$").fillna("")
    known = known.assign(metric=split["metric"], setting=split["setting"])
    known = known[known["metric"].isin(PARTS) | ((known["metric"] == ERROR) & (known["setting"] == ""))]
    known = known[~known["method"].isin(list(controls))]
    settings = [own for _, own in known.groupby("setting", sort=False) if set(PARTS) <= set(own["metric"])]
    rows = [row for own in settings for row in _of_setting(own)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _of_setting(known: pd.DataFrame) -> list[dict[str, object]]:
    """The rows of metrics that were measured alike."""
    seeds = [name for name in ("seed", "model_seed", "method_seed") if name in known]
    index = ["method", "model", *lead.PROBLEM, *seeds]
    wide = known.pivot_table(index=index, columns="metric", values="value", aggfunc="first")
    wide = wide.reindex(columns=[*PARTS, ERROR]).dropna(subset=[*PARTS])
    parts = dict(iter(wide.groupby(level=["method", "model"])))
    order = itertools.product(known["method"].unique(), known["model"].unique())  # that of the plan
    where = {"setting": known["setting"].iloc[0]}
    return [{"method": p[0], "model": p[1], **where, **_row(parts[p])} for p in order if p in parts]


def _row(cells: pd.DataFrame) -> dict[str, object]:
    """The means of one method on one model."""
    means = lead.clustered(cells[[*PARTS]].rename(columns=PARTS))
    parts = {name: float(means[name]) for name in PARTS.values()}
    worst = max(parts, key=lambda name: parts[name])
    named = NAMES[worst] if parts[worst] > NOTHING else ""
    known = cells[ERROR].notna().all()
    error = float(lead.clustered(cells[[ERROR]])[ERROR]) if known else float("nan")
    return {**parts, "largest": named, "error": error, "cells": len(cells)}


def section(found: pd.DataFrame) -> list[str]:
    """What leaderboard.md says of it: title, how to read it, the table, and who should improve what."""
    if found.empty:
        return []
    shown = found[["method", "model", *(["setting"] if (found["setting"] != "").any() else [])]].copy()
    for name, title in NAMES.items():
        shown[title if title != "model" else "model's part"] = found[name].map(_number)
    shown["largest"], shown["error"] = found["largest"], found["error"].map(_number)
    shown["cells"] = [str(count) for count in found["cells"]]
    lines = [f"* {MENDED[part]}: {_named(of)}." for part in MENDED if len(of := _where(found, part))]
    blame = ["What would mend the largest part:\n\n" + "\n".join(lines)] if lines else []
    title = "## Is it the estimator, the model or the definition?"
    return [title, HOW_TO_READ, lead.markdown_table(shown), *blame]


def _where(found: pd.DataFrame, part: str) -> pd.DataFrame:
    return found[found["largest"] == NAMES[part]]


def _named(rows: pd.DataFrame) -> str:
    """Every method once, with the models on which it is meant."""
    places = rows["model"] + [f" by {setting}" if setting else "" for setting in rows["setting"]]
    models = places.groupby(rows["method"], sort=False).agg(", ".join)
    return "; ".join(f"{lead.in_prose(f'{method} ({where})')}" for method, where in models.items())


def _number(value: float) -> str:
    return f"{value:.3f}" if pd.notna(value) else ""
