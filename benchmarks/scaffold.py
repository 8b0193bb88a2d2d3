"""What `new` writes."""

import re
from importlib import resources
from pathlib import Path

from .loading import load_plugins
from .registry import REGISTRIES, AssayError


def new_method(name: str) -> Path:
    """Write a commented method that passes its checks into methods/, and say where.

    Raises:
        AssayError: the name is taken or is none, or the folder cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise AssayError(
            f"{name!r} cannot be a method's name; use small letters, digits and _, as in my_method."
        )
    load_plugins()
    if name in REGISTRIES["method"]:
        raise AssayError(f"a method is called {name!r} already; choose another name.")
    file = Path(__file__).resolve().parent.parent / "methods" / f"{name}.py"
    text = resources.files(f"{__package__}.templates").joinpath("method.txt").read_text(encoding="utf-8")
    try:
        file.write_text(text.replace("NAME", name), encoding="utf-8")
    except OSError as error:
        raise AssayError(
            f"cannot write {str(file)!r} ({error.strerror}); copy a method from the documentation into "
            "a file of your own and give it with --plugin."
        ) from None
    return file
