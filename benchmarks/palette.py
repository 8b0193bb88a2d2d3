"""How every picture of numbers looks: colours that all can tell apart, names as they are, room for them."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS = 200  # an inch
FONT = "DejaVu Sans"  # matplotlib brings it along
LONGEST = 34  # letters of a name
ANGLES = (0, 180, 30, -30, 60, -60, 90, -90, 150, -150, 120, -120, 15, -15, 45, -45)  # of names about points
QUIET, FAINT, DARK = "#666666", "#c4c4c4", "#222222"
# Okabe, Ito: Color Universal Design (2008), without black and with the pale yellow last
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6D3B", "#F0E442")
MARKS = "osD^vPX*"
DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 1)), (0, (1, 1)), (0, (4, 1, 1, 1)))
RANDOM = "random"  # the control that is always shown
MOST = len(COLOURS)  # methods that have a colour of their own
NEAR = 50.0  # points between two that crowd each other
FARTHEST = 140.0  # points from its place that a label may stand


@dataclass(frozen=True)
class Look:
    """How a method is drawn wherever it appears."""

    colour: str
    mark: str
    dash: Any

    @property
    def line(self) -> dict[str, Any]:
        """What matplotlib's `plot` takes."""
        edge = {"markeredgecolor": DARK, "markeredgewidth": 0.5}
        return {"color": self.colour, "marker": self.mark, "linestyle": self.dash, "markersize": 5} | edge


def looks(ranked: Sequence[str]) -> dict[str, Look]:
    """A look for the best methods, given best first, and for `random`; the others are to be grey."""
    chosen = [m for m in ranked if m != RANDOM][:MOST]
    found = {
        m: Look(*look) for m, look in zip(chosen, zip(COLOURS, MARKS, DASHES, strict=True), strict=False)
    }
    return found | ({RANDOM: Look(DARK, "x", (0, (1, 2)))} if RANDOM in ranked else {})


@contextmanager
def style() -> Iterator[None]:
    """Settings of every picture; to be in force from its first text until it is written."""
    import matplotlib

    settings: Any = {
        **{"text.parse_math": False, "font.family": FONT, "font.size": 9, "axes.titlesize": 11},
        **{"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": QUIET},
        **{"axes.titlelocation": "left", "axes.titleweight": "bold", "legend.frameon": False},
        **{"grid.color": "#e3e3e3", "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.titlepad": 10},
        **{"legend.fontsize": 8, "xtick.labelsize": 8, "ytick.labelsize": 8, "figure.facecolor": "white"},
    }
    with matplotlib.rc_context(settings):
        yield


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(FONT)).get_charmap())


def shown(name: str, longest: int = LONGEST) -> str:
    """A name as it can be drawn: on one line, in letters that the font has, shortened in its middle."""
    plain = "".join(
        c if ord(c) in _glyphs() else "\N{REPLACEMENT CHARACTER}" for c in re.sub(r"\s", " ", str(name))
    )
    if len(plain) <= longest:
        return plain
    return f"{plain[: longest - longest // 3 - 1]}…{plain[-(longest // 3) :]}"


def figure(size: tuple[float, float], rows: int = 1, columns: int = 1) -> tuple["Figure", "list[Axes]"]:
    """A figure of so many inches with axes in a grid, row by row."""
    from matplotlib.figure import Figure

    made = Figure(figsize=size, dpi=DOTS, layout="constrained")
    grid = made.subplots(rows, columns, squeeze=False)
    return made, [axes for row in grid for axes in row]


def explained(made: "Figure", title: str, note: str) -> None:
    """Put a heading, and what a reader must know, above all axes."""
    wide = made.get_figwidth()
    heading = textwrap.fill(title, int(8.5 * wide))
    small = "\n".join(textwrap.fill(line, int(15 * wide)) for line in note.splitlines())
    made.suptitle(heading, x=0.01, ha="left", fontsize=12, fontweight="bold")
    made.supxlabel(small, x=0.01, ha="left", fontsize=8, color=QUIET)


def save(made: "Figure", path: Path) -> Path:
    """Write a figure so that a reader sees the old file or the new one and never half of one."""
    half = path.with_name(f".{path.name}.half")
    made.savefig(half, format="png", dpi=DOTS, bbox_inches="tight", pad_inches=0.12)
    half.replace(path)
    return path


