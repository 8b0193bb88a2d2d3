"""What is seen to before a run writes anything: a wrong input leaves all files as they were."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import device, local
from .evaluation import draw
from .grid import Unit
from .plugin import METHODS, NotApplicable
from .registry import AssayError
from .store import Ledger


def check_files(units: Iterable[Unit]) -> None:
    """Draw one problem of every dataset that reads a user's file.

    Raises:
        AssayError: the file cannot be read, or is not what the dataset takes.
    """
    reading = {
        unit.dataset: unit.seed for unit in units if any(isinstance(v, Path) for _, v in unit.dataset.values)
    }
    for dataset, seed in reading.items():
        with suppress(NotApplicable):
            draw(dataset, seed)


def check_methods(*, in_worker: bool) -> None:
    """Import the methods of which only the text was read, in a worker or here.

    Raises:
        AssayError: one of them cannot be imported.
    """
    names = METHODS.unimported()
    if in_worker and names:
        local.import_methods(names)
    else:
        for name in names:
            METHODS[name]


def check_machines(cluster: str) -> None:
    """See that there is what a run is to be computed on.

    Raises:
        AssayError: no GPU is seen where one was asked for, or no scheduler answers.
    """
    device.current()
    if cluster:
        from . import reach

        reach.check(cluster)


def lacking(folder: Path) -> list[Path]:
    """The folder and those above it that are not there, the deepest first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


@contextmanager
def taken_back(made: list[Path], ledger: Ledger) -> Iterator[None]:
    """Take away the results folder that this run made, if it is refused before its first cell is finished.

    It holds the ledger meanwhile, so that nobody else can have begun there.

    made: what was `lacking` before.
    """
    try:
        yield
    except AssayError:
        if ledger.folder in made and not ledger.holds_cells():
            shutil.rmtree(ledger.folder, ignore_errors=True)
            for path in made[1:]:
                with suppress(OSError):  # somebody has put something there
                    path.rmdir()
        raise
