"""Tables of many models -> which methods tell the models that use a shortcut from those that do not."""

import json
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float

from . import detection, stats
from . import leaderboard as lead
from .leaderboard import CLUSTER, PROBLEM, Tables
from .registry import AssayError
from .spec import parse
from .store import GROUP_ACCURACY

UNIT = [*PROBLEM, "model", "seed", "model_seed"]
MASS = "shortcut_mass"
BY_HAND = "region_only"
USES, IGNORES = 0.25, 0.1  # share of the reliance from which on, and up to which; in between is neither
REVEALS = 0.9  # AUROC
BEST = "bayes_accuracy[conflicting]"  # the fact
HOW_TO_READ = """\
AUROC, over the trained models of a problem and then over problems: how often a model that uses the shortcut
has more of its map there than one that does not, on the models that all ranked methods explain; methods that
explain too few of these stand last, on their own. In brackets the interval when the draws of a problem are
drawn again, with all models of a draw, since they explain the same rows (none for fewer than eight draws);
1.00 to 1.00 says that none of these models was on the wrong side, not that none ever is. Correlation:
Spearman's, of the share of the map and the share of the measured reliance; then with the models that were
made to use one region alone, which show it by their architecture: a method that asks an untrained copy tells
them too. Sensitivity and specificity: by the threshold that the models of the other seeds set. From: the
least strength of the shortcut in training from which on the AUROC of its users, against all that do not use
it at any, is {reveals} or more. Aligned, conflicting: the share of the map on the shortcut, over rows where
it says the row's class, and where it says another."""
RELIANCE = """\
Share of the change of the output when a region alone is redrawn, independently of the label (`relevant` is
the core); accuracy on test rows whose shortcut says their class, says another, and in the worst cell of
class and shortcut, against the labels as they are; and, where the optimal classifier is known, the shortcut
bias: its accuracy on conflicting rows less the model's, how much oftener the model follows the shortcut."""
ASKED = """\
Which methods reveal the shortcut that a model uses, and from which correlation on? A model uses it if at
least {uses:.0%} of its measured reliance is on it, and does not up to {ignores:.0%}. A method reveals it
where the share of its maps on the shortcut tells the users at that strength of the shortcut in training, and
at every higher one, from the models that do not use it, with an AUROC of {reveals} or more; in brackets the
AUROC over all strengths."""

Sides: TypeAlias = tuple[Float[np.ndarray, " p"], Float[np.ndarray, " q"]]


def answers(tables: Tables) -> dict[str, pd.DataFrame]:
    """What attributions say of the shortcut, one row a method, best first.

    By the metric that sums up a map, such as `shortcut_mass`; empty where no model's reliance is known.
    """
    cells, found = _cells(tables), {}
    for metric, part in cells.groupby("metric", sort=False):
        # what was made by hand shows what it is by its architecture: even an untrained copy of it does
        trained = part[~part["by_hand"]]
        wide = trained.pivot_table(index=UNIT, columns="method", values="value", aggfunc="first", sort=False)
        common = lead.shared(wide)
        same = trained[trained.set_index(UNIT).index.isin(common.index)]  # nobody is judged on easier models
        rows = []
        for method, whole in part.groupby("method", sort=False):
            ranked = method in common
            own = same if ranked else trained
            row = _of_method(str(metric), str(method), own[own["method"] == method], whole)
            rows.append(row | {"ranked": ranked})
        order = ["ranked", "auroc", "correlation"]
        found[str(metric)] = pd.DataFrame(rows).sort_values(order, ascending=False, ignore_index=True)
    return found


def _cells(tables: Tables) -> pd.DataFrame:
    """One row for each map's summary on each unit, beside what its model was measured to rely on."""
    scores, used = tables.scores, tables.reliance
    mass = scores[scores["metric"].str.startswith(MASS) & (scores["status"] == "ok")]
    if mass.empty or used.empty:
        return pd.DataFrame(columns=["metric"])
    other = [m for m in mass["metric"].unique() if parse(m)[1].get("region", "shortcut") != "shortcut"]
    mass = mass[~mass["metric"].isin(other)]
    used = used.loc[used["region"] == "shortcut", [*UNIT, "share"]]
    problems = tables.problems[[*PROBLEM, "seed", "facts"]].copy()
    problems["association"] = [_fact(facts, "association") for facts in problems["facts"]]
    cells = mass.merge(used, on=UNIT)
    cells = cells.merge(problems.drop(columns="facts"), on=[*PROBLEM, "seed"])
    cells["by_hand"] = [by_hand(model) for model in cells["model"]]
    cells = cells[cells["share"].notna() & cells["value"].notna()]
    return cells.sort_values([*UNIT, "method"], ignore_index=True)  # what is drawn hangs on no order of rows


