"""The command line.  Heavy imports wait inside the commands, so that --help answers at once."""

import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from .registry import AssayError
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
Folder = Annotated[Path, typer.Argument(help="A results folder.")]


def main() -> NoReturn:
    """Entry point of run_bench.py and of the console script."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: one thread a worker
    try:
        code = app(sys.argv[1:] or ["run"], standalone_mode=False) or 0
    except AssayError as error:
        code = _complain(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _complain("stopped; what is finished is kept: give the same command again to go on.", 130)
    except typer.Exit as stop:
        code = stop.exit_code
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        code = _complain(f"{error.format_message()} Try --help.", 2)  # a wrong option or command
    sys.exit(code)


def _complain(text: str, code: int) -> int:
    Console(stderr=True, soft_wrap=True).print(Text(f"error: {text}", style="red"))
    return code


def _program() -> str:
    """How this program was called, for commands that can be copied."""
    return shlex.join([sys.executable, sys.argv[0]]) if sys.argv[0].endswith(".py") else "assay"


def _console() -> Console:
    """A terminal with colours, or plain text that is never wrapped or cut."""
    return Console(soft_wrap=not sys.stdout.isatty())


@app.callback()
def program() -> None:
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
    jobs = jobs or os.cpu_count() or 1
    lists = {"dataset": dataset, "model": model, "method": method, "metric": metric}
    given = {kind: values for kind, values in lists.items() if values}
    chosen = suites.load_suite(suite).with_lists(given)
    os.environ["ASSAY_DEVICE"] = device  # workers inherit it
    if jobs > 1:
        warm_up(suites.modules(chosen))
    from . import runner

    chosen = _with_plugins(chosen, runner.load_plugins(plugin or []), given)
    if seeds is not None:
        chosen = chosen.model_copy(update={"seeds": seeds})
    folder = out or Path("results") / _folder_name(suite, given, seeds, plugin or [])
    _execute(chosen, folder, jobs, fresh=fresh, files=plugin or [])


def _with_plugins(suite: "Suite", added: dict[str, list[str]], given: dict[str, list[str]]) -> "Suite":
    """The suite with the plug-ins of the user's files beside its own, unless that kind was listed."""
    for kind, names in added.items():
        if names and kind not in given:
            suite = suite.with_added(kind, names)
    return suite


def _folder_name(suite: str, given: dict[str, list[str]], seeds: int | None, files: list[Path]) -> str:
    """A folder of its own for every variation of a suite, so that none takes another's place."""
    words = [suite, *(value for values in given.values() for value in values), *map(str, files)]
    words += [f"seeds={seeds}"] if seeds is not None else []
    if words == [COMMITTED]:
        return f"{COMMITTED}-run"
    name = re.sub(r"[^\w.]+", "-", "-".join(words)).strip("-")
    if all(re.fullmatch(r"\w+", word) for word in words) and len(name) <= 80:
        return name
    from .grid import digest

    return f"{name[:60]}-{digest(*words)[:8]}"  # what the clean name leaves out is in the hash


def _execute(suite: "Suite", folder: Path, jobs: int, *, fresh: bool, files: list[Path]) -> None:
    from . import grid, manifest, report, runner
    from .store import Ledger
    from .terminal import progress

    console = _console()
    plan = grid.plan(suite)
    ledger = Ledger(folder, fresh=fresh)
    try:
        made = manifest.begin(folder, suite, ["assay", *sys.argv[1:]], jobs)
        left = sum(len(task.cells) for task in runner.missing(plan, ledger.done()))
        total = sum(map(len, plan.values()))
        console.out(f"{suite.name}: {total:,} cells, {left:,} to compute, {jobs} jobs, into {folder}")
        with progress(console, left) as reporter:
            for record in runner.run(plan, ledger, jobs=jobs, files=files):
                if not record.row:
                    reporter.at(record.key)
                elif record.table in {"scores", "agreement"}:
                    reporter.finished()
    finally:
        ledger.close()
    manifest.finish(folder, made)
    _show_board(console, report.write(folder)["overall"], folder)


