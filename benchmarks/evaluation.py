"""One unit: draw the problem, train the model, explain it with every method, score every cell."""

import copy
import functools
import json
from collections.abc import Iterator, Sequence
from math import isfinite

import torch
from torch import Generator, nn

from . import stats
from .device import placed
from .explaining import FAULTS, described, one_line
from .grid import Cell, Unit
from .interventions import group_accuracy, predict, reliance
from .plugin import DATASETS, MODELS, NotApplicable, Outputs, Problem
from .randomness import rng_for, seeded
from .records import Record, failed, place, problem_key, reliance_key, unscored, working
from .registry import AssayError
from .scoring import Explained
from .spec import Setting

LEARNED = 0.1  # a model below this share of the way from the best constant to perfect has learned nothing


def run_unit(unit: Unit, cells: Sequence[Cell]) -> Iterator[Record]:
    """Compute these cells of the unit; every record is final when it is yielded.

    Raises:
        AssayError: what the user asked of the dataset cannot be had, such as a column that is not in a file.
    """
    torch.set_num_threads(1)
    where = place(unit)
    yield working(where, unit.model.text)
    try:
        problem = draw(*unit.problem)
        # a copy: other models of the problem are given the data as they were drawn
        model = train(unit, copy.deepcopy(problem))
        about, learned = _about(unit, problem, model)
        explained = Explained(unit, problem, model, learned, functools.partial(fitted, unit.model))
    except NotApplicable as why:
        yield from (unscored(cell, "skipped", one_line(why)) for cell in cells)
        return
    except AssayError:
        raise
    except FAULTS as error:
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
    outputs = predict(model, problem.x[problem.test])
    quality = model_quality(problem, outputs)
    groups, follows = group_accuracy(problem, outputs)
    # a model that took the shortcut has learned what it was shown, and is right in half of the rows
    learned = max(quality["quality"], follows) >= LEARNED
    version = f"{unit.dataset.version}/{unit.model.version}"
    row = {**where, **quality, **groups, "learned": learned, "version": version}
    about = {**where, "facts": facts, "version": unit.dataset.version}
    found = [Record("problems", problem_key(unit), about), Record("models", unit.key, row)]
    for used in reliance(problem, model, outputs, rng_for("reliance", unit.key)):
        key = reliance_key(unit, used["region"])
        found.append(Record("reliance", key, {**where, **used, "version": version}))
    return found, learned


@functools.lru_cache(maxsize=1)
def draw(dataset: Setting, seed: int) -> Problem:
    """The problem of this seed; workers are handed its models one after the other."""
    rng = rng_for("problem", dataset.key, str(seed))
    with seeded(rng):
        return DATASETS[dataset.name].function(rng, **dataset.params)


def train(unit: Unit, problem: Problem) -> nn.Module:
    """The trained model, in eval mode whatever its plug-in left it in."""
    return fitted(unit.model, problem, rng_for("model", unit.key))


def fitted(setting: Setting, problem: Problem, rng: Generator) -> nn.Module:
    """A model of this kind, fitted to the problem; in eval mode."""
    with seeded(rng):
        model: nn.Module = MODELS[setting.name].function(problem, rng, **setting.params)
    return model.eval() if looked_into(setting) else placed(model.eval(), problem)


def looked_into(model: Setting) -> bool:
    """Whether methods look into what was fitted, so that it must stay what it is; no network is trained."""
    return bool({"linear", "trees"} & set(MODELS[model.name].facts["has"]))


def model_quality(problem: Problem, outputs: Outputs) -> dict[str, float]:
    """How well a model's outputs predict the test rows, against the noiseless truth where there is one."""
    x, wanted = problem.x[problem.test], problem.y[problem.test]
    if problem.oracle is not None:
        exact = predict(problem.oracle, x.double())
        wanted = exact[:, 0] if problem.task == "regression" else exact.argmax(1)
    train = problem.y[problem.train].numpy()
    if problem.task == "regression":
        found = stats.regression_quality(outputs[:, 0].double().numpy(), wanted.double().numpy(), train)
    else:
        found = stats.classification_quality(outputs.argmax(1).numpy(), wanted.numpy(), train)
    return {**found, "rows": len(x)}
