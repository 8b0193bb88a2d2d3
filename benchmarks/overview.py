"""What a reader takes away, in sentences: whom to use, how sure that is, what breaks, what to distrust."""

import numpy as np
import pandas as pd

from . import leaderboard as lead
from .leaderboard import Tables
from .pairs import beside
from .trust import Trust

NAMED = 3  # methods in one sentence
USUAL = 0.5  # share of the problems that a model must have to be compared with others
GOOD = 0.7  # of a tau, from which on one ranking can stand in for another


def overview(
    tables: Tables, board: pd.DataFrame, pairs: pd.DataFrame, breakdowns: pd.DataFrame, trust: Trust | None
) -> list[str]:
    """A few sentences, the most important first; names in backquotes."""
    ranked = board[board["rank"].notna()]
    real = ranked[~ranked["control"]]
    if ranked.empty:
        return ["Nothing here has a skill by which methods could be ranked: see the values by metric."]
    if real.empty:
        return ["All ranked methods are controls, which cannot know the model: run others."]
    common, known = lead.shared_cells(tables.scores), set(real["method"])
    own = pairs[pairs["a"].isin(known) & pairs["b"].isin(known)]
    parts = [_best(real, own), _models(common, real), _broken(breakdowns, known)]
    parts += [_distrusted(trust), _controls(ranked), _promises(real), _behind(tables.scores, common, own)]
    return [sentence for sentence in parts if sentence]


