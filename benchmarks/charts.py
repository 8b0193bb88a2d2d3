"""The report's charts: each a Vega-Lite specification with its rows beside it.

A colour that begins with `$` is one of the page's theme, and `$axis` the name of the noise axis that a reader
chose; the page puts them in.
"""

from typing import Any

import numpy as np
import pandas as pd

from .diagrams import ACCENT, FAINT, INK, MOST, PALETTE, Chart, agreement, difference, finished, trust
from .findings import Findings

SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
IN_COLOUR = len(PALETTE)  # methods; the others are grey
TALL = 320  # pixels


def charts(found: Findings) -> dict[str, Chart]:
    """Every chart that there are numbers for, by name."""
    best = [str(m) for m in found.boards["overall"].dropna(subset="skill")["method"]]
    made = {
        "curves": curves(found.curves, best),
        "difference": difference(found.significance),
        "profiles": profiles(found.profiles, best),
        "cost": cost(found.boards["overall"]),
        "agreement": agreement(found.agreement, best),
        "trust": trust(found.trust.metrics if found.trust is not None else pd.DataFrame()),
    }
    return {name: chart for name, chart in made.items() if chart is not None}


def curves(found: pd.DataFrame, best: list[str]) -> Chart | None:
    """Skill against noise, one panel a problem and axis."""
    if found.empty:
        return None
    places = found[["dataset", "parameters", "axis", "held"]].fillna("").astype(str)
    panels = [(panel_label(*place), str(place[2])) for place in places.drop_duplicates().itertuples(False)]
    rows = found[["method", "level", "skill", "low", "high"]].copy()
    rows.insert(0, "panel", places.groupby([*places], sort=False).ngroup())
    rows = rows[rows["method"].isin(best[:MOST])]
    said = "Mean skill of each method at each noise level, with its 95% band; the best six are in colour."
    return Chart(_lines(rows, best, ("level", "$axis"), ("skill", "mean skill")), said, rows, panels)


def panel_label(dataset: str, parameters: str, axis: str, held: str) -> str:
    """How a reader is told of one noise axis of one problem."""
    problem = f"{dataset}[{parameters}]" if parameters else dataset
    return f"{problem}: {axis}" + (f" ({held})" if held else "")


def profiles(found: pd.DataFrame, best: list[str]) -> Chart | None:
    """The share of runs in which a method has at least some skill."""
    if found.empty:
        return None
    rows = found.loc[found["method"].isin(best[:MOST]), ["method", "threshold", "share", "low", "high"]]
    said = "For every skill, the share of draws in which a method reaches it; higher curves are better."
    return Chart(
        _lines(rows, best, ("threshold", "skill of at least"), ("share", "share of draws")), said, rows
    )


def _lines(rows: pd.DataFrame, best: list[str], x: tuple[str, str], y: tuple[str, str]) -> dict[str, Any]:
    """Lines with bands: the best in colour, the others grey, and one chosen by the reader in ink.

    x, y: column and title.
    """
    import altair as alt

    present = set(rows["method"])
    top = [m for m in best if m in present][:IN_COLOUR]
    told = [alt.Tooltip(f"{c}:Q", format=".3~f") for c in rows if c not in ("panel", "method")]
    base = alt.Chart(alt.NamedData("rows")).encode(
        x=alt.X(f"{x[0]}:Q", title=x[1], scale=alt.Scale(zero=False, nice=False)),
        y=alt.Y(f"{y[0]}:Q", title=y[1]),
        detail=alt.Detail("method:N"),
        tooltip=[alt.Tooltip("method:N"), *told],
    )
    legend = alt.Legend(orient="bottom", title=None, columns=3, labelLimit=260, symbolOpacity=1)
    scales = [alt.Scale(domain=top, range=looks[: len(top)]) for looks in (PALETTE, SHAPES)]
    colour = alt.Color("method:N", scale=scales[0], legend=legend)
    shape = alt.Shape("method:N", scale=scales[1], legend=legend)
    first = alt.FieldOneOfPredicate("method", oneOf=top)
    shown, own = base.transform_filter(first), base.transform_filter("datum.method === chosen")
    ends: dict[str, Any] = {"y": alt.Y("low:Q", title=y[1]), "y2": "high:Q"}
    size = 55 if y[0] == "skill" else 0  # a profile has too many points to mark
    layers = [
        base.mark_line(color=FAINT, strokeWidth=1),
        shown.mark_area(opacity=0.1).encode(**ends, color=colour),
        shown.mark_line(strokeWidth=2).encode(color=colour),
        shown.mark_point(filled=True, size=size, opacity=1).encode(color=colour, shape=shape),
        own.mark_area(opacity=0.15, color=INK).encode(**ends),
        own.mark_line(strokeWidth=3, color=INK, strokeDash=[6, 3]),
    ]
    return finished(alt.layer(*layers).add_params(alt.param("chosen", value="")), TALL)


