"""Results folder -> gallery.png: what every method saw, in every condition, beside what there was to see."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from .page import LONGEST, QUIET, RIGHT, WRONG, Block, Columns, draw
from .registry import AssayError, near_miss
from .shortcuts import by_hand
from .store import Ledger
from .thumbnails import SEED, decode

NAME = "gallery.png"
TABLES = ("pictures", "maps", "models", "problems", "scores", "reliance")
CONDITION = ["dataset", "parameters", "noise"]
CONDITIONS = 16  # at most
METHODS = 18  # at most
RANKED_BY = (
    "box_iou",
    "attribution_mass",
    "reliance_error",
)  # whose mean skill says which methods are shown, in which order
ALWAYS = ("random", "edge_detector")  # the controls that are shown if there are too many methods

NOTE = """\
Outlined: all that may tell the answer. Maps: size of the attribution, black to yellow; a map's top 1% is \
all alike.
{}Grey names: controls, which do not know the model. An empty place: the method has no map there."""
OF_SHORTCUTS = (
    "\nOutlined in orange: the shortcut, which goes with the answer in training and does not cause it."
)
OF_SOUND = "\nSound: a line is a channel, and time goes to the right; the input is shown as how loud it is."

Tables: TypeAlias = dict[str, pd.DataFrame]


def write(folder: Path, *, model: str = "") -> Path | None:
    """Draw gallery.png from a ledger that holds pictures or sound; where it holds none, no such file is left.

    A block for every condition: rows of its first problem, those that the model predicts right first and one
    that it does not last, where there are such, with every method's map of them.

    Args:
        folder: of the results.
        model: whose rows are shown; if none is named, in each condition the one of the best quality that was
            not told what to look at.

    Raises:
        AssayError: nothing was kept of this model, or the ledger cannot be read.
    """
    ledger = Ledger(folder)
    try:
        return from_ledger(ledger, model=model)
    finally:
        ledger.close()


def from_ledger(ledger: Ledger, *, model: str = "") -> Path | None:
    """The same of a ledger that is open."""
    path = ledger.folder / NAME
    # a ledger without pictures may hold a million scores, which are then not read
    names = TABLES if len(ledger.table("pictures")) else ()
    tables = {name: ledger.table(name) for name in names}
    if not tables:
        path.unlink(missing_ok=True)  # of a former plan
        return None
    blocks = list(_blocks(tables, model))
    columns, order = _columns(tables, blocks[:CONDITIONS])
    left_out = f", the first {CONDITIONS} of {len(blocks)} conditions" if len(blocks) > CONDITIONS else ""
    note = NOTE.format(order) + OF_SOUND * any(block.inputs.ndim == 3 for block in blocks)
    note += OF_SHORTCUTS * any(block.shortcut.any() for block in blocks)
    half = path.with_name(f".{NAME}.half")
    draw(half, (f"What the methods saw{left_out}", note), blocks[:CONDITIONS], columns)
    half.replace(path)
    return path


def _blocks(tables: Tables, model: str) -> Iterator[Block]:
    """What is shown of every condition that rows were kept of, in the order of the plan."""
    kept = tables["pictures"]
    known = list(dict.fromkeys(kept["model"]))
    if model and model not in known:
        raise AssayError(f"no pictures are kept of model {model!r}.{near_miss(model, known)}")
    for condition in dict.fromkeys(kept[CONDITION].itertuples(index=False, name=None)):
        here = {name: _of(frame, condition) for name, frame in tables.items() if name != "scores"}
        models = here["models"].drop_duplicates("model").set_index("model")
        asked = {model} if model else {m for m in known if not by_hand(m)} or set(known)
        quality = models[models.index.isin(asked & set(here["pictures"]["model"]))]
        if len(quality):
            best = pd.to_numeric(quality["quality"]).fillna(-np.inf).argmax()
            yield _block(condition, quality.iloc[best], here)


def _of(frame: pd.DataFrame, condition: tuple[str, str, str]) -> pd.DataFrame:
    """The rows that a condition's first problem has in a table."""
    return frame[(frame[CONDITION] == list(condition)).all(axis=1) & (frame["seed"] == SEED)]


