"""Trained networks kept from run to run, so that what was trained once is loaded, to the bit.

What is kept is found by everything that the training depended on, and holds what it changed: the weights and
buffers, and the states in which the generator and torch's global one were left, so that later draws are the
same too.  Weights lie in safetensors, never in a pickle: models of scikit-learn could only be pickled, and
are not kept.  A checksum finds what was torn or changed on the way.  It does not find forgery: who may write
into the cache may put other weights there.
"""

import contextlib
import functools
import hashlib
import logging
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor, nn

from .device import device_of, stacked
from .fingerprint import OURS, Fingerprint
from .folders import CannotBeWritten, Folder, opened
from .problem import Problem
from .terms import CACHE

N = TypeVar("N", bound=nn.Module)
VARIABLE = CACHE  # a folder or a URL
FORMAT = 1  # of an entry; it is in the first line of each
OWN, GLOBAL = "generator", "global generator"
logger = logging.getLogger(__name__)


class Damaged(Exception):  # noqa: N818 - a fact to act on
    """An entry is not what was put there under its key."""


@dataclass(frozen=True, kw_only=True)
class Training(Generic[N]):
    """All that a training depends on, but for the machine; `recipe` and `loss` are those of `descent`."""

    net: N
    problem: Problem
    rng: Generator
    recipe: Any
    loss: Callable[..., Tensor]
    global_state: Tensor = field(default_factory=torch.get_rng_state)  # of torch's own generator

    def fingerprint(self) -> Fingerprint:
        """Of all of it, of torch, and of the kind of processor."""
        used = slice(self.problem.n_train + self.problem.n_validation)
        rows = self.problem.x[used], self.problem.y[used], self.problem.n_train
        engine = torch.__version__, torch.backends.cpu.get_cpu_capability(), platform.machine()
        return Fingerprint(
            *(FORMAT, engine, self.global_state, self.rng, self.net, rows, self.recipe, self.loss)
        )


def key_together(print_: Fingerprint, device: str) -> str:
    """Where a network lies that was trained in a group on a device of this type.

    No training by itself has this key: a group's last bits are other ones.
    """
    return _key(print_, "stacked", device)


def recalled(training: Training[N], train: Callable[[], N]) -> N:
    """The network as `train` leaves it: loaded if it is kept, else trained, and kept from then on."""
    store = current()
    print_ = _fingerprint(training) if store else None
    if store is None or print_ is None:
        return train()
    alone = _key(print_, device_of(training.problem).type, str(torch.get_num_threads()))
    together = [key_together(print_, stacked())] if stacked() else []
    for key in (*together, alone):
        if store.load(key, training.net, training.rng):
            return training.net
    others = [rng for rng in print_.generators if rng is not training.rng]
    before = _elsewhere(training.net, others)
    net = train()
    if _elsewhere(net, others) == before:
        store.keep(alone, net, training.rng)
    return net


def _key(print_: Fingerprint, *mode: str) -> str:
    gpu = (
        torch.cuda.get_device_name() if "cuda" in mode and torch.cuda.is_available() else ""
    )  # another one has other last bits
    return hashlib.sha256(" ".join((print_.text, *mode, gpu)).encode()).hexdigest()


def _fingerprint(training: Training[N]) -> Fingerprint | None:
    """None if a plug-in's network or loss is of a kind that none can be taken of: it is trained each time."""
    try:
        return training.fingerprint()
    except Exception as error:
        logger.info("a training cannot be told from others (%s), and is not kept", error)
        return None


def _elsewhere(net: nn.Module, generators: list[Generator]) -> str:
    """What a training may have changed that an entry does not hold; if it has, it cannot be kept."""
    drawn = np.random.get_state()  # noqa: NPY002 - the global state is the point
    inside = [{k: v for k, v in vars(m).items() if k not in OURS} for m in net.modules()]
    return Fingerprint(inside, generators, drawn, parameters=False).text


