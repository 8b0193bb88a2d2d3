"""What is computed once: of a case, for all methods and metrics; of an attribution, for all metrics.

A recipe, a variant and a reading are frozen dataclasses, so that equal ones are computed once.  What they
make depends on them and on the unit alone: not on who asks first, nor on what else was asked.
"""

import copy
import dataclasses
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Generator

from .plugin import Case, Evidence, NotApplicable, Samples
from .randomness import rng_for, seeded

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


@runtime_checkable
class Recipe(Protocol[T_co]):
    """Something to compute of a case, such as the model's outputs under given perturbations."""

    def make(self, case: Case, rng: Generator) -> T_co:
        """What all who ask get, each a copy."""


@runtime_checkable
class Reading(Protocol[T_co]):
    """Something to compute of an attribution, such as the outputs as its top features are taken away."""

    def read(self, evidence: Evidence, rng: Generator) -> T_co:
        """What all metrics get; they must leave it as it is."""


@runtime_checkable
class Variant(Protocol):
    """A case made of another one, which methods explain again: other rows, another model, other targets."""

    def of(self, evidence: Evidence, rng: Generator) -> Case:
        """The other case; of the evidence it may use what all methods of a unit share."""


def of_case(case: Case, recipe: Recipe[T]) -> T:
    """What the recipe makes of the case, computed once for all methods and metrics."""
    if case.shared is not None and case.shared.serves(case):
        found: T = case.shared.made(recipe)
        return found
    return recipe.make(case, case.rng)


def of_map(evidence: Evidence, reading: Reading[T]) -> T:
    """What is read of the attribution, computed once for all metrics."""
    memo = _memo(evidence)
    if reading not in memo:
        memo[reading] = reading.read(evidence, _anew(evidence.rng))
    found: T = memo[reading]
    return found


def _memo(evidence: Evidence) -> dict[Any, Any]:
    """The evidence's memo; none, if it is another map's, as where `dataclasses.replace` changed the map."""
    known, own = evidence.memo.setdefault("map", evidence.attribution), evidence.attribution
    return evidence.memo if known is own or torch.equal(known, own) else {}


def variant_of(evidence: Evidence, variant: Variant) -> Case:
    """The variant of the evidence's case, made once for all methods, with tables of its own to share."""

    def make(rng: Generator) -> Case:
        return variant.of(evidence, rng)

    case = evidence.case
    if case.shared is not None and case.shared.serves(case):
        return case.shared.variant(variant, make)
    state, name = str(evidence.rng.initial_seed()), repr(variant)
    rng = rng_for("variant", state, name)
    with seeded(rng):
        return dataclasses.replace(make(rng), rng=rng_for("again", state, name), shared=None)


def explained_again(evidence: Evidence, variant: Variant) -> Samples:
    """The method's attribution of the variant, computed once for all metrics; float64.

    Raises:
        NotApplicable: the method cannot explain the variant, though it could explain the case.
    """
    memo, key = _memo(evidence), ("again", variant)
    if key not in memo:
        memo[key] = _explained(evidence, variant_of(evidence, variant))
    found: Samples = memo[key]
    return found


def _explained(evidence: Evidence, case: Case) -> Samples:
    try:
        return evidence.explain(case).detach().double()
    except NotApplicable:
        raise
    except (Exception, SystemExit) as why:
        raise NotApplicable(f"cannot explain what the metric shows it: {type(why).__name__}: {why}") from why


def isolated(case: Case, **changes: Any) -> Case:
    """The case with a model and tensors of its own, so that nothing done to them reaches anybody else."""
    model = copy.deepcopy(case.model)
    own: dict[str, Any] = {
        "model": model,
        "x": case.x.clone(),
        "target": case.target.clone(),
        "baseline": case.baseline.clone(),
        "background": case.background.clone(),
        "groups": None if case.groups is None else case.groups.clone(),
        "shared": None if case.shared is None else case.shared.lend(model),
    }
    return dataclasses.replace(case, **(own | changes))


def _anew(rng: Generator) -> Generator:
    """A generator in the state in which this one began: what is made hangs on nothing drawn before."""
    return Generator().manual_seed(rng.initial_seed())
