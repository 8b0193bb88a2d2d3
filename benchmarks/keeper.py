"""The process that computes units for a Dask worker, one after the other, as a run at home does.

It leads a process group of its own, which ends when the pipe to the Dask worker closes: nothing goes on when
that is killed.  A plug-in runs in a child of this process, which is watched over.
"""

import os
import pickle
import platform
import queue
import shutil
import signal
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any, TypeAlias

from . import local
from .grid import ENGINE, library_versions
from .registry import AssayError
from .tasks import prepare
from .workers import Limits, warm_up

Answer: TypeAlias = tuple[str, Any]  # what it is, and that


@dataclass(frozen=True, slots=True)
class Luggage:
    """What a keeper is given before its first unit.

    files: path at the client, and content, of every plug-in file.
    modules: what the units need, imported once.
    """

    files: tuple[tuple[str, bytes], ...]
    limits: Limits
    modules: tuple[str, ...]


def versions() -> dict[str, str]:
    """The versions of all that moves numbers, here."""
    try:
        own = metadata.version("assay-xai")
    except metadata.PackageNotFoundError:  # a folder that nobody installed
        own = "not installed"
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, "assay-xai": own, "the engine": str(ENGINE), **library_versions()}


def main() -> None:
    """Life of a keeper: the luggage first, then tasks, until the pipe closes."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a plug-in prints is no answer
    folder = Path(tempfile.mkdtemp(prefix="assay-"))
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting, folder), daemon=True).start()
    try:
        luggage: Luggage = pickle.loads(waiting.get())
        files = unpacked(luggage.files, folder)
        _answer(answers, _ready(luggage, files))
        while True:
            _answer(answers, _outcome(waiting.get(), luggage, files))
    finally:
        _end(folder)


def unpacked(files: Sequence[tuple[str, bytes]], folder: Path) -> dict[Path, str]:
    """Write plug-in files by their names, each into a folder of its own: path here -> path at the client."""
    found = {}
    for number, (name, content) in enumerate(files):
        path = folder / str(number) / Path(name).name
        path.parent.mkdir()
        path.write_bytes(content)
        found[path] = name
    return found


def _ready(luggage: Luggage, files: Mapping[Path, str]) -> Answer:
    """Import what units need; versions, or what is wrong."""
    try:
        warm_up(luggage.modules)
        prepare(tuple(files))
        return "versions", versions()
    except AssayError as error:
        return "error", _at_home(str(error), files)


def _outcome(message: bytes, luggage: Luggage, files: Mapping[Path, str]) -> Answer:
    """The records of a task, or what the user did wrong, or a bug of ours."""
    try:
        found = local.records([pickle.loads(message)], 1, tuple(files), luggage.limits)
        return "records", pickle.dumps([record for record in found if record.row])
    except AssayError as error:
        return "error", _at_home(str(error), files)
    except Exception as error:
        return "bug", f"{type(error).__name__}: {' '.join(str(error).split())}"


def _at_home(text: str, files: Mapping[Path, str]) -> str:
    """The text with the client's paths in place of those here."""
    for path, name in files.items():
        text = text.replace(str(path), name)
    return text


def _answer(answers: IO[bytes], answer: Answer) -> None:
    pickle.dump(answer, answers)
    answers.flush()


def _listen(requests: IO[bytes], waiting: "queue.SimpleQueue[bytes]", folder: Path) -> None:
    """Hand requests on; when the Dask worker is gone, so are we and all that we started."""
    try:
        while True:
            waiting.put(pickle.load(requests))
    finally:
        _end(folder)


def _end(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
