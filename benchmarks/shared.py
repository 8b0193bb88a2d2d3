"""Outputs under coalitions, computed once for all methods of a unit, and lent to each of them."""

import copy
import dataclasses
import itertools
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .coalitions import Design, Table, play
from .metering import memory_now, peak_since
from .plugin import Case
from .randomness import rng_for, seeded
from .terms import Value


class Shared:
    """The tables of one model and case.

    A table depends on the unit and its design alone: not on who asks first, nor on what else was asked.
    """

    def __init__(self, case: Case, key: str) -> None:
        self.case = dataclasses.replace(case, model=copy.deepcopy(case.model), shared=None)
        self.key = key
        self.tables: dict[tuple[Design, Value], Made] = {}

    def lend(self, model: nn.Module) -> "Loan":
        """The tables for one method, whose copy of the model is `model`."""
        return Loan(self, model)

    def made(self, design: Design, value: Value) -> "Made":
        """A table, and what it took to make."""
        key = (design, value)
        if key not in self.tables:
            held, start = memory_now(), time.perf_counter()
            rng = rng_for("coalitions", self.key, repr(design))
            with seeded(rng):  # a model that draws must not hang on who asks first
                table = play(self.case, design, value, rng)
            self.tables[key] = Made(table, time.perf_counter() - start, peak_since(held))
        return self.tables[key]


@dataclass(frozen=True, slots=True)
class Made:
    """A table with what it took."""

    table: Table
    seconds: float
    peak_mb: float


class Loan:
    """What one method reads of the shared tables, with what these cost, whoever had them made."""

    def __init__(self, shared: Shared, model: nn.Module) -> None:
        self.shared = shared
        self.model = model
        self.structure = _structure(model)
        self.spent = 0.0  # seconds that it waited for tables
        self.read: dict[tuple[Design, Value], Made] = {}

    def lend(self, model: nn.Module) -> "Loan":
        """The same tables for another copy of the model."""
        return self.shared.lend(model)

    def serves(self, case: Case) -> bool:
        """Whether the tables are of this case: of this very model, not altered since, and of equal rows."""
        own = self.shared.case
        if case.model is not self.model or _structure(case.model) != self.structure:
            return False
        named = ("x", "target", "baseline", "background", "groups")
        pairs = [(getattr(case, name), getattr(own, name)) for name in named]
        pairs += zip(_state(case.model), _state(own.model), strict=True)
        return all(_same(a, b) for a, b in pairs)

    def table(self, design: Design, value: Value) -> Table:
        """The outputs under the coalitions of a design; a copy, so that what is done to it stays here."""
        start = time.perf_counter()
        made = self.shared.made(design, value)
        own = copy.deepcopy(made.table)
        self.spent += time.perf_counter() - start
        self.read[design, value] = made
        return own

    @property
    def rows(self) -> int:
        """Model rows that the tables took which were read."""
        return sum(made.table.rows for made in self.read.values())

    @property
    def seconds(self) -> float:
        """Seconds that they took, less those that this reader waited."""
        return sum(made.seconds for made in self.read.values()) - self.spent

    @property
    def peak_mb(self) -> float:
        """The most memory that making one of them took."""
        return max((made.peak_mb for made in self.read.values()), default=0.0)


def _structure(model: nn.Module) -> list[object]:
    """What tells an altered model from the one that was lent, beside its weights."""
    return [
        # the root carries the hook that counts its rows
        (
            name,
            type(m),
            m.training,
            m.extra_repr(),
            m is model or len(m._forward_hooks | m._forward_pre_hooks),
        )
        for name, m in model.named_modules()
    ]


def _state(model: nn.Module) -> list[Tensor]:
    return [*itertools.chain(model.parameters(), model.buffers())]


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and torch.equal(a, b)
