"""The command `run`.  Heavy imports wait inside, so that what is wrong with the command is told at once."""

import contextlib
import functools
import hashlib
import importlib
import os
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import folders, reading
from .registry import AssayError
from .screen import console
from .terms import CACHE, DEVICE, Device

if TYPE_CHECKING:
    from .finished import Told
    from .runner import Means
    from .screen import Console
    from .store import Ledger
    from .suite import Suite
    from .tasks import Plan
    from .workers import Limits

COMMITTED = "reference"  # results/reference holds the committed tables

app = typer.Typer()

PluginFiles = Annotated[
    list[Path] | None, typer.Option("--plugin", help="A .py file with plug-ins of your own; repeatable.")
]
Names = Annotated[
    list[str] | None,
    typer.Option(help="In place of the suite's: NAME, NAME[parameter=value,...] or all; repeatable."),
]


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="Name of a suite, or a .toml file of your own.")] = "quick",
    dataset: Names = None,
    model: Names = None,
    method: Names = None,
    metric: Names = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds, counted from 0.")] = None,
    first_seed: Annotated[int | None, typer.Option(help="The first of them; 0 by default.")] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Worker processes; as many as cores.  0: none, as a debugger needs it.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds for one step: a training, a method's maps, a score.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="What a worker may hold, as 2GB; beyond it, it is ended.")
    ] = None,
    cluster: Annotated[
        str,
        typer.Option(help="Dask workers instead: dask://HOST:PORT, local:N, or a scheduler file."),
    ] = "",
    cache: Annotated[
        str, typer.Option(help="Folder or URL where trained networks are kept, to be trained once.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Results folder; under results/ by default.")] = None,
    fresh: Annotated[bool, typer.Option(help="Forget what the folder holds and start over.")] = False,
    device: Annotated[Device, typer.Option(help="Where networks of pictures and sound run.")] = "auto",
    plugin: PluginFiles = None,
) -> None:
    """Run a suite, or go on with it where it stopped, and show its leaderboard."""
    from . import loading
    from . import suite as suites

    _insist_on_counts(seeds=(seeds, 1), jobs=(jobs, 0), first_seed=(first_seed, 0))
    limits = _limits(timeout, memory, jobs)
    jobs = (os.cpu_count() or 1) if jobs is None else jobs
    files, screen = plugin or [], console()
    lists = {"dataset": dataset, "model": model, "method": method, "metric": metric}
    given = {kind: values for kind, values in lists.items() if values}
    written = suites.load_suite(suite)
    chosen = written.with_lists(given)
    loading.insist_on_names(chosen, files)
    asked = {"seeds": seeds, "first_seed": first_seed}
    numbers = {name: value for name, value in asked.items() if value is not None}
    chosen = chosen.with_numbers(numbers)
    folder = out or Path("results") / _folder_name(suite, given, numbers, files)
    ready = functools.partial(_make_ready, chosen, jobs, device, cache, cluster, folder, screen)
    new = fresh or not folder.exists()
    if new:  # nothing to recall: workers import what they need while this process does
        ready()
    from . import finished

    request = finished.request(chosen, files)
    if not new:
        if told := finished.recall(folder, request):
            _show_again(told, chosen, folder, screen)
            return
        ready()
    from . import runner

    chosen = _with_plugins(chosen, loading.load_plugins(files), given)
    means = runner.Means(jobs=jobs, cluster=cluster, files=tuple(files), limits=limits)
    _execute(chosen, folder, means, request, fresh=fresh, written=written)


def _show_again(told: "Told", suite: "Suite", folder: Path, screen: "Console") -> None:
    """What a run showed that is over."""
    screen.out(f"{suite.name}: {told.cells:,} cells, 0 to compute, into {folder}")
    reading.show_board(screen, told, folder)


def _insist_on_counts(**given: tuple[int | None, int]) -> None:
    """Refuse a number below the least that its option takes."""
    for name, (value, least) in given.items():
        if value is not None and value < least:
            option = f"--{name.replace('_', '-')}"
            raise AssayError(f"{option} cannot be {value}; give a whole number from {least} up.")


def _make_ready(
    suite: "Suite", jobs: int, device: Device, cache: str, cluster: str, folder: Path, screen: "Console"
) -> None:
    """Say where networks run and are kept, and let what workers need be imported."""
    from .suite import modules
    from .workers import warm_up

    _place(device, cache, cluster, folder, screen)
    if jobs and not cluster:
        warm_up(modules(suite))