def slug(*parts: str) -> str:
    """What of these can stand in a file's name."""
    return re.sub(r"[^A-Za-z0-9.=]+", "-", "-".join(part for part in parts if part)).strip("-.")[:80]


def place_labels(
    axes: "Axes",
    points: Float[np.ndarray, "n 2"],
    names: Sequence[str],
    lines: Float[np.ndarray, "m 2 2"],
    **look: Any,
) -> None:
    """Write names beside points so that no two overlap, with a thin line to those that stand away.

    Each name takes the nearest free place, those of points that are crowded first.

    Args:
        axes: with their final limits and scales.
        points: in the units of the axes.
        names: one a point.
        lines: that no name is to stand on, level or upright, from (x, y) to (x, y).
        look: of the text.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke

    look = {"path_effects": [withStroke(linewidth=2, foreground="white")]} | look
    made: Any = axes.get_figure()
    canvas: Any = FigureCanvasAgg(made)
    canvas.draw()
    made.set_layout_engine("none")  # places below hold for this layout
    point = made.dpi / 72
    where = axes.transData.transform(points)
    ends = axes.transData.transform(lines.reshape(-1, 2)).reshape(-1, 4)
    crossed = np.c_[np.minimum(ends[:, :2], ends[:, 2:]), np.maximum(ends[:, :2], ends[:, 2:])]
    taken = [*np.c_[where - 4 * point, where + 4 * point], *crossed]
    frame = axes.get_window_extent()
    room = np.array([frame.x0, frame.y0, made.bbox.x1, frame.y1])
    apart = np.hypot(*(where[:, None] - where).T)
    for place in np.argsort(-(apart < NEAR * point).sum(0), kind="stable"):  # the most crowded choose first
        at, name = where[place], names[place]
        text = axes.text(0, 0, name, **look)
        extent = text.get_window_extent()
        text.remove()
        box = _free(at, np.array([extent.width, extent.height]), np.array(taken), room, point)
        taken.append(box)
        _label(axes, at, name, box, look)


def _free(
    at: Float[np.ndarray, "2"],
    size: Float[np.ndarray, "2"],
    taken: Float[np.ndarray, "n 4"],
    room: Float[np.ndarray, "4"],
    point: float,
) -> Float[np.ndarray, "4"]:
    """The nearest box of this size, in pixels, that is within the room and overlaps none that is taken.

    One that can be reached straight from the point is taken even if others are nearer.
    """
    free = []
    for step in point * np.arange(7.0, FARTHEST, 4.0):
        for angle in np.deg2rad(ANGLES):
            toward = np.array([np.cos(angle), np.sin(angle)])
            side = (1 - np.sign(np.round(toward[0], 1))) / 2  # of its width that lies left of where it is put
            corner = at + step * toward - size * np.array([side, 0.5])
            box = np.r_[corner, corner + size]
            within = (box[:2] >= room[:2]).all() and (box[2:] <= room[2:]).all()
            apart = (taken[:, :2] > box[2:] + point).any(1) | (taken[:, 2:] < box[:2] - point).any(1)
            if within and apart.all():
                if _clear(at, box, taken, point):
                    return box
                free.append(box)
    return free[0] if free else np.r_[at, at + size]


def _clear(
    at: Float[np.ndarray, "2"], box: Float[np.ndarray, "4"], taken: Float[np.ndarray, "n 4"], point: float
) -> bool:
    """Whether the straight way from a point to its name crosses no other name or point."""
    way = at + np.linspace(0, 1, 24)[:, None] * (np.clip(at, box[:2], box[2:]) - at)
    way = way[np.abs(way - at).max(1) > 4.5 * point]  # past its own mark
    return not ((way[:, None] >= taken[:, :2]) & (way[:, None] <= taken[:, 2:])).all(2).any()


def _label(
    axes: "Axes", at: Float[np.ndarray, "2"], name: str, box: Float[np.ndarray, "4"], look: dict[str, Any]
) -> None:
    """One name in its box, and a line from its point if that is not right beside it."""
    nearest = np.clip(at, box[:2], box[2:])
    back = axes.transData.inverted()
    if np.hypot(*(nearest - at)) > (box[3] - box[1]):
        ends = back.transform([at, nearest])
        axes.plot(*ends.T, color=QUIET, linewidth=0.5, zorder=1, scalex=False, scaley=False)
    x, y = back.transform((box[0], (box[1] + box[3]) / 2))
    axes.text(x, y, name, ha="left", va="center", **look)