def _fact(facts: str, name: str) -> float:
    """A number that the problem says of itself; NaN where it does not."""
    try:
        return float(json.loads(facts).get(name, np.nan))
    except (ValueError, TypeError, AttributeError):
        raise AssayError(
            f"column 'facts' of problems.csv has {facts!r}, not a JSON object with numbers; make it again "
            "with `report`."
        ) from None


def by_hand(model: str) -> bool:
    """Whether what it relies on was not learned but built in."""
    return parse(model)[0] == BY_HAND


def _of_method(metric: str, method: str, cells: pd.DataFrame, whole: pd.DataFrame) -> dict[str, object]:
    """What its maps of trained models say; and of these with the ones made by hand, the whole."""
    trained = _problems(cells)
    hits, users, quiet, others = np.sum([_decided(part) for part in trained] or [(0, 0, 0, 0)], axis=0)
    rng = lead.generator(metric, method)
    found = {
        "auroc": detection.mean_auroc([_judged(part) for part in trained], IGNORES, USES, rng),
        "correlation": detection.mean_correlation([_judged(part) for part in trained], rng),
        "with_hand_made": detection.mean_correlation([_judged(part) for part in _problems(whole)], rng),
        "sensitivity": detection.proportion(int(hits), int(users)),
        "specificity": detection.proportion(int(quiet), int(others)),
    }
    row: dict[str, object] = {"method": method}
    for name, ends in found.items():
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    counts = np.sum([[len(side) for side in _sides(part)] for part in trained] or [[0, 0]], axis=0)
    row |= {"from": _from(trained), "users": int(counts[0]), "non_users": int(counts[1])}
    return row | _by_group(pd.concat(trained) if trained else cells[:0])


def _problems(cells: pd.DataFrame) -> list[pd.DataFrame]:
    """Those in which some models use the shortcut and some do not: else order among them is but noise."""
    return [part for _, part in cells.groupby(CLUSTER, sort=False) if min(map(len, _sides(part)))]


def _judged(cells: pd.DataFrame) -> detection.Judged:
    """Of every model the share of the map and of the reliance; models of one draw explain the same rows."""
    drawn = cells.groupby(["noise", "seed"], sort=False).ngroup().to_numpy(int)
    return cells["value"].to_numpy(float), cells["share"].to_numpy(float), drawn


def _sides(cells: pd.DataFrame) -> Sides:
    """The summaries of the models that use the shortcut, and of those that do not."""
    value, share, _ = _judged(cells)
    return value[share >= USES], value[share <= IGNORES]


def _decided(cells: pd.DataFrame) -> tuple[int, int, int, int]:
    """Users found, users, others left in peace, others: by a threshold that the other seeds set."""
    counts = np.zeros(4, int)
    for seed in cells["seed"].unique():
        held = cells["seed"] == seed
        threshold = detection.best_threshold(*_sides(cells[~held]))
        users, others = _sides(cells[held])
        if np.isfinite(threshold):
            counts += [np.sum(users > threshold), len(users), np.sum(others <= threshold), len(others)]
    hits, users_seen, quiet, others_seen = counts.tolist()
    return hits, users_seen, quiet, others_seen


def _from(problems: list[pd.DataFrame]) -> float:
    """The least strength above 0 from which on users are told, there and at every higher one, or NaN."""
    levels = {float(level) for part in problems for level in part["association"].dropna() if level > 0}
    told = np.nan
    for level in sorted(levels, reverse=True):
        auroc = detection.mean_auroc([_judged(_at(part, level)) for part in problems], IGNORES, USES, None)[0]
        if auroc < REVEALS:
            break
        told = told if np.isnan(auroc) else level  # at a strength at which nobody uses it, nobody is told
    return told


