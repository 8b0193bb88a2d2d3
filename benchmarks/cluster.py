"""Tasks on many machines: a unit is a task of a Dask scheduler, and its records come back when it is done."""

import asyncio
import concurrent.futures
import os
import pickle
import queue
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from . import errand, keeper, reach
from .errand import Answer, Kit
from .evaluation import draw, looked_into
from .explaining import one_line
from .folders import is_url, path_of
from .grid import Unit
from .keeper import Luggage
from .reach import WAITS, Waits
from .records import Record, failed, place
from .registry import AssayError
from .spec import Setting
from .tasks import Task
from .terms import CACHE, DEVICE
from .threads import ONE
from .workers import NONE, Limits

TRAVEL = "ASSAY_"  # environment variables that begin so are set on the workers too
GPU = "GPU"  # the resource, as `dask worker --resources "GPU=1"` names it
SPARE = 1  # units in flight a thread: one that waits behind another shares the blame for a worker's death
RETRIES = 3  # of a unit whose keeper died; Dask counts the deaths of its own workers
LOOK = 2.0  # seconds between two looks at who is there
KEPT = "what is finished is kept: give the same command again"
CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
Staff: TypeAlias = Mapping[str, Mapping[str, Any]]  # address -> what the scheduler knows of the worker


def records(
    tasks: Sequence[Task],
    address: str,
    files: Sequence[Path] = (),
    limits: Limits = NONE,
    waits: Waits = WAITS,
) -> Iterator[Record]:
    """The records of these tasks, as units finish; a unit whose workers keep dying costs its cells.

    address: dask://HOST:PORT, tcp://..., tls://..., local:N, or file:PATH of a Dask scheduler file.
    limits: of the process, on a worker, that computes a unit.

    Raises:
        AssayError: what the user asked for cannot be had, or the cluster cannot be reached or is gone.
    """
    if not tasks:
        return
    kit = packed(tasks, files, limits)
    with reach.connected(address, waits) as client:
        yield from Run(client, kit, waits).records(tasks)


def packed(tasks: Sequence[Task], files: Sequence[Path], limits: Limits) -> Kit:
    """What every worker is sent besides its unit.

    Raises:
        AssayError: a plug-in file cannot be read.
    """
    cache = os.environ.get(CACHE, "")
    if cache and not is_url(cache):
        cache = str(path_of(cache))
    ours = {name: value for name, value in os.environ.items() if name.startswith(TRAVEL)}
    environment = {DEVICE: "cpu", **ours, CACHE: cache, **ONE}
    try:
        contents = tuple((str(file.resolve()), file.read_bytes()) for file in files)
    except OSError as error:
        raise AssayError(
            f"plug-in file {str(error.filename)!r} cannot be read ({error.strerror}); give the path of one."
        ) from None
    luggage = pickle.dumps(Luggage(contents, limits, tuple(_modules(tasks))))
    return Kit(uuid.uuid4().hex, environment, str(Path.cwd()), keeper.versions(), luggage)


def _modules(tasks: Sequence[Task]) -> list[str]:
    """The modules that built-in plug-ins of these tasks stand in; a user's have none, and are ignored."""
    found: dict[tuple[str, str], None] = {}
    for task in tasks:
        found[("datasets", task.unit.dataset.name)] = None
        found[("models", task.unit.model.name)] = None
        for cell in task.cells:
            found[("methods", cell.method.name)] = None
            found[("metrics", cell.metric.name)] = None
    return [f"assay.{kind}.{name}" for kind, name in found]


def laid_out(dataset: Setting, seed: int) -> bool:
    """Whether the dataset's rows are pictures or sound; one that cannot be drawn here may be."""
    try:
        return draw(dataset, seed).x.dim() > 2
    except Exception:
        return True


def kept(unit: Unit) -> bool:
    """Whether a cache may hold the unit's model: not one that methods look into, of scikit-learn."""
    return not looked_into(unit.model)


