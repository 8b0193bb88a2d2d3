"""All that the fork server imports: what the workers of a suite need, which it then freezes.

A garbage collection writes to every object that it visits, and a page that is written to is no longer shared;
what is frozen is left out.  A module that cannot be imported is left to the workers, which say why.
"""

import contextlib
import gc
import importlib
import os
import pickle
import sys
from types import TracebackType

MODULES = "ASSAY_PRELOAD"  # names, separated by spaces


def say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what ends the server or a worker, unless its client was killed while it asked for one."""
    if not issubclass(kind, (EOFError, pickle.UnpicklingError)):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = say

gc.disable()  # there is nothing to collect among what is imported, and looking takes a fifth of the time
for name in os.environ.get(MODULES, "").split():
    with contextlib.suppress(Exception):
        importlib.import_module(name)
gc.freeze()
gc.enable()
