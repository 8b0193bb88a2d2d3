"""The two streams of the terminal; what the commands share."""

import os
import shlex
import sys
from pathlib import Path

from rich.console import Console as Console
from rich.text import Text


def fill_streams() -> None:
    """Give a closed input or output, as some schedulers leave them, the null device.

    Else the next file or pipe takes its number, and what is printed goes there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            taken = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(taken, True)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - until the program ends


def console() -> Console:
    """A terminal with colours, or plain text that is never wrapped or cut."""
    return Console(soft_wrap=not sys.stdout.isatty())


def complain(text: str, code: int) -> int:
    """Say on the error stream what was wrong, in one line, and hand the exit code back."""
    # what a file or an option says may be quoted in it, and must not begin a line or steer the terminal
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    Console(stderr=True, soft_wrap=True).print(Text(f"error: {line}", style="red"))
    return code


def program() -> str:
    """How this program was called, for commands that can be copied."""
    return shlex.join([sys.executable, sys.argv[0]]) if sys.argv[0].endswith(".py") else "assay"
