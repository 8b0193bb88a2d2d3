"""Scores -> where the spread of a mean skill comes from, and how many seeds would halve its interval."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from . import leaderboard as lead
from . import stats
from .intervals import Sample, Spread, half_width, over_problems

REPLICATE = [*lead.PROBLEM, "seed", "model_seed", "method_seed"]  # its cells share all that is random
LEVELS = (4, 5)  # how many of these columns name a draw of the data, and a model trained on it
HALF = 2
COLUMNS = (
    *("method", "skill", "problems", "draws", "sd_problem", "sd_draw", "sd_data", "sd_rows", "sd_model"),
    *("sd_method", "share_problem", "seeds_now", "seeds_to_halve", "seeds_to_halve_like"),
)
SHOWN = {
    "sd_problem": "problems",
    "sd_draw": "draws",
    "sd_data": "data",
    "sd_rows": "rows at most",
    "sd_model": "models",
    "sd_method": "methods",
}


def variance(scores: pd.DataFrame) -> pd.DataFrame:
    """What the spread of every ranked method's mean skill is made of; best first.

    Over the cells that all ranked methods share, averaged within what was drawn together.  A draw is one seed
    of a condition (a problem at a noise level): data, in which models are trained, which methods explain.

    Returns:
        One row a method.  sd_problem: of true problem means.  sd_draw: of a draw's mean, as it was run.
        sd_data, sd_model, sd_method: of that, what comes of other data, of another training on the same data,
        of another explanation of the same model.  NaN where the suite cannot tell: with one method seed the
        methods' part is in the models', with one model seed no part is known of data or models.
        sd_rows: what more explained rows would take away, if the errors of a draw's cells go along with each
        other, as those of the same rows may: an upper bound, and no more than all of sd_data.  share_problem:
        of the variance of the mean over problems like these.  seeds_now: draws of a condition.
        seeds_to_halve: how many it would take in all to halve the 95% interval on these problems;
        seeds_to_halve_like: that on problems like these, infinite where no number would.
    """
    family = lead.judge(scores)
    common = lead.shared(lead.skills(scores, family))
    if common.empty:
        return pd.DataFrame(columns=[*COLUMNS])
    sample = lead.sample(common)
    means = common.groupby(level=REPLICATE, sort=False).mean()
    names = means.index.to_frame(index=False)
    levels = [names.groupby(REPLICATE[:n], sort=False).ngroup().to_numpy() for n in (3, *LEVELS)]
    parts = np.sqrt(np.maximum(nested(means.to_numpy(), np.stack(levels)), 0))  # NaN stays NaN
    if np.isnan(parts[1]).all():
        parts[0] = np.nan  # it holds the models' part too
    found = pd.DataFrame({"method": common.columns, "skill": sample.mean})
    found["problems"], found["draws"] = int(sample.problem.max()) + 1, len(sample.values)
    found["sd_draw"] = np.sqrt(nested(sample.values, sample.condition[None])[0])
    found[["sd_data", "sd_model", "sd_method"]] = parts.T
    rows = _rows(scores.assign(skill=scores["skill_error"]), family, common)
    found["sd_rows"] = np.fmin(rows, found["sd_data"].fillna(found["sd_draw"])).where(np.isfinite(rows))
    found = found.assign(**_seeds(sample))
    return found[[*COLUMNS]].sort_values(["skill", "method"], ascending=[False, True], ignore_index=True)


def nested(
    values: Float[np.ndarray, "n methods"], levels: Int[np.ndarray, "outer n"]
) -> Float[np.ndarray, "outer methods"]:
    """Components of variance of a nested random-effects design, by the method of moments; unbiased.

    The sums of squares between the groups of each level, within those of the level above it, are set to what
    is expected of them, for groups of any sizes: Searle, Casella and McCulloch, Variance Components, 1992,
    chapter 5.  An estimate may be below 0.  Where no group of a level is divided by the next, that one cannot
    be told from it: its component is NaN, and is in that of the level above it that can be told.

    Args:
        values: an observation and a method.
        levels: the group of every observation, outermost level first, whose groups' own means are not random;
            each level divides the one before it, and observations divide the last.

    Returns:
        Variance between the groups of the second level within those of the first, and so on down to that
        between observations within the last.
    """
    groups = [np.unique(level, return_inverse=True)[1] for level in (*levels, np.arange(len(values)))]
    sizes = [np.bincount(group).astype(float) for group in groups]
    means = [_means(values, group) for group in groups]
    squares, expected = [], []
    for outer, inner in zip(range(len(levels)), range(1, len(groups)), strict=True):
        squares.append(((means[inner] - means[outer]) ** 2).sum(0))
        # what a component of each level adds: sum of n_j^2 / n_inner less that of n_j^2 / n_outer
        row = [
            (sizes[j][groups[j]] * (1 / sizes[inner][groups[inner]] - 1 / sizes[outer][groups[outer]])).sum()
            for j in range(1, len(groups))
        ]
        expected.append([value if j >= outer else 0.0 for j, value in enumerate(row)])
    power = np.array(expected)
    known = np.diag(power) > stats.SAME
    found = np.full((len(levels), values.shape[1]), np.nan)
    found[known] = np.linalg.solve(power[np.ix_(known, known)], np.array(squares)[known])
    return found


def _means(
    values: Float[np.ndarray, "n methods"], group: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n methods"]:
    """For every observation the mean of its group."""
    sums = np.zeros((group.max() + 1, values.shape[1]))
    np.add.at(sums, group, values)
    return np.asarray((sums / np.bincount(group)[:, None])[group])


def _rows(errors: pd.DataFrame, family: str, common: pd.DataFrame) -> Float[np.ndarray, " methods"]:
    """Standard error of a draw's mean over its explained rows, if its cells' errors go along with each other.

    errors: the scores, with the skill's error in place of the skill.
    """
    known = lead.skills(errors, family).reindex(index=common.index, columns=common.columns)
    of_draw = known.groupby(level=REPLICATE[: LEVELS[0]], sort=False).mean()
    return np.asarray(np.sqrt((of_draw**2).mean()), dtype=float)


def _seeds(sample: Sample) -> dict[str, Float[np.ndarray, " methods"]]:
    """Spread between problems, and the seeds that would halve the intervals."""
    here, like = sample.noise.spread(), over_problems(sample.by_problem)
    count = int(sample.problem.max()) + 1
    conditions = int(sample.condition.max()) + 1
    seeds = len(sample.values) / conditions
    of_problems = np.maximum(like.error**2 - here.error**2, 0)
    total = of_problems + here.error**2
    with np.errstate(divide="ignore", invalid="ignore"):
        share = of_problems / total
        many = np.ceil(seeds * here.error**2 / (total / HALF**2 - of_problems) - 1e-9)
    never = of_problems >= total / HALF**2
    return {
        "sd_problem": np.sqrt(count * of_problems),
        "share_problem": share,
        "seeds_now": np.full(len(share), seeds),
        "seeds_to_halve": _to_halve(here, seeds, conditions),
        "seeds_to_halve_like": np.where(total > 0, np.where(never, np.inf, many), np.nan),
    }


def _to_halve(now: Spread, seeds: float, conditions: int) -> Float[np.ndarray, " methods"]:
    """The smallest number of seeds with which the interval would be half as wide, by Student's t."""
    more = np.arange(max(2, int(seeds)), int(np.ceil(HALF**2 * seeds)) + 1)[:, None]
    freedom = np.clip(now.freedom * more / seeds, more - 1.0, conditions * (more - 1.0))
    widths = half_width(Spread(now.error * np.sqrt(seeds / more), freedom))
    enough = widths <= (half_width(now) / HALF + 1e-12)[None]
    found = np.where(enough.any(0), more[enough.argmax(0), 0], np.nan)
    return np.where(now.error > 0, found, np.nan)


