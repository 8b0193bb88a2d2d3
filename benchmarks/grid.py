"""Suite -> cells.  A cell is a row of scores.csv before it has a number; a unit is computed together."""

import functools
import hashlib
import importlib.metadata
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from .plugin import DATASETS, METRICS
from .registry import REGISTRIES as REGISTRIES
from .registry import AssayError
from .spec import Setting, settings, shown
from .suite import ALL, Suite

Lists: TypeAlias = tuple[list[Setting], list[Setting]]  # the methods and the metrics of a block

ENGINE = 2  # raised by a change outside the plug-ins that moves numbers: all is then computed anew


LIBRARIES = ("torch", "captum", "shap", "numpy", "scikit-learn")  # their versions move numbers too


@functools.cache
def library_versions() -> dict[str, str]:
    """The installed versions of what computes the numbers."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


@dataclass(frozen=True, slots=True)
class Unit:
    """A problem and a model: drawn, trained and explained together."""

    dataset: Setting
    model: Setting
    seed: int
    model_seed: int = 0  # the same data, trained on again
    key: str = field(init=False, compare=False, repr=False)  # what the trained model depends on

    def __post_init__(self) -> None:
        known = ENGINE, *library_versions().items(), self.dataset.key, self.model.key, self.seed
        object.__setattr__(self, "key", digest(*known, *again("model_seed", self.model_seed)))

    @property
    def problem(self) -> tuple[Setting, int]:
        """What the problem depends on; units that share it share the drawn data."""
        return self.dataset, self.seed


@dataclass(frozen=True, slots=True)
class Cell:
    """One score to compute: a method on a unit under a metric; `other` for agreement between two methods.

    There may be a million of them: they have slots, and each key is computed once.
    """

    unit: Unit
    method: Setting
    metric: Setting
    other: Setting | None = None
    method_seed: int = 0  # the same model, explained again
    # stable content key: it changes when anything that the number depends on does
    key: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        pair = sorted((self.method.key, self.other.key if self.other else ""))  # agreement has no direction
        parts = self.unit.key, *pair, self.metric.key, *again("method_seed", self.method_seed)
        object.__setattr__(self, "key", digest(*parts))


def digest(*parts: object) -> str:
    """A short stable hash of the parts."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]


def again(name: str, seed: int) -> list[str]:
    """What a seed adds to a key: nothing if it is the first, so that older keys stay what they are."""
    return [f"{name}={seed}"] if seed else []


def expand(kind: str, texts: Iterable[str]) -> list[Setting]:
    """The settings that a list of texts asks for, each once, in its order; `all` is every plug-in."""
    registry = REGISTRIES[kind]
    found: dict[Setting, None] = {}
    for text in texts:
        names = [p.name for p in registry] if text == ALL else [text]
        found.update(dict.fromkeys(s for name in names for s in settings(registry, name)))
    return list(found)


def plan(suite: Suite) -> dict[Unit, list[Cell]]:
    """Every cell of the suite, by unit, in a stable order, each once.

    Raises:
        AssayError: a name or parameter is wrong, or nothing is left to compute.
    """
    asked: dict[Unit, list[Lists]] = {}
    first: dict[str, Unit] = {}
    for block in suite.grid:
        datasets, models = expand("dataset", block.dataset), expand("model", block.model)
        lists = expand("method", block.method), expand("metric", block.metric)
        for unit in _units(suite, datasets, models):
            asked.setdefault(first.setdefault(unit.key, unit), []).append(lists)  # two names may be one file
    planned = {unit: _once(unit, blocks, suite.method_seeds) for unit, blocks in asked.items()}
    planned = {unit: cells for unit, cells in planned.items() if cells}
    if not planned:
        raise AssayError(
            f"suite {suite.name!r} has no cell: one of its lists is empty; name at least one dataset, "
            "model, method and metric."
        )
    return planned


def _once(unit: Unit, blocks: list[Lists], method_seeds: int) -> list[Cell]:
    """What these blocks ask for on one unit, each cell once."""
    cells: dict[str, Cell] = {}
    for methods, metrics in blocks:
        for cell in _cells(unit, methods, metrics, method_seeds):
            cells.setdefault(cell.key, cell)
    return list(cells.values())


def _units(suite: Suite, datasets: list[Setting], models: list[Setting]) -> Iterator[Unit]:
    seeds = range(suite.first_seed, suite.first_seed + suite.seeds)
    for dataset, seed, model in itertools.product(datasets, seeds, models):
        yield from (Unit(dataset, model, seed, model_seed) for model_seed in range(suite.model_seeds))


def _cells(unit: Unit, methods: list[Setting], metrics: list[Setting], method_seeds: int) -> Iterator[Cell]:
    needs = {m: METRICS[m.name].facts["needs"] for m in metrics}
    pairwise = [m for m in metrics if {"other", "reference"} & set(needs[m])]
    single = [m for m in metrics if "other" not in needs[m]]
    seeds = range(method_seeds)
    for seed, method, metric in itertools.product(seeds, methods, single):
        yield Cell(unit, method, metric, None, seed)
    for seed, (method, other), metric in itertools.product(
        seeds, itertools.combinations(methods, 2), pairwise
    ):
        yield Cell(unit, method, metric, other, seed)


def noise_of(dataset: Setting) -> str:
    """The noise axes and their values, as in the tables."""
    axes = DATASETS[dataset.name].facts["noise"]
    return " ".join(f"{axis}={dataset.params[axis]}" for axis in axes)


def parameters_of(dataset: Setting) -> str:
    """The other parameters, as in the tables: all that have a value, so that a row says what it is of."""
    facts = DATASETS[dataset.name].facts
    void = {old for new, old in facts["instead"].items() if dataset.params[new]}
    hidden = {*facts["noise"], *void}
    return " ".join(f"{k}={shown(v)}" for k, v in dataset.values if k not in hidden and v not in (None, ""))
