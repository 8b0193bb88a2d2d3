"""The report's charts with a row a method or metric; and what every chart is made of.

A colour that begins with `$` is one of the page's theme; the page puts it in.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from altair import TopLevelMixin

INK, FAINT, ACCENT = "$ink", "$faint", "$accent"
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe and Ito's
MOST = 80  # methods in a chart; the tables have all
NOISE_FIRST = ("ranks random above a real method", "does not, or that is not known")
ROW = 20  # pixels, of a method that has a line of its own


@dataclass(frozen=True)
class Chart:
    """One chart of the page.

    spec: Vega-Lite, reading the data set `rows`.
    says: what it shows, for those who cannot see it.
    rows: what it is drawn from; also shown as a table.
    panels: what a reader can choose to see, as (label, axis); `panel` in rows is the number of one.
    """

    spec: dict[str, Any]
    says: str
    rows: pd.DataFrame
    panels: list[tuple[str, str]] = field(default_factory=list)


def finished(chart: "TopLevelMixin", height: int) -> dict[str, Any]:
    """What Vega-Lite reads, as wide as the page, without the look, which the page has."""
    spec: dict[str, Any] = chart.properties(width="container", height=height).to_dict()
    dropped = ("$schema", "config", "datasets")
    return {key: value for key, value in spec.items() if key not in dropped}


def _inline(values: list[dict[str, Any]]) -> Any:
    """Marks that are no rows of the findings."""
    import altair as alt

    made: Any = alt.Data
    return made(values=values)


def difference(found: Any) -> Chart | None:
    """Mean ranks, and bars beside those that the Nemenyi test does not tell apart."""
    if found is None or len(found.mean_ranks) < 2:
        return None

    ranks = found.mean_ranks.sort_values().iloc[:MOST]
    rows = pd.DataFrame({"method": [str(m) for m in ranks.index], "mean_rank": ranks.to_numpy(float)})
    rows["place"] = np.arange(len(rows))
    groups = [
        sorted(rows["place"][rows["method"].isin([str(m) for m in clique])]) for clique in found.cliques
    ]
    groups = [places for places in groups if len(places) > 1]
    rows["groups"] = [
        ", ".join(str(i + 1) for i, g in enumerate(groups) if place in g) for place in rows["place"]
    ]
    bars = [(rows["method"][g[0]], rows["method"][g[-1]]) for g in groups]
    reach = found.critical_difference
    said = (
        f"Mean rank of each method over {found.blocks} conditions; by the Nemenyi test two differ where "
        f"their mean ranks are more than {reach:.2f} apart. A bar joins methods that are not told apart."
    )
    return Chart(_difference_spec(rows, bars, reach), said, rows.drop(columns="place"))


def _difference_spec(rows: pd.DataFrame, bars: list[tuple[str, str]], reach: float) -> dict[str, Any]:
    """A dot for each mean rank; at the right a bar for each clique, where no dot can hide it."""
    import altair as alt

    scale, axis = alt.Scale(domain=rows["method"].tolist()), alt.Axis(labelLimit=150, grid=True, ticks=False)
    side: dict[str, Any] = {"type": "nominal", "scale": scale, "sort": None, "title": None, "axis": axis}
    x = alt.X("mean_rank:Q", title="mean rank (less is better)", scale=alt.Scale(zero=False))
    told = [alt.Tooltip("method:N"), alt.Tooltip("mean_rank:Q", format=".2f")]
    base = alt.Chart(alt.NamedData("rows")).encode(x=x, y=alt.Y("method", **side), tooltip=told)
    layers: list[Any] = [base.mark_point(filled=True, size=80, color=ACCENT, opacity=1)]
    first, last = float(rows["mean_rank"].min()), float(rows["mean_rank"].max())
    step = max(last - first, 1.0) / 20
    ends = [{"from": a, "to": b, "at": last + step * (i + 1)} for i, (a, b) in enumerate(bars)]
    joined = alt.Chart(_inline(ends)).mark_rule(strokeWidth=3, strokeCap="round", color=INK)
    layers += [joined.encode(x="at:Q", y=alt.Y("from", **side), y2="to")] if ends else []
    ruler = [{"from": first, "to": first + reach, "label": f"critical difference {reach:.2f}"}]
    above = alt.Chart(_inline(ruler)).encode(x="from:Q", y=alt.value(-14))
    layers.append(above.mark_rule(strokeWidth=2, color=INK).encode(x2="to:Q"))
    layers.append(above.mark_text(align="left", dy=-8, color=INK).encode(text="label:N"))
    return finished(alt.layer(*layers), ROW * len(rows))


def agreement(found: pd.DataFrame, best: list[str]) -> Chart | None:
    """Which methods say the same."""
    if len(found) < 2:
        return None
    import altair as alt

    order = [m for m in best if m in found.index] + [str(m) for m in found.index if m not in best]
    order = order[:MOST]
    square = found.reindex(index=order, columns=order)
    square.index.name = "other"
    rows = square.reset_index().melt("other", var_name="method", value_name="agreement").dropna()
    rows = rows[["method", "other", "agreement"]]
    plain: dict[str, Any] = {"labelLimit": 140, "ticks": False, "domain": False, "grid": False}
    side, top = alt.Axis(**plain), alt.Axis(**plain, labelAngle=-60, orient="top")
    scale = alt.Scale(scheme="cividis", domain=[min(0.0, float(rows["agreement"].min())), 1.0])
    legend = alt.Legend(orient="bottom", title="agreement", gradientLength=180)
    told = [alt.Tooltip("method:N"), alt.Tooltip("other:N"), alt.Tooltip("agreement:Q", format=".2f")]
    squares = alt.Chart(alt.NamedData("rows")).mark_rect()
    chart = squares.encode(
        x=alt.X("other:N", sort=order, title=None, axis=top),
        y=alt.Y("method:N", sort=order, title=None, axis=side),
        color=alt.Color("agreement:Q", scale=scale, legend=legend),
        tooltip=told,
    )
    spec = finished(chart, ROW * len(order)) | {"width": {"step": ROW}, "height": {"step": ROW}}
    pairs = rows[rows["method"] != rows["other"]]
    said = "Mean Spearman agreement of the maps of every two methods: 0 for random maps, 1 for equal ones."
    if len(pairs):
        most = pairs.iloc[int(pairs["agreement"].argmax())]
        said += f" The closest are {most['method']} and {most['other']} ({most['agreement']:.2f})."
    return Chart(spec, said, rows)


def trust(found: pd.DataFrame) -> Chart | None:
    """Tau of every metric with its interval."""
    known = found.dropna(subset="tau_real") if len(found) else found
    if known.empty:
        return None
    rows = known[["metric", "family"]].copy()
    for name in ("tau", "low", "high"):
        rows[name] = known[f"{name}_real"]
    rows["noise"] = np.where(known["beaten_methods"] > 0, *NOISE_FIRST)
    said = (
        "How far the ranking of the real methods by each metric is that by the truth, with its 95% interval: "
        "1 is the same ranking, 0 no relation, -1 the reverse. A triangle ranks random above a real method."
    )
    return Chart(_trust_spec(rows), said, rows)


def _trust_spec(rows: pd.DataFrame) -> dict[str, Any]:
    import altair as alt

    axis = alt.Axis(labelLimit=170, grid=True, ticks=False)
    y = alt.Y("metric:N", sort=rows["metric"].tolist(), title=None, axis=axis)
    told = [alt.Tooltip(f"{name}:N") for name in ("metric", "family", "noise")]
    told += [alt.Tooltip(f"{name}:Q", format=".2f") for name in ("tau", "low", "high")]
    base = alt.Chart(alt.NamedData("rows")).encode(y=y, tooltip=told)
    legend = alt.Legend(orient="bottom", title=None, columns=1, labelLimit=320)
    title, ends = "Kendall's tau with the truth", alt.Scale(domain=[-1, 1])
    colours = alt.Scale(domain=[*NOISE_FIRST], range=[PALETTE[1], PALETTE[0]])
    shapes = alt.Scale(domain=[*NOISE_FIRST], range=["triangle-up", "circle"])
    dots = base.mark_point(size=90, filled=True, opacity=1).encode(
        x=alt.X("tau:Q", title=title, scale=ends),
        color=alt.Color("noise:N", scale=colours, legend=legend),
        shape=alt.Shape("noise:N", scale=shapes, legend=legend),
    )
    bars = base.mark_rule(color=INK, strokeWidth=1.5, opacity=0.6).encode(x="low:Q", x2="high:Q")
    zero = alt.Chart(_inline([{"at": 0}])).mark_rule(color=INK, strokeDash=[2, 3])
    return finished(alt.layer(zero.encode(x="at:Q"), bars, dots), (ROW + 4) * len(rows))
