"""manifest.json: how a results folder was made, and what its tables are."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .exporting import counted
from .intact import check_ledger, check_manifest, unpacked
from .registry import AssayError
from .store import COLUMNS, NUMBERS, OLDEST, SCHEMA, SHOWN, TIMED, write_atomically
from .store import FILE as LEDGER
from .suite import Suite

if TYPE_CHECKING:
    from .runner import Means

FILE = "manifest.json"
SEALED = tuple(name for name in COLUMNS if name not in {*SHOWN, *TIMED})  # the same to the bit for a seed
PACKAGES = ("assay-xai", "torch", "captum", "shap", "numpy", "pandas", "scipy", "scikit-learn")


def begin(
    folder: Path,
    suite: Suite,
    command: list[str],
    means: "Means",
    *,
    written: Suite | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Write what is known before the first cell, and hand it back for `finish`.

    Args:
        folder: of the results.
        suite: what is run.
        command: the words that were given.
        means: what it is computed with.
        written: the suite before options took the place of its lists, whose order `merge` then keeps.
        fresh: nothing of what the folder held is kept; else the runs that it was joined of are still named.
    """
    import torch  # waits until something is run

    from .device import current
    from .grid import ENGINE

    made = {
        "suite": suite.name,
        "command": shlex.join(command),
        "seeds": suite.seeds,
        **described(suite),
        **({"written": written.model_dump()} if written else {}),
        "plugins": _plugin_versions(),
        "engine": ENGINE,
        "versions": {"python": platform.python_version(), **_package_versions()},
        "git_commit": _git_commit(),
        "machine": {
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "jobs": means.jobs,
            "threads": 1,  # of each
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "device": str(current()),
        },
        **({"cluster": means.cluster} if means.cluster else {}),
        **({"limits": asdict(means.limits)} if any(astuple(means.limits)) else {}),
        "start": _now(),
        "end": None,
        **({} if fresh else _earlier(folder)),
    }
    write(folder, made)
    return made


def finish(folder: Path, made: dict[str, Any]) -> None:
    """Write the manifest again, with the end; `seal` adds the tables, before this or after."""
    write(folder, {**read(folder), **made, "end": _now()})


def _earlier(folder: Path) -> dict[str, Any]:
    """The runs that a joined folder was made of, which a run that goes on with it does not forget."""
    with contextlib.suppress(AssayError):  # what cannot be read is written anew
        before = read(folder)
        earlier = before.get("merged_from") or before.get("earlier")
        return {"earlier": earlier} if earlier else {}
    return {}


def seal(folder: Path, cells: Mapping[str, int] | None = None) -> None:
    """Write down what the tables of the folder are, if it has a manifest; to be called after each export.

    `tables` are the SHA-256 of those that must be the same to the bit for a seed, as text; `cells` says how
    many are planned, finished and failed.

    cells: these numbers, of a ledger that is open; without them they are read from the folder's.

    Raises:
        AssayError: the manifest, a table or the ledger cannot be read.
    """
    made = read(folder)
    if made:
        write(folder, {**made, "tables": hashes(folder), "cells": cells or cell_counts(folder)})


