"""Pictures of how methods fare as problems get harder, and of which metrics can be trusted."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from . import palette
from .findings import Findings
from .palette import DARK, FAINT, QUIET, shown
from .rankplots import ROW, plain_numbers, ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

SUBJECT = ["dataset", "parameters", "axis"]  # what a picture of curves is of
BESIDE = 3.2  # inches for the names
BANDED, BAND = 3, 0.14  # so many of the best have a band: more would hide each other; how dark it is
ACROSS = 3  # panels beside each other
WIDE_RANGE = 25.0  # of the largest to the smallest level but 0, above which levels stand at powers of ten
BANDS = f"Bands: 95% intervals of the best {BANDED} over all and of random."
NEAREST = 0.05  # of the axis, between two levels that are named
SAID = {
    "never": (">", "never, at these levels"),
    "always below": ("<", "below half from the first level on"),
    "no skill": ("x", "no skill to lose"),
}


def subjects(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of every problem and noise axis, with its name for a file."""
    if frame.empty:
        return
    used: dict[str, int] = {}
    for key, part in frame.groupby(SUBJECT, sort=False):
        dataset, parameters, axis = map(str, key)
        name = palette.slug(dataset, parameters.partition(" ")[0], axis)
        used[name] = used.get(name, 0) + 1  # two problems may differ in later parameters alone
        yield f"{name}-{used[name]}" if used[name] > 1 else name, part


