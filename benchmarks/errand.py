"""What a Dask worker is asked to do: hand units to keepers, processes of their own, and bring records back.

A keeper is started by exec and not by multiprocessing, because Dask's workers are daemons, which may have no
such children.  This module imports nothing heavy: the Dask worker itself sees bytes, no torch and no plug-in.
"""

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Versions: TypeAlias = Mapping[str, str]
Answer: TypeAlias = tuple[str, Any]  # "records", "versions", "error" or "bug", and that
MODULE = "assay.benchmarks.keeper"


@dataclass(frozen=True, slots=True)
class Kit:
    """What a keeper needs besides the unit.

    session: whose; keepers of one are never lent to another.
    environment: what is set in the keeper's.
    folder: where the client runs; so does the keeper, where there is such a folder.
    versions: of the client, which the keeper's must be.
    luggage: pickled, for the keeper to open.
    """

    session: str
    environment: Mapping[str, str]
    folder: str
    versions: Versions
    luggage: bytes


class Keeper:
    """A keeper as its Dask worker sees it."""

    def __init__(self, kit: Kit) -> None:
        """Start one and wait until it is ready.

        Raises:
            RuntimeError: it ended.
        """
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **kit.environment},
            cwd=kit.folder if Path(kit.folder).is_dir() else None,
            start_new_session=True,
        )
        self.greeting: Answer = self.ask(kit.luggage)

    def ask(self, message: bytes) -> Answer:
        """Its answer.

        Raises:
            RuntimeError: it ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            pickle.dump(message, self.process.stdin)
            self.process.stdin.flush()
            return pickle.load(self.process.stdout)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            raise RuntimeError(
                f"the process that computed the unit for its Dask worker died (exit code {self.end()})"
            ) from None

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.process.poll() is None

    def end(self) -> int:
        """Kill it and all that it started; its exit code."""
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        return code


class Keepers:
    """All keepers of a Dask worker: as many as it has threads, each at one unit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: defaultdict[str, set[Keeper]] = defaultdict(set)
        self._idle: defaultdict[str, list[Keeper]] = defaultdict(list)
        self._over: set[str] = set()

    def borrow(self, kit: Kit) -> Keeper:
        """An idle keeper of the session, or a fresh one.

        Raises:
            RuntimeError: the session is over, or the fresh one ended.
        """
        with self._lock:
            if kit.session in self._over:
                raise RuntimeError("this run is over")
            while self._idle[kit.session]:
                keeper = self._idle[kit.session].pop()
                if keeper.alive:
                    return keeper
                self._all[kit.session].discard(keeper)
        keeper = Keeper(kit)
        with self._lock:
            over = kit.session in self._over
            if not over:
                self._all[kit.session].add(keeper)
        if over:
            keeper.end()
            raise RuntimeError("this run is over")
        return keeper

    def give_back(self, kit: Kit, keeper: Keeper) -> None:
        """It is idle again; or there is nobody left to work for."""
        with self._lock:
            if kit.session not in self._over and keeper.alive:
                self._idle[kit.session].append(keeper)
                return
            self._all[kit.session].discard(keeper)
        keeper.end()

    def dismiss(self, session: str) -> None:
        """End all keepers of a session, whatever they are at."""
        with self._lock:
            self._over.add(session)
            found = self._all.pop(session, set())
            self._idle.pop(session, None)
        for keeper in found:
            keeper.end()


KEEPERS = Keepers()


async def greet(kit: Kit) -> Answer:
    """Make a keeper ready: its versions, or what is wrong here."""
    return await asyncio.to_thread(_greeting, kit)


def _greeting(kit: Kit) -> Answer:
    keeper = KEEPERS.borrow(kit)
    KEEPERS.give_back(kit, keeper)
    return keeper.greeting


async def dismiss(session: str) -> None:
    """End what this worker keeps for a session."""
    await asyncio.to_thread(KEEPERS.dismiss, session)


def train(kit: Kit, task: bytes) -> None:
    """Train the model of a unit, which is then in the cache; what goes wrong, `explain` will meet too."""
    _computed(kit, task)


def explain(kit: Kit, task: bytes, trained: None = None) -> tuple[Answer, str]:
    """The pickled records of a task, or what is wrong, and the name of this worker.

    trained: comes from `train` and says nothing but that it is done.

    Raises:
        RuntimeError: the keeper died, or met a bug of ours.
    """
    from distributed import get_worker

    return _computed(kit, task), str(get_worker().name)


def _computed(kit: Kit, task: bytes) -> Answer:
    keeper = KEEPERS.borrow(kit)
    try:
        if keeper.greeting != ("versions", kit.versions):
            return keeper.greeting
        kind, content = keeper.ask(task)
    finally:
        KEEPERS.give_back(kit, keeper)
    if kind == "bug":
        raise RuntimeError(content)
    return kind, content