class Cache:
    """Networks in a folder or behind a URL, each in a file of its own.

    A file is one line, which names the format, the key and the checksum of the rest, and then safetensors.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.folder: Folder = opened(url)
        self.damaged = 0  # entries that were not believed so far
        self._reads = self._writes = True

    def load(self, key: str, net: nn.Module, rng: Generator) -> bool:
        """Let `net` and both generators be as they were after the training; False if that is not known."""
        tensors = self.found(key, net)
        if tensors is None:
            return False
        rng.set_state(tensors.pop(OWN))
        torch.set_rng_state(tensors.pop(GLOBAL))
        with torch.no_grad():
            for name, value in _state(net):
                value.copy_(tensors[name])
        net.zero_grad()
        net.eval().requires_grad_(False)
        return True

    def found(self, key: str, net: nn.Module) -> dict[str, Tensor] | None:
        """What is kept under the key for a network of this build; None if nothing is that can be believed."""
        if not self._reads:
            return None
        expected = {name: (value.dtype, value.shape) for name, value in _state(net)}
        states = 2 * torch.get_rng_state().nbytes
        size = sum(value.nbytes for _, value in _state(net)) + states
        try:
            data = self.folder.read(_file(key), most=2 * size + 2**16)
        except Exception as error:  # a store raises what its library raises
            self._reads = False
            logger.warning(
                "cache %r cannot be read (%s): networks are trained as if it were empty", self.url, error
            )
            return None
        if data is None:
            return None
        try:
            return _unpacked(key, data, expected)
        except Damaged as why:
            self.damaged += 1
            logger.info("cache entry %s %s, and is made anew", key, why)
            return None

    def keep(self, key: str, net: nn.Module, rng: Generator, after: Tensor | None = None) -> bool:
        """Write down what a training left; False if that cannot be had, which stops nobody.

        Args:
            key: where.
            net: the trained network.
            rng: the generator that the training drew from.
            after: state of torch's global generator, if it is not the present one.
        """
        tensors = {name: value.detach().cpu() for name, value in _state(net)}
        if not (self._writes and all(_finite(value) for value in tensors.values())):
            return False
        tensors |= {OWN: rng.get_state(), GLOBAL: torch.get_rng_state() if after is None else after}
        try:
            self.folder.write(_file(key), _packed(key, tensors))
        except CannotBeWritten as error:
            logger.info("cache entry %s cannot be put in its place (%s)", key, error)
            return False
        except Exception as error:  # a store raises what its library raises
            self._writes = False
            logger.warning(
                "cache %r cannot be written (%s): the run goes on, and keeps no network", self.url, error
            )
            return False
        return True


def current() -> Cache | None:
    """The cache that this run was given."""
    url = os.environ.get(VARIABLE, "")
    return _cache(url) if url else None


@functools.lru_cache(maxsize=1)
def _cache(url: str) -> Cache:
    return Cache(url)


def _file(key: str) -> str:
    return f"{key[:2]}/{key[2:4]}/{key}.network"


def _state(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers; in a file no name of theirs can be that of a generator."""
    return ((f"network.{name}", value) for name, value in chain(net.named_parameters(), net.named_buffers()))


def _finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _packed(key: str, tensors: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    payload = save({name: value.contiguous().clone() for name, value in tensors.items()})
    return f"{_line(key, payload)}\n".encode() + payload


def _line(key: str, payload: bytes) -> str:
    return f"assay network {FORMAT} {key} {hashlib.sha256(payload).hexdigest()}"


def _unpacked(
    key: str, data: bytes, expected: dict[str, tuple[torch.dtype, torch.Size]]
) -> dict[str, Tensor]:
    """The tensors of a file.

    Raises:
        Damaged: it is not a file that was written under this key for such a network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    line, _, payload = data.partition(b"\n")
    if line != _line(key, payload).encode():
        raise Damaged("is not what was written there")
    try:
        tensors = load(payload)
    except (SafetensorError, ValueError, KeyError) as error:
        raise Damaged("holds no tensors") from error
    shapes = {name: (value.dtype, value.shape) for name, value in tensors.items()}
    states = {name: shapes.pop(name, None) for name in (OWN, GLOBAL)}
    if shapes != expected or None in states.values():
        raise Damaged("is of another network")
    if not all(_finite(value) for value in tensors.values()):
        raise Damaged("holds weights that are no numbers")
    with contextlib.suppress(RuntimeError, TypeError):
        for name in states:
            Generator().set_state(tensors[name])
        return tensors
    raise Damaged("holds no state of a generator")