def _panels(part: pd.DataFrame, size: tuple[float, float]) -> "tuple[Figure, list[tuple[str, Axes]]]":
    """An axes for every setting of the other noise axes."""
    held = list(dict.fromkeys(part["held"].fillna("")))
    across = min(ACROSS, len(held))
    down = -(-len(held) // across)
    made, axes = palette.figure((size[0] * across + BESIDE, size[1] * down + 1.4), down, across)
    for spare in axes[len(held) :]:
        spare.set_visible(False)
    pairs = list(zip(held, axes, strict=False))
    for setting, own in pairs:
        own.set_title(shown(setting, 60), fontsize=9, fontweight="normal")
    return made, pairs


def _about(part: pd.DataFrame) -> tuple[str, str, str]:
    """Dataset, parameters and axis of the rows of one subject."""
    dataset, parameters, axis = part[SUBJECT].iloc[0]
    return shown(dataset), shown(parameters, 120), shown(axis)


class Levels:
    """Where the levels of a noise axis stand: as they are, or by powers of ten; an infinite one last."""

    def __init__(self, levels: Sequence[float]) -> None:
        known = sorted({float(v) for v in levels})
        self.known, finite = known, [v for v in known if np.isfinite(v)] or [0.0]
        positive = [v for v in finite if v > 0]
        self.by_tens = finite[0] >= 0 and bool(positive) and finite[-1] > WIDE_RANGE * positive[0]
        self.least = positive[0] if positive else 1.0
        first, last = (float(v) for v in self._scaled(np.array([finite[0], finite[-1]])))
        self.step = (last - first) / max(1, len(finite) - 1) or 1.0
        self.ends = (first - self.step * (known[0] == -np.inf), last + self.step * (known[-1] == np.inf))

    def _scaled(self, levels: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        if not self.by_tens:
            return levels
        return np.where(
            levels < self.least,
            levels / self.least - 1,
            np.log10(np.maximum(levels, self.least) / self.least),
        )

    def at(self, levels: "pd.Series[float] | Sequence[float]") -> Float[np.ndarray, " n"]:
        """Where these stand."""
        values = np.asarray(levels, dtype=float)
        places = self._scaled(np.nan_to_num(values, nan=np.nan, posinf=0.0, neginf=0.0))
        return np.select([values == np.inf, values == -np.inf], [self.ends[1], self.ends[0]], places)

    def mark(self, axes: "Axes") -> None:
        """Ticks at the levels that were run; of those that are too near each other some have no name."""
        places = self.at(self.known)
        wide = float(np.ptp(places)) or 1.0
        last, names = np.inf, list[str]()
        for level, place in zip(self.known[::-1], places[::-1], strict=True):
            named = (last - place) / wide > NEAREST
            last = place if named else last
            text = plain_numbers()(level, None) if np.isfinite(level) else "none"
            names.insert(0, text if named else "")
        axes.set_xticks(places, names)
        crowded = len(names) > 1 and np.diff(places).min() / wide < 3 * NEAREST
        axes.tick_params(axis="x", rotation=90 if crowded else 0)


def curves(part: pd.DataFrame, best_first: Sequence[str]) -> "Figure":
    """Skill of every method at every level of one noise axis of one problem, with bands of 95%."""
    looks = palette.looks([m for m in best_first if m in set(part["method"])])
    banded = {*[*looks][:BANDED], palette.RANDOM}
    levels = Levels(part["level"].tolist())
    made, panels = _panels(part, (3.6, 3.4))
    dataset, parameters, axis = _about(part)
    lines: dict[str, Line2D] = {}
    for held, axes in panels:
        for method, own in part[part["held"].fillna("") == held].groupby("method", sort=False):
            own = own.sort_values("level")
            x = levels.at(own["level"])
            if method not in looks:
                axes.plot(x, own["skill"], color=FAINT, linewidth=0.9, zorder=1)
                continue
            look = looks[str(method)]
            if method in banded:
                axes.fill_between(x, own["low"], own["high"], color=look.colour, alpha=BAND, linewidth=0)
            lines[str(method)] = axes.plot(x, own["skill"], **look.line, linewidth=1.6, zorder=3)[0]
        levels.mark(axes)
        axes.axhline(0, color=QUIET, linewidth=0.8, zorder=1)
        axes.set_xlabel(axis)
        axes.grid()
    _same_heights([axes for _, axes in panels], part)
    panels[0][1].set_ylabel("skill: 0 random, 1 exact")
    _legend(made, lines, looks)
    others = part["method"].nunique() - len(lines)
    grey = f"The {others} other methods are grey. " if others else ""
    palette.explained(made, f"Skill as {axis} changes: {dataset}", f"{grey}{BANDS} {parameters}")
    return made


def _legend(made: "Figure", lines: Mapping[str, "Line2D"], order: Iterable[str]) -> None:
    """The methods that have a colour, best first, beside all panels."""
    there = [m for m in order if m in lines]
    names = [shown(m) for m in there]
    made.legend([lines[m] for m in there], names, loc="outside right center", handlelength=3.5)


def _same_heights(panels: "Sequence[Axes]", part: pd.DataFrame) -> None:
    """Limits that all panels share; a band that is far too wide is cut."""
    low, high = float(part["skill"].min()), float(part["skill"].max())
    edges = part[["low", "high"]].to_numpy(dtype=float)
    margin = 0.35 * max(high - low, 0.5)
    low = max(low - margin, float(np.nanmin(edges, initial=low)))
    high = min(high + margin, float(np.nanmax(edges, initial=high)))
    pad = 0.04 * max(high - low, 0.1)
    for axes in panels:
        axes.set_ylim(min(low, 0.0) - pad, high + pad)


def breakdowns(part: pd.DataFrame, levels: Levels, best_first: Sequence[str]) -> "Figure":
    """Where on one noise axis of one problem every method has lost half of its skill."""
    there = [m for m in best_first if m in set(part["method"])]
    made, panels = _panels(part, (3.8, 0.9 + ROW * len(there)))
    dataset, parameters, axis = _about(part)
    left, right = levels.ends
    for place, (held, axes) in enumerate(panels):
        rows = (
            part[part["held"].fillna("") == held].drop_duplicates("method").set_index("method").reindex(there)
        )
        at = rows["says"].eq("at")
        _points(axes, rows.assign(row=range(len(rows)))[at], levels)
        clean = levels.at(rows["clean_level"].dropna().tolist() or [left])
        noisy, quiet = (left, right) if clean[0] > (left + right) / 2 else (right, left)
        for says, (mark, _) in SAID.items():
            mark = {">": "<", "<": ">"}.get(mark, mark) if noisy < quiet else mark
            where = noisy if says == "never" else quiet
            own = np.flatnonzero(rows["says"].eq(says))
            if len(own):
                axes.plot(np.full(len(own), where), own, mark, color=QUIET, markersize=6, zorder=3)
        levels.mark(axes)
        axes.set_xlim(left - 0.04 * (right - left), right + 0.04 * (right - left))
        axes.set_ylim(len(there) - 0.4, -0.6)
        first = place % ACROSS == 0
        axes.set_yticks(range(len(there)), [shown(m) for m in there] if first else [""] * len(there))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(axis)
        axes.grid()
    _key(made, set(part["says"]))
    note = f"Bars: 95% intervals. No mark: not known. {parameters}"
    palette.explained(made, f"Where skill has fallen to half: {dataset}", note)
    return made


def _points(axes: "Axes", rows: pd.DataFrame, levels: Levels) -> None:
    """Levels with their intervals; one without an end reaches the edge of what was run."""
    low, high = (levels.at(rows[end]) for end in ("low", "high"))
    axes.hlines(rows["row"], low, high, color=palette.COLOURS[0], linewidth=4, alpha=0.35, zorder=2)
    axes.plot(
        levels.at(rows["level"]), rows["row"], "o", color=palette.COLOURS[0], markeredgecolor=DARK, zorder=4
    )


def _key(made: "Figure", says: set[str]) -> None:
    """What the marks of a picture of breakdown points mean, of those that are there."""
    from matplotlib.lines import Line2D

    marks = [("at", "o", palette.COLOURS[0], "half is lost here")]
    marks += [(said, mark, QUIET, text) for said, (mark, text) in SAID.items()]
    there = [mark for mark in marks if mark[0] in says]
    lines = [Line2D([], [], linestyle="", marker=m, color=colour, markersize=6) for _, m, colour, _ in there]
    made.legend(lines, [text for *_, text in there], loc="outside right center")


def profiles(found: Findings) -> "Figure | None":
    """Share of the draws in which a method's skill is above each threshold, with bands.

    Agarwal et al.: Deep reinforcement learning at the edge of the statistical precipice (2021).
    """
    table = found.profiles
    if table.empty:
        return None
    best_first = [m for m in ranked(found)["method"] if m in set(table["method"])]
    looks = palette.looks(best_first)
    banded = {*[*looks][:BANDED], palette.RANDOM}
    made, (axes,) = palette.figure((9.0, 5.0))
    lines: dict[str, Line2D] = {}
    for place, (method, own) in enumerate(table.groupby("method", sort=False)):
        x = own["threshold"].to_numpy(dtype=float)
        if method not in looks:
            axes.plot(x, own["share"], color=FAINT, linewidth=0.9, zorder=1)
            continue
        look = looks[str(method)]
        every = max(1, len(x) // 8)
        marks = (
            place * every // len(looks) % every,
            every,
        )  # so that marks of equal curves are beside each other
        if method in banded:
            axes.fill_between(x, own["low"], own["high"], color=look.colour, alpha=BAND, linewidth=0)
        lines[str(method)] = axes.plot(
            x, own["share"], **look.line, linewidth=1.6, markevery=marks, zorder=3
        )[0]
    axes.set_ylim(-0.02, 1.02)
    axes.margins(x=0.01)
    axes.grid()
    axes.set_xlabel("skill")
    axes.set_ylabel("share of the draws with more skill than that")
    _legend(made, lines, looks)
    note = f"Higher is better everywhere. {BANDS} Grey: the other methods."
    palette.explained(made, f"Performance profiles: {shown(found.name)}", note)
    return made


def trust(found: Findings) -> "Figure | None":
    """How well every metric that needs no truth ranks the methods as the truth does."""
    if found.trust is None:
        return None
    table = found.trust.metrics
    table = table[table[["tau", "tau_real"]].notna().any(axis=1)].reset_index(drop=True)
    if table.empty:
        return None
    made, (axes,) = palette.figure((8.5, 1.9 + ROW * len(table)))
    rows = np.arange(len(table))
    axes.hlines(
        rows, table["low_real"], table["high_real"], color=palette.COLOURS[0], linewidth=4, alpha=0.35
    )
    axes.plot(
        table["tau"], rows, "D", color="white", markeredgecolor=QUIET, markersize=5, label="with controls"
    )
    axes.plot(
        table["tau_real"], rows, "o", color=palette.COLOURS[0], markeredgecolor=DARK, label="without controls"
    )
    axes.axvline(0, color=QUIET, linewidth=0.9)
    axes.set_yticks(rows, [shown(m) for m in table["metric"]])
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlim(-1.04, 1.04)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlabel("Kendall's tau with the ranking by ground truth")
    made.legend(loc="outside right center")
    note = (
        "1 is the same ranking, 0 no relation, -1 the reverse. Bars: 95% intervals of tau without controls."
    )
    palette.explained(made, f"Can the other metrics be trusted? {shown(found.name)}", note)
    return made
