"""The model of one unit: explained with every method, and every map scored by every metric."""

import copy
import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool
from torch import Generator, Tensor, nn

from . import stats
from .explaining import FAULTS, Attribution, attribute, described, explainer_again, one_line, value_of
from .grid import Cell, Unit, again
from .metering import Rows, watch
from .plugin import METHODS, METRICS, Case, Labels, NotApplicable, Problem
from .randomness import rng_for
from .records import (
    Record,
    cost_key,
    failed,
    maps_key,
    pictures_key,
    place,
    row_of,
    scoring_key,
    unscored,
    working,
)
from .shared import Loan, Store
from .spec import Setting
from .terms import aim
from .thumbnails import SEED, thumbnails
from .yardstick import Aim, Memo, Remembered, Train, Yardstick

PARTS = tuple(field.name for field in dataclasses.fields(stats.Score))
Run: TypeAlias = tuple[Setting, int]  # a method with its seed


def runs_of(cell: Cell) -> list[Run]:
    """The methods whose maps the cell is about, with their seed."""
    return [(method, cell.method_seed) for method in (cell.method, cell.other) if method is not None]


def reseeded(case: Case, method_seed: int) -> Case:
    """The case as a method sees it that is run once more: with other random numbers, shared ones too."""
    for name in again("method_seed", method_seed):
        shared = case.shared.again(name) if isinstance(case.shared, Loan) else case.shared
        rng = rng_for("again", str(case.rng.initial_seed()), name)
        case = dataclasses.replace(case, rng=rng, shared=shared)
    return case


def aim_of(method: Setting) -> Aim:
    """What the method is held against."""
    facts = METHODS[method.name].facts
    return Aim(facts["estimand"], value_of(method), facts["signed"])


def groups_of(problem: Problem, target: Labels) -> dict[str, Bool[np.ndarray, " explained"]]:
    """The explained rows that are predicted right, and those whose shortcut says their class, or another."""
    found = {}
    if problem.task == "classification":
        found["right"] = target == problem.y[problem.explained]
    if problem.aligned is not None:
        found["aligned"] = problem.aligned[: problem.n_explained]
        found["conflicting"] = ~found["aligned"]
    return {name: rows.numpy() for name, rows in found.items()}


@dataclass(slots=True)
class Scoring:
    """What a metric took on a unit: of a table that others read too, whoever reads it first is charged."""

    cells: int = 0
    seconds: float = 0.0
    model_rows: int = 0

    def add(self, seconds: float, model_rows: int) -> None:
        """One cell more."""
        self.cells += 1
        self.seconds += seconds
        self.model_rows += model_rows


