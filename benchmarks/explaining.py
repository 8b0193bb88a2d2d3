"""One method on one model: run apart from everything else, timed, counted, held to its promises."""

import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import stats
from .metering import counted, memory_now, peak_since
from .perturb import difference
from .plugin import METHODS, MODELS, Case, NotApplicable, Note, Remark
from .randomness import rng_for, seeded
from .registry import AssayError
from .shared import Loan
from .sharing import isolated
from .spec import Setting
from .terms import Capability, Value

FAULTS = (Exception, SystemExit)  # what a plug-in may raise at no cost but its own
NOTES = 5  # of one method that are told
PROMISE = 1e-3  # a method that promises completeness may miss it by this share
LACKS: dict[Capability, str] = {
    "gradient": "needs a gradient, and {} has none",
    "layers": "needs a network of layers, and {} is none",
    "linear": "needs a linear model, and {} is none",
    "trees": "needs a tree ensemble, and {} is none",
    "convolution": "needs layers that are laid out as the input is, and {} has none",
    "attention": "needs layers of attention, and {} has none",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """What a method returned, or why it did not, and what that cost."""

    values: Tensor | None = None  # float64 [n, *feature]
    status: str = "ok"
    reason: str = ""
    seconds: float = 0.0
    remark: str = ""  # what the method says of its own choices
    model_rows: int = 0
    backward_rows: int = 0
    peak_mb: float = float("nan")
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
    except FAULTS as error:
        return Attribution(status="failed", reason=f"{method.name} raised {described(error)}")


def inapplicable(method: Setting, model: Setting) -> str:
    """Why this method cannot explain this model, or nothing."""
    needs, has = METHODS[method.name].facts["needs"], MODELS[model.name].facts["has"]
    lacking = [need for need in needs if need not in has]
    return LACKS[lacking[0]].format(model.name) if lacking else ""


def value_of(method: Setting) -> Value:
    """What an absent feature is replaced by: the method's parameter `value`, else what it declares."""
    value: Value = method.params.get("value", METHODS[method.name].facts["value"])
    return value


def explainer(method: Setting) -> Callable[[Case], Tensor]:
    """The method with its parameters: isolated, seeded, in float64."""
    return lambda case: _explained(method, isolated(case))


def explainer_again(method: Setting) -> Callable[[Case], Tensor]:
    """The same as metrics may call it: in silence, since what it says of itself was said of its first map."""
    explain = explainer(method)

    def silent(case: Case) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return explain(case)

    return silent


def _explained(method: Setting, case: Case) -> Tensor:
    function: Callable[..., Tensor] = METHODS[method.name].function
    with seeded(case.rng):
        values = function(case, **method.params)
    return checked_map(values, case.x)


def checked_map(values: Any, x: Tensor) -> Tensor:
    """`values` as float64.

    Raises:
        ValueError: not one finite number for every feature of every row.
    """
    if not isinstance(values, Tensor):
        raise ValueError(f"it must return a tensor, got {type(values).__name__}")
    if values.shape != x.shape:
        raise ValueError(f"it must return the shape of x, {tuple(x.shape)}, got {tuple(values.shape)}")
    if values.is_meta or values.layout != torch.strided:
        raise ValueError(f"it must return a dense tensor with values, got {values.layout} on {values.device}")
    bad = int((~values.isfinite()).sum())
    if bad:
        raise ValueError(f"it must return finite numbers, {bad} of {values.numel()} are NaN or infinite")
    if values.is_complex():
        raise ValueError(f"it must return real numbers, got {values.dtype}")
    return values.detach().cpu().double()


def _measured(method: Setting, case: Case, key: str) -> Attribution:
    own = isolated(case, rng=rng_for("method", key, method.key))
    loan = own.shared if isinstance(own.shared, Loan) else None
    held, start = memory_now(), time.perf_counter()
    with counted(own.model) as rows, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        for kind in (Note, Remark):
            warnings.simplefilter("always", kind)
        values = _explained(method, own)
    seconds, peak = time.perf_counter() - start, peak_since(held)
    notes = _said(caught, Note)
    error = completeness_error(values, case, value_of(method))
    if "complete" in METHODS[method.name].facts["promises"] and error > PROMISE:
        notes.append(f"promise broken: misses f(x) - f(everything absent) by {error:.1%} on average")
    return Attribution(
        values=values,
        reason="; ".join(notes),
        remark="; ".join(_said(caught, Remark)),
        # what a method reads of the shared tables is its cost too, whoever had them made
        seconds=seconds + (loan.seconds if loan else 0.0),
        model_rows=rows.forward + (loan.rows if loan else 0),
        backward_rows=rows.backward,
        peak_mb=max(peak, loan.peak_mb if loan else 0.0),
        completeness_error=error,
    )


def _said(caught: list[warnings.WarningMessage], kind: type[Warning]) -> list[str]:
    said = [*dict.fromkeys(one_line(w.message) for w in caught if issubclass(w.category, kind))]
    return said if len(said) <= NOTES else [*said[:NOTES], f"and {len(said) - NOTES:,} notes more"]


def completeness_error(values: Tensor, case: Case, value: Value) -> float:
    """By how much the map misses f(x) - f(everything absent), as a share of its mean size."""
    total = values.flatten(1).sum(1)
    return stats.relative_gap(total.numpy(), difference(case, value).double().numpy())


def described(error: BaseException) -> str:
    """Type and message of an exception on one line."""
    return f"{type(error).__name__}: {one_line(error)}"


def one_line(what: object) -> str:
    """The text on one line that can be printed, without memory addresses, which differ from run to run."""
    text = " ".join(str(what).split()).encode("utf-8", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return re.sub(r"0x[0-9a-f]{6,}", "0x...", text)[:500]