def _at(cells: pd.DataFrame, level: float) -> pd.DataFrame:
    """The users at this strength, and all that do not use it at any."""
    return cells[(cells["association"] == level) | (cells["share"] <= IGNORES)]


def _by_group(cells: pd.DataFrame) -> dict[str, float]:
    """Mean summary over rows where the shortcut is right, and over rows where it is wrong."""
    return {
        name: stats.mean(cells[f"value_{name}"].to_numpy(float))[0] for name in ("aligned", "conflicting")
    }


def reliance_table(tables: Tables) -> pd.DataFrame:
    """What every model relies on and how it fares where the shortcut is wrong; the mean over seeds."""
    by = [*PROBLEM, "model"]
    wide = tables.reliance.pivot_table(index=by, columns="region", values="share", sort=False)
    regions = [name for name in ("relevant", "shortcut", "distractor") if name in wide]
    optimum = tables.problems[[*PROBLEM, "seed", "facts"]].copy()
    optimum["best"] = [_fact(facts, BEST) for facts in optimum["facts"]]
    models = tables.models.merge(optimum, on=[*PROBLEM, "seed"])
    models["shortcut_bias"] = models["best"] - models["accuracy_conflicting"]
    accuracy = models.groupby(by, sort=False)[[*GROUP_ACCURACY, "shortcut_bias"]].mean()
    return wide[regions].join(accuracy).reset_index()


def in_words(methods: pd.DataFrame) -> str:
    """The answer in a few sentences."""
    known = methods[methods["auroc"].notna()]
    if known.empty:
        return "No problem has both models that use the shortcut and models that do not."
    told = known[known["from"].notna()]
    lines = []
    for level, part in told.groupby("from"):
        lines.append(f"* From {level:g} on: {', '.join(_named(part))}.")
    rest = known[known["from"].isna()]
    if len(rest):
        lines.append(f"* At no strength: {', '.join(_named(rest))}.")
    return "\n".join(lines)


def _named(part: pd.DataFrame) -> list[str]:
    return [
        f"{lead.code(name)} ({auroc:.2f})" for name, auroc in zip(part["method"], part["auroc"], strict=True)
    ]


def section(found: Mapping[str, pd.DataFrame], tables: Tables) -> list[str]:
    """What leaderboard.md says of these answers, the words first; nothing where there are none."""
    if not found:
        return []
    asked = ASKED.format(uses=USES, ignores=IGNORES, reveals=REVEALS)
    parts = ["## Does the explanation show the shortcut?", asked]
    for metric, methods in found.items():
        parts += [f"### By {lead.code(metric)}", in_words(methods), lead.markdown_table(display(methods))]
    parts += [HOW_TO_READ.format(reveals=REVEALS), "## What the models rely on", RELIANCE]
    return [*parts, lead.markdown_table(_relied(reliance_table(tables)))]


def display(methods: pd.DataFrame) -> pd.DataFrame:
    """The answer as people read it."""
    shown = pd.DataFrame({"method": methods["method"]})
    for name in ("auroc", "correlation", "with_hand_made", "sensitivity", "specificity"):
        columns = (methods[name], methods[f"{name}_low"], methods[f"{name}_high"])
        title = name.upper() if name == "auroc" else name.replace("_", " ")
        shown[title] = [_ranged(row) for row in zip(*columns, strict=True)]
    shown["from"] = [f"{level:g}" if np.isfinite(level) else "" for level in methods["from"]]
    for name in ("aligned", "conflicting"):
        shown[name] = [_number(v) for v in methods[name]]
    shown["users, others"] = [
        f"{a}, {b}" for a, b in zip(methods["users"], methods["non_users"], strict=True)
    ]
    return shown


def _relied(models: pd.DataFrame) -> pd.DataFrame:
    numbers = models.select_dtypes("number").columns
    return models.assign(**{name: [_number(v) for v in models[name]] for name in numbers})


def _ranged(row: tuple[float, float, float]) -> str:
    value, low, high = row
    return _number(value) + (f" ({low:.2f} to {high:.2f})" if np.isfinite(low) else "")


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else ""
