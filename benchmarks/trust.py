"""Scores -> which of the other metrics rank the methods as the ground truth does, and which prefer noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import kendalltau

from . import leaderboard as lead
from .controls import controls
from .registry import AssayError, near_miss
from .stats import levels
from .store import write_atomically
from .tables import read_table
from .writing import writing

UNIT = [*lead.PROBLEM, "model", "seed", "model_seed", "method_seed"]
NOT_ASKED = (lead.RANKED_BY, "agreement", "reliance", "error split")  # families; all others are asked
COUNTED = ("ok", "trivial", "broken")  # to leave the last two out would spare a metric where it fails
FEWEST = 4  # methods; three have a tau of 1 by chance one time in six
ROUNDING = 1e-6  # maps are in single precision: equal ones have skills 1e-8 apart, others 1e-4 and more
RANDOM = "random"
REPORT = "make the tables again with `report`"


@dataclass(frozen=True)
class Trust:
    """How far every other metric can stand in for the ground truth.

    metrics: one row a metric: mean tau with its interval over all methods and over the `_real` ones, units,
        those of them where all have one value (`flat`), `tau_real` on the units that metrics share, whom it
        ranks below random on the oracle (`beaten`; their number is NaN if not known), caveat.
    by_noise, by_model: the same means by dataset and noise, and by model.
    controls: the methods that are no real ones.
    within_truth: tau, over real methods, of each ground-truth metric against the mean of the others.
    """

    metrics: pd.DataFrame
    by_noise: pd.DataFrame
    by_model: pd.DataFrame
    controls: tuple[str, ...]
    within_truth: float


def load_trust(folder: Path, methods: Sequence[str] = ()) -> Trust:
    """What the tables of a results folder say of these methods, or of all; nothing in it is changed.

    Raises:
        AssayError: they cannot be read, or there is nothing to rank, or by nothing.
    """
    scores, metrics, costs = (read_table(folder, name) for name in ("scores", "metrics", "costs"))
    if metrics.empty:
        raise AssayError(f"{str(folder)!r} has no metrics.csv, which says what is best; {REPORT}.")
    for name in methods:
        if name not in (known := list(scores["method"].unique())):
            raise AssayError(f"no method in {str(folder)!r} is {name!r}.{near_miss(name, known)}")
    return trust(scores[scores["method"].isin(methods)] if methods else scores, metrics, costs)


def trust(scores: pd.DataFrame, metrics: pd.DataFrame, costs: pd.DataFrame) -> Trust:
    """How well the ranking by every other metric predicts the ranking by the ground truth.

    Raises:
        AssayError: there is nothing to rank, or by nothing.
    """
    wide = lead.skills(scores, lead.RANKED_BY)
    if wide.empty:
        raise AssayError("no ground-truth cell is ok, so there is no truth to rank by; run such metrics.")
    values, controls = _values(scores, metrics), _controls(costs)
    taus = _taus(values.merge(_truth(wide), on=[*UNIT, "method"]), controls)
    if taus["tau"].isna().all():
        raise AssayError(f"no unit has {FEWEST} methods that can be ranked both ways; run more methods.")
    asked = scores.loc[~scores["family"].isin(NOT_ASKED), ["metric", "family"]].drop_duplicates()
    overall = asked.merge(_means(taus, []), on=["metric", "family"], how="left")
    wide_taus = taus.pivot_table(index=UNIT, columns="metric", values="tau_real", aggfunc="first")
    overall["tau_shared"] = overall["metric"].map(lead.clustered(lead.shared(wide_taus)))
    overall = overall.merge(_beaten(values, controls), on="metric", how="left")
    overall = overall.merge(metrics[["metric", "caveat"]].drop_duplicates("metric"), on="metric")
    counts = dict.fromkeys(("units", "flat", "units_real", "flat_real"), 0)
    overall = overall.fillna(counts | {"beaten": "", "caveat": ""})
    overall = overall.sort_values(["tau_real", "tau", "metric"], ascending=[False, False, True])
    return Trust(
        metrics=overall.reset_index(drop=True),
        by_noise=_means(taus, ["dataset", "noise"]),
        by_model=_means(taus, ["model"]),
        controls=tuple(m for m in dict.fromkeys(scores["method"]) if m in controls),
        within_truth=_within_truth(wide, controls),
    )


def _controls(costs: pd.DataFrame) -> set[str]:
    """The methods that cannot know the model; `random` is one even where the table does not say."""
    return {RANDOM} | (controls(costs) if "control" in costs else set())


def _truth(wide: pd.DataFrame) -> pd.DataFrame:
    """Mean skill of every method of a unit, over the ground-truth metrics that all its methods have."""
    means = {unit: lead.shared(part).mean() for unit, part in wide.groupby(level=UNIT, sort=False)}
    return pd.concat(means, names=UNIT).rename("truth").reset_index()


def _values(scores: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """The other metrics' values: more is better, and 1 is a large one in its unit."""
    asked = scores[~scores["family"].isin(NOT_ASKED)]
    found = asked[asked["status"].isin(COUNTED) & np.isfinite(asked["value"].astype(float))].copy()
    if found.empty:
        raise AssayError("no metric beside ground truth and agreement has a value; run one, as deletion.")
    known = metrics.drop_duplicates("metric").set_index("metric")
    best, worst = known["best"].astype(float), known["worst"].astype(float)
    turn = best.gt(worst).astype(int) - best.lt(worst).astype(int)
    lacking = [m for m in asked["metric"].unique() if not turn.get(m)]
    if lacking:
        raise AssayError(f"metrics.csv does not say whether more of {lacking[0]!r} is better; {REPORT}.")
    found["value"] = found["value"].astype(float) * found["metric"].map(turn)
    found["value"] /= found.groupby([*UNIT, "metric"])["value"].transform(_size)
    return found[[*UNIT, "metric", "family", "method", "value"]]


