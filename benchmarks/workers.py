"""Worker processes that hand back records one by one; one that dies costs what it was doing and no more."""

import math
import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

import psutil

from .registry import AssayError

T = TypeVar("T")
R = TypeVar("R")

Work = Callable[[T], Iterable[R]]
# imported once, in the fork server, instead of once a worker
PRELOAD = ["assay.benchmarks.local"]
# glibc hands freed arrays back to the system at once and asks for them again: a fifth of a run's time
HEAP = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(128 * 2**20)}
FREEZE = "assay.benchmarks.frozen"


def context() -> ForkServerContext | SpawnContext:
    """How workers are started: forked from a server without threads, or anew where there is none."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("forkserver")
    return multiprocessing.get_context("spawn")


def warm_up(modules: Iterable[str]) -> None:
    """Let the fork server import what workers need while this process does something else.

    They share the memory of what it has imported.  A module that cannot be imported is left to them.
    """
    if isinstance(context(), ForkServerContext):
        os.environ["ASSAY_PRELOAD"] = " ".join([*PRELOAD, *modules])
        multiprocessing.set_forkserver_preload([FREEZE])
        _start_server()


def _start_server() -> None:
    """Start the fork server deaf to Ctrl-C: it and its workers are ended by this process."""
    for name, value in HEAP.items():
        os.environ.setdefault(name, value)
    resource_tracker.ensure_running()  # it unblocks signals, so it comes first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may take before it is ended.

    timeout: seconds from one record to the next; 0 for as long as it takes.
    memory: bytes that it and its children hold; 0 for as much as there is.
    """

    timeout: float = 0.0
    memory: int = 0


NONE = Limits()
TICK = 0.2  # seconds between two looks at workers that have limits


class WorkerDied(Exception):  # noqa: N818 - a fact to report, not to raise
    """A worker process ended in the middle of a task."""


@dataclass
class _Worker(Generic[T]):
    process: BaseProcess
    pipe: Connection
    task: T | None = None
    heard: float = math.inf  # when it last said something; its preparation takes as long as it takes
    looked: float = 0.0  # when its memory was last looked at
    ended: str = ""  # why it was ended, if it was
    gone: bool = False  # whether it has ended by itself
    told: bool = False  # whether it says something

    def end(self, why: str) -> None:
        """End it and whatever it has started, which may still hold its end of the pipe."""
        self.ended = why
        pid = self.process.pid
        assert pid is not None  # it was started
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # it leads a group of its own, if it got as far as that
        self.process.kill()
        self.process.join()

    def beyond(self, limits: Limits) -> str:
        """The limit that it is beyond, in words, if it is."""
        if limits.timeout and time.monotonic() - self.heard > limits.timeout:
            return f"took longer than the {limits.timeout:g} s of --timeout"
        if not limits.memory or time.monotonic() - self.looked < TICK:
            return ""
        held, self.looked = _memory(self.process.pid), time.monotonic()
        if held > limits.memory:
            return f"held {held / 1e9:.2f} GB, more than the {limits.memory / 1e9:.2f} GB of --memory"
        return ""


