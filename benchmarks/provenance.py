"""What two runs say differently of how they were made."""

from typing import Any

import pandas as pd

IGNORED = {"start", "end", "command", "config_hash", "tables", "cells", "written", "merged_from", "earlier"}


def versions(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Of every plug-in whose rows say another version in the two; rows that do not say all are left out."""
    rows = []
    kinds = ("dataset", "model", "method", "metric")
    known = (frame[frame["version"].astype(str).str.count("/") == len(kinds) - 1] for frame in (a, b))
    sides = [frame[[*kinds, "version"]].drop_duplicates() for frame in known]
    for place, kind in enumerate(kinds):
        seen = [s.assign(own=[text.split("/")[place] for text in s["version"]]) for s in sides]
        first, second = (s.groupby(kind)["own"].agg(lambda v: ", ".join(sorted(set(v)))) for s in seen)
        both = pd.concat([first, second], axis=1, join="inner", keys=["A", "B"])
        changed = both[both["A"] != both["B"]]
        rows += [
            (f"{kind} {name}", f"version {old}", f"version {new}") for name, old, new in changed.itertuples()
        ]
    return pd.DataFrame(rows, columns=["setting", "A", "B"])


def mapping(made: dict[str, Any], name: str) -> dict[str, Any]:
    """What a manifest has under a name; nothing where that is not there, or no mapping."""
    found = made.get(name)
    return found if isinstance(found, dict) else {}


def settings(a: dict[str, Any], b: dict[str, Any]) -> pd.DataFrame:
    """What the manifests say differently, but for when and by which command they were made."""
    flat_a, flat_b = (dict(_flat({k: v for k, v in m.items() if k not in IGNORED})) for m in (a, b))
    names = [name for name in {**flat_a, **flat_b} if flat_a.get(name) != flat_b.get(name)]
    rows = [(name, flat_a.get(name, "not known"), flat_b.get(name, "not known")) for name in names]
    return pd.DataFrame(rows, columns=["setting", "A", "B"])


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{name}.{key}".strip("."))]
    return [(name, str(value))]