def _place(device: Device, cache: str, cluster: str, folder: Path, screen: "Console") -> None:
    """Say to this process, and to its workers, where networks run and where they are kept.

    Groups of networks, as a GPU trains them, are handed on through a cache: there is always one.
    """
    os.environ[DEVICE] = device
    whole = folder.absolute()
    own = str(whole.with_name(f"{whole.name}-networks")) if device == "cuda" and not cluster else ""
    kept = cache or os.environ.get(CACHE, "") or own
    if kept and not folders.is_url(kept) and folders.path_of(kept).is_relative_to(whole):
        raise AssayError(
            f"cache {kept!r} is inside the results folder {str(folder)!r}; give a folder beside it."
        )
    if kept:
        os.environ[CACHE] = folders.checked(kept)
        if why := folders.unwritable(kept):
            screen.out(f"cache {kept!r} cannot be written ({why}): networks are read from it, none is kept")


def _limits(timeout: float | None, memory: str | None, jobs: int | None) -> "Limits":
    """What a worker may take.

    Raises:
        AssayError: it is no time, no size, or there are no workers.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError

    from .workers import Limits

    if timeout is not None and not 0 < timeout < float("inf"):
        raise AssayError(f"--timeout cannot be {timeout:g}; give seconds above 0, or leave it out.")
    if jobs == 0 and (timeout or memory):
        raise AssayError(
            "--jobs 0 has no worker that --timeout or --memory could end; give --jobs 1 or more."
        )
    try:
        size = TypeAdapter(ByteSize).validate_python(memory or 0)
    except ValidationError:
        size = ByteSize(-1)
    if memory is not None and size <= 0:
        raise AssayError(f"--memory cannot be {memory!r}; give a size above 0 such as 500MB or 2GB.")
    return Limits(timeout or 0.0, int(size))


def _with_plugins(suite: "Suite", added: dict[str, list[str]], given: dict[str, list[str]]) -> "Suite":
    """The suite with the plug-ins of the user's files beside its own, unless that kind was listed."""
    for kind, names in added.items():
        if names and kind not in given:
            suite = suite.with_added(kind, names)
    return suite


def _folder_name(suite: str, given: dict[str, list[str]], numbers: dict[str, int], files: list[Path]) -> str:
    """A folder of its own for every variation of a suite, so that none takes another's place."""
    words = [suite, *(value for values in given.values() for value in values), *map(str, files)]
    words += [f"{name}={value}" for name, value in numbers.items()]
    if words == [COMMITTED]:
        return f"{COMMITTED}-run"
    name = re.sub(r"[^\w.]+", "-", "-".join(words)).strip("-")
    if all(re.fullmatch(r"\w+", word) for word in words) and len(name) <= 80:
        return name
    # what the clean name leaves out is in the hash
    return f"{name[:60]}-{hashlib.sha256(chr(10).join(words).encode()).hexdigest()[:8]}"


def _execute(
    suite: "Suite", folder: Path, means: "Means", request: str, *, fresh: bool, written: "Suite"
) -> None:
    from . import beforehand, finished, grid, manifest, runner, tasks
    from .store import Ledger

    screen = console()
    plan = grid.plan(suite)
    beforehand.check_files(plan)
    beforehand.check_methods(in_worker=bool(means.jobs) and not means.cluster)
    beforehand.check_machines(means.cluster)
    made = beforehand.lacking(folder)
    ledger = Ledger(folder, fresh=fresh)
    try:
        with beforehand.taken_back(made, ledger):
            words = ["assay", *sys.argv[1:]]
            about = manifest.begin(folder, suite, words, means, written=written, fresh=fresh)
            _compute(suite, plan, ledger, means)
        manifest.finish(folder, about)
        from . import report

        told = finished.told(report.from_ledger(ledger))
        finished.remember(ledger, request, told, tasks.settings_of(plan))
    finally:
        ledger.close()
    reading.show_board(screen, told, folder)
    if (log := folder / runner.LOG).is_file():
        screen.out(f"\nplug-ins have printed something: {log}", highlight=False)


def _compute(suite: "Suite", plan: "Plan", ledger: "Ledger", means: "Means") -> None:
    """Compute what is missing, and show how far it is."""
    from . import runner, tasks
    from .terminal import progress

    screen = console()
    left = sum(len(task.cells) for task in tasks.missing(plan, ledger.done()))
    total = sum(map(len, plan.values()))
    screen.out(f"{suite.name}: {total:,} cells, {left:,} to compute, {_with(means)}, into {ledger.folder}")
    # closed whatever happens: a traceback would keep it, and its workers, until the program ends
    with contextlib.closing(runner.run(plan, ledger, means)) as records, progress(screen, left) as reporter:
        if means.jobs:
            _import_report()
        for record in records:
            if not record.row:
                reporter.at(record.key)
            elif record.of_cell:
                reporter.finished()


def _import_report() -> None:
    """Import the report, most of a second, while the workers come up.

    Not beside plug-ins in this process: whose warnings are listened to is one setting of all threads.
    """
    threading.Thread(target=importlib.import_module, args=(f"{__package__}.report",), daemon=True).start()


def _with(means: "Means") -> str:
    """Who computes, in words."""
    if means.cluster:
        return f"on {means.cluster}"
    return f"{means.jobs} jobs" if means.jobs else "in this process"
