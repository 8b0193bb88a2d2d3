"""One method on one model: run apart from everything else, timed, counted, held to its promises."""

import copy
import dataclasses
import re
import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from . import stats
from .perturb import difference
from .plugin import METHODS, MODELS, Case, NotApplicable, Note
from .randomness import rng_for, seeded
from .registry import AssayError
from .spec import Setting

PROMISE = 1e-3  # a method that promises completeness may miss it by this share


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """What a method returned, or why it did not, and what that cost."""

    values: Tensor | None = None  # float64 [n, *feature]
    status: str = "ok"
    reason: str = ""
    seconds: float = 0.0
    model_rows: int = 0
    completeness_error: float = float("nan")


def attribute(method: Setting, model: Setting, case: Case, key: str) -> Attribution:
    """Run the method on its own copy of the model, from a generator of its own.

    Nothing that it does to the model, the input or the global generators reaches any other cell, and
    whatever it raises becomes a reason.
    """
    refusal = inapplicable(method, model)
    if refusal:
        return Attribution(status="skipped", reason=refusal)
    try:
        return _measured(method, case, key)
    except NotApplicable as why:
        return Attribution(status="skipped", reason=one_line(why))
    except AssayError:
        raise
    except Exception as error:
        return Attribution(status="failed", reason=f"{method.name} raised {described(error)}")


def inapplicable(method: Setting, model: Setting) -> str:
    """Why this method cannot explain this model, or nothing."""
    needs, has = METHODS[method.name].facts, MODELS[model.name].facts
    if needs["gradient"] and not has["gradient"]:
        return f"needs a gradient, and {model.name} has none"
    if needs["layers"] and not has["layers"]:
        return f"needs a network of layers, and {model.name} is none"
    return ""


def explainer(method: Setting) -> Callable[[Case], Tensor]:
    """The method with its parameters, as metrics may call it again: seeded, detached, in float64."""
    function: Callable[..., Tensor] = METHODS[method.name].function

    def explain(case: Case) -> Tensor:
        with seeded(case.rng):
            values = function(case, **method.params)
        return checked_map(values, case.x)

    return explain


def checked_map(values: Any, x: Tensor) -> Tensor:
    """`values` as float64.

    Raises:
        ValueError: not one finite number for every feature of every row.
    """
    if not isinstance(values, Tensor):
        raise ValueError(f"it must return a tensor, got {type(values).__name__}")
    if values.shape != x.shape:
        raise ValueError(f"it must return the shape of x, {tuple(x.shape)}, got {tuple(values.shape)}")
    bad = int((~values.isfinite()).sum())
    if bad:
        raise ValueError(f"it must return finite numbers, {bad} of {values.numel()} are NaN or infinite")
    return values.detach().double()


def _measured(method: Setting, case: Case, key: str) -> Attribution:
    rows = [0]

    def count(_: nn.Module, __: tuple[Any, ...], outputs: Tensor) -> None:
        rows[0] += len(
            outputs
        )  # not of the inputs: captum's DeepLift hands rows and baselines over as a pair

    model = copy.deepcopy(case.model)
    own = dataclasses.replace(
        case,
        model=model,
        x=case.x.clone(),
        target=case.target.clone(),
        baseline=case.baseline.clone(),
        background=case.background.clone(),
        groups=None if case.groups is None else case.groups.clone(),
        rng=rng_for("method", key, method.key),
    )
    handle = model.register_forward_hook(count)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", Note)
        values = explainer(method)(own)
    seconds = time.perf_counter() - start
    handle.remove()
    notes = [one_line(w.message) for w in caught]
    error = completeness_error(values, case)
    if METHODS[method.name].facts["complete"] and error > PROMISE:
        notes.append(f"promise broken: misses f(x) - f(baseline) by {error:.1%} on average")
    return Attribution(
        values=values,
        reason="; ".join(notes),
        seconds=seconds,
        model_rows=rows[0],
        completeness_error=error,
    )


def completeness_error(values: Tensor, case: Case) -> float:
    """By how much the map misses f(x) - f(baseline), as a share of its mean size."""
    total = values.flatten(1).sum(1)
    return stats.relative_gap(total.numpy(), difference(case).double().numpy())


def peak_mb() -> float:
    """The most memory that this process has held, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def described(error: BaseException) -> str:
    """Type and message of an exception on one line."""
    return f"{type(error).__name__}: {one_line(error)}"


def one_line(what: object) -> str:
    """The text on one line, without memory addresses, which differ from run to run."""
    return re.sub(r"0x[0-9a-f]{6,}", "0x...", " ".join(str(what).split()))[:500]
