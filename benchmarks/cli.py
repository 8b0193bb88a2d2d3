"""The command line.  Heavy imports wait inside the commands, so that --help answers at once."""

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from . import reading
from .registry import AssayError
from .screen import complain, console, program
from .terms import Device

if TYPE_CHECKING:
    from .suite import Suite

COMMITTED = "reference"  # results/reference holds the committed tables
KINDS = ("datasets", "models", "methods", "metrics", "suites")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

PluginFiles = Annotated[
    list[Path] | None, typer.Option("--plugin", help="A .py file with plug-ins of your own; repeatable.")
]
Names = Annotated[
    list[str] | None,
    typer.Option(help="In place of the suite's: NAME, NAME[parameter=value,...] or all; repeatable."),
]


def main() -> NoReturn:
    """Entry point of run_bench.py and of the console script."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: one thread a worker
    try:
        code = app(reading.with_regression(sys.argv[1:]) or ["run"], standalone_mode=False) or 0
    except AssayError as error:
        code = complain(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = complain("stopped; what is finished is kept: give the same command again to go on.", 130)
    except typer.Exit as stop:
        code = stop.exit_code
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        code = complain(f"{error.format_message()} Try --help.", 2)  # a wrong option or command
    sys.exit(code)


@app.callback()
def benchmark() -> None:
    """Benchmark attribution methods on problems whose right answer is known.

    Without a command, the suite `quick` is run.
    """


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="Name of a suite, or a .toml file of your own.")] = "quick",
    dataset: Names = None,
    model: Names = None,
    method: Names = None,
    metric: Names = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds, counted from 0.")] = None,
    first_seed: Annotated[int | None, typer.Option(help="The first of them; 0 by default.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Worker processes; as many as cores.")] = None,
    out: Annotated[Path | None, typer.Option(help="Results folder; under results/ by default.")] = None,
    fresh: Annotated[bool, typer.Option(help="Forget what the folder holds and start over.")] = False,
    device: Annotated[Device, typer.Option(help="Where networks of pictures and sound run.")] = "auto",
    plugin: PluginFiles = None,
) -> None:
    """Run a suite, or go on with it where it stopped, and show its leaderboard."""
    from . import suite as suites
    from .workers import warm_up

    for option, value in (("--seeds", seeds), ("--jobs", jobs)):
        if value is not None and value < 1:
            raise AssayError(f"{option} cannot be {value}; give a whole number from 1 up.")
    if first_seed is not None and first_seed < 0:
        raise AssayError(f"--first-seed cannot be {first_seed}; give a whole number from 0 up.")
    jobs = jobs or os.cpu_count() or 1
    lists = {"dataset": dataset, "model": model, "method": method, "metric": metric}
    given = {kind: values for kind, values in lists.items() if values}
    written = suites.load_suite(suite)
    chosen = written.with_lists(given)
    os.environ["ASSAY_DEVICE"] = device  # workers inherit it
    if jobs > 1:
        warm_up(suites.modules(chosen))
    from . import loading

    chosen = _with_plugins(chosen, loading.load_plugins(plugin or []), given)
    asked = {"seeds": seeds, "first_seed": first_seed}
    numbers = {name: value for name, value in asked.items() if value is not None}
    chosen = chosen.model_copy(update=numbers)
    folder = out or Path("results") / _folder_name(suite, given, numbers, plugin or [])
    _execute(chosen, folder, jobs, fresh=fresh, files=plugin or [], written=written)


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
    from .grid import digest

    return f"{name[:60]}-{digest(*words)[:8]}"  # what the clean name leaves out is in the hash


def _execute(
    suite: "Suite", folder: Path, jobs: int, *, fresh: bool, files: list[Path], written: "Suite"
) -> None:
    from . import grid, manifest, report, runner, tasks
    from .store import Ledger
    from .terminal import progress

    screen = console()
    plan = grid.plan(suite)
    ledger = Ledger(folder, fresh=fresh)
    try:
        words = ["assay", *sys.argv[1:]]
        made = manifest.begin(folder, suite, words, jobs, written=written, fresh=fresh)
        left = sum(len(task.cells) for task in tasks.missing(plan, ledger.done()))
        total = sum(map(len, plan.values()))
        screen.out(f"{suite.name}: {total:,} cells, {left:,} to compute, {jobs} jobs, into {folder}")
        with progress(screen, left) as reporter:
            for record in runner.run(plan, ledger, jobs=jobs, files=files):
                if not record.row:
                    reporter.at(record.key)
                elif record.table in {"scores", "agreement"}:
                    reporter.finished()
    finally:
        ledger.close()
    manifest.finish(folder, made)
    reading.show_board(screen, report.write(folder), folder)


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(KINDS)}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="An array of objects.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """List what there is, and what is not available and why."""
    from . import loading
    from .listing import compact, entries, shown

    if kind is not None and kind not in KINDS:
        raise AssayError(f"cannot list {kind!r}; give one of {', '.join(KINDS)}, or nothing for all.")
    loading.load_plugins(plugin or [])
    screen = console()
    found = {k: entries(k) for k in KINDS if kind in {None, k}}
    if as_json:
        rows = [row for rows in found.values() for row in rows]
        screen.out(json.dumps(rows, indent=2, default=str), highlight=False)
        return
    import pandas as pd

    from .terminal import show

    for name, rows in found.items():
        show(screen, pd.DataFrame((compact if screen.is_terminal else shown)(name, rows)), name)


@app.command()
def check(name_or_file: Annotated[str, typer.Argument(help="A plug-in's name, or your .py file.")]) -> None:
    """Run the plug-in checks, on ours or on yours."""
    from .checks import failures
    from .loading import plugins_named

    screen = console()
    wrong = 0
    for plugin in plugins_named(name_or_file):
        screen.out(f"{plugin.kind} {plugin.name}")
        for name, problem in failures(plugin):
            wrong += bool(problem)
            screen.out(
                f"  {'FAIL' if problem else 'ok  '} {name}{': ' + problem if problem else ''}",
                highlight=False,
            )
    if wrong:
        raise AssayError(f"{wrong} checks of {name_or_file!r} failed; mend what the lines above say.")


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="method.")],
    name: Annotated[str, typer.Argument(help="Its name: of the file, of the function and in the tables.")],
) -> None:
    """Write a commented file, methods/NAME.py, that already passes `check`."""
    from .scaffold import new_method

    if kind != "method":
        raise AssayError(f"cannot make a new {kind!r}; only 'method' is known here.")
    file = new_method(name)
    console().out(
        f"wrote {file}\nnow: {program()} check {name} && {program()} run smoke --method {name}"
        f"\nto rank it among all others: {program()} run smoke --method all"
    )


app.add_typer(reading.app)

if __name__ == "__main__":
    main()
