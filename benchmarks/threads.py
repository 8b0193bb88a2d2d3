"""One thread a process: workers share the cores, and sums in another order have other last bits."""

import os

ONE = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def one_each() -> None:
    """Let this process, and those that it starts, have one; to be called before torch is imported."""
    os.environ.update(ONE)
