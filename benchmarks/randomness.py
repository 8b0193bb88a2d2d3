"""Where random numbers come from: generators keyed by what they are for, never by when they are drawn."""

import contextlib
import functools
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch

from .ambient import kept


def rng_for(*parts: str) -> torch.Generator:
    """A generator that depends on the named parts only, never on the order of the run."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


SALT = 0x9E3779B9  # else `rng` and the global generators would hand out the same numbers


@contextlib.contextmanager
def seeded(rng: torch.Generator) -> Iterator[None]:
    """Inside, `random`, `numpy` and `torch` start from `rng`'s seed; outside, all goes on as if untouched.

    Wrapped libraries draw from global state (captum's noise, shap's permutations, torch's initial weights).
    """
    seed = (rng.initial_seed() ^ SALT) % 2**32
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global state is the point
    with kept(), torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        _seed_torch(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def _seed_torch(seed: int) -> None:
    """As `torch.manual_seed`, which for an accelerator that is not there writes down the whole stack."""
    if _accelerated():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@functools.cache
def _accelerated() -> bool:
    return torch.cuda.is_available() or torch.xpu.is_available() or torch.backends.mps.is_available()
