"""Cell by cell what the page's leaderboard needs to rank any selection of cells in the browser."""

import json
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t as student

from . import leaderboard as lead
from .stats import LEVEL, SAME

FINE, COARSE = 7, 5  # decimals of a skill: to the seventh while the page stays small
MANY = 300_000  # skills, beyond which they are coarse
DEGREE = 40  # of the polynomial for Student's quantile
STATIC = ("agreement", "seconds_per_row", "failed")  # of the leaderboard, over all cells


def script(value: Any) -> str:
    """A value as JSON that can stand within a script element, whatever texts are in it."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def plain(values: "pd.Series[Any]", decimals: int = 7) -> list[Any]:
    """A column as JSON can hold it: None where there is no number, numbers as short as they can be."""
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return [None if pd.isna(v) else bool(v) if isinstance(v, bool | np.bool_) else str(v) for v in values]
    numbers = [round(float(v), decimals) if np.isfinite(v) else None for v in values.astype(float)]
    return [int(v) if v is not None and v == int(v) else v for v in numbers]


def board(scores: pd.DataFrame, overall: pd.DataFrame) -> dict[str, Any]:
    """Every cell with a skill, dictionary-encoded, and what of a method does not depend on the selection.

    `skill` has a list a method, in units of 10 to the minus `decimals`; None where a cell has none.
    """
    judge, wide = lead.judge(scores), _skills(scores)
    keys = wide.index.to_frame(index=False)
    problems, metrics = _coded(keys, lead.CLUSTER), _coded(keys, ["metric", "family"])
    columns = {"problem": problems, "metric": metrics}
    columns |= {name: _coded(keys, [name]) for name in ("noise", "model", "seed")}
    decimals = FINE if wide.size < MANY else COARSE
    return {
        "judge": judge,
        "share": lead.RANKED_SHARE,
        "same": SAME,
        "student": quantile_polynomial(),
        "decimals": decimals,
        "names": {name: found for name, (found, _) in columns.items()},
        "cells": {name: codes for name, (_, codes) in columns.items()},
        "methods": [str(m) for m in wide],
        "skill": [_scaled(wide[m].to_numpy(float), decimals) for m in wide],
        "static": _static(overall, [str(m) for m in wide]),
    }


def _skills(scores: pd.DataFrame) -> pd.DataFrame:
    """The skills of every family that has any, the one that ranks first."""
    judge = lead.judge(scores)
    known = scores.loc[(scores["status"] == "ok") & scores["skill"].notna(), "family"]
    families = [judge, *(f for f in dict.fromkeys(known) if f != judge)]
    found = {f: lead.skills(scores, f) for f in families}
    return pd.concat(found, names=["family"])


def _coded(keys: pd.DataFrame, columns: list[str]) -> tuple[list[Any], list[int]]:
    """The distinct values in their order, and of every row the number of its own."""
    groups = keys.groupby(columns, sort=False, dropna=False).ngroup()
    names = keys[columns].drop_duplicates().astype(str).values.tolist()
    return [name if len(columns) > 1 else name[0] for name in names], groups.tolist()


def _scaled(skill: Float[np.ndarray, " cells"], decimals: int) -> list[int | None]:
    scaled = np.round(skill * 10**decimals)
    return [int(v) if np.isfinite(v) else None for v in scaled]


def _static(overall: pd.DataFrame, methods: list[str]) -> dict[str, list[Any]]:
    """Columns of the leaderboard over all cells, in the order of the methods."""
    rows = overall.drop_duplicates("method").set_index("method").reindex(methods)
    wanted = [*STATIC, "rank_low", "rank_high"]
    found = {name: plain(rows[name], 6) for name in wanted if name in rows}
    if "control" in rows:
        found["control"] = [bool(v) if pd.notna(v) else False for v in rows["control"]]
    found["note"] = ["" if pd.isna(v) else str(v) for v in rows["note"]] if "note" in rows else []
    return found


def quantile_polynomial() -> list[float]:
    """Student's quantile of a two-sided 95% interval as Chebyshev coefficients in 1/freedom.

    For 1 degree of freedom or more, fractions too, to 1e-8: freedom after Welch is rarely whole.
    """
    nodes = np.cos(np.pi * (np.arange(2 * DEGREE) + 0.5) / (2 * DEGREE))
    wanted = student.ppf((1 + LEVEL) / 2, 2 / (nodes + 1))
    return [float(c) for c in np.polynomial.chebyshev.chebfit(nodes, wanted, DEGREE)]