def _best(real: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Who leads, how surely, and who cannot be told from it."""
    best = real.iloc[0]
    ends = [f"{best['low_here']:.2f} to {best['high_here']:.2f} if these problems were drawn again"]
    ends += [f"{max(best['low'], -1):.2f} to {min(best['high'], 1):.2f} on problems like these"]
    known = [text for text, end in zip(ends, ("low_here", "low"), strict=True) if pd.notna(best[end])]
    sure = f" ({', '.join(known)})" if known else ""
    text = f"Use `{best['method']}`: mean skill {best['skill']:.2f}{sure}, where 0 is chance and 1 exact."
    if best["skill"] <= 0 or best["low_here"] <= 0:
        return f"No method is seen to be better than chance. {text.replace('Use', 'Highest is', 1)}"
    low, high, where = "low_like", "high_like", "On problems like these"
    if pairs["low_like"].isna().all():
        low, high, where = "low", "high", "On these problems"
    if pairs[low].isna().all():
        return f"{text} With one seed nobody can say how sure the order is: run more." if len(pairs) else text
    alike = [method for method in real["method"] if method in beside(pairs, best["method"], low, high)]
    if not alike:
        return f"{text} {where} it is ahead of all others beyond its interval."
    return f"{text} {where} it cannot be told from {_names(alike)}."


def _names(names: list[str]) -> str:
    shown = [f"`{name}`" for name in names[:NAMED]]
    if len(names) > NAMED:
        return f"{', '.join(shown)} and {len(names) - NAMED} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def _models(common: pd.DataFrame, real: pd.DataFrame) -> str:
    """Whether it is the model or the method that matters, on the problems that several models have."""
    by_model = common[list(real["method"])].mean(axis=1).unstack("model")
    often = by_model.notna().groupby(level=lead.CLUSTER).any().mean()
    by_model = by_model.loc[:, often >= USUAL].dropna()
    if by_model.empty or len(by_model.columns) < 2:
        return ""
    means = lead.clustered(by_model)
    low, high = str(means.idxmin()), str(means.idxmax())
    apart = real["skill"].max() - real["skill"].min()
    more = "more" if means[high] - means[low] > apart else "less"
    text = (
        f"The model matters {more} than the method: on the same problems mean skill is {means[high]:.2f} on "
    )
    text += f"`{high}` and {means[low]:.2f} on `{low}`"
    return f"{text}; the best and the worst method are {apart:.2f} apart."


def _broken(breakdowns: pd.DataFrame, known: set[str]) -> str:
    """How many lose half of their skill within the noise levels that were run, and who first."""
    told = breakdowns[breakdowns["method"].isin(known)] if len(breakdowns) else breakdowns
    told = told[told["says"] != "no skill"] if len(told) else told
    if told.empty:
        return ""
    lost = told[told["says"].isin(["at", "always below"])]
    axes = ", ".join(f"`{axis}`" for axis in dict.fromkeys(told["axis"]))
    count = told["method"].nunique()
    lasting = count - lost["method"].nunique()
    text = (
        f"Along {axes}, {lasting} of {count} methods keep half of the skill that they have at every level run"
    )
    if lost.empty:
        return f"{text}."
    way = (lost["level"] - lost["clean_level"]) / (lost["last_level"] - lost["clean_level"])
    first = lost.assign(way=way).sort_values("way", kind="stable").drop_duplicates("method")
    said = [
        f"`{row.method}` by {row.axis} {row.level:.3g} of {row.dataset}" for row in first.head(3).itertuples()
    ]
    return f"{text}; half is lost by {'; '.join(said)}{' and others' if len(first) > 3 else ''}."


def _distrusted(trust: Trust | None) -> str:
    """Whether a metric without truth can stand in for the truth, and which prefer noise."""
    if trust is None or trust.metrics["tau_real"].isna().all():
        return ""
    sure = trust.metrics[trust.metrics["low_real"].notna()]
    best = (sure if len(sure) else trust.metrics).sort_values("tau_real", ascending=False).iloc[0]
    ends = f" ({best['low_real']:.2f} to {best['high_real']:.2f})" if len(sure) else ""
    seen = "seen on three problems or more, " if len(sure) else ""
    text = (
        f"Of the metrics that need no truth, {seen}`{best['metric']}` ranks the methods most as the truth "
        f"does, with Kendall's tau {best['tau_real']:.2f}{ends}"
    )
    if best["tau_real"] < GOOD:
        text += ": none can stand in for it."
    else:
        text += ": it can stand in for it." if best["low_real"] >= GOOD else "; how surely is not known."
    noisy = list(trust.metrics.loc[trust.metrics["beaten_methods"].fillna(0) > 0, "metric"])
    rank = "rank" if len(noisy) > 1 else "ranks"
    below = f" On the exact function {_names(noisy)} {rank} `random` above a real method." if noisy else ""
    return text + below


def _controls(ranked: pd.DataFrame) -> str:
    """Controls that do well by faithfulness, which then is no evidence."""
    fooled = ranked[ranked["control"] & (ranked["faithfulness"] > 0.3)]
    if fooled.empty:
        return ""
    said = [f"{row.faithfulness:.2f} to `{row.method}`" for row in fooled.head(3).itertuples()]
    return f"Faithfulness gives {' and '.join(said)}, which cannot know the model."


def _promises(real: pd.DataFrame) -> str:
    broken = list(real.loc[real["note"].str.contains("promise broken", regex=False), "method"])
    return f"A promise is broken by {_names(broken)}: see the notes." if broken else ""


def _behind(scores: pd.DataFrame, common: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """What all of this rests on."""
    where = common.index.to_frame(index=False)
    counts = [len(where.drop_duplicates(columns)) for columns in (lead.CLUSTER, lead.PROBLEM, ["seed"])]
    failed = int((scores["status"] == "failed").sum())
    names = ("problem", "condition", "seed")
    drawn = ", ".join(_count(count, name) for count, name in zip(counts, names, strict=True))
    text = f"This rests on {len(common):,} cells that all {len(common.columns)} ranked methods share: {drawn}"
    seen = pairs["visible"].median() if len(pairs) else np.nan
    if pd.notna(seen):
        text += f"; a difference of {seen:.3f} between two methods would be seen here in four runs of five"
    return f"{text}; {failed:,} cells failed." if failed else f"{text}; no cell failed."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
