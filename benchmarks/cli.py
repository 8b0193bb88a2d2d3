"""The command line.  Heavy imports wait inside the commands, so that --help answers at once."""

import atexit
import gc
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer

from . import reading, running
from .registry import AssayError
from .running import PluginFiles
from .screen import complain, console, fill_streams, program
from .threads import one_each

KINDS = ("datasets", "models", "methods", "metrics", "suites")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

# new objects until some are looked through for rubbish: with Python's 700, a fifth of the time of imports
RUBBISH = 50_000, 20, 20
STOPPED = "stopped; what is finished is kept: give the same command again to go on."


class Stopped(BaseException):
    """A signal asked this process to stop.  Not a KeyboardInterrupt, which typer ends in silence."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


def main() -> NoReturn:
    """Entry point of run_bench.py and of the console script."""
    fill_streams()
    one_each()
    gc.set_threshold(*RUBBISH)
    atexit.register(gc.freeze)  # all of it goes with the process: one look more takes most of a second
    try:
        with _stopping():
            code = app(reading.with_regression(sys.argv[1:]) or ["run"], standalone_mode=False) or 0
    except AssayError as error:
        code = complain(str(error), 2)
    except Stopped as stop:
        code = complain(STOPPED, stop.code)
    except typer.Exit as stop:
        code = stop.exit_code
    except OSError as error:
        where = f"{str(error.filename)!r}" if error.filename else "a file"
        code = complain(
            f"{where} cannot be read or written ({error.strerror or error}); give another path or make room, "
            "then give the same command again to go on.",
            2,
        )
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        code = complain(f"{error.format_message()} Try --help.", 2)  # a wrong option or command
    sys.exit(code)


@contextmanager
def _stopping() -> Iterator[None]:
    """Raise `Stopped` at the first Ctrl-C or SIGTERM; later ones are not heard while all is closed."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop(number: int, _: FrameType | None) -> NoReturn:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)


@app.callback()
def benchmark() -> None:
    """Benchmark attribution methods on problems whose right answer is known.

    Without a command, the suite `quick` is run.
    """


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(KINDS)}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="An array of objects.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """List what there is, and what is not available and why."""
    if kind is not None and kind not in KINDS:
        raise AssayError(f"cannot list {kind!r}; give one of {', '.join(KINDS)}, or nothing for all.")
    from . import loading
    from .listing import compact, entries, shown
    from .sources import Sources

    loading.load_plugins(plugin or [])
    screen, sources = console(), Sources()
    found = {k: entries(k, sources) for k in KINDS if kind in {None, k}}
    if as_json:
        rows = [row for rows in found.values() for row in rows]
        screen.out(json.dumps(rows, indent=2, default=str), highlight=False)
        return
    from .terminal import show_rows

    for name, rows in found.items():
        told = (compact if screen.is_terminal else shown)(name, rows)
        show_rows(screen, [*told[0]], [[*row.values()] for row in told], name)


@app.command()
def check(name_or_file: Annotated[str, typer.Argument(help="A plug-in's name, or your .py file.")]) -> None:
    """Run the plug-in checks, on ours or on yours."""
    from .loading import plugins_named

    found = plugins_named(name_or_file)
    from .checks import failures  # with torch, once the name is known

    screen = console()
    wrong = 0
    for plugin in found:
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


app.add_typer(running.app)
app.add_typer(reading.app)

if __name__ == "__main__":
    main()