def _memory(pid: int | None) -> int:
    """Bytes that a process and its children hold; 0 if it is gone."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return sum(int(p.memory_info().rss) for p in (process, *process.children(recursive=True)))
    return 0


def _end_strays() -> None:
    """End every worker of the fork server, one whose number a signal kept from us among them.

    It would end by itself with its pipe, but not while it is suspended.
    """
    server = getattr(forkserver._forkserver, "_forkserver_pid", None)
    strays: list[psutil.Process] = []
    with suppress(psutil.Error):
        strays = psutil.Process(server).children() if server else []
    for stray in strays:
        with suppress(psutil.Error):  # it has just ended: the others are still looked for
            stray.kill()


@dataclass
class Pool(Generic[T, R]):
    """Tasks in, (task, record) pairs out, as they come.

    work: task -> records; runs in the workers.
    prepare: runs once in each worker before its first task.
    choose: the next task of a worker, from those waiting, the one it did last, and those others are at.
    limits: what ends a worker; its task is then one whose worker died.
    """

    work: Work[T, R]
    prepare: Callable[[], None]
    jobs: int
    choose: Callable[[list[T], T | None, list[T]], T]
    limits: Limits = NONE
    workers: list[_Worker[T]] = field(default_factory=list, init=False)

    def run(self, waiting: list[T]) -> Iterator[tuple[T, R | WorkerDied]]:
        """Yield every record of every task, and a `WorkerDied` for each task whose worker died.

        Tasks are taken out of `waiting`; the caller may add what is left of a task that died.

        Raises:
            AssayError: a task raised it; the other workers are stopped.
        """
        self.workers = []
        try:
            for _ in range(min(self.jobs, len(waiting))):
                self._assign(self._start(), waiting)
            while any(w.task is not None for w in self.workers):
                for worker in self._heard_of():
                    yield from self._receive(worker, waiting)
        finally:
            self._stop()

    def _heard_of(self) -> list[_Worker[T]]:
        """Busy workers that say something, or have ended; those beyond a limit are ended."""
        busy = [w for w in self.workers if w.task is not None]
        # a child of a dead worker may hold its pipe open: the process itself is waited for too
        told = _ready([fd for w in busy for fd in (w.pipe.fileno(), w.process.sentinel)])
        for worker in busy:
            worker.gone, worker.told = worker.process.sentinel in told, worker.pipe.fileno() in told
            if not worker.told and (why := worker.beyond(self.limits)):
                worker.end(why)
        return [w for w in busy if w.told or w.ended or w.gone]

    def _stop(self) -> None:
        """Let idle workers end by themselves, and clean up after themselves; end the others."""
        started = [worker for worker in self.workers if worker.process.pid is not None]
        for worker in started:
            worker.pipe.close()
        deadline = time.monotonic() + 5
        for worker in started:
            rest = 0 if worker.task is not None else max(0.0, deadline - time.monotonic())
            worker.process.join(timeout=rest)
            worker.end("the run is over")
        if len(started) < len(self.workers):
            _end_strays()

    def _start(self) -> _Worker[T]:
        start = context()
        if isinstance(start, ForkServerContext):
            _start_server()
        ours, theirs = start.Pipe()
        process = start.Process(target=_serve, args=(theirs, self.work, self.prepare), daemon=True)
        worker: _Worker[T] = _Worker(process, ours)
        self.workers.append(worker)  # first: a signal may come in between, and none may be left behind
        process.start()
        theirs.close()  # so that the worker's death closes the pipe
        return worker

    def _assign(self, worker: _Worker[T], waiting: list[T]) -> None:
        last, worker.task = worker.task, None
        if waiting:
            busy = [w.task for w in self.workers if w.task is not None]
            task = self.choose(waiting, last, busy)
            waiting.remove(task)
            try:
                worker.pipe.send(task)
            except OSError:  # it died while it had nothing to do: that costs nothing
                worker = self._replaced(worker)
                worker.pipe.send(task)
            worker.task = task
            if worker.heard < math.inf:
                worker.heard = time.monotonic()

    def _replaced(self, worker: _Worker[T]) -> _Worker[T]:
        self.workers.remove(worker)
        return self._start()

    def _receive(self, worker: _Worker[T], waiting: list[T]) -> Iterator[tuple[T, R | WorkerDied]]:
        assert worker.task is not None
        if not worker.ended and worker.gone:
            worker.end("")  # with its children, so that the pipe has an end, behind what was said before
        try:
            if worker.ended:
                raise EOFError  # what it was in the middle of is lost
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):  # OSError: in the middle of a record
            worker.end(worker.ended)
            worker.pipe.close()
            yield worker.task, WorkerDied(_epitaph(worker))
            self._assign(self._replaced(worker), waiting)
            return
        worker.heard = time.monotonic()
        if kind == "error":
            raise content
        if kind == "done":
            self._assign(worker, waiting)
        elif kind == "record":
            yield worker.task, content


def _ready(files: list[int]) -> set[int]:
    """Which of these can be read from, waiting a tick; `multiprocessing.connection.wait`, in less time."""
    asked = select.poll()
    for file in files:
        asked.register(file, select.POLLIN)
    return {file for file, _ in asked.poll(1000 * TICK)}


def _epitaph(worker: _Worker[Any]) -> str:
    """What became of a worker, for the rows that it costs."""
    if worker.ended:
        return f"worker process was ended: it {worker.ended}"
    return f"worker process died (exit code {worker.process.exitcode})"


def _serve(pipe: Connection, work: Work[Any, Any], prepare: Callable[[], None]) -> None:
    """Life of a worker: prepare, then tasks until the pipe closes."""
    _leave_with_the_parent()
    try:
        prepare()
        pipe.send(("ready", None))
        while True:
            for record in work(pipe.recv()):
                pipe.send(("record", record))
            pipe.send(("done", None))
    except AssayError as error:
        with suppress(OSError):  # another worker met it first, and the parent has hung up
            pipe.send(("error", error))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        pass  # the parent is gone or stopping: so are we


def _leave_with_the_parent() -> None:
    """Lead a group of processes, so that what a plug-in starts ends with this one; end when the parent does.

    A group of its own also keeps Ctrl-C from it: the parent is told, and ends its workers.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return  # called by a test, in no worker
    with suppress(OSError):
        os.setsid()

    def follow() -> None:
        parent.join()
        os.killpg(os.getpid(), signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
