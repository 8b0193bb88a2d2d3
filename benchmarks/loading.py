"""Where plug-ins come from: built-in and installed ones are noted, the user's files are imported."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .registry import REGISTRIES, AssayError, Plugin, load_file, near_miss, python_file
from .spec import parse
from .suite import ALL, Suite


def load_plugins(files: Sequence[Path] = ()) -> dict[str, list[str]]:
    """Note all built-in and installed plug-ins, import the user's files, and name what these define."""
    for kind, registry in REGISTRIES.items():
        registry.discover(importlib.import_module(f"..{kind}s", __package__))
    modules = [load_file(file).__name__ for file in files]
    return {kind: [n for m in modules for n in r.defined_in(m)] for kind, r in REGISTRIES.items()}


def insist_on_names(suite: Suite, files: Sequence[Path] = ()) -> None:
    """Refuse a suite that names what no plug-in is called, without importing any.

    files: the user's; what they define is known only when they are imported, so that they must be there, and
        every name is allowed.

    Raises:
        AssayError: a name is unknown, a text is not `name[parameter=value,...]`, or a file is not there.
    """
    load_plugins()
    for file in files:
        python_file(file)
    texts = [(kind, text) for block in suite.grid for kind in REGISTRIES for text in getattr(block, kind)]
    for kind, name in [(kind, parse(text)[0]) for kind, text in texts if text != ALL]:
        if not files:
            REGISTRIES[kind].insist(name)


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
        known = [known for registry in REGISTRIES.values() for known in registry.names()]
        raise AssayError(f"no plug-in is called {name!r}.{near_miss(name, known)} Or give a .py file.")
    return found