def cost(board: pd.DataFrame) -> Chart | None:
    """Skill against time, and the real methods that no other is both better and faster than."""
    rows = board[["method", "skill", "low_here", "high_here"]].copy()
    rows["ms_per_row"] = 1000 * board["seconds_per_row"]
    rows["control"] = board["control"].astype(bool)
    rows = rows[rows["skill"].notna() & (rows["ms_per_row"] > 0)]
    if len(rows) < 2:
        return None
    rows = rows.sort_values(["ms_per_row", "skill"], ascending=[True, False], ignore_index=True)
    real = rows["skill"].where(~rows["control"], -np.inf)
    rows["frontier"] = real > real.cummax().shift(fill_value=-np.inf)
    rows["side"] = rows["frontier"].cumsum() % 2  # of the dot on which its name stands
    names = ", ".join(rows.loc[rows["frontier"], "method"]) or "none"
    said = f"Mean skill against milliseconds a row. No real method is faster and better than these: {names}."
    return Chart(_cost_spec(), said, rows)


def _cost_spec() -> dict[str, Any]:
    import altair as alt

    columns = [
        ("method:N", ""),
        ("skill:Q", ".3f"),
        ("ms_per_row:Q", ".3~g"),
    ]
    base = alt.Chart(alt.NamedData("rows")).encode(
        x=alt.X(
            "ms_per_row",
            type="quantitative",
            title="milliseconds a row (log)",
            scale=alt.Scale(type="log", padding=45),
            axis=alt.Axis(format="~g", tickCount=6),
        ),
        y=alt.Y("skill", type="quantitative", title="mean skill"),
        tooltip=[alt.Tooltip(name, format=form) for name, form in columns],
    )
    on = base.transform_filter("datum.frontier")
    off = base.transform_filter("!datum.frontier && !datum.control")
    none = base.transform_filter("datum.control").mark_point(shape="cross", size=40, color=INK, opacity=0.5)
    spread = base.mark_rule(opacity=0.35, color=INK).encode(
        y="low_here:Q", y2="high_here:Q", tooltip=alt.value(None)
    )
    steps = on.mark_line(interpolate="step-after", color=ACCENT, strokeWidth=1.5, opacity=0.6)
    dots = off.mark_point(shape="circle", filled=False, size=50, color=INK, opacity=0.8)
    marked = on.mark_point(shape="diamond", filled=True, size=110, color=ACCENT, opacity=1)
    bold: dict[str, Any] = {"color": INK, "fontSize": 12, "fontWeight": 600}
    above = on.transform_filter("datum.side === 1").mark_text(align="right", dx=-8, dy=-9, **bold)
    below = on.transform_filter("datum.side === 0").mark_text(align="left", dx=9, dy=10, **bold)
    names = [mark.encode(text="method:N") for mark in (above, below)]
    return finished(alt.layer(spread, steps, none, dots, marked, *names), TALL + 40)
