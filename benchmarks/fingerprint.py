"""A checksum of values of any kind, by their content: the same in every process and on every day."""

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import types
from collections.abc import Hashable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Generator, Tensor, nn

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
OURS = frozenset(vars(nn.Module()))  # what every network has
INNER = OURS - {"_parameters", "_buffers", "_modules"}  # torch's own book-keeping


class Fingerprint:
    """sha256 over values, and the generators that were met on the way.

    Tensors and generators go by their bits, functions by their text and by what they close over, networks by
    their class with its text, weights and attributes, and other objects by their class.
    """

    def __init__(self, *values: object, parameters: bool = True) -> None:
        """Take the fingerprint of the values.

        Args:
            *values: what it is of.
            parameters: whether the numbers in parameters count.
        """
        self.generators: list[Generator] = []
        self._parameters = parameters
        self._hash = hashlib.sha256()
        self._above: list[int] = []  # what contains the value that is looked at, so that circles end
        for value in values:
            self._add(value)

    @property
    def text(self) -> str:
        """64 hexadecimal digits."""
        return self._hash.hexdigest()

    def _add(self, value: Any) -> None:
        kind = type(value)
        self._word(f"{_module_name(kind)}.{kind.__qualname__}".encode())
        if isinstance(value, Generator):
            self.generators.append(value)
            value = value.get_state()
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, PLAIN):
            self._word(repr(value).encode())
        elif id(value) not in self._above:
            self._above.append(id(value))
            found = parts(value)
            self._word(str(len(found)).encode())
            for part in found:
                self._add(part)
            self._above.pop()

    def _tensor(self, value: Tensor) -> None:
        self._word(f"{value.dtype} {tuple(value.shape)}".encode())
        if self._parameters or not isinstance(value, nn.Parameter):
            flat = value.detach().cpu().contiguous().reshape(-1)
            self._word(f"{value.requires_grad}".encode())
            self._word(flat.view(torch.uint8).numpy().data)

    def _word(self, word: bytes | memoryview) -> None:
        self._hash.update(f"{len(word)}:".encode())  # so that no two rows of words run together alike
        self._hash.update(word)


def _module_name(value: Any) -> str:
    """Where it stands; a plug-in file by its name, wherever that lies."""
    name = str(value.__module__)
    return name.rpartition("_")[0] if name.startswith("assay_file_") else name


@functools.cache
def _text(value: Hashable) -> str:
    """The source of a function or class, so that an edited one is another; torch's go by its version."""
    if str(value.__module__).startswith("torch."):
        return ""
    with contextlib.suppress(OSError, TypeError):  # made in no file: it goes by its name
        return inspect.getsource(value)  # type: ignore[arg-type]
    return ""


@functools.singledispatch
def parts(value: Any) -> list[Any]:
    """What an object is made of: its fields or attributes."""
    if dataclasses.is_dataclass(value):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    return sorted(getattr(value, "__dict__", {}).items())


@parts.register(nn.Module)
def _module(value: nn.Module) -> list[Any]:
    found = [(name, part) for name, part in vars(value).items() if name not in INNER]
    return [_text(cast(Hashable, type(value))), *found]


@parts.register(Mapping)
def _mapping(value: Mapping[Any, Any]) -> list[Any]:
    return list(value.items())


@parts.register(list)
@parts.register(tuple)
def _row(value: list[Any] | tuple[Any, ...]) -> list[Any]:
    return list(value)


@parts.register(set)
@parts.register(frozenset)
def _set(value: set[Any] | frozenset[Any]) -> list[Any]:
    return sorted(map(repr, value))


@parts.register(np.ndarray)
def _array(value: Any) -> list[Any]:
    return [str(value.dtype), value.shape, value.tobytes()]


@parts.register(type)
@parts.register(types.BuiltinFunctionType)
def _named(value: Any) -> list[Any]:
    return [_module_name(value), value.__qualname__]


@parts.register(types.ModuleType)
def _file(value: types.ModuleType) -> list[Any]:
    return [value.__name__]


@parts.register(types.FunctionType)
def _function(value: types.FunctionType) -> list[Any]:
    closed = [cell.cell_contents for cell in value.__closure__ or ()]
    about = [_module_name(value), value.__qualname__, _text(value), value.__defaults__, value.__kwdefaults__]
    return [*about, *closed]


@parts.register(types.MethodType)
def _method(value: types.MethodType) -> list[Any]:
    return [value.__func__, value.__self__]


@parts.register(functools.partial)
def _partial(value: Any) -> list[Any]:
    return [value.func, value.args, value.keywords]
