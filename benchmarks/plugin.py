"""The whole contract on one page: what flows between plug-ins, and how a plug-in is declared.

Problem --model--> Module --Case--> method --Evidence--> metric --> one score a row
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from .problem import Feature as Feature
from .problem import Labels as Labels
from .problem import Outputs as Outputs
from .problem import Problem as Problem
from .problem import Samples as Samples
from .problem import Scores as Scores
from .problem import Targets as Targets
from .registry import REGISTRIES, Registry
from .signals import NotApplicable as NotApplicable
from .signals import Note as Note
from .signals import Remark as Remark
from .terms import Capability, Ceiling, Claim, Cost, Estimand, Family, Need, Promise, Value, words


@runtime_checkable
class Shared(Protocol):
    """What is computed once for all methods and metrics of a unit; read through `sharing`."""

    def serves(self, case: "Case") -> bool:
        """Whether it is of this case."""

    def made(self, recipe: Any) -> Any:
        """What the recipe makes of the case."""

    def variant(self, variant: Any, make: Callable[[Generator], "Case"]) -> "Case":
        """The variant of the case, with what is shared of it."""

    def lend(self, model: nn.Module) -> "Shared":
        """The same for another copy of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that a method may see.  The truth is not here, so no method can peek."""

    model: nn.Module  # Samples -> Outputs, in eval mode
    x: Samples
    target: Labels  # which output is explained, a row: 0 for regression, the predicted class otherwise
    baseline: Feature
    background: Float[Tensor, "m *feature"]
    groups: Int[Tensor, "*feature"] | None
    rng: Generator
    shared: Shared | None = None

    def output(self, x: Samples) -> Scores:
        """The explained output of every row of `x`, whose rows match those of `self.x` (f in the papers)."""
        outputs: Tensor = self.model(x)
        return outputs.gather(1, self.target[:, None]).squeeze(1)

    @property
    def baselines(self) -> Samples:
        """The baseline, once for every row."""
        return self.baseline.expand_as(self.x)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a metric may see: the case, its attribution, the exact truth, and the method to call again."""

    case: Case
    attribution: Samples  # float64
    masks: Mapping[str, Bool[Tensor, "rows *feature"]]
    truth: Samples | None  # exact attribution, in the method's own estimand; |truth| if it returns sizes
    empty: Scores  # the explained output with every feature absent, in the method's own sense of absent
    other: Samples | None  # a second method's attribution, for metrics of agreement
    explain: Callable[[Case], Tensor]  # the method, on its own copy of the case's model
    rng: Generator
    problem: Problem | None = None
    train: Callable[[Problem, Generator], nn.Module] | None = None  # a model of the same kind, anew
    estimand: Estimand = "none"  # what the method says that it estimates,
    value: Value = "baseline"  # what it replaces absent features by,
    signed: bool = True  # and False where it returns sizes
    memo: dict[Any, Any] = field(default_factory=dict)  # what `sharing` keeps of this attribution
    reference_memo: dict[Any, Any] = field(default_factory=dict)  # and of the one it is compared with

    @property
    def relevant(self) -> Bool[Tensor, "n *feature"]:
        """The mask of features that matter, once for every row."""
        return self.masks["relevant"].expand(self.attribution.shape)

    @property
    def reference(self) -> Samples:
        """What the attribution is compared with: the other method's, else the truth."""
        found = self.truth if self.other is None else self.other
        assert found is not None  # declared in `needs`
        return found


@runtime_checkable
class DatasetFunction(Protocol):
    """Draw one problem; keyword-only arguments are its parameters."""

    __name__: str

    def __call__(self, rng: Generator, /) -> Problem: ...


@runtime_checkable
class ModelFunction(Protocol):
    """Fit one model; keyword-only arguments are its hyper-parameters."""

    __name__: str

    def __call__(self, problem: Problem, rng: Generator, /) -> nn.Module: ...


@runtime_checkable
class MethodFunction(Protocol):
    """Explain every row of case.x; keyword-only arguments are its hyper-parameters."""

    __name__: str

    def __call__(self, case: Case, /) -> Samples: ...


