"""What is computed once for all methods and metrics of a unit, and lent to each of them."""

import copy
import dataclasses
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from .metering import counted, memory_now, peak_since
from .plugin import Case
from .randomness import rng_for, seeded
from .sharing import Recipe, Variant


class Store:
    """What was made of one case.

    It depends on the unit and its recipe alone: not on who asks first, nor on what else was asked.
    """

    def __init__(self, case: Case, key: str) -> None:
        self.case = dataclasses.replace(case, model=copy.deepcopy(case.model), shared=None)
        self.key = key
        self.found: dict[Recipe[Any], Made] = {}
        self.variants: dict[Variant, Case] = {}
        self.others: dict[str, Store] = {}

    def lend(self, model: nn.Module) -> "Loan":
        """What is made, for one method, whose copy of the model is `model`."""
        return Loan(self, model)

    def again(self, name: str) -> "Store":
        """A store of the same case whose tables are made of other random numbers."""
        if name not in self.others:
            self.others[name] = Store(self.case, f"{self.key} {name}")
        return self.others[name]

    def made(self, recipe: Recipe[Any]) -> "Made":
        """What a recipe makes, and what it took."""
        if recipe not in self.found:
            held, start = memory_now(), time.perf_counter()
            rng = rng_for("coalitions", self.key, repr(recipe))
            with counted(self.case.model) as rows, seeded(rng):  # a model that draws hangs on no one else
                value = recipe.make(self.case, rng)
            took = time.perf_counter() - start
            self.found[recipe] = Made(value, rows.forward, took, peak_since(held))
        return self.found[recipe]

    def variant(self, variant: Variant, make: Callable[[Generator], Case]) -> Case:
        """A variant of the case, with a store of its own."""
        if variant not in self.variants:
            rng = rng_for("variant", self.key, repr(variant))
            with seeded(rng):
                case = dataclasses.replace(make(rng), rng=rng_for("again", self.key, repr(variant)))
            own = Store(case, f"{self.key} {variant!r}")
            self.variants[variant] = dataclasses.replace(case, shared=own.lend(case.model))
        found = self.variants[variant]
        return dataclasses.replace(found, rng=rng_for("again", self.key, repr(variant)))


@dataclass(frozen=True, slots=True)
class Made:
    """What was made, with what it took."""

    value: Any
    rows: int
    seconds: float
    peak_mb: float


class Loan:
    """What one method reads of the shared tables, with what these cost, whoever had them made."""

    def __init__(self, store: Store, model: nn.Module) -> None:
        self.store = store
        self.model = model
        self.structure = _structure(model)
        self.spent = 0.0  # seconds that it waited
        self.read: dict[Recipe[Any], Made] = {}

    def lend(self, model: nn.Module) -> "Loan":
        """The same for another copy of the model."""
        return self.store.lend(model)

    def again(self, name: str) -> "Loan":
        """The same of tables that are made of other random numbers."""
        return self.store.again(name).lend(self.model)

    def serves(self, case: Case) -> bool:
        """Whether what is made is of this case: of this very model, not altered since, and of equal rows."""
        own = self.store.case
        if case.model is not self.model or _structure(case.model) != self.structure:
            return False
        named = ("x", "target", "baseline", "background", "groups")
        pairs = [(getattr(case, name), getattr(own, name)) for name in named]
        pairs += zip(_state(case.model), _state(own.model), strict=True)
        return all(_same(a, b) for a, b in pairs)

    def made(self, recipe: Recipe[Any]) -> Any:
        """What the recipe makes of the case; a copy, so that what is done to it stays here."""
        start = time.perf_counter()
        made = self.store.made(recipe)
        own = copy.deepcopy(made.value)
        self.spent += time.perf_counter() - start
        self.read[recipe] = made
        return own

    def variant(self, variant: Variant, make: Callable[[Generator], Case]) -> Case:
        """The variant of the case, with what is shared of it."""
        return self.store.variant(variant, make)

    @property
    def rows(self) -> int:
        """Model rows that it took to make what was read."""
        return sum(made.rows for made in self.read.values())

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