def _size(values: Any) -> float:
    """What is a large value here, whatever a few methods that explode or are exactly 0 have."""
    sizes = np.abs(np.asarray(values, dtype=float))
    return float(np.quantile(sizes, 0.75)) or float(sizes.max()) or 1.0


def _taus(cells: pd.DataFrame, controls: set[str]) -> pd.DataFrame:
    """For every unit and metric, tau over all methods and over the real ones."""
    rows = []
    for key, part in cells.groupby([*UNIT, "metric", "family"], sort=False):
        value, truth = part["value"].to_numpy(), part["truth"].to_numpy()
        real = ~part["method"].isin(controls).to_numpy()
        rows.append((*key, *_tau(value, truth), *_tau(value[real], truth[real])))
    found = ["tau", "flat", "tau_real", "flat_real"]
    return lead.placed(pd.DataFrame(rows, columns=[*UNIT, "metric", "family", *found]))


def _tau(value: Float[np.ndarray, " n"], truth: Float[np.ndarray, " n"]) -> tuple[float, bool]:
    """Kendall's tau-b, NaN where the truth tells nobody apart; 0, and flat, where the metric does not."""
    ranked, wanted = levels(value, ROUNDING), levels(truth, ROUNDING)
    if len(value) < FEWEST or not wanted.any():
        return float("nan"), False
    if not ranked.any():
        return 0.0, True
    return round(float(kendalltau(ranked, wanted, method="asymptotic").statistic), 12), False


