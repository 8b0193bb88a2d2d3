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

import captum.attr
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
OWN_MODELS = ("trees", "linear")  # shap's explainers of these read the fitted model itself


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
        made = explainer(case.model)
        takes = inspect.signature(made.attribute).parameters
        offered: dict[str, Any] = {"target": case.target}
        if "feature_mask" in takes:
            offered["feature_mask"] = units_of(case)[None]
        _require(_title(explainer), takes, {*offered, "inputs", "baselines", *given})
        if isinstance(made, captum.attr.GradientShap | captum.attr.DeepLiftShap):
            several = [absent(case, value)]  # these average over all that they are given
        else:
            several = [filler.expand_as(case.x) for filler in absent(case, value)]
        if "baselines" not in takes:
            several = several[:1]
        total = torch.zeros_like(case.x)
        for baselines in several:
            chosen = offered | ({"baselines": baselines} if "baselines" in takes else {}) | given
            total += made.attribute(case.x.clone().requires_grad_(), **chosen).detach() / len(several)
        return shared_out(case, total) if "feature_mask" in takes else total

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

    arguments: more arguments of `shap_values`, or of the call where there is none.
    """
    given = dict(arguments or {})
    value: Value = facts.get("value", "baseline")
    values_of = getattr(explainer, "shap_values", None)
    # those that take any argument draw a progress bar unless told not to
    any_argument = values_of is not None and inspect.getfullargspec(values_of).varkw is not None
    silent = {"silent": True} if (any_argument or values_of is None) and "silent" not in given else {}
    if facts.get("needs") in OWN_MODELS:
        raise AssayError(
            f"from_shap gives explainers functions or networks, and {name!r} needs {facts['needs']!r}; use "
            "tree_shap or linear_shap, or write the method."
        )

    def of_network(case: Case) -> Samples:
        # shap's own tensors are float32
        model, fillers, rows = copy.deepcopy(case.model).float(), absent(case, value).float(), case.x.float()
        found = explainer(model, fillers).shap_values(rows, **given)
        return torch.as_tensor(found, dtype=case.x.dtype)[torch.arange(len(rows)), ..., case.target]

    def of_units(case: Case) -> Samples:
        def solve(game: Game, units: int) -> Any:
            player, row = explainer(game, np.zeros((1, units))), np.ones((1, units))
            if values_of is None:
                return player(row, **silent, **given).values.reshape(units)
            return player.shap_values(row, **silent, **given).reshape(units)

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


def _require(title: str, takes: Mapping[str, inspect.Parameter], given: set[str]) -> None:
    """Say which arguments are lacking, before captum fails for want of them."""
    must = {n for n, p in takes.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
    lacking = ", ".join(sorted(must - given))
    if lacking:
        raise ValueError(f"{title}.attribute needs {lacking}; give arguments={{...}} to from_captum")


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
