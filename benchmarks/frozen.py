"""Imported last by the fork server: imports what the workers of a suite need, then freezes it.

A garbage collection writes to every object that it visits, and a page that is written to is no longer shared;
what is frozen is left out.  A module that cannot be imported is left to the workers, which say why.
"""

import contextlib
import gc
import importlib
import os

MODULES = "ASSAY_PRELOAD"  # names, separated by spaces

for name in os.environ.get(MODULES, "").split():
    with contextlib.suppress(Exception):
        importlib.import_module(name)
gc.collect()
gc.freeze()
