"""Folders that are written into on a user's behalf."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .registry import AssayError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A folder, made where it is not there, while something is written into it.

    Raises:
        AssayError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        why = f"cannot be written ({error.strerror}); give another with --out."
        raise AssayError(f"folder {str(folder)!r} {why}") from None
