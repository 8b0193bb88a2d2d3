"""All pictures of numbers of a results folder, for papers and slides."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from . import curveplots, palette, rankplots
from .findings import Findings
from .writing import writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "charts"
WHOLE: dict[str, Callable[[Findings], "Figure | None"]] = {  # one picture each
    "leaderboard": rankplots.leaderboard,
    "critical-difference": rankplots.critical_difference,
    "cost": rankplots.cost,
    "agreement": rankplots.agreement,
    "profiles": curveplots.profiles,
    "trust": curveplots.trust,
}
BY_PROBLEM = ("curve", "breakdown")  # one a problem and noise axis


def draw(found: Findings, folder: Path) -> list[Path]:
    """Draw every chart that there are numbers for into the folder `charts` of `folder`, at 200 dots an inch.

    Charts of a former call that there are no numbers for any more are removed.

    Returns:
        The files, in the order of the report.

    Raises:
        AssayError: they cannot be written.
    """
    target = folder / FOLDER
    with writing(target):
        with palette.style():
            written = [palette.save(made, target / f"{name}.png") for name, made in _figures(found)]
        for old in target.glob("*.png"):
            ours = old.stem in WHOLE or old.stem.startswith(tuple(f"{kind}-" for kind in BY_PROBLEM))
            if ours and old not in written:
                old.unlink()
    return written


def _figures(found: Findings) -> "Iterator[tuple[str, Figure]]":
    """Every chart that there is, with its name."""
    for name, make in WHOLE.items():
        made = make(found)
        if made is not None:
            yield name, made
    best_first = [str(m) for m in found.boards["overall"]["method"]]
    for name, part in curveplots.subjects(found.curves):
        yield f"curve-{name}", curveplots.curves(part, best_first)
    for name, part in curveplots.subjects(found.breakdowns):
        same = (found.curves[curveplots.SUBJECT] == part[curveplots.SUBJECT].iloc[0]).all(axis=1)
        run = [*found.curves.loc[same, "level"], *part["clean_level"].dropna()]
        yield f"breakdown-{name}", curveplots.breakdowns(part, curveplots.Levels(run), best_first)
