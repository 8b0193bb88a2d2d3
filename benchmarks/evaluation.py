"""One unit: draw the problem, train the model, explain it with every method, score every cell."""

import copy
import dataclasses
import functools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import nn

from . import stats
from .explaining import Attribution, attribute, described, explainer, one_line, value_of
from .grid import Cell, Unit, digest, noise_of, parameters_of
from .plugin import DATASETS, METHODS, METRICS, MODELS, Case, NotApplicable, Problem
from .randomness import rng_for, seeded
from .registry import AssayError
from .shared import Shared
from .spec import Setting
from .terms import aim
from .yardstick import Aim, Yardstick

LEARNED = 0.1  # a model below this share of the way from the best constant to perfect has learned nothing


@dataclass(frozen=True, slots=True)
class Record:
    """One row for the ledger; with no row, only word of what is now at work."""

    table: str
    key: str
    row: dict[str, Any] = field(default_factory=dict)
    method: str = ""  # at work: if the process dies now, it is this one's doing


def run_unit(unit: Unit, cells: Sequence[Cell]) -> Iterator[Record]:
    """Compute these cells of the unit; every record is final when it is yielded.

    Raises:
        AssayError: what the user asked of the dataset cannot be had, such as a column that is not in a file.
    """
    torch.set_num_threads(1)
    where = place(unit)
    yield _working(where, unit.model.text)
    try:
        problem = draw(*unit.problem)
        # a copy: other models of the problem are given the data as they were drawn
        model = train(unit, copy.deepcopy(problem))
        about, learned = _about(unit, problem, model)
        explained = _Explained(unit, problem, model, learned)
    except NotApplicable as why:
        yield from (_unscored(cell, "skipped", one_line(why)) for cell in cells)
        return
    except AssayError:
        raise
    except Exception as error:
        yield from (failed(cell, described(error)) for cell in cells)
        return
    yield from about
    yield from explained.records(cells)


def _about(unit: Unit, problem: Problem, model: nn.Module) -> tuple[list[Record], bool]:
    """What is known of the problem and of the model, and whether it learned anything."""
    where = place(unit)
    facts = json.dumps(
        {k: v if isinstance(v, str) or isfinite(v) else str(v) for k, v in problem.facts.items()}
    )
    quality = model_quality(problem, model)
    learned = quality["quality"] >= LEARNED
    version = f"{unit.dataset.version}/{unit.model.version}"
    row = {**where, **quality, "learned": learned, "version": version}
    about = {**where, "facts": facts, "version": unit.dataset.version}
    return [Record("problems", problem_key(unit), about), Record("models", unit.key, row)], learned


@functools.lru_cache(maxsize=1)
def draw(dataset: Setting, seed: int) -> Problem:
    """The problem of this seed; workers are handed its models one after the other."""
    rng = rng_for("problem", dataset.key, str(seed))
    with seeded(rng):
        return DATASETS[dataset.name].function(rng, **dataset.params)


def train(unit: Unit, problem: Problem) -> nn.Module:
    """The trained model, in eval mode whatever its plug-in left it in."""
    rng = rng_for("model", unit.key)
    with seeded(rng):
        model: nn.Module = MODELS[unit.model.name].function(problem, rng, **unit.model.params)
    return model.eval()


def model_quality(problem: Problem, model: nn.Module) -> dict[str, float]:
    """How well the model predicts the test rows, against the noiseless truth where there is one."""
    x, wanted = problem.x[problem.test], problem.y[problem.test]
    with torch.no_grad():
        outputs = model(x)
        if problem.oracle is not None:
            exact = problem.oracle(x.double())
            wanted = exact[:, 0] if problem.task == "regression" else exact.argmax(1)
    train = problem.y[problem.train].numpy()
    if problem.task == "regression":
        found = stats.regression_quality(outputs[:, 0].double().numpy(), wanted.double().numpy(), train)
    else:
        found = stats.classification_quality(outputs.argmax(1).numpy(), wanted.numpy(), train)
    return {**found, "rows": len(x)}


def place(unit: Unit) -> dict[str, Any]:
    """The columns that say where a row belongs."""
    return {
        "dataset": unit.dataset.name,
        "parameters": parameters_of(unit.dataset),
        "noise": noise_of(unit.dataset),
        "model": unit.model.text,
        "seed": unit.seed,
    }


def problem_key(unit: Unit) -> str:
    """Key of what is known of a problem."""
    return digest(unit.dataset.key, unit.seed)


def cost_key(unit: Unit, method: Setting) -> str:
    """Key of what a method cost on a unit."""
    return digest(unit.key, method.key)


def _working(where: dict[str, Any], model: str, method: str = "") -> Record:
    parts = (where["dataset"], where["parameters"], where["noise"], model, method)
    return Record("", " ".join(part for part in parts if part), method=method)


def _row(cell: Cell) -> dict[str, Any]:
    settings = (cell.unit.dataset, cell.unit.model, cell.method, cell.other, cell.metric)
    row = place(cell.unit) | {"method": cell.method.text, "metric": cell.metric.text}
    row["family"] = METRICS[cell.metric.name].facts["family"]
    if cell.other is not None:
        row["other"] = cell.other.text
    return row | {"version": "/".join(s.version for s in settings if s is not None)}


