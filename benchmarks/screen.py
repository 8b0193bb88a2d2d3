"""The two streams of the terminal; what the commands share."""

import shlex
import sys

from rich.console import Console as Console
from rich.text import Text


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