class Explained:
    """The trained model of one unit, with the maps that its methods made of it."""

    def __init__(self, unit: Unit, problem: Problem, model: nn.Module, learned: bool, fit: Train) -> None:
        x = problem.x[problem.explained]
        model = copy.deepcopy(model)  # an oracle is the problem's own, and stays uncounted there
        with torch.no_grad():
            # argmax over one output is 0: regression explains output 0
            outputs = model(x)
            target = outputs.argmax(1)
        self.groups = groups_of(problem, target)
        rng = rng_for("case", unit.key)
        self.unit, self.where = unit, place(unit)
        self.thumbnails = thumbnails(problem, outputs) if (unit.seed, unit.model_seed) == (SEED, 0) else None
        self.learned = learned
        self.fit = fit
        case = Case(
            model=model,
            x=x,
            target=target,
            baseline=problem.baseline,
            background=problem.background,
            groups=problem.groups,
            rng=rng,
        )
        self.rows = Rows()
        watch(model, self.rows)
        self.case = dataclasses.replace(case, shared=Store(case, unit.key).lend(model))
        self.yardstick = Yardstick(problem, self.case, unit.key, self._train)
        self.maps: dict[Run, Attribution] = {}
        self.memos: defaultdict[tuple[Run, bool], Memo] = defaultdict(dict)
        self.scoring: defaultdict[Setting, Scoring] = defaultdict(Scoring)

    def _train(self, problem: Problem, rng: Generator) -> nn.Module:
        """A model of the unit's kind, for metrics that ask what another one would be."""
        model = self.fit(problem, rng)
        watch(model, self.rows)
        return model

    def records(self, cells: Sequence[Cell]) -> Iterator[Record]:
        """Explain and score; every record is final when it is yielded.

        The last one is of a cell: when all cells are there, so is all else that is told of the unit.
        """
        left = len(cells)
        for record in self._in_turn(cells):
            if record.of_cell:
                left -= 1
                yield from self._costs_of_metrics() if not left else ()
            yield record

    def _in_turn(self, cells: Sequence[Cell]) -> Iterator[Record]:
        yield from self._pictures()
        single: defaultdict[Run, list[Cell]] = defaultdict(list)
        for cell in cells:
            if cell.other is None:
                single[cell.method, cell.method_seed].append(cell)
        for run in dict.fromkeys(run for cell in cells for run in runs_of(cell)):
            yield working(self.where, self.unit.model.text, run[0].text)
            self.maps[run] = self._attribution(*run)
            yield from self._cost(run)
            yield from self._maps(run)
            yield from map(self._record, single[run])
            self.memos.clear()
        yield working(self.where, self.unit.model.text, "")
        yield from (self._record(cell) for cell in cells if cell.other is not None)

    def _costs_of_metrics(self) -> Iterator[Record]:
        for metric, found in self.scoring.items():
            row = self.where | {"metric": metric.text, "version": metric.version, **dataclasses.asdict(found)}
            yield Record("scoring", scoring_key(self.unit, metric), row)

    def _attribution(self, method: Setting, method_seed: int) -> Attribution:
        """What the method makes of the case."""
        key = " ".join([self.unit.key, *again("method_seed", method_seed)])
        return attribute(method, self.unit.model, reseeded(self.case, method_seed), key)

    def _pictures(self) -> Iterator[Record]:
        """The rows that people look at."""
        if self.thumbnails is not None:
            version = f"{self.unit.dataset.version}/{self.unit.model.version}"
            row = self.where | self.thumbnails.about | {"version": version}
            yield Record("pictures", pictures_key(self.unit), row)

    def _maps(self, run: Run) -> Iterator[Record]:
        """What the method made of them the first time."""
        method, method_seed = run
        values = self.maps[run].values
        if self.thumbnails is not None and values is not None and method_seed == 0:
            row = self.where | {"method": method.text, "map": self.thumbnails.maps(values)}
            row |= {"control": METHODS[method.name].facts["control"], "version": method.version}
            yield Record("maps", maps_key(self.unit, method), row)

    def _cost(self, run: Run) -> Iterator[Record]:
        (method, method_seed), found = run, self.maps[run]
        if found.values is None:
            return
        row = self.where | {
            "method": method.text,
            "method_seed": method_seed,
            "estimand": aim(METHODS[method.name].facts["estimand"], value_of(method)),
            "budget": method.params.get("budget", ""),
            "seconds": found.seconds,
            "seconds_per_row": found.seconds / len(self.case.x),
            "model_rows_per_row": found.model_rows / len(self.case.x),
            "backward_rows_per_row": found.backward_rows / len(self.case.x),
            "completeness_error": found.completeness_error,
            "peak_mb": found.peak_mb,
            "control": METHODS[method.name].facts["control"],
            "remark": found.remark,
            "version": method.version,
        }
        yield Record("costs", cost_key(self.unit, *run), row)

    def _record(self, cell: Cell) -> Record:
        """Score one cell; whatever its metric raises is its own reason and nobody else's."""
        found = [self.maps[run] for run in runs_of(cell)]
        missing = next((a for a in found if a.values is None), None)
        if missing is not None:
            return unscored(cell, missing.status, missing.reason)
        start, before = time.perf_counter(), self.rows.forward
        try:
            row = self._score(cell) if cell.other is None else self._agreement(cell)
        except NotApplicable as why:
            return unscored(cell, "skipped", one_line(why))
        except FAULTS as error:
            return failed(cell, f"{cell.metric.name} raised {described(error)}")
        finally:
            took = time.perf_counter() - start
            self.scoring[cell.metric].add(took, self.rows.forward - before)
        row |= {"seconds": took}
        return Record(
            "scores" if cell.other is None else "agreement", cell.key, row_of(cell, self.where) | row
        )

    def _score(self, cell: Cell) -> dict[str, Any]:
        metric = METRICS[cell.metric.name].facts
        run, against = (cell.method, cell.method_seed), aim_of(cell.method)
        found = self.maps[run]
        assert found.values is not None
        if {"truth", "reference"} & set(metric["needs"]):
            self.yardstick.truth(against)  # NotApplicable here is the reason why the cell is skipped
        evidence = self.yardstick.evidence(
            found.values, against, memo=self.memos[run, True], explain=self._explain_again(*run)
        )
        value = self.yardstick.rows_of(cell.metric, evidence)
        chance, ceiling = self.yardstick.bounds(cell.metric, against)
        top = None if metric["ceiling"] == "none" else ceiling
        score = stats.split_score(value, chance, top, metric["best"] > metric["worst"], self.groups)
        return self._row(score) | {"reason": found.reason}

    def _explain_again(self, method: Setting, method_seed: int) -> Callable[[Case], Tensor]:
        """The method as metrics may call it, each of its runs with random numbers of its own."""
        explain = explainer_again(method)
        return lambda case: explain(reseeded(case, method_seed))

    def _agreement(self, cell: Cell) -> dict[str, Any]:
        """Agreement of two maps; where one has no signs, of their sizes."""
        assert cell.other is not None
        signed = all(METHODS[m.name].facts["signed"] for m in (cell.method, cell.other))
        first, second = (self._remembered(run, signed) for run in runs_of(cell))
        evidence = self.yardstick.evidence(first.values, Aim(), memo=first.memo, other=second)
        value = self.yardstick.rows_of(cell.metric, evidence)
        chance = self.yardstick.agreement_by_chance(cell.metric, signed)
        score = stats.agreement(value, chance, METRICS[cell.metric.name].facts["best"])
        return self._row(score) | {"reason": ""}

    def _row(self, score: stats.Score) -> dict[str, Any]:
        row: dict[str, Any] = {name: getattr(score, name) for name in PARTS}
        verdict = row.pop("verdict")
        return row | {"status": verdict if self.learned else "unlearned"}

    def _remembered(self, run: Run, signed: bool) -> Remembered:
        """A method's map, or its sizes, with what was computed of it for other pairs and metrics."""
        values = self.maps[run].values
        assert values is not None
        return Remembered(values if signed else values.abs(), self.memos[run, signed])
