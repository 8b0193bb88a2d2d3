"""What moved, as people read it: terminal, comparison.md, comparison.csv and comparison.html."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from . import leaderboard as lead
from .compare import Comparison
from .html import environment, template
from .store import write_atomically
from .writing import writing

LONGEST = 70  # letters of a setting's value
MOVED = ("better", "worse", "higher", "lower")
HOW_TO_READ = """\
Difference is mean skill of B minus A over the cells that both have: cell by cell where both ran the same
seeds, else the means of the same places over the seeds of each. The 95% interval is for these problems if
their data were drawn, and their models trained, again. A verdict other than `no difference seen` means that
the probability of such a difference where there is none, corrected for the number of methods (Holm), is below
0.05. `Would be seen` is the smallest true difference that four runs of five would show at the plain level."""


def display(rows: pd.DataFrame) -> pd.DataFrame:
    """The differences as text in every place."""
    by_metric = rows["metric"].notna().any()
    shown = rows[["method", "metric"] if by_metric else ["method", "family"]].copy()
    shown["cells"] = rows["cells"].astype(str)
    for title, column in {"A": "a", "B": "b"}.items():
        shown[title] = [lead.shown(v, ".3f") for v in rows[column]]
    shown["B - A"] = [lead.shown(v, "+.3f") for v in rows["difference"]]
    shown["95% interval"] = [
        f"{low:+.3f} to {high:+.3f}" if pd.notna(low) else ""
        for low, high in zip(rows["low"], rows["high"], strict=True)
    ]
    shown["p (Holm)"] = [lead.shown(v, ".2g") for v in rows["p_holm"]]
    shown["would be seen"] = [lead.shown(v, ".3f") for v in rows["visible"]]
    verdicts = zip(rows["verdict"], rows["why"], strict=True)
    shown["verdict"] = [f"{verdict}: {why}" if why else verdict for verdict, why in verdicts]
    if not by_metric:
        ranks = zip(rows["rank_a"], rows["rank_b"], strict=True)
        shown["rank"] = ["" if pd.isna(a) or pd.isna(b) else f"{a:.0f} -> {b:.0f}" for a, b in ranks]
    return shown


def summary(found: Comparison) -> str:
    """One sentence: how many methods moved."""
    judged = found.methods[found.methods["family"].isin(lead.TRUTHS)]
    order = {"no difference seen": 1, "not comparable": 2}  # who moved against any truth has moved
    judged = judged.sort_values("verdict", key=lambda said: said.map(order).fillna(0), kind="stable")
    judged = judged.drop_duplicates("method")
    count = judged["verdict"].value_counts()
    known = int(len(judged) - count.get("not comparable", 0))
    same = int(count.get("no difference seen", 0))
    if not known:
        return "No method is scored in both by a metric of truth: look at the other families."
    text = f"Against the truth, no difference is seen in {same} of {known} methods"
    parts = [
        f"{word}: {', '.join(judged.loc[judged['verdict'] == word, 'method'])}"
        for word in MOVED
        if count.get(word)
    ]
    seen = judged["visible"].dropna()
    text += "; " + "; ".join(parts) if parts else ""
    return f"{text}. In the median method {seen.median():.3f} would be seen." if len(seen) else f"{text}."


def sections(found: Comparison) -> dict[str, pd.DataFrame]:
    """What stands below the differences, by title; texts."""
    moved = found.metrics[found.metrics["verdict"].isin(MOVED)]
    settings = found.settings.map(lambda value: textwrap.shorten(str(value), LONGEST, placeholder=" ..."))
    return {
        "Metrics by which a method moved": display(moved) if len(moved) else pd.DataFrame(),
        "Cells scored in only one of them": found.only.astype(str),
        "Settings that differ": settings,
    }


def markdown(found: Sequence[Comparison]) -> str:
    """The whole of comparison.md."""
    parts = ["# What moved", HOW_TO_READ]
    for one in found:
        parts += [f"## From A to B\n\nA: `{one.first}`\n\nB: `{one.second}`", summary(one)]
        parts.append(lead.markdown_table(display(one.methods)))
        for title, frame in sections(one).items():
            parts += [f"### {title}", lead.markdown_table(frame) if len(frame) else "None."]
    return "\n\n".join(parts) + "\n"


def tidy(found: Sequence[Comparison]) -> pd.DataFrame:
    """Every row of every comparison in one frame; `metric` is empty in the rows of a whole family."""
    parts = [
        frame.assign(a_is=one.first, b_is=one.second) for one in found for frame in (one.methods, one.metrics)
    ]
    return pd.concat(parts, ignore_index=True)


def html(found: Sequence[Comparison]) -> str:
    """One page that needs nothing else."""
    page = environment().get_template("comparison.html")
    return page.render(
        style=template("report.css"),
        how=HOW_TO_READ,
        parts=[
            {"one": one, "says": summary(one), "rows": _marks(one), "sections": sections(one)}
            for one in found
        ],
    )


def _marks(one: Comparison) -> list[dict[str, Any]]:
    """Every row as text, with where its interval stands, in percent of a scale that all of them share."""
    rows, texts = one.methods, display(one.methods)
    columns = ["low", "high", "difference"]
    ends = rows[columns].astype(float).abs().max().max()
    places = (50 + 50 * rows[columns].astype(float) / (ends if ends > 0 else 1)).to_dict("records")
    return [
        {"text": text, "verdict": verdict, "place": place, "known": place["low"] == place["low"]}
        for text, verdict, place in zip(texts.to_dict("records"), rows["verdict"], places, strict=True)
    ]


def write(found: Sequence[Comparison], out: Path) -> None:
    """Write comparison.csv, comparison.md and comparison.html into `out`.

    Raises:
        AssayError: it cannot be written.
    """
    with writing(out):
        write_atomically(out / "comparison.csv", tidy(found).to_csv(index=False))
        write_atomically(out / "comparison.md", markdown(found))
        write_atomically(out / "comparison.html", html(found))
