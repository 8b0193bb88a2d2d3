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
    with warnings.catch_warnings(), _sums_kept(), _surroundings_kept():
        yield


@contextlib.contextmanager
def _sums_kept() -> Iterator[None]:
    """What numbers hang on."""
    gradients, precision = torch.is_grad_enabled(), torch.get_default_dtype()
    threads, device = torch.get_num_threads(), torch.get_default_device()
    exact, products = torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_flush_denormal(False)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = cudnn
        if torch.get_default_dtype() != precision:
            torch.set_default_dtype(precision)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        if torch.are_deterministic_algorithms_enabled() != exact:
            torch.use_deterministic_algorithms(exact)
        if torch.get_float32_matmul_precision() != products:
            torch.set_float32_matmul_precision(products)


@contextlib.contextmanager
def _surroundings_kept() -> Iterator[None]:
    folder, environment, path, errors = _folder(), dict(os.environ), list(sys.path), np.geterr()
    try:
        yield
    finally:
        np.seterr(**errors)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        sys.path[:] = path
        if folder is not None and _folder() != folder:
            with contextlib.suppress(OSError):  # it is gone
                os.chdir(folder)


def _folder() -> Path | None:
    """Where the process stands; nowhere, if that folder was removed."""
    with contextlib.suppress(OSError):
        return Path.cwd()
    return None