def described(suite: Suite) -> dict[str, Any]:
    """The suite's configuration, and a short hash of it."""
    config = suite.model_dump()
    text = json.dumps(config, sort_keys=True)
    return {"config": config, "config_hash": hashlib.sha256(text.encode()).hexdigest()[:16]}


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every exported table that no clock is in, by name; that of a compressed one is of its text.

    Raises:
        AssayError: a table cannot be read.
    """
    texts = {name: _table_text(folder, name) for name in SEALED}
    return {name: hashlib.sha256(text).hexdigest() for name, text in texts.items() if text is not None}


def _table_text(folder: Path, name: str) -> bytes | None:
    """The table as it was exported, or nothing where it is not there; looked for as `read_table` does."""
    plain, packed = folder / f"{name}.csv", folder / f"{name}.csv.gz"
    try:
        if plain.is_file():
            return plain.read_bytes()
        return unpacked(packed) if packed.is_file() else None
    except (OSError, EOFError, ValueError) as error:
        raise AssayError(
            f"table {name!r} of {str(folder)!r} cannot be read ({error}); make it again with `report`."
        ) from None


def cell_counts(folder: Path) -> dict[str, int]:
    """How many cells the ledger has planned, how many of them have a row that is not failed, and failed ones.

    Raises:
        AssayError: the ledger is not there or cannot be read.
    """
    with reading(folder) as ledger:
        return counted(ledger)


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """The ledger of a results folder, opened so that nothing in it can change.

    Raises:
        AssayError: it is not there, is in use, is damaged, or has another layout.
    """
    path = folder / LEDGER
    name = repr(str(folder))
    if not path.is_file():
        raise AssayError(
            f"results folder {name} has no {LEDGER}; give the folder that a run wrote, with its ledger."
        )
    # a killed run leaves a journal to be read too; without one, a folder that cannot be written will do
    how = "mode=ro" if path.with_name(f"{LEDGER}-wal").exists() else "immutable=1"
    db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=1.0)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA:
            older = f"bring it up to date with `report {shlex.quote(str(folder))}`"
            remedy = older if version in range(OLDEST, SCHEMA) else "use the program's version that made it"
            raise AssayError(f"ledger {str(path)!r} has layout {version}, not {SCHEMA}; {remedy}.")
        check_ledger(db, path, COLUMNS, NUMBERS)
        yield db
    except sqlite3.DatabaseError as error:
        raise AssayError(
            f"ledger in {name} cannot be read ({error}); if a run is using the folder, wait for it, else "
            "make it again."
        ) from None
    finally:
        db.close()


def read(folder: Path) -> dict[str, Any]:
    """How the results were made, or nothing where that is not known.

    Raises:
        AssayError: the manifest cannot be read.
    """
    path = folder / FILE
    try:
        made = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise AssayError(f"manifest {str(path)!r} cannot be read ({error}); run the suite again.") from None
    return check_manifest(made, path)


def joined(
    parts: Sequence[tuple[str, Mapping[str, Any]]], suite: Suite, written: Suite | None
) -> dict[str, Any]:
    """The manifest of several runs in one: what all agree in, what each said, and from where each came.

    Args:
        parts: name and manifest of each run.
        suite: what they planned together.
        written: the suite before it was split, where that is known.
    """
    made = [one for _, one in parts]
    sources = _sources(parts)
    ends = [one.get("end") for one in made]
    kinds = dict.fromkeys(kind for one in made for kind in one["plugins"])
    engines = [one["engine"] for one in made if "engine" in one]
    return {
        "suite": suite.name,
        "seeds": suite.seeds,
        **described(suite),
        **({"written": written.model_dump()} if written else {}),
        "plugins": {k: dict(sorted(p for m in made for p in m["plugins"].get(k, {}).items())) for k in kinds},
        **({"engine": engines[0]} if engines else {}),
        "versions": _together([one["versions"] for one in made]),
        "git_commit": _several(one["git_commit"] or "unknown" for one in sources),
        "machine": _together([one["machine"] or {} for one in sources]),
        "start": min((str(one["start"]) for one in made if one.get("start")), default=None),
        "end": max(map(str, ends)) if all(ends) else None,
        "merged_from": sources,
    }


def _sources(parts: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Every run that is in these, once; of a joined folder those that it was made of."""
    names = ("command", "git_commit", "machine", "start", "end", "config_hash")
    found: list[dict[str, Any]] = []
    for folder, made in parts:
        said = {"folder": folder} | {name: made.get(name) for name in names}
        found += made.get("merged_from") or [*made.get("earlier", []), said]
    return [source for i, source in enumerate(found) if source not in found[:i]]


def _together(said: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for one in said for name in one)
    return {name: _several(one[name] for one in said if name in one) for name in names}


def _several(values: Iterable[Any]) -> Any:
    """The one value, or all in words where there is more than one."""
    found = list(dict.fromkeys(values))
    return found[0] if len(found) == 1 else ", ".join(sorted(map(str, found)))


def write(folder: Path, made: dict[str, Any]) -> None:
    """Write the manifest."""
    write_atomically(folder / FILE, json.dumps(made, indent=2) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plugin_versions() -> dict[str, dict[str, str]]:
    """Version of every plug-in that is loaded."""
    from .grid import REGISTRIES

    return {kind: registry.versions() for kind, registry in REGISTRIES.items()}


def _package_versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _git_commit() -> str:
    """Commit of the checkout that this runs from, marked when changed since; empty outside git."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}-changed" if changed else commit


def _git(*words: str) -> str:
    root = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