def failed(cell: Cell, reason: str) -> Record:
    """The cell's row when it was lost for this reason."""
    return _unscored(cell, "failed", reason)


def _unscored(cell: Cell, status: str, reason: str) -> Record:
    row = _row(cell) | {"rows": 0, "nan_rows": 0, "status": status, "reason": reason}
    return Record("scores" if cell.other is None else "agreement", cell.key, row)


def aim_of(method: Setting) -> Aim:
    """What the method is held against."""
    facts = METHODS[method.name].facts
    return Aim(facts["estimand"], value_of(method), facts["signed"])


class _Explained:
    """The trained model of one unit, with the maps that its methods made of it."""

    def __init__(self, unit: Unit, problem: Problem, model: nn.Module, learned: bool) -> None:
        x = problem.x[problem.explained]
        with torch.no_grad():
            # argmax over one output is 0: regression explains output 0
            target = model(x).argmax(1)
        rng = rng_for("case", unit.key)
        self.unit = unit
        self.learned = learned
        case = Case(
            model=model,
            x=x,
            target=target,
            baseline=problem.baseline,
            background=problem.background,
            groups=problem.groups,
            rng=rng,
        )
        self.case = dataclasses.replace(case, shared=Shared(case, unit.key).lend(model))
        self.yardstick = Yardstick(problem, self.case, unit.key)
        self.maps: dict[Setting, Attribution] = {}

    def records(self, cells: Sequence[Cell]) -> Iterator[Record]:
        where = place(self.unit)
        for method in dict.fromkeys(m for c in cells for m in (c.method, c.other) if m is not None):
            yield _working(where, self.unit.model.text, method.text)
            self.maps[method] = attribute(method, self.unit.model, self.case, self.unit.key)
            yield from self._cost(method)
            for cell in cells:
                if cell.other is None and cell.method == method:
                    yield self._record(cell)
        yield _working(where, self.unit.model.text, "")
        yield from (self._record(cell) for cell in cells if cell.other is not None)

    def _cost(self, method: Setting) -> Iterator[Record]:
        found = self.maps[method]
        if found.values is None:
            return
        row = place(self.unit) | {
            "method": method.text,
            "estimand": aim(METHODS[method.name].facts["estimand"], value_of(method)),
            "budget": method.params.get("budget", ""),
            "seconds": found.seconds,
            "seconds_per_row": found.seconds / len(self.case.x),
            "model_rows_per_row": found.model_rows / len(self.case.x),
            "backward_rows_per_row": found.backward_rows / len(self.case.x),
            "completeness_error": found.completeness_error,
            "peak_mb": found.peak_mb,
            "remark": found.remark,
            "version": method.version,
        }
        yield Record("costs", cost_key(self.unit, method), row)

    def _record(self, cell: Cell) -> Record:
        """Score one cell; whatever its metric raises is its own reason and nobody else's."""
        found = [self.maps[m] for m in (cell.method, cell.other) if m is not None]
        missing = next((a for a in found if a.values is None), None)
        if missing is not None:
            return _unscored(cell, missing.status, missing.reason)
        start = time.perf_counter()
        try:
            row = self._score(cell) if cell.other is None else self._agreement(cell)
        except NotApplicable as why:
            return _unscored(cell, "skipped", one_line(why))
        except Exception as error:
            return failed(cell, f"{cell.metric.name} raised {described(error)}")
        row |= {"seconds": time.perf_counter() - start}
        return Record("scores" if cell.other is None else "agreement", cell.key, _row(cell) | row)

    def _score(self, cell: Cell) -> dict[str, Any]:
        metric = METRICS[cell.metric.name].facts
        found, against = self.maps[cell.method], aim_of(cell.method)
        assert found.values is not None
        if "truth" in metric["needs"]:
            self.yardstick.truth(against)  # NotApplicable here is the reason why the cell is skipped
        evidence = self.yardstick.evidence(found.values, against, explain=explainer(cell.method))
        value = self.yardstick.rows_of(cell.metric, evidence)
        chance, ceiling = self.yardstick.bounds(cell.metric, against)
        score = stats.score(value, chance, ceiling, rises=metric["best"] > metric["worst"])
        status = score.verdict if self.learned else "unlearned"
        return {
            "value": score.value,
            "chance": score.chance,
            "ceiling": score.ceiling,
            "skill": score.skill,
            "rows": score.rows,
            "nan_rows": score.nan_rows,
            "status": status,
            "reason": found.reason,
        }

    def _agreement(self, cell: Cell) -> dict[str, Any]:
        """Agreement of two maps; where one has no signs, of their sizes."""
        assert cell.other is not None
        pair = [self.maps[m].values for m in (cell.method, cell.other)]
        signed = all(METHODS[m.name].facts["signed"] for m in (cell.method, cell.other))
        first, second = (v if signed else v.abs() for v in pair if v is not None)
        evidence = self.yardstick.evidence(first, Aim(), other=second)
        value, rows, nan_rows = stats.mean(self.yardstick.rows_of(cell.metric, evidence))
        status = "ok" if rows else "undefined"
        status = status if self.learned else "unlearned"
        return {"value": value, "rows": rows, "nan_rows": nan_rows, "status": status, "reason": ""}
