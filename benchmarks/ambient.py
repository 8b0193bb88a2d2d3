"""The settings of a process that any code can change, kept as they are while a plug-in runs."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """After it, gradients, precision, threads, warnings, folder, environment and path are as before.

    A plug-in that calls `torch.set_grad_enabled(False)` or `os.chdir` would else change what the next one
    computes.
    """
    gradients, precision, threads = (
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
    )
    device, exact = torch.get_default_device(), torch.are_deterministic_algorithms_enabled()
    folder, environment, path, errors = _folder(), dict(os.environ), list(sys.path), np.geterr()
    with warnings.catch_warnings():
        try:
            yield
        finally:
            torch.set_grad_enabled(gradients)
            np.seterr(**errors)
            if torch.get_default_dtype() != precision:
                torch.set_default_dtype(precision)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            if torch.get_default_device() != device:
                torch.set_default_device(device)
            if torch.are_deterministic_algorithms_enabled() != exact:
                torch.use_deterministic_algorithms(exact)
            if dict(os.environ) != environment:
                os.environ.clear()
                os.environ.update(environment)
            if folder is not None and _folder() != folder:
                os.chdir(folder)
            sys.path[:] = path


def _folder() -> Path | None:
    """Where the process stands; nowhere, if that folder was removed."""
    with contextlib.suppress(OSError):
        return Path.cwd()
    return None