def _means(taus: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean tau of every metric with its interval, within each combination of `by`."""
    rows = []
    for key, part in taus.groupby(["metric", "family", *by], sort=False):
        row: dict[str, Any] = dict(zip(["metric", "family", *by], key, strict=True))
        for tail in ("", "_real"):
            have = part[part[f"tau{tail}"].notna()]
            mean, low, high = lead.mean_of(have, f"tau{tail}")
            row |= {f"tau{tail}": mean, f"low{tail}": low, f"high{tail}": high}
            row |= {f"units{tail}": len(have), f"flat{tail}": int(have[f"flat{tail}"].sum())}
        rows.append(row)
    return pd.DataFrame(rows)


def _beaten(values: pd.DataFrame, controls: set[str]) -> pd.DataFrame:
    """Which real methods every metric ranks below `random` on the oracle, and on how many of its units."""
    oracle = values[values["model"] == "oracle"]
    place = [*UNIT, "metric"]
    noise = oracle.loc[oracle["method"] == RANDOM, [*place, "value"]]
    both = oracle[~oracle["method"].isin(controls)].merge(noise, on=place, suffixes=("", "_random"))
    both = lead.placed(both)
    rows = []
    for (metric, method), part in both.groupby(["metric", "method"], sort=False):
        part = part.assign(ahead=part["value_random"] - part["value"])
        often = int((part["ahead"] > ROUNDING).sum())
        below = lead.mean_of(part, "ahead")[0] > ROUNDING
        said = [f"{method} ({often} of {len(part)})"] if below else []
        rows.append((metric, below, said, -often / len(part)))
    found = pd.DataFrame(rows, columns=["metric", "beaten_methods", "beaten", "order"])
    by_metric = found.sort_values("order", kind="stable").groupby("metric", as_index=False)
    summed = by_metric[["beaten_methods", "beaten"]].sum()
    return summed.assign(beaten=summed["beaten"].map(", ".join))


def _within_truth(wide: pd.DataFrame, controls: set[str]) -> float:
    """Mean tau, over real methods, of each ground-truth metric against the mean of the unit's others."""
    rows = []
    for unit, part in wide.groupby(level=UNIT, sort=False):
        common = lead.shared(part[[m for m in part if m not in controls]])
        for place, one in zip(common.index, common.to_numpy(), strict=True):
            others = common.drop(index=[place])
            if len(others):
                rows.append((*unit, _tau(one, others.mean().to_numpy())[0]))
    found = pd.DataFrame(rows, columns=[*UNIT, "tau"]).dropna(subset="tau")
    return lead.mean_of(lead.placed(found), "tau")[0]


HOW_TO_READ = """\
Does a metric that needs no truth rank the methods as the truth does? In every unit (problem, noise, model and
seed) tau is Kendall's tau-b between its values of the methods and their mean ground-truth skill, over the
metrics that all have there: 1 is the same ranking, 0 no relation, -1 the reverse. Controls, which cannot
know the model, are easily told from the others and raise tau: the order goes by tau without them. The
95% interval is for other problems of which these are a sample, and for these methods; with fewer than three
problems there is none. A metric that gives all real methods of a unit one value (flat) gets 0 there; cells
where it cannot tell noise from the truth, or prefers noise, count. Compare metrics on shared units: others
may be easier."""
NOISE_FIRST = """\
On the oracle the model is the truth. These methods score worse than `random` there in the mean over problems
(values as shares of a large one in their unit); in brackets, in how many units of how many."""


def display(found: Trust) -> pd.DataFrame:
    """The overall table as people read it: text in every place."""
    table = found.metrics
    shown = table[["metric", "family"]].copy()
    for name, tail in {"without": "_real", "with": ""}.items():
        shown[f"tau {name} controls"] = [_number(v) for v in table[f"tau{tail}"]]
        ends = zip(table[f"low{tail}"], table[f"high{tail}"], strict=True)
        shown[f"95% interval {name}"] = [f"{a:+.2f} to {b:+.2f}" if pd.notna(a) else "" for a, b in ends]
    shown["on shared units"] = [_number(v) for v in table["tau_shared"]]
    shown["units"], shown["flat"] = ([f"{v:.0f}" for v in table[c]] for c in ("units", "flat_real"))
    shown["below random"] = [f"{n:.0f}" if pd.notna(n) else "" for n in table["beaten_methods"]]
    return shown


def _number(value: float) -> str:
    return f"{value:+.2f}" if pd.notna(value) else ""


def tidy(found: Trust) -> pd.DataFrame:
    """All of it in one frame, by scope: overall, noise=..., model=..."""
    noises = found.by_noise.assign(scope=lambda f: "noise=" + (f["dataset"] + " " + f["noise"]).str.strip())
    parts = [found.metrics.assign(scope="overall"), noises]
    whole = pd.concat(
        [*parts, found.by_model.assign(scope=lambda f: "model=" + f["model"])], ignore_index=True
    )
    whole.insert(0, "scope", whole.pop("scope"))
    return whole.drop(columns=["dataset", "noise", "model"])


def _by(found: Trust, kind: str) -> list[str]:
    """A table of tau without controls, metrics by the scopes of a kind."""
    rows = tidy(found).loc[lambda frame: frame["scope"].str.startswith(f"{kind}=")]
    wide = rows.pivot(index="metric", columns="scope", values="tau_real")
    wide = wide.reindex(index=found.metrics["metric"], columns=rows["scope"].unique()).map(_number)
    wide.columns = wide.columns.str.removeprefix(f"{kind}=")
    return [f"## Tau without controls by {kind}", lead.markdown_table(wide.reset_index())]


def section(found: Trust) -> list[str]:
    """What leaderboard.md says of it."""
    context = f"Controls: {lead.in_prose(', '.join(found.controls)) or 'none'}."
    if within := _number(found.within_truth):
        context += f" Without them, a ground-truth metric has tau {within} with the mean of the others."
    below = found.metrics["beaten_methods"]
    named = [lead.code(m) for m in found.metrics.loc[below > 0, "metric"]] or ["none"]
    last = f"On the exact function these metrics rank `random` above a real method: {', '.join(named)}."
    if below.isna().all():
        last = "No unit has the oracle, `random` and a real method: who ranks noise first is not known."
    table = lead.markdown_table(display(found))
    return ["## Can the other metrics be trusted?", HOW_TO_READ, context, table, last]


def markdown(found: Trust) -> str:
    """The whole of trust.md."""
    title, *parts = section(found)
    parts = [title.removeprefix("#"), *parts]
    for heading, column in ((f"## Ranked below random\n\n{NOISE_FIRST}", "beaten"), ("## Caveats", "caveat")):
        said = found.metrics[found.metrics[column] != ""]
        lines = [
            f"* {lead.code(m)}: {lead.escaped(text)}"
            for m, text in zip(said["metric"], said[column], strict=True)
        ]
        parts += [heading, "\n".join(lines)] if lines else []
    return "\n\n".join([*parts, *_by(found, "noise"), *_by(found, "model")]) + "\n"


def write(found: Trust, folder: Path) -> None:
    """Write trust.csv and trust.md.

    Raises:
        AssayError: they cannot be written.
    """
    with writing(folder):
        write_atomically(folder / "trust.csv", tidy(found).to_csv(index=False))
        write_atomically(folder / "trust.md", markdown(found))
