"""How a Dask scheduler is reached: by address, by file, or by starting one on this machine."""

import importlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .registry import AssayError

FORMS = "dask://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, local:N, or file:PATH of a scheduler file"
FAILURES = 3  # deaths of Dask workers that a unit may cause before it is given up at the next


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a cluster is waited for.

    scheduler: seconds until it answers.
    workers: seconds without any worker that could do what is left.
    """

    scheduler: float = 10.0
    workers: float = 300.0


WAITS = Waits()


def check(address: str, waits: Waits = WAITS) -> None:
    """See that the address has a form and, where it is of others' scheduler, that this one answers.

    Raises:
        AssayError: it does not, or Dask is not installed.
    """
    if isinstance(_target(address), int):
        _distributed()
        return
    with connected(address, waits):
        pass


def _distributed() -> Any:
    try:
        return importlib.import_module("distributed")  # untyped, as are its functions
    except ModuleNotFoundError as error:
        raise AssayError(
            f"--cluster needs {error.name}, which is not installed; pip install 'assay-xai[cluster]'."
        ) from None


@contextmanager
def connected(address: str, waits: Waits = WAITS) -> Iterator[Any]:
    """A client of the scheduler at this address, closed in the end.

    Raises:
        AssayError: the address is wrong, nobody answers, or Dask is not installed.
    """
    target = _target(address)
    distributed = _distributed()
    if isinstance(target, int):
        with _own(target) as cluster, distributed.Client(cluster, set_as_default=False) as client:
            yield client
        return
    try:
        client = distributed.Client(target, timeout=waits.scheduler, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError, KeyError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise AssayError(
            f"no Dask scheduler answers at {address!r} within {waits.scheduler:g} seconds ({why}); start one "
            "with `dask scheduler`, or give the address that it tells."
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=waits.scheduler)


def _target(address: str) -> int | str:
    """The number of workers to start here, or the address as Dask has it.

    Raises:
        AssayError: the address has none of the forms, or names a file that is not there.
    """
    if found := re.fullmatch(r"local:(\d+)", address):
        if not 1 <= int(found[1]) <= 4096:
            raise AssayError(f"--cluster cannot be {address!r}; give local:N with N from 1 to 4096.")
        return int(found[1])
    if found := re.fullmatch(r"(dask|tcp|tls)://([^\s/:]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", address):
        if not 1 <= int(found[3]) <= 65535:
            raise AssayError(f"--cluster {address!r} has port {found[3]}; give one from 1 to 65535.")
        scheme = "tcp" if found[1] == "dask" else found[1]
        return f"{scheme}://{found[2]}:{found[3]}"
    if address.startswith("file:") or address.endswith(".json"):
        path = Path(address.removeprefix("file:")).expanduser()
        if not path.is_file():
            raise AssayError(
                f"scheduler file {str(path)!r} is not there; give the one that `dask scheduler "
                "--scheduler-file PATH` writes."
            )
        return _in_file(path)
    raise AssayError(f"--cluster cannot be {address!r}; give {FORMS}.")


def _in_file(path: Path) -> str:
    """The address that a scheduler file tells.

    Raises:
        AssayError: it cannot be read, or tells none.
    """
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError):
        raise AssayError(
            f"scheduler file {str(path)!r} tells no address; give the one that `dask scheduler "
            "--scheduler-file PATH` writes."
        ) from None


@contextmanager
def _own(count: int) -> Iterator[Any]:
    """A scheduler and workers of this machine, which end with the block."""
    dask: Any = importlib.import_module("dask")
    distributed: Any = importlib.import_module("distributed")
    settings = {"distributed.scheduler.allowed-failures": FAILURES}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,  # a keeper's memory is not the Dask worker's; --memory limits it
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster
