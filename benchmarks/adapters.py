"""One line that makes a method of a captum class, a shap explainer class, or any f(model, x, target).

In a file of your own, given with --plugin:

    from_captum(captum.attr.InputXGradient, name="mine", needs="gradient", estimand="gradient_x_input")
    from_shap(shap.SamplingExplainer, name="theirs", estimand="shapley", arguments={"nsamples": 500})
    from_function(my_function, name="ours", needs="gradient", paper="https://arxiv.org/abs/...")

What else is given, `estimand`, `value`, `promises`, `signed`, `cost`, `version`, is as for `plugin.method`.
"""

import copy
import inspect
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .coalitions import units_of
from .games import Game, play_rows
from .perturb import absent
from .plugin import Case, MethodFunction, Samples, method
from .registry import AssayError
from .shapley import shared_out
from .terms import Value

Arguments = Mapping[str, Any]


def from_captum(
    explainer: Callable[[nn.Module], Any],
    *,
    name: str,
    arguments: Arguments | None = None,
    paper: str = "https://captum.ai/api/",
    **facts: Any,
) -> MethodFunction:
    """A method from an attribution class of captum, or from a function of the model that makes one.

    Its `attribute` is given the target and what else it has parameters for: the baseline (the background,
    where the method's value is "marginal") and the units as `feature_mask`; what a unit gets is shared among
    its features.

    arguments: more arguments of `attribute`.
    """
    given = dict(arguments or {})
    value: Value = facts.get("value", "baseline")

    def explain(case: Case) -> Samples:
        attribute = explainer(case.model).attribute
        takes = inspect.signature(attribute).parameters
        offered: dict[str, Any] = {"target": case.target, "feature_mask": units_of(case)[None]}
        offered["baselines"] = case.baselines if value == "baseline" else case.background
        chosen = {key: offered[key] for key in offered if key in takes or key == "target"} | given
        values: Tensor = attribute(case.x.clone().requires_grad_(), **chosen).detach()
        return shared_out(case, values) if "feature_mask" in takes else values

    return _registered(explain, name, f"{_title(explainer)} of captum.", paper, facts)


def from_shap(
    explainer: Callable[..., Any],
    *,
    name: str,
    arguments: Arguments | None = None,
    paper: str = "https://shap.readthedocs.io/en/latest/api.html",
    **facts: Any,
) -> MethodFunction:
    """A method from an explainer class of shap that takes a function and a background, or a torch model.

    One that asks for layers or gradients (`needs`) is given the model and what absent features are
    replaced by; any other plays, row by row, the game of the case's units.

    arguments: more arguments of `shap_values`.
    """
    given = dict(arguments or {})
    value: Value = facts.get("value", "baseline")
    # those that take any argument draw a progress bar unless told not to
    any_argument = inspect.getfullargspec(explainer.shap_values).varkw is not None  # type: ignore[attr-defined]
    silent = {"silent": True} if any_argument and "silent" not in given else {}

    def of_network(case: Case) -> Samples:
        # shap's own tensors are float32
        model, fillers, rows = copy.deepcopy(case.model).float(), absent(case, value).float(), case.x.float()
        found = explainer(model, fillers).shap_values(rows, **given)
        return torch.as_tensor(found, dtype=case.x.dtype)[torch.arange(len(rows)), ..., case.target]

    def of_units(case: Case) -> Samples:
        def solve(game: Game, units: int) -> Any:
            player = explainer(game, np.zeros((1, units)))
            return player.shap_values(np.ones((1, units)), **silent, **given).reshape(units)

        return play_rows(case, value, solve)

    explain = of_network if facts.get("needs") else of_units
    return _registered(explain, name, f"{_title(explainer)} of shap.", paper, facts)


def from_function(
    function: Callable[[nn.Module, Tensor, Tensor], Tensor], *, name: str, paper: str, **facts: Any
) -> MethodFunction:
    """A method from f(model, x, target) -> one number for every feature of every row of x.

    target: the explained output of every row, [rows].
    """

    def explain(case: Case) -> Samples:
        return function(case.model, case.x.clone(), case.target)

    return _registered(explain, name, f"{_title(function)}, a function of model, x and target.", paper, facts)


def _title(explainer: Callable[..., Any]) -> str:
    return getattr(explainer, "__name__", type(explainer).__name__)


def _registered(
    explain: Callable[[Case], Samples], name: str, summary: str, paper: str, facts: dict[str, Any]
) -> MethodFunction:
    """`explain` as the method `name` of the file that called the adapter."""
    if not name.isidentifier():
        raise AssayError(f"{name!r} cannot be a method's name; use letters, digits and _, as in my_method.")
    explain.__name__, explain.__doc__ = name, summary
    # the caller's: edits of that file are new versions, and `--plugin` adds what it defines
    explain.__module__ = _caller()
    return method(paper=paper, **facts)(explain)


def _caller() -> str:
    """The module that called an adapter; run-time type checkers may stand in between."""
    frame: FrameType | None = sys._getframe()
    between = {"jaxtyping", "beartype"}
    while frame and (frame.f_globals["__name__"] == __name__ or _head(frame) in between):
        frame = frame.f_back
    return str(frame.f_globals["__name__"]) if frame else __name__


def _head(frame: FrameType) -> str:
    return str(frame.f_globals["__name__"]).partition(".")[0]
