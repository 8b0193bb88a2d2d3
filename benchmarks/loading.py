"""Where plug-ins come from: built-in and installed ones are noted, the user's files are imported."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .grid import REGISTRIES
from .registry import AssayError, Plugin, load_file, near_miss


def load_plugins(files: Sequence[Path] = ()) -> dict[str, list[str]]:
    """Note all built-in and installed plug-ins, import the user's files, and name what these define."""
    for kind, registry in REGISTRIES.items():
        registry.discover(importlib.import_module(f"..{kind}s", __package__))
    modules = [load_file(file).__name__ for file in files]
    return {kind: [n for m in modules for n in r.defined_in(m)] for kind, r in REGISTRIES.items()}


def plugins_named(name: str) -> list[Plugin[Any]]:
    """The plug-ins, of any kind, that carry this name, or that this .py file defines.

    Raises:
        AssayError: there are none.
    """
    if name.endswith(".py"):
        added = load_plugins([Path(name)])
        found = [REGISTRIES[kind][n] for kind, names in added.items() for n in names]
        if not found:
            raise AssayError(
                f"plug-in file {name!r} defines no plug-in; decorate its function with @method(...)."
            )
        return found
    load_plugins()
    found = [registry[name] for registry in REGISTRIES.values() if name in registry]
    if not found:
        known = [plugin.name for registry in REGISTRIES.values() for plugin in registry]
        raise AssayError(f"no plug-in is called {name!r}.{near_miss(name, known)} Or give a .py file.")
    return found
