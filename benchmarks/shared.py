"""Outputs under coalitions, computed once for all methods of a unit, and lent to each of them."""

import copy
import dataclasses
import time

import torch
from torch import Tensor, nn

from .coalitions import Design, Table, play
from .plugin import Case
from .randomness import rng_for
from .terms import Value


class Shared:
    """The tables of one model and case.

    A table depends on the unit and its design alone: not on who asks first, nor on what else was asked.
    """

    def __init__(self, case: Case, key: str) -> None:
        self.case = dataclasses.replace(case, model=copy.deepcopy(case.model), shared=None)
        self.key = key
        self.tables: dict[tuple[Design, Value], tuple[Table, float]] = {}

    def lend(self, model: nn.Module) -> "Loan":
        """The tables for one method, whose copy of the model is `model`."""
        return Loan(self, model)

    def table(self, design: Design, value: Value) -> tuple[Table, float]:
        """A table, and the seconds that it took to make."""
        key = (design, value)
        if key not in self.tables:
            start = time.perf_counter()
            rng = rng_for("coalitions", self.key, repr(design))
            table = play(self.case, design, value, rng)
            self.tables[key] = table, time.perf_counter() - start
        return self.tables[key]


class Loan:
    """What one method reads of the shared tables, with what these cost, whoever had them made."""

    def __init__(self, shared: Shared, model: nn.Module) -> None:
        self.shared = shared
        self.model = model
        self.spent = 0.0  # seconds that it waited for tables
        self.read: dict[tuple[Design, Value], tuple[int, float]] = {}

    def lend(self, model: nn.Module) -> "Loan":
        """The same tables for another copy of the model."""
        return self.shared.lend(model)

    def serves(self, case: Case) -> bool:
        """Whether the tables are of this case: of this very model, and of equal rows."""
        own = self.shared.case
        return case.model is self.model and all(
            _same(getattr(case, name), getattr(own, name))
            for name in ("x", "target", "baseline", "background", "groups")
        )

    def table(self, design: Design, value: Value) -> Table:
        """The outputs under the coalitions of a design."""
        start = time.perf_counter()
        table, seconds = self.shared.table(design, value)
        self.spent += time.perf_counter() - start
        self.read[design, value] = table.rows, seconds
        return table

    @property
    def rows(self) -> int:
        """Model rows that the tables took which were read."""
        return sum(rows for rows, _ in self.read.values())

    @property
    def seconds(self) -> float:
        """Seconds that they took, less those that this reader waited."""
        return sum(seconds for _, seconds in self.read.values()) - self.spent


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and torch.equal(a, b)