HOW_TO_READ = """\
How far would a method's mean skill move if a part of the run were random anew? In standard deviations of one
draw: one seed of one problem at one noise level. Problems: by this the true means of problems differ. Draws:
by this the draws of one problem do, as they were run. Of that, data: other data of the same problem; models:
another training on the same data, held against other chance; methods: another explanation of the same model,
by a method that draws. Rows at most: what more explained rows would take away, if the errors of all cells of
a draw, being of the same rows, go along with each other; this is an upper bound. What is not known is left
out: with one method seed its part is in the models', with one model seed only draws are known. Estimates
below zero stand as 0. To halve: seeds in all with which the 95% interval on these problems, or on problems
like these, would be half as wide; never: problems differ, and no number of seeds changes that."""


def display(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as people read it: text in every place."""
    shown = pd.DataFrame({"method": frame["method"], "skill": [_text(v, "+.3f") for v in frame["skill"]]})
    for column, title in SHOWN.items():
        shown[title] = [_text(v, ".3f") for v in frame[column]]
    shown["share of problems"] = [_text(v, ".0%") for v in frame["share_problem"]]
    shown["seeds"] = [_text(v, ".3g") for v in frame["seeds_now"]]
    shown["to halve"] = [_text(v, ".0f") for v in frame["seeds_to_halve"]]
    shown["to halve, like these"] = [
        "never" if np.isposinf(v) else _text(v, ".0f") for v in frame["seeds_to_halve_like"].astype(float)
    ]
    return shown.loc[:, (shown != "").any()]


def _text(value: float, form: str) -> str:
    return format(value, form) if pd.notna(value) else ""


def section(frame: pd.DataFrame) -> list[str]:
    """What leaderboard.md says of it; nothing where nothing was drawn twice."""
    if frame["sd_draw"].isna().all():
        return []
    table = lead.markdown_table(display(frame))
    return ["## Where the spread comes from", HOW_TO_READ, table, _told(frame)]


def _told(frame: pd.DataFrame) -> str:
    """What seeds can do for the intervals."""
    here, like = frame["seeds_to_halve"].dropna(), frame["seeds_to_halve_like"].dropna().astype(float)
    said = []
    if len(here):
        said.append(f"Half as wide on these problems: {here.median():.0f} seeds, the median of methods.")
    if len(like):
        never = int(np.isposinf(like).sum())
        said.append(
            f"On problems like these no number of seeds would do it for {never} of {len(like)} methods: "
            "problems differ."
            if never
            else f"On problems like these: {like.median():.0f}."
        )
    return " ".join(said)
