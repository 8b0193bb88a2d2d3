"""What a piece of work costs: model rows forward and backward, and memory."""

import ctypes
import functools
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux alone has them


@dataclass(slots=True)
class Rows:
    """Rows that went through a model."""

    forward: int = 0
    backward: int = 0


@contextmanager
def counted(model: nn.Module) -> Iterator[Rows]:
    """Inside, every row that goes through the model is counted."""
    rows = Rows()
    handle = watch(model, rows)
    try:
        yield rows
    finally:
        handle.remove()


def watch(model: nn.Module, rows: Rows) -> RemovableHandle:
    """From now on every row that goes through the model, or through a copy made of it, is counted."""

    def back(gradient: Tensor) -> None:
        rows.backward += len(gradient)

    def count(_: nn.Module, __: tuple[Any, ...], outputs: Tensor) -> None:
        # not of the inputs: captum's DeepLift hands rows and baselines over as a pair
        rows.forward += len(outputs)
        if outputs.requires_grad:
            outputs.register_hook(back)

    return model.register_forward_hook(count)


def give_back() -> None:
    """Hand memory that was freed back to the system, where its C library can: else it counts as held."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    with suppress(OSError, AttributeError, TypeError):  # no glibc
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return trim
    return None


def memory_now() -> float:
    """The memory that this process holds, in MB, from which `peak_since` counts; its peak starts anew.

    Where the system cannot say (macOS), the most that it has held so far.
    """
    give_back()
    with suppress(OSError):  # not there, or not to be written to, as in some containers
        RESET.write_text("5")
    return _status("VmRSS")


def peak_since(start: float) -> float:
    """The most memory that was held beyond that at the start, in MB."""
    return max(0.0, _status("VmHWM") - start)


def _status(field: str) -> float:
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    found = next((line for line in lines if line.startswith(field)), None)
    if found is not None:
        return int(found.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
