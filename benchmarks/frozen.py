"""Imported last by the fork server: what it holds by then is left out of its children's garbage collection.

A collection writes to every object that it visits, and a page that is written to is no longer shared.
"""

import gc

gc.collect()
gc.freeze()
