"""Pictures of the leaderboard: who is better, how surely, at what cost, and who says the same."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from . import palette
from .findings import Findings
from .palette import DARK, QUIET, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

BEST, WORSE = palette.COLOURS[0], palette.COLOURS[1]
ROW = 0.25  # inches that a method's line takes
FIGURE = "\N{FIGURE SPACE}"
FEWEST = 2  # methods, for a picture that compares them


def ranked(found: Findings) -> pd.DataFrame:
    """The rows of the overall leaderboard that have a skill, best first; `control` is there in any case."""
    board = found.boards["overall"]
    known = board["control"].eq(True) if "control" in board else pd.Series(False, index=board.index)
    return board.assign(control=known)[board["skill"].notna()].reset_index(drop=True)


def leaderboard(found: Findings) -> "Figure | None":
    """Mean skill of every method with both intervals."""
    board = ranked(found)
    if board.empty:
        return None
    made, (axes,) = palette.figure((8.5, 1.7 + ROW * len(board)))
    rows = np.arange(len(board))
    for low, high, width in (("low", "high", 1.3), ("low_here", "high_here", 4.5)):
        if low in board and board[low].notna().any():
            colours = [QUIET if control else BEST for control in board["control"]]
            axes.hlines(rows, board[low], board[high], colors=colours, linewidth=width, alpha=0.6, zorder=2)
    for control, part in board.groupby("control"):
        fill = "white" if control else BEST
        axes.plot(
            part["skill"], part.index, "o", color=fill, markeredgecolor=QUIET if control else DARK, zorder=3
        )
    for at, dash in ((0.0, "-"), (1.0, ":")):
        axes.axvline(at, color=QUIET, linewidth=0.9, linestyle=dash, zorder=1)
    _named_rows(axes, board)
    axes.set_xlabel("mean skill: 0 is a random attribution, 1 the exact one")
    axes.grid(axis="x")
    note = (
        "Thick line: 95% interval on these problems, other draws of the data and the models; "
        "thin line: on problems like these.\nOpen circles and grey: controls, which cannot know the model."
    )
    palette.explained(made, f"Skill: {shown(found.name)}", note)
    return made


def _named_rows(axes: "Axes", board: pd.DataFrame) -> None:
    """Methods down the left side, controls in grey."""
    axes.set_yticks(range(len(board)), [shown(m) for m in board["method"]])
    axes.set_ylim(len(board) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    for label, control in zip(axes.get_yticklabels(), board["control"], strict=True):
        label.set_color(QUIET if control else DARK)
        label.set_fontstyle("italic" if control else "normal")


def agreement(found: Findings) -> "Figure | None":
    """Heat map of the Spearman agreement of every two methods, in the order of the leaderboard."""
    matrix = found.agreement
    best_first = [m for m in found.boards["overall"]["method"] if m in matrix.index]
    if len(best_first) < FEWEST:
        return None
    values = matrix.reindex(index=best_first, columns=best_first).to_numpy(dtype=float, copy=True)
    np.fill_diagonal(values, np.nan)  # a method with itself says nothing
    side = 2.6 + 0.36 * len(best_first)
    made, (axes,) = palette.figure((side + 0.7, side))
    limit = max(1.0, float(np.nanmax(np.abs(values), initial=0.0)))
    image = axes.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = "white" if abs(value) > 0.7 * limit else DARK
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=ink)
    names = [shown(m) for m in best_first]
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = made.colorbar(image, ax=axes, shrink=0.6)
    bar.set_label("agreement: 0 as two random maps, 1 the same ranking")
    note = "Mean Spearman agreement of two methods' maps, best method first. Agreement is not correctness."
    palette.explained(made, f"Who agrees with whom: {shown(found.name)}", note)
    return made


def critical_difference(found: Findings) -> "Figure | None":
    """Mean ranks on a line, with bars over methods that Nemenyi's test does not tell apart.

    Demšar: Statistical comparisons of classifiers over multiple data sets (2006).
    """
    told = found.significance
    if told is None or len(told.mean_ranks) < FEWEST:
        return None
    ranks = told.mean_ranks.sort_values(kind="stable")
    cliques = [ranks[list(clique)] for clique in told.cliques if len(clique) > 1]
    half, deepest = (len(ranks) + 1) // 2, 0.5 + 0.32 * len(cliques)
    height = deepest + 0.6 + half
    made, (axes,) = palette.figure((9.5, 1.4 + 0.22 * height))
    low, high = 1.0, float(len(ranks))
    wide = (high - low) or 1.0
    axes.set_xlim(low - 0.46 * wide, high + 0.46 * wide)
    axes.set_ylim(height, -2.6)
    axes.set_axis_off()
    _rank_axis(axes, len(ranks), told.critical_difference)
    for level, clique in enumerate(cliques):
        ends, at = (clique.min() - 0.006 * wide, clique.max() + 0.006 * wide), 0.5 + 0.32 * level
        axes.plot(ends, [at, at], color=DARK, linewidth=2.6, solid_capstyle="butt", zorder=3)
    for place, (name, rank) in enumerate(ranks.items()):
        left = place < half
        at = deepest + 0.6 + (place if left else len(ranks) - 1 - place)
        end = low - 0.03 * wide if left else high + 0.03 * wide
        axes.plot([rank, rank, end], [0, at, at], color=QUIET, linewidth=0.8, zorder=2)
        number, side = f"{rank:.2f}".rjust(5, FIGURE), "right" if left else "left"
        text = f"{shown(str(name))}  {number}" if left else f"{number}  {shown(str(name))}"
        axes.text(end + (-0.012 if left else 0.012) * wide, at, text, ha=side, va="center", fontsize=8)
    palette.explained(made, f"Mean ranks: {shown(found.name)}", _about_ranks(told.blocks, told.friedman_p))
    return made


def _rank_axis(axes: "Axes", count: int, difference: float) -> None:
    """The line of ranks, rank 1 at its left, and above it how long the critical difference is."""
    axes.plot([1, count], [0, 0], color=DARK, linewidth=1)
    every = max(1, round(count / 12))
    for rank in sorted({*range(1, count + 1, every), count}):
        if rank == count or count - rank >= every:
            axes.plot([rank, rank], [0, -0.3], color=DARK, linewidth=1)
            axes.text(rank, -0.45, f"{rank}", ha="center", va="bottom", fontsize=8)
    if np.isfinite(difference):
        end = 1 + min(difference, count - 1)
        axes.plot([1, 1, 1, end, end, end], [-2.2, -1.8, -2, -2, -1.8, -2.2], color=DARK, linewidth=1)
        wide = f"critical difference {difference:.2f}"
        axes.text(end + 0.012 * count, -2, wide, ha="left", va="center", fontsize=8)


def _about_ranks(blocks: int, p: float) -> str:
    """What a reader of the diagram must know."""
    sure = "< 0.001" if p < 0.001 else f"= {p:.3f}"
    return (
        f"Rank 1 is best; means over {blocks:,} problems and noise levels. A bar joins methods that "
        f"Nemenyi's test does not tell apart (5% level).\nFriedman's test that all are alike: p {sure}."
    )


def cost(found: Findings) -> "Figure | None":
    """Skill against seconds a row, with those that nobody is both better and cheaper than."""
    from matplotlib.ticker import LogLocator, NullFormatter

    board = ranked(found)
    board = board[board["seconds_per_row"] > 0].reset_index(drop=True)
    if len(board) < FEWEST:
        return None
    board["time"] = 1000 * board["seconds_per_row"]
    best = frontier(board["time"].tolist(), board["skill"].tolist(), board["control"].tolist())
    made, (axes,) = palette.figure((9.5, 4.2 + 0.08 * len(board)))
    axes.set_xscale("log")
    axes.step(board["time"][best], board["skill"][best], where="post", color=BEST, linewidth=1.2, zorder=2)
    on = board.index.isin(best)
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (on, {"marker": "o", "color": BEST}),
        (~on & ~board["control"], {"marker": "o", "color": "#9aa7b0"}),
        (~on & board["control"], {"marker": "s", "color": "white"}),
    ]
    for rows, look in kinds:
        axes.plot(
            board["time"][rows], board["skill"][rows], linestyle="", markeredgecolor=DARK, zorder=3, **look
        )
    axes.axhline(0, color=QUIET, linewidth=0.8, zorder=1)
    axes.margins(x=0.08, y=0.1)
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_major_formatter(plain_numbers())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("milliseconds to explain a row, the median (log scale)")
    axes.set_ylabel("mean skill: 0 random, 1 exact")
    axes.grid(which="major")
    note = (
        "Blue: nobody else is better and as cheap. Grey: somebody is. Open squares: controls, which cannot "
        "know the model and are not asked.\nTimes are of the machine that the suite ran on."
    )
    palette.explained(made, f"Quality against cost: {shown(found.name)}", note)
    names = [shown(m) for m in board["method"]]
    points = board[["time", "skill"]].to_numpy(dtype=float)
    lines = _steps(points[best], axes.get_xlim())
    palette.place_labels(axes, points, names, lines, fontsize=7.5, color=DARK)
    return made


def _steps(corners: Float[np.ndarray, "n 2"], ends: tuple[float, float]) -> Float[np.ndarray, "lines 2 2"]:
    """The lines of a frontier, each level and then upright, and the line of no skill."""
    level = [((x, y), (after, y)) for (x, y), (after, _) in pairwise(corners)]
    upright = [((x, before), (x, y)) for (_, before), (x, y) in pairwise(corners)]
    return np.array([*level, *upright, ((ends[0], 0.0), (ends[1], 0.0))], dtype=float)


def frontier(costs: Sequence[float], values: Sequence[float], left_out: Sequence[bool]) -> list[int]:
    """Places, cheapest first, of those that none that costs the same or less beats in value."""
    order: list[Any] = sorted(range(len(costs)), key=lambda i: (costs[i], -values[i]))
    best, found = -np.inf, []
    for place in order:
        if not left_out[place] and values[place] > best:
            best = values[place]
            found.append(place)
    return found


def plain_numbers() -> "FuncFormatter":
    """Numbers without powers of ten, which need mathematical type."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1000 else f"{value:g}")