def _show_board(console: Console, board: Any, folder: Path) -> None:
    from .report import display
    from .terminal import show

    show(console, display(board), "Leaderboard: skill, 0 is chance and 1 is the exact answer")
    if board["note"].any() or board["failed"].any():
        console.out(f"\nReasons for what is skipped, failed or qualified: {folder / 'leaderboard.md'}")
    console.out(
        f"\nTables: {folder / 'leaderboard.md'}, leaderboard.csv, scores.csv, agreement.csv, costs.csv"
    )
    if (folder / "gallery.png").is_file():
        console.out(f"Pictures of what the methods saw: {folder / 'gallery.png'}")


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(KINDS)}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="An array of objects.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """List what there is, and what is not available and why."""
    from . import runner
    from .listing import compact, entries, shown

    if kind is not None and kind not in KINDS:
        raise AssayError(f"cannot list {kind!r}; give one of {', '.join(KINDS)}, or nothing for all.")
    runner.load_plugins(plugin or [])
    console = _console()
    found = {k: entries(k) for k in KINDS if kind in {None, k}}
    if as_json:
        rows = [row for rows in found.values() for row in rows]
        console.out(json.dumps(rows, indent=2, default=str), highlight=False)
        return
    import pandas as pd

    from .terminal import show

    for name, rows in found.items():
        show(console, pd.DataFrame((compact if console.is_terminal else shown)(name, rows)), name)


@app.command()
def report(results: Folder) -> None:
    """Make the tables of a results folder again, from its ledger."""
    from .report import write

    _show_board(_console(), write(results)["overall"], results)


@app.command()
def trust(
    results: Folder,
    method: Annotated[
        list[str] | None, typer.Option(help="Of these alone; written only with --out; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; RESULTS by default.")] = None,
) -> None:
    """Say which metrics that need no truth rank the methods as the truth does."""
    from . import trust as trusting
    from .terminal import show

    found = trusting.load_trust(results, method or [])
    console = _console()
    show(console, trusting.display(found), "Kendall's tau with the ground truth: 0 is chance, 1 its ranking")
    console.out(f"\n{trusting.section(found)[-1]}", highlight=False)
    if method and out is None:
        return  # the folder's own tables are of all methods
    trusting.write(found, out or results)
    console.out(f"\nTables: {(out or results) / 'trust.md'}, trust.csv")


@app.command()
def compare(
    results_a: Folder,
    results_b: Folder,
    fail_on_regression: Annotated[
        bool, typer.Option(help="Exit with 3 when a method got worse beyond its interval.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write; RESULTS_B by default.")] = None,
) -> None:
    """Say what moved from A to B, and whether it is more than noise."""
    from . import compare as comparing
    from .terminal import show

    found = comparing.compare(results_a, results_b)
    console = _console()
    show(
        console, comparing.display(found.methods), f"Skill in B = {results_b} minus skill in A = {results_a}"
    )
    for title, frame in comparing.sections(found).items():
        if len(frame):
            show(console, frame.astype(str), title)
    comparing.write(found, results_a, results_b, out or results_b)
    console.out(f"\nTables: {(out or results_b) / 'comparison.md'}, comparison.csv")
    if fail_on_regression and found.regressions:
        raise typer.Exit(_complain(f"worse than before: {', '.join(found.regressions)}.", 3))


@app.command()
def check(name_or_file: Annotated[str, typer.Argument(help="A plug-in's name, or your .py file.")]) -> None:
    """Run the plug-in checks, on ours or on yours."""
    from .checks import failures
    from .runner import plugins_named

    console = _console()
    wrong = 0
    for plugin in plugins_named(name_or_file):
        console.out(f"{plugin.kind} {plugin.name}")
        for name, problem in failures(plugin):
            wrong += bool(problem)
            console.out(
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
    _console().out(
        f"wrote {file}\nnow: {_program()} check {name} && {_program()} run smoke --method {name}"
        f"\nto rank it among all others: {_program()} run smoke --method all"
    )


if __name__ == "__main__":
    main()
