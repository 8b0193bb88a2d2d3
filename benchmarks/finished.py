"""What a run showed when it ended, kept in its ledger: the same run started again shows it and ends.

It is shown only if nothing could have come out differently: the same suite, the same text of every module of
ours and of every plug-in file, the same versions of libraries, no later record, and every file as it was.
Else, and wherever that cannot be told, the run is gone through again.
"""

import contextlib
import hashlib
import importlib.metadata
import itertools
import json
import platform
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from .manifest import PACKAGES, reading
from .registry import AssayError
from .store import FILE, Ledger
from .suite import KINDS, Suite

if TYPE_CHECKING:
    from .findings import Findings
    from .spec import Setting

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("benchmarks", "datasets", "models", "methods", "metrics")
MADE = (".csv", ".md", ".json", ".png")  # what a run leaves beside its ledger


@dataclass(frozen=True, slots=True)
class Told:
    """What a run says at its end.

    cells: how many it has.
    columns, rows: the leaderboard as text.
    overview: its sentences.
    qualified: whether some cells have a reason that is told elsewhere.
    """

    cells: int
    columns: list[str]
    rows: list[list[str]]
    overview: list[str]
    qualified: bool


def told(found: "Findings") -> Told:
    """What is said at the end of a run that came to this."""
    from .report import display

    board = found.boards["overall"]
    shown = display(board)
    return Told(
        cells=len(found.tables.scores) + len(found.tables.agreement),
        columns=[*shown],
        rows=shown.to_numpy().tolist(),
        overview=[sentence.replace("`", "") for sentence in found.overview],
        qualified=bool(board["note"].any() or board["failed"].any()),
    )


def request(suite: Suite, files: Sequence[Path]) -> str:
    """A digest of all that decides what a run of this suite with these plug-in files computes."""
    parts = [suite.model_dump_json(), platform.python_version()]
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f"{package} {importlib.metadata.version(package)}")
    parts += sorted(
        f"{kind} {point.name} {point.value}"
        for kind in KINDS
        for point in importlib.metadata.entry_points(group=f"assay.{kind}s")
    )
    sources = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py"))]
    hashes = [_hash(path) for path in (*sources, *files) if path.is_file()]
    return hashlib.sha256(json.dumps([parts, hashes]).encode()).hexdigest()


def recall(folder: Path, asked: str) -> Told | None:
    """What the run showed that ended here last, if it was this one and all is as it was; else nothing."""
    try:
        if not (folder / FILE).is_file() or (folder / f"{FILE}-wal").exists():
            return None  # there is none, or it is of a run that was killed
        with reading(folder) as ledger:
            (text,) = ledger.execute("SELECT told FROM finished").fetchone() or ("{}",)
        kept = json.loads(text)
        if kept.get("asked") != asked or kept["files"] != _left(folder):
            return None
        said = pydantic.TypeAdapter(Told).validate_json(json.dumps(kept["told"]), strict=True)
        texts = itertools.chain(said.columns, said.overview, *said.rows)
        return said if all(text.isprintable() for text in texts) else None
    except (AssayError, sqlite3.Error, OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # the run itself says what is wrong, if anything is


def remember(ledger: Ledger, asked: str, said: Told, settings: Iterable["Setting"]) -> None:
    """Keep what a run showed, if it would find nothing to do when started again.

    Nothing is kept where that cannot be known before the plug-ins are imported: with cells that failed, which
    are tried again, settings that name files, or plug-ins that are installed beside ours or could not be
    imported.
    """
    from .grid import REGISTRIES

    counts = ledger.cell_counts()
    files_named = any(isinstance(value, Path) for setting in settings for _, value in setting.values)
    others = any(importlib.metadata.entry_points(group=f"assay.{kind}s") for kind in KINDS)
    lacking = any(registry.unavailable for registry in REGISTRIES.values())
    if counts["finished"] < counts["planned"] or files_named or others or lacking:
        return
    with contextlib.suppress(AssayError):  # the disk is full, and the run is over
        files = _left(ledger.folder)
        ledger.remember(json.dumps({"asked": asked, "files": files, "told": asdict(said)}))


def _left(folder: Path) -> dict[str, str]:
    """Every file that a run leaves, with a hash of what is in it."""
    files = (path for path in folder.iterdir() if path.suffix in MADE and path.is_file())
    return {path.name: _hash(path) for path in files}


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
