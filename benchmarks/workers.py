"""Worker processes that hand back records one by one; one that dies costs what it was doing and no more."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from .registry import AssayError

T = TypeVar("T")
R = TypeVar("R")

Work = Callable[[T], Iterable[R]]
# imported once, in the fork server, instead of once a worker; torch's optimisers import torch._dynamo
PRELOAD = ["assay.benchmarks.runner", "captum.attr", "torch._dynamo"]
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
        os.environ["ASSAY_PRELOAD"] = " ".join(modules)
        multiprocessing.set_forkserver_preload([*PRELOAD, FREEZE])
        forkserver.ensure_running()


class WorkerDied(Exception):  # noqa: N818 - a fact to report, not to raise
    """A worker process ended in the middle of a task."""


@dataclass
class _Worker(Generic[T]):
    process: BaseProcess
    pipe: Connection
    task: T | None = None


@dataclass
class Pool(Generic[T, R]):
    """Tasks in, (task, record) pairs out, as they come.

    work: task -> records; runs in the workers.
    prepare: runs once in each worker before its first task.
    choose: the next task of a worker, from those waiting, the one it did last, and those others are at.
    """

    work: Work[T, R]
    prepare: Callable[[], None]
    jobs: int
    choose: Callable[[list[T], T | None, list[T]], T]

    def run(self, waiting: list[T]) -> Iterator[tuple[T, R | WorkerDied]]:
        """Yield every record of every task, and a `WorkerDied` for each task whose worker died.

        Tasks are taken out of `waiting`; the caller may add what is left of a task that died.

        Raises:
            AssayError: a task raised it; the other workers are stopped.
        """
        workers = [self._start() for _ in range(min(self.jobs, len(waiting)))]
        try:
            for worker in workers:
                self._assign(worker, workers, waiting)
            while any(w.task is not None for w in workers):
                for ready in wait([w.pipe for w in workers if w.task is not None]):
                    worker = next(w for w in workers if w.pipe is ready)
                    yield from self._receive(worker, workers, waiting)
        finally:
            for worker in workers:
                worker.pipe.close()  # an idle worker ends by itself, and cleans up after itself
            for worker in workers:
                worker.process.join(timeout=0 if worker.task is not None else 5)
                worker.process.terminate()
                worker.process.join()

    def _start(self) -> _Worker[T]:
        start = context()
        ours, theirs = start.Pipe()
        process = start.Process(target=_serve, args=(theirs, self.work, self.prepare), daemon=True)
        process.start()
        theirs.close()  # so that the worker's death closes the pipe
        return _Worker(process, ours)

    def _assign(self, worker: _Worker[T], workers: list[_Worker[T]], waiting: list[T]) -> None:
        last, worker.task = worker.task, None
        if waiting:
            busy = [w.task for w in workers if w.task is not None]
            task = self.choose(waiting, last, busy)
            waiting.remove(task)
            try:
                worker.pipe.send(task)
            except OSError:  # it died while it had nothing to do: that costs nothing
                workers[workers.index(worker)] = worker = self._start()
                worker.pipe.send(task)
            worker.task = task

    def _receive(
        self, worker: _Worker[T], workers: list[_Worker[T]], waiting: list[T]
    ) -> Iterator[tuple[T, R | WorkerDied]]:
        assert worker.task is not None
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):  # OSError: in the middle of a record
            worker.process.join()
            yield worker.task, WorkerDied(f"worker process died (exit code {worker.process.exitcode})")
            workers[workers.index(worker)] = fresh = self._start()
            self._assign(fresh, workers, waiting)
            return
        if kind == "error":
            raise content
        if kind == "done":
            self._assign(worker, workers, waiting)
        else:
            yield worker.task, content


def _serve(pipe: Connection, work: Work[Any, Any], prepare: Callable[[], None]) -> None:
    """Life of a worker: prepare, then tasks until the pipe closes."""
    try:
        prepare()
        while True:
            for record in work(pipe.recv()):
                pipe.send(("record", record))
            pipe.send(("done", None))
    except AssayError as error:
        with suppress(OSError):  # another worker met it first, and the parent has hung up
            pipe.send(("error", error))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        pass  # the parent is gone or stopping: so are we
