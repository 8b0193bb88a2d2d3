"""The published pictures of ChaosMining: a small photograph on a large background."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ..benchmarks.plugin import Problem, dataset
from ..benchmarks.problem import square_units
from ..benchmarks.published import Condition, Counts, Entry, drawn
from ..benchmarks.registry import AssayError

BACKGROUND: Final = 20  # rows


@dataset(version=1, paper="https://arxiv.org/abs/2406.12150", noise=("condition",))
def chaosmining_vision(
    rng: torch.Generator,
    /,
    *,
    path: Path | None = None,
    condition: Condition = "RBFP",
    train: Annotated[int, Ge(2), Le(50_000)] = 1_000,
    validation: Annotated[int, Ge(1), Le(50_000)] = 100,
    test: Annotated[int, Ge(1), Le(50_000)] = 200,
    explained: Annotated[int, Ge(1), Le(50_000)] = 50,
    side: Annotated[int, Ge(0), Le(1_024)] = 0,
    patch: Annotated[int, Ge(1), Le(1_024)] = 32,
    foreground: Annotated[int, Ge(1), Le(1_024)] = 32,
) -> Problem:
    """Pictures of the published folder: which of the small photographs is pasted on the background.

    Reads `<path>/<condition>/{train,val}/metadata.csv`, which lists file_name, foreground_label, position_x,
    position_y and, where the background is structured, background_label; position_x is the row of the top
    left pixel of the foreground, position_y the column.  Only the rows asked for are opened, drawn by the
    seed with as many of every class as can be: train and validation rows from `train`, test rows from `val`.
    A value v of 0 to 255 becomes (v / 255 - 1/2) / (1/2).  `masks["relevant"]` is the box of the foreground,
    in all three channels.  Every picture takes 12 * height * width bytes: 600 kB at the published size.

    Args:
        rng: source of all random numbers.
        path: the folder of the published data set.
        condition: background random (RB) or structured (SB), position fixed (FP) or random (RP).
        train: rows that fit the parameters.
        validation: rows that decide when to stop.
        test: rows that no model has seen.
        explained: test rows that are explained.
        side: height and width in pixels that pictures are resized to, by the mean of what falls into a
            pixel (a pixel is then relevant if any of the foreground does); 0 leaves them as they are.
        patch: side of the units of perturbation, in pixels of the pictures as they are handed out.  At the
            published 32 and a fixed position the foreground is exactly one unit, which favours methods
            that work on units; 24 is as large and does not fit it.
        foreground: side of the foreground in pixels of the file.

    Raises:
        NotApplicable: no path is given.
        AssayError: the folder is not as described, a picture cannot be read or is of another size than the
            others, a position is outside, or there are too few rows.
    """
    counts = Counts(train=train, validation=validation, test=test, explained=explained)
    columns = ("file_name", "foreground_label", "position_x", "position_y")
    structured = ("background_label",) if condition.startswith("SB") else ()
    rows = drawn(path, condition, (*columns, *structured), counts, rng)
    first = train + validation
    x, relevant = _pictures(rows.entries, side, foreground)
    return Problem(
        x=x,
        y=rows.y,
        task="classification",
        n_train=train,
        n_validation=validation,
        n_explained=explained,
        baseline=torch.zeros(x.shape[1:]),
        background=x[: min(BACKGROUND, train)],
        masks={"relevant": relevant[first : first + explained, None].expand(-1, 3, -1, -1)},
        groups=square_units(3, x.shape[2], x.shape[3], patch),
        facts=rows.facts,
    )


def _pictures(
    entries: Sequence[Entry], side: int, foreground: int
) -> tuple[Float[Tensor, "n 3 h w"], Bool[Tensor, "n h w"]]:
    """The pictures, and which of their pixels hold any of the foreground."""
    size = _opened(entries[0], 0).shape[:2]
    height, width = (side, side) if side else size
    x = torch.empty(len(entries), 3, height, width)
    relevant = torch.zeros(len(entries), height, width, dtype=torch.bool)
    for i, entry in enumerate(entries):
        box = []
        for column, there, here in zip(("position_x", "position_y"), size, (height, width), strict=True):
            start = entry.whole(column)
            if start + foreground > there:
                raise entry.wrong(
                    f"{column} is {start}, and a foreground of {foreground} pixels there leaves the {there} "
                    "of the picture; mend it, or give the foreground's size"
                )
            box.append(slice(start * here // there, -(-(start + foreground) * here // there)))
        x[i] = torch.from_numpy(_opened(entry, side, size)).permute(2, 0, 1)
        relevant[i, box[0], box[1]] = True
    return x.div_(255).sub_(0.5).div_(0.5), relevant


def _opened(entry: Entry, side: int, size: tuple[int, ...] | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of this entry, resized if a side is given; refused if it is not of this size."""
    from PIL import Image  # which matplotlib, and with it captum, brings

    file = entry.file()
    try:
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = " ".join(str(error).split())
        raise AssayError(f"picture {str(file)!r} cannot be read ({why}); replace the file.") from None
    found = (picture.height, picture.width)
    if size is not None and found != size:
        raise AssayError(
            f"picture {str(file)!r} is {found[0]} pixels high and {found[1]} wide, and others are {size[0]} "
            f"and {size[1]}; give pictures of one size."
        )
    if side:
        picture = picture.resize((side, side), Image.Resampling.BOX)
    return np.array(picture)
