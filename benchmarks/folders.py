"""Files by name in a folder, or behind a URL of fsspec's such as s3://bucket/cache or memory://cache."""

import contextlib
import tempfile
import uuid
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from .registry import AssayError

IN_THE_WAY = (IsADirectoryError, NotADirectoryError, FileExistsError)


class CannotBeWritten(Exception):  # noqa: N818 - a fact to act on
    """What stands at the place of one file is none, and is left alone; others can still be written."""


@runtime_checkable
class Folder(Protocol):
    """Where files are, each read and written as a whole."""

    def read(self, name: str, most: int) -> bytes | None:
        """The file's bytes; None if there is none.  One that is longer than `most` is cut, or empty.

        Raises:
            Exception: the folder cannot be reached.
        """

    def write(self, name: str, data: bytes) -> None:
        """Put the file there, or in the place of the one that is; nobody ever reads half of it as a whole.

        Raises:
            CannotBeWritten: what has this name is no file.
            Exception: the folder cannot be written.
        """


class Local:
    """A folder on a disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str, most: int) -> bytes | None:
        """As `Folder` says; what is no file is an empty one, and so is what cannot be read."""
        path = self.root / name
        try:
            if not path.is_file():  # a pipe would never end
                return b"" if path.exists() else None
            with path.open("rb") as file:
                return file.read(most + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return b""

    def write(self, name: str, data: bytes) -> None:
        """As `Folder` says: aside first, then moved, since others may write the same at the same time."""
        path = self.root / name
        aside = path.with_name(f".{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(data)
            aside.replace(path)
        except IN_THE_WAY as error:
            raise CannotBeWritten(error.strerror or "no file") from error
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)


class Remote:
    """What fsspec has a file system for.

    Object stores put a file there whole or not at all.  Where another kind can be met half written, a
    checksum inside must tell.
    """

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self.files: Any
        # a listing that is remembered would hide what other machines have written since
        self.files, self.root = url_to_fs(url, use_listings_cache=False)

    def read(self, name: str, most: int) -> bytes | None:
        """As `Folder` says."""
        path = f"{self.root}/{name}"
        try:
            about = self.files.info(path)
            if about["type"] != "file" or (about["size"] or 0) > most:
                return b""
            data: bytes = self.files.cat_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """As `Folder` says."""
        path = f"{self.root}/{name}"
        try:
            try:
                self.files.pipe_file(path, data)
            except FileNotFoundError:  # not an object store: folders have to be made
                self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
                self.files.pipe_file(path, data)
        except IN_THE_WAY as error:
            raise CannotBeWritten(str(error)) from error

    def make(self) -> None:
        """Make the folder."""
        self.files.makedirs(self.root, exist_ok=True)

    def remove(self, name: str) -> None:
        """Take a file away."""
        self.files.rm_file(f"{self.root}/{name}")


def is_url(text: str) -> bool:
    """Whether a text names something else than a folder of this machine."""
    return "://" in text and not text.startswith(("file://", "local://"))


def opened(text: str) -> Folder:
    """The folder or URL, whether or not it is there."""
    return Remote(text) if is_url(text) else Local(path_of(text))


def checked(text: str) -> str:
    """The folder, made if it was not there, as an absolute path; or the URL.

    Raises:
        AssayError: there is no such folder, and none can be made.
    """
    remedy = "give --cache a folder that can be made, or the URL of one"
    if not text.strip():
        raise AssayError(f"cache {text!r} names no folder; {remedy}.")
    try:
        if not is_url(text):
            path_of(text).mkdir(parents=True, exist_ok=True)
            return str(path_of(text))
        Remote(text).make()
    except Exception as error:  # each kind of store has errors of its own
        why = getattr(error, "strerror", None) or " ".join(f"{error}".split())
        raise AssayError(f"cache {text!r} cannot be opened ({why}); {remedy}.") from None
    return text


def unwritable(text: str) -> str:
    """Why nothing can be written to this folder or URL; empty if something can.  A file is written to see."""
    try:
        if is_url(text):
            name = f"probe-{uuid.uuid4().hex}"
            remote = Remote(text)
            remote.write(name, b"probe")
            remote.remove(name)
        else:
            with tempfile.TemporaryFile(dir=path_of(text)) as file:
                file.write(b"probe")
    except Exception as error:  # each kind of store has errors of its own
        return getattr(error, "strerror", None) or " ".join(f"{type(error).__name__}: {error}".split())
    return ""


def path_of(text: str) -> Path:
    """The whole path of a folder of this machine."""
    return Path(text.removeprefix("file://").removeprefix("local://")).expanduser().absolute()