class Run:
    """One run on a cluster: a window of units in flight, refilled as they land."""

    def __init__(self, client: Any, kit: Kit, waits: Waits) -> None:
        self.client = client
        self.kit = kit
        self.waits = waits
        self.landed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.flying: dict[str, tuple[Task, bool, Any]] = {}  # key -> task, whether it asks for a GPU, future
        # those that ask for a GPU wait and fly apart: if they are many, others need not wait for GPUs
        self.waiting: dict[bool, deque[Task]] = {False: deque(), True: deque()}
        self.room = {False: 0.0, True: 0.0}  # threads, GPUs
        self.seen = self.looked = time.monotonic()

    def records(self, tasks: Sequence[Task]) -> Iterator[Record]:
        """See the function of this name."""
        try:
            self._await_workers()
            self._compare()
            asking = self._asking(tasks)
            for task in tasks:
                self.waiting[task.unit.dataset.name in asking].append(task)
            while self.flying or any(self.waiting.values()):
                self._refill()
                future = self._next()
                if future is not None:
                    yield from self._records_of(future)
        finally:
            self._end()

    def _await_workers(self) -> None:
        while not self._look():
            time.sleep(0.1)

    def _asking(self, tasks: Sequence[Task]) -> set[str]:
        """Names of the datasets whose units ask for a GPU: pictures and sound, if a worker offers one."""
        if self.kit.environment[DEVICE] != "cuda" or not self.room[True]:
            return set()
        first = {task.unit.dataset.name: task.unit for task in reversed(tasks)}
        return {name for name, unit in first.items() if laid_out(*unit.problem)}

    def _look(self) -> bool:
        """See who is there, and whether one of them can do something of what is left.

        Raises:
            AssayError: nobody could for too long, or the scheduler is gone.
        """
        self.looked = time.monotonic()
        staff: Staff = {}
        with suppress(OSError, TimeoutError, *CANCELLED):
            staff = self.client.scheduler_info(n_workers=-1)["workers"]
        if self.client.status not in ("running", "connecting"):
            raise AssayError(f"the Dask scheduler is gone; {KEPT}.")
        gpus = sum(worker["resources"].get(GPU, 0) for worker in staff.values())
        self.room = {False: sum(worker["nthreads"] for worker in staff.values()), True: gpus}
        left = {asks for _, asks, _ in self.flying.values()} | {
            a for a, tasks in self.waiting.items() if tasks
        }
        able = any(self.room[asks] for asks in left or {False})
        if able:
            self.seen = self.looked
        elif self.looked - self.seen > self.waits.workers:
            raise AssayError(
                f"no worker{' that offers a GPU' if staff else ''} has been at the scheduler for "
                f"{self.waits.workers:g} seconds; start one with `dask worker ADDRESS`; {KEPT}."
            )
        return able

    def _compare(self) -> None:
        """Refuse workers that would compute other numbers, before any is asked to.

        Raises:
            AssayError: one has other versions, or cannot run.
        """
        for address, answer in self.client.run(errand.greet, self.kit, on_error="return").items():
            if isinstance(answer, OSError):
                continue  # it left meanwhile
            if isinstance(answer, Exception):
                raise AssayError(
                    f"worker {address} cannot run assay ({one_line(answer)}); install assay-xai "
                    f"{self.kit.versions['assay-xai']} there."
                )
            self._check(answer, address)

    def _check(self, answer: Answer, worker: str) -> None:
        """Raise what the user did wrong, or the first version that is not ours."""
        kind, content = answer
        if kind == "error":
            raise AssayError(content)
        ours = self.kit.versions if kind == "versions" else {}
        for package in (p for p in ours if content.get(p) != ours[p]):
            raise AssayError(
                f"versions of {package} differ, {ours[package]} here and {content.get(package)} on worker "
                f"{worker}, and so may the numbers; install the same on both."
            )

    def _refill(self) -> None:
        """Submit as many as there is room for."""
        for asks, waiting in self.waiting.items():
            flying = sum(other is asks for _, other, _ in self.flying.values())
            while waiting and flying < SPARE * self.room[asks]:
                self._submit(waiting.popleft(), asks)
                flying += 1

    def _submit(self, task: Task, asks: bool) -> None:
        name = f"{self.kit.session}-{task.unit.key}"
        asked = {"resources": {GPU: 1} if asks else None, "retries": RETRIES, "pure": False}
        trained = None
        if self.kit.environment[CACHE] and kept(task.unit):
            alone = pickle.dumps(Task(task.unit, ()))
            trained = self.client.submit(errand.train, self.kit, alone, key=f"train-{name}", **asked)
        message = pickle.dumps(task)
        future = self.client.submit(
            errand.explain, self.kit, message, trained, key=f"explain-{name}", **asked
        )
        self.flying[future.key] = task, asks, future
        future.add_done_callback(self.landed.put)

    def _next(self) -> Any:
        """The next future that landed; nothing, if somebody may have joined or left meanwhile."""
        if time.monotonic() - self.looked > LOOK:
            self._look()
        with suppress(queue.Empty):
            return self.landed.get(timeout=LOOK)
        return None

    def _records_of(self, future: Any) -> Iterator[Record]:
        """What a future that landed brings.

        Raises:
            AssayError: a task raised it, or the scheduler is gone.
        """
        task = self.flying[future.key][0]
        try:
            answer, worker = future.result(timeout=self.waits.scheduler)
        except TimeoutError:  # its worker died with it, and it is made again; or it is long on its way
            future.add_done_callback(self.landed.put)
            return
        except CANCELLED:
            raise AssayError(f"the Dask scheduler is gone, or cancelled this run; {KEPT}.") from None
        except Exception as error:
            del self.flying[future.key]
            yield from (failed(cell, _reason(error)) for cell in task.cells)
            return
        del self.flying[future.key]
        self._check(answer, worker)
        where = place(task.unit)
        parts = where["dataset"], where["parameters"], where["noise"], task.unit.model.text
        yield Record("", " ".join(part for part in (*parts, f"on {worker}") if part))
        yield from pickle.loads(answer[1])

    def _end(self) -> None:
        """Take back what was submitted, and let the workers go."""
        if self.client.status == "running":
            with suppress(Exception, *CANCELLED):  # they are gone: nothing to take back
                self.client.cancel([future for *_, future in self.flying.values()], force=True)
                self.client.run(errand.dismiss, self.kit.session, on_error="ignore")
        self.flying.clear()


def _reason(error: Exception) -> str:
    """Why a unit has no score, in one line."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        last = getattr(error.last_worker, "address", error.last_worker)
        return f"its Dask worker died {error.allowed_failures + 1} times, the last of them {last}"
    return one_line(error)
