"""How far methods are from what they estimate, and what a larger budget does about it."""

from collections.abc import Mapping

import pandas as pd

from . import leaderboard as lead
from .spec import parse

ERROR = "attribution_error"
ERRORS = """\
Mean and worst `attribution_error` (relative, 0 to 2) where the model is the exact function, each method
against what it estimates (Shapley values where it names nothing): what the method itself misses."""
BUDGETS = """\
Mean `attribution_error` at each budget, the coalitions or gradients evaluated for a row, by noise level.
Where a method lacks a cell, as with a budget too small for its units, its place is empty."""


def exact_errors(tables: lead.Tables) -> pd.DataFrame:
    """How far every method's maps of the exact function are from what it estimates."""
    scores = tables.scores
    chosen = scores[(scores["model"] == "oracle") & (scores["metric"] == ERROR) & scores["value"].notna()]
    by = chosen.groupby("method", sort=False)["value"]
    found = by.agg(["mean", "max", "count"]).reset_index()
    names = {"mean": "mean error", "max": "worst cell", "count": "cells"}
    aims = tables.costs.drop_duplicates("method")[["method", "estimand"]]
    found = aims.merge(found, on="method").rename(columns=names)
    return found.sort_values(["mean error", "method"], ignore_index=True)


def error_by_budget(scores: pd.DataFrame, budgets: Mapping[str, tuple[str, int]]) -> dict[str, pd.DataFrame]:
    """Mean attribution error of every method (rows) at every budget (columns), for every noise level.

    budgets: method as in the tables -> without its budget, and the budget.
    """
    chosen = scores[(scores["metric"] == ERROR) & scores["method"].isin(budgets)].copy()
    chosen["plain"] = [budgets[m][0] for m in chosen["method"]]
    chosen["budget"] = [budgets[m][1] for m in chosen["method"]]
    chosen = chosen[chosen.groupby("plain")["budget"].transform("nunique") > 1]
    curves = {}
    for noise, part in chosen.groupby("noise", sort=False):
        wide = part.pivot_table(
            index=lead.CELL, columns=["plain", "budget"], values="value", aggfunc="first", dropna=False
        )
        wide = wide.dropna(how="all").dropna(how="all", axis=1)
        means = wide.mean().where(wide.notna().all())  # of the same cells for all, or of none
        curves[str(noise)] = means.unstack("budget").dropna(how="all")
    return curves


def section(tables: lead.Tables) -> list[str]:
    """The estimators' own errors, on exact functions, and how they fall with the budget."""
    parts, exact = [], exact_errors(tables)
    if len(exact):
        shown = exact.assign(
            **{c: [lead.shown(v, ".2g") for v in exact[c]] for c in ("mean error", "worst cell")}
        )
        parts += ["## Error on the exact function", ERRORS, lead.markdown_table(shown)]
    curves = error_by_budget(tables.scores, budgets(tables.costs))
    parts += ["## Error by budget", BUDGETS] if curves else []
    for noise, curve in curves.items():
        parts += [f"### {noise}" if noise else "### All", _matrix(curve)]
    return parts


def budgets(costs: pd.DataFrame) -> dict[str, tuple[str, int]]:
    """Method as in the tables -> without its budget, and the budget, given or by default."""
    found = {}
    for text, budget in costs[["method", "budget"]].drop_duplicates().itertuples(index=False):
        whole = pd.to_numeric(budget, errors="coerce")
        if pd.notna(whole) and whole == int(whole):
            name, given = parse(text)
            given.pop("budget", None)
            rest = ",".join(f"{key}={value}" for key, value in given.items())
            found[text] = (f"{name}[{rest}]" if rest else name, int(whole))
    return found


def _matrix(curve: pd.DataFrame) -> str:
    text = curve.map(lambda value: lead.shown(value, ".3g")).reset_index()
    return lead.markdown_table(text.rename(columns=str))