@runtime_checkable
class MetricFunction(Protocol):
    """Score every row; keyword-only arguments are its hyper-parameters."""

    __name__: str

    def __call__(self, evidence: Evidence, /) -> Scores: ...


DATASETS: Registry[DatasetFunction] = REGISTRIES["dataset"]
MODELS: Registry[ModelFunction] = REGISTRIES["model"]
METHODS: Registry[MethodFunction] = REGISTRIES["method"]
METRICS: Registry[MetricFunction] = REGISTRIES["metric"]

# In every decorator below, `version` is raised by a change that moves numbers: cells are then computed anew.
# Where it is left out, every edit of the file is a new version.

D = TypeVar("D", bound=DatasetFunction)
M = TypeVar("M", bound=ModelFunction)
A = TypeVar("A", bound=MethodFunction)
S = TypeVar("S", bound=MetricFunction)


def dataset(
    *,
    paper: str,
    noise: tuple[str, ...],
    instead: Mapping[str, str] | None = None,
    version: int | None = None,
) -> Callable[[D], D]:
    """Register a problem generator.

    noise: those of its keyword-only arguments that make the problem harder without changing the answer.
    instead: argument -> the argument that it takes the place of when it is given; tables leave that one out.
    """

    def register(function: D) -> D:
        DATASETS.add(function, version=version, paper=paper, noise=noise, instead=instead or {})
        return function

    return register


def model(
    *, paper: str, has: Capability | tuple[Capability, ...] = (), version: int | None = None
) -> Callable[[M], M]:
    """Register a model.

    has: what methods may need of it.
    """

    def register(function: M) -> M:
        MODELS.add(function, version=version, paper=paper, has=words("has", has, Capability))
        return function

    return register


def method(
    *,
    paper: str,
    needs: Capability | tuple[Capability, ...] = (),
    estimand: Estimand = "none",
    value: Value = "baseline",
    promises: Promise | tuple[Promise, ...] = (),
    signed: bool = True,
    cost: Cost = "unknown",
    control: bool = False,
    version: int | None = None,
) -> Callable[[A], A]:
    """Register an attribution method; `terms` says what the words mean.

    needs: what the model must have; other models become `skipped` rows.
    estimand: the exact quantity that it estimates; it is scored against that one.
    value: what an absent feature is replaced by; a parameter of this name takes its place.
    promises: what holds on every model; completeness is measured every time, the others by `check`.
    signed: False when it returns sizes; it is then scored against the size of the truth.
    cost: what decides how many model rows a row explained takes.
    control: True for what cannot know the model, and is there to be beaten.
    """

    def register(function: A) -> A:
        facts = {
            "needs": words("needs", needs, Capability),
            "estimand": words("estimand", estimand, Estimand)[0],
            "value": words("value", value, Value)[0],
            "promises": words("promises", promises, Promise),
            "signed": signed,
            "cost": words("cost", cost, Cost)[0],
            "control": control,
        }
        METHODS.add(function, version=version, paper=paper, **facts)
        return function

    return register


def metric(
    *,
    paper: str,
    family: Family,
    best: float,
    worst: float,
    needs: Need | tuple[Need, ...] = (),
    ceiling: Ceiling = "exact",
    claims: Claim | tuple[Claim, ...] = (),
    chance: float | None = None,
    draws: int = 10,
    caveat: str = "",
    version: int | None = None,
) -> Callable[[S], S]:
    """Register a metric; one score a row, or a single score where it judges the rows together.

    best, worst: the range (either may be infinite); their order gives the direction.
    claims: what holds for its scores; `check` holds it to them.
    chance: what random attributions score where that is known; it is measured in every cell all the same,
    draws: with so many of them.
    caveat: what a reader of its scores must know; stands beside them.
    """

    def register(function: S) -> S:
        facts: dict[str, Any] = {"best": best, "worst": worst, "chance": chance, "draws": draws}
        facts |= {"needs": words("needs", needs, Need), "claims": words("claims", claims, Claim)}
        facts["family"] = words("family", family, Family)[0]
        facts["ceiling"] = words("ceiling", ceiling, Ceiling)[0]
        METRICS.add(function, version=version, paper=paper, caveat=caveat, **facts)
        return function

    return register