def _block(condition: tuple[str, str, str], about: "pd.Series[Any]", here: Tables) -> Block:
    """What is shown of a condition with the model that `about` is of."""
    dataset, parameters, noise = condition
    own = {name: here[name][here[name]["model"] == about.name] for name in ("pictures", "maps")}
    kept, maps = own["pictures"].iloc[0], own["maps"]
    inputs = decode(kept["inputs"])
    names = str(json.loads(here["problems"]["facts"].iloc[0]).get("classes", "")).split(", ")
    relevant = decode(kept["relevant"]) > 0.5
    used = _used(here["reliance"], str(about.name))
    pairs = zip(json.loads(kept["labels"]), json.loads(kept["predictions"]), strict=True)
    return Block(
        title="   ".join(part for part in (dataset, noise, f"{about.name}, {_quality(about)}", used) if part),
        parameters=parameters,
        inputs=np.moveaxis(inputs, 1, -1) if inputs.ndim == 4 else inputs,
        relevant=relevant,
        shortcut=decode(kept["shortcut"]) > 0.5 if kept["shortcut"] else np.zeros_like(relevant),
        captions=[_caption(wanted, said, names) for wanted, said in pairs],
        maps={method: decode(text) ** 2 for method, text in zip(maps["method"], maps["map"], strict=True)},
    )


def _used(reliance: pd.DataFrame, model: str) -> str:
    """How far the model relies on the shortcut, in words; nothing where there is none."""
    own = reliance[(reliance["model"] == model) & (reliance["region"] == "shortcut")]["share"].dropna()
    return f"{own.iloc[0]:.0%} of its reliance on the shortcut" if len(own) else ""


def _quality(about: "pd.Series[Any]") -> str:
    """How good the model is, in words."""
    regression = pd.isna(about["accuracy"])
    quality = f"R2 {about['quality']:.2f}" if regression else f"accuracy {about['accuracy']:.0%}"
    return quality if about["learned"] else f"{quality} (it has learned nothing)"


def _caption(wanted: int | float, said: int | float, names: Sequence[str]) -> tuple[str, str]:
    """What a row is and what the model says it is, and in which colour."""
    if isinstance(wanted, float):
        return f"is {wanted:.3g}\nmodel: {said:.3g}", QUIET
    named = [names[i] if i < len(names) > 1 else str(i) for i in (wanted, int(said))]
    first, second = (name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in named)
    return f"is {first}\nmodel: {second}", RIGHT if wanted == said else WRONG


def _columns(tables: Tables, blocks: Sequence[Block]) -> tuple[Columns, str]:
    """The methods that are shown, best first and controls last, and what a reader is told of that."""
    scores, maps = tables["scores"], tables["maps"]
    scores = scores.assign(judge=[text.partition("[")[0] for text in scores["metric"]])
    judged = scores["judge"].isin(RANKED_BY) & scores["dataset"].isin(maps["dataset"])
    told = scores[judged & (scores["status"] == "ok") & scores["skill"].notna()]
    skill = told.assign(skill=told["skill"].astype(float)).groupby("method")["skill"].mean().to_dict()
    there = list(dict.fromkeys(method for block in blocks for method in block.maps))
    there.sort(key=lambda method: -skill.get(method, -np.inf))
    controls = set(maps.loc[maps["control"] == 1, "method"])
    first, last = [m for m in there if m not in controls], [m for m in there if m in controls]
    if len(there) > METHODS:
        last = [m for m in last if m.partition("[")[0] in ALWAYS]
    shown = first[: METHODS - len(last)]
    some = f"The best {len(shown)} of {len(first)} methods" if len(shown) < len(first) else "Methods"
    by = [name for name in RANKED_BY if name in set(told["judge"])]
    order = f"{some} by mean skill in {' and '.join(by)}, best first. " if by else ""
    return Columns([*shown, *last], len(last)), order
