"""The whole contract on one page: what flows between plug-ins, and how a plug-in is declared.

Problem --model--> Module --Case--> method --Evidence--> metric --> one score a row
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from .registry import Registry
from .terms import Capability, Ceiling, Cost, Estimand, Family, Need, Promise, Task, Value, words

Samples: TypeAlias = Float[Tensor, "n *feature"]
Feature: TypeAlias = Float[Tensor, "*feature"]
Labels: TypeAlias = Int[Tensor, " n"]
Targets: TypeAlias = Float[Tensor, " n"] | Int[Tensor, " n"]
Outputs: TypeAlias = Float[Tensor, "n outputs"]
Scores: TypeAlias = Float[Tensor, " n"]


class NotApplicable(Exception):  # noqa: N818 - not an error: the cell becomes a `skipped` row with this reason
    """Raised by a plug-in that cannot serve this problem or model; the message is the reason."""


class Note(UserWarning):
    """Warned with by a method that is not what its name says here; the message goes into the table."""


class Remark(UserWarning):
    """Warned with by a method to report what it chose or measured itself; goes beside its cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A prediction problem of which it is known which features matter.

    Rows stand in the order train, validation, test; the first `n_explained` test rows are explained.
    """

    x: Samples  # float32
    y: Targets  # float32 for regression, int64 class indices for classification
    task: Task
    n_train: int
    n_validation: int
    n_explained: int
    baseline: Feature  # what an absent feature is replaced by, for every method and metric
    background: Float[
        Tensor, "m *feature"
    ]  # what it is replaced by where the value is "marginal": all in turn
    masks: Mapping[str, Bool[Tensor, "rows *feature"]]  # rows: 1 or n_explained; at least "relevant"
    oracle: nn.Module | None = None  # Samples -> Outputs, exact and noise-free, in the dtype of its input
    groups: Int[Tensor, "*feature"] | None = None  # feature -> unit; None: each feature is its own unit
    counterfactual: Callable[[str], Samples] | None = None  # region -> explained rows with it redrawn
    facts: Mapping[str, float | str] = field(default_factory=dict)  # SNR in dB, effect sizes, chance, ...
    columns: tuple[str, ...] = ()  # names of the features, where they have names

    def __post_init__(self) -> None:
        used = self.n_train + self.n_validation + self.n_explained
        if used > len(self.x) or len(self.x) != len(self.y):
            raise ValueError(f"{used} rows used, {len(self.x)} in x, {len(self.y)} in y; they must fit")
        if "relevant" not in self.masks:
            raise ValueError(f"masks must name 'relevant', got {sorted(self.masks)}")
        for name, mask in self.masks.items():
            if mask.shape[1:] != self.x.shape[1:] or mask.shape[0] not in (1, self.n_explained):
                raise ValueError(f"mask {name!r} has shape {tuple(mask.shape)}, x {tuple(self.x.shape)}")

    @property
    def outputs(self) -> int:
        """Width of a model's output: 1 for regression, else the number of classes."""
        return 1 if self.task == "regression" else int(self.y.max()) + 1

    @property
    def train(self) -> slice:
        """Rows that fit the parameters."""
        return slice(self.n_train)

    @property
    def validation(self) -> slice:
        """Rows that decide when to stop."""
        return slice(self.n_train, self.n_train + self.n_validation)

    @property
    def test(self) -> slice:
        """Rows that no model has seen."""
        return slice(self.n_train + self.n_validation, None)

    @property
    def explained(self) -> slice:
        """The test rows whose predictions are explained."""
        start = self.n_train + self.n_validation
        return slice(start, start + self.n_explained)


@runtime_checkable
class SharedOutputs(Protocol):
    """Model outputs under coalitions, computed once for all methods of a unit; read with `coalitions`."""

    def serves(self, case: "Case") -> bool:
        """Whether the outputs are those of this case."""

    def table(self, design: Any, value: Value) -> Any:
        """The outputs under the coalitions of a design."""


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
    shared: SharedOutputs | None = None

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
    explain: Callable[[Case], Tensor]
    rng: Generator

    @property
    def relevant(self) -> Bool[Tensor, "n *feature"]:
        """The mask of features that matter, once for every row."""
        return self.masks["relevant"].expand(self.attribution.shape)


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


DATASETS: Registry[DatasetFunction] = Registry("dataset")
MODELS: Registry[ModelFunction] = Registry("model")
METHODS: Registry[MethodFunction] = Registry("method")
METRICS: Registry[MetricFunction] = Registry("metric")

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
    version: int | None = None,
) -> Callable[[A], A]:
    """Register an attribution method; `terms` says what the words mean.

    needs: what the model must have; other models become `skipped` rows.
    estimand: the exact quantity that it estimates; it is scored against that one.
    value: what an absent feature is replaced by; a parameter of this name takes its place.
    promises: what holds on every model; completeness is measured every time, the others by `check`.
    signed: False when it returns sizes; it is then scored against the size of the truth.
    cost: what decides how many model rows a row explained takes.
    """

    def register(function: A) -> A:
        facts = {
            "needs": words("needs", needs, Capability),
            "estimand": words("estimand", estimand, Estimand)[0],
            "value": words("value", value, Value)[0],
            "promises": words("promises", promises, Promise),
            "signed": signed,
            "cost": words("cost", cost, Cost)[0],
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
    needs: tuple[Need, ...] = (),
    ceiling: Ceiling = "exact",
    version: int | None = None,
) -> Callable[[S], S]:
    """Register a metric; one score a row, or a single score where it judges the rows together.

    best, worst: the range (either may be infinite); their order gives the direction.
    needs: "truth", "model", "other" (a second attribution: the metric then measures agreement).
    ceiling: whose score counts as skill 1: the oracle's "exact" attribution (where there is no oracle,
        `best`), the model's own exact "ablation", or `best` itself.
    """

    def register(function: S) -> S:
        facts = {"best": best, "worst": worst, "needs": words("needs", needs, Need)}
        facts["family"] = words("family", family, Family)[0]
        facts["ceiling"] = words("ceiling", ceiling, Ceiling)[0]
        METRICS.add(function, version=version, paper=paper, **facts)
        return function

    return register
