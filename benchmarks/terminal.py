"""What people see while a run goes on, and the tables at its end; plain lines where there is no terminal."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress

EVERY = 10.0  # seconds between two plain lines
NARROW = ("skipped", "failed", "model rows/row")  # left out where the terminal is narrow
NAMES = {"method", "metric", "name"}
WORDS = {"note", "family", "verdict", "parameters", "what it is", "setting", "A", "B"}


class Reporter(Protocol):
    """Hears of every finished cell and of what is now at work."""

    def finished(self) -> None:
        """One more cell is in the ledger."""

    def at(self, text: str) -> None:
        """This is being computed now."""


@contextmanager
def progress(console: Console, cells: int) -> Iterator[Reporter]:
    """A bar on a terminal, else a line now and then."""
    if not console.is_terminal:
        yield _Lines(console, cells)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("cells"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[at]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=True, speed_estimate_period=120) as bar:
        yield _Bar(bar, cells)


class _Bar:
    def __init__(self, bar: "Progress", cells: int) -> None:
        self.bar = bar
        self.start = time.monotonic()
        self.task = bar.add_task("cells", total=cells, rate="", at="")
        self.done = 0

    def finished(self) -> None:
        self.done += 1
        rate = self.done / max(1e-9, time.monotonic() - self.start)
        self.bar.update(self.task, completed=self.done, rate=f"{rate:.0f}/s")

    def at(self, text: str) -> None:
        self.bar.update(self.task, at=text)


class _Lines:
    def __init__(self, console: Console, cells: int) -> None:
        self.console = console
        self.cells = cells
        self.start = self.last = time.monotonic()
        self.done = 0
        self.now = ""

    def finished(self) -> None:
        self.done += 1
        if time.monotonic() - self.last >= EVERY:
            self.last = time.monotonic()
            rate = self.done / (self.last - self.start)
            left = (self.cells - self.done) / rate
            line = f"{self.done:,} of {self.cells:,} cells, {rate:.0f} cells/s, {left:.0f} s left: {self.now}"
            self.console.out(line, highlight=False)

    def at(self, text: str) -> None:
        self.now = text


def show(console: Console, frame: "pd.DataFrame", title: str) -> None:
    """A table of texts, with colours and lines on a terminal, aligned by spaces elsewhere."""
    show_rows(console, [*frame.columns], frame.values.tolist(), title)


def show_rows(console: Console, columns: list[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """The same of rows; wants no pandas."""
    if console.is_terminal and console.width < 140:
        kept = [i for i, column in enumerate(columns) if column not in NARROW]
        columns, rows = [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]
    write = _ruled if console.is_terminal else _plain
    write(console, columns, rows, title)


def _plain(console: Console, columns: list[str], rows: Sequence[Sequence[Any]], title: str) -> None:
    console.out(f"\n{title}\n", highlight=False)
    console.out(tabulate(rows, columns, "simple", disable_numparse=True), highlight=False)


def _ruled(console: Console, columns: list[str], rows: Sequence[Sequence[Any]], title: str) -> None:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        left = column in NAMES | WORDS
        table.add_column(column, justify="left" if left else "right", no_wrap=column not in WORDS)
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    console.print(table)
