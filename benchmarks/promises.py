"""What every attribution method must satisfy, on small models whose answers are known or must not change."""

import copy
import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor, nn

from .coalitions import Alone, Everything, table
from .explaining import checked_map
from .linear_task import linear_case
from .network_task import (
    DUMMY,
    ROWS,
    TWINS,
    attention_case,
    in_units,
    network_case,
    permuted,
    picture_case,
    shaped,
)
from .perturb import absent, difference
from .plugin import Case, NotApplicable
from .randomness import seeded
from .registry import Plugin
from .shapley import by_enumeration, spread_over_features
from .spec import setting
from .variants import side_by_side

TOLERANCE = 1e-4  # as a share of the mean size of the attributions
SEEDS = 5  # runs that show how much a sampled map varies
# Of those that have one: too little for all 32 coalitions of the small models' features, so that they sample,
# and enough for every method's fewest.
BUDGET = 30
PLACES = {"convolution", "attention"}  # needs of methods for models of pictures
UNITWISE = ("shapley", "ablation")  # estimands that are known exactly, of units as of features, on any model


def _explained(plugin: Plugin[Any], case: Case, **given: Any) -> Tensor:
    budget = {"budget": BUDGET} if "budget" in plugin.parameters and "budget" not in given else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with seeded(case.rng):
            values = plugin.function(case, **setting(plugin, budget | given).params)
    return checked_map(values, case.x)


def _cases(plugin: Plugin[Any]) -> Iterator[Case]:
    """A regression and a classifier that the method can explain; of pictures, if it needs places."""
    pictured = attention_case if "attention" in plugin.facts["needs"] else picture_case
    yield from [*_of_features(plugin)] or _served(plugin, pictured)


def _of_features(plugin: Plugin[Any]) -> Iterator[Case]:
    """Those whose features may stand anywhere."""
    if not PLACES & set(plugin.facts["needs"]):
        yield from _served(plugin, functools.partial(network_case, needs=plugin.facts["needs"]))


def _served(plugin: Plugin[Any], make: Callable[[int], Case]) -> Iterator[Case]:
    for outputs in (1, 3):
        try:
            _explained(plugin, make(outputs))
        except NotApplicable:
            continue
        yield make(outputs)


def _maps(plugin: Plugin[Any], case: Case) -> Tensor:
    """The maps from several seeds; of a method that draws nothing, all the same."""
    found = []
    for seed in range(SEEDS):
        found.append(_explained(plugin, dataclasses.replace(case, rng=Generator().manual_seed(seed))))
        if seed == 1 and torch.equal(*found):
            return found[0].expand(SEEDS, *case.x.shape)
    return torch.stack(found)


def _differ(a: Tensor, b: Tensor, what: str) -> None:
    """Two batches of maps must agree, within what their own variation explains where they have any."""
    a, b = a.flatten(2), b.flatten(2)
    gap = (a.mean(0) - b.mean(0)).norm()
    noise = ((a.var(0) + b.var(0)) / SEEDS).sum().sqrt()
    size = max(float(a.norm(dim=(1, 2)).mean()), 1e-12)
    assert gap <= TOLERANCE * size + 3 * noise, f"{what}: by {gap / size:.1e} of their size"


def explains_a_small_network(plugin: Plugin[Any]) -> None:
    """It can serve a regression or a classifier that has what it needs."""
    assert list(_cases(plugin)), "refuses the small models of the checks, regression and classification alike"


def keeps_shape_and_inputs(plugin: Plugin[Any]) -> None:
    """One finite number a feature, for many rows and for one, and nothing it was given is changed."""
    for case in _cases(plugin):
        before = traces(case)
        _explained(plugin, case)
        for name, now in traces(case).items():
            assert now == before[name], f"changed {name}"
        _explained(plugin, dataclasses.replace(case, x=case.x[:1], target=case.target[:1]))


def traces(case: Case) -> dict[str, Any]:
    """All that a method could leave behind, as something that can be compared.

    Not the state of the global generators: `seeded` restores it after every method.
    """
    modules = list(case.model.modules())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "its input": [t.tolist() for t in (case.x, case.target, case.baseline, case.background)],
        "requires_grad of its input": case.x.requires_grad,
        "the model's weights": [v.tolist() for v in case.model.state_dict().values()],
        "the model's mode": [m.training for m in modules],
        "the model's hooks": [len(getattr(m, hook)) for m in modules for hook in hooks],
        "the model's attributes": [sorted(vars(m)) for m in modules],
        "requires_grad of the model": [(p.requires_grad, p.grad is None) for p in case.model.parameters()],
        "the number of threads": torch.get_num_threads(),
        "the gradient mode": torch.is_grad_enabled(),
    }


def same_seed_same_attribution(plugin: Plugin[Any]) -> None:
    """Two runs from one seed agree to the bit."""
    for case in _cases(plugin):
        first, again = (
            _explained(plugin, dataclasses.replace(case, rng=Generator().manual_seed(1))) for _ in range(2)
        )
        assert torch.equal(first, again), (
            "two runs from one seed differ: draw from case.rng or the global generators"
        )


def rows_do_not_meet(plugin: Plugin[Any]) -> None:
    """A row's attribution does not depend on what the rows beside it are, nor on how many."""
    for case in _cases(plugin):
        other = case.x.clone()
        other[2:] = 3 * other[2:] - 1
        here, there = _maps(plugin, case), _maps(plugin, dataclasses.replace(case, x=other))
        gap = (here - there)[:, :2].abs().max() / here.abs().mean().clamp_min(1e-12)
        assert gap < TOLERANCE, f"a row's attribution changes by {gap:.1e} with the rows beside it"
        if torch.equal(here[0], here[1]):  # what is drawn may be drawn for all rows at once
            alone = dataclasses.replace(case, x=case.x[:1], target=case.target[:1])
            _differ(_maps(plugin, alone), here[:, :1], "a row alone gets another map than among others")


def columns_are_alike(plugin: Plugin[Any]) -> None:
    """With the columns in another order, weights and all, the attributions are in that order."""
    if "trees" in plugin.facts["needs"]:
        return  # a fitted ensemble's columns cannot be put in another order
    for case in _of_features(plugin):
        moved, order = permuted(case)
        _differ(
            _maps(plugin, case)[:, :, order], _maps(plugin, moved), "columns in another order get another map"
        )


def works_in_double_precision(plugin: Plugin[Any]) -> None:
    """A model and rows in float64 are explained too, and alike."""
    for case in _cases(plugin):
        double = dataclasses.replace(
            case,
            model=copy.deepcopy(case.model).double(),
            x=case.x.double(),
            baseline=case.baseline.double(),
            background=case.background.double(),
        )
        _differ(_maps(plugin, case), _maps(plugin, double), "maps in float64 are others")


def serves_any_shape(plugin: Plugin[Any]) -> None:
    """Rows of features in another shape get the same numbers, in that shape."""
    for case in _of_features(plugin):
        try:
            found = _maps(plugin, shaped(case))
        except NotApplicable:
            continue
        _differ(_maps(plugin, case), found.flatten(2), "rows in another shape get other numbers")


def plays_units(plugin: Plugin[Any]) -> None:
    """Where features form units it still works; unit values come out exact, in equal shares."""
    estimand = plugin.facts["estimand"]
    for case in map(in_units, _of_features(plugin)):
        try:
            found = _maps(plugin, case)
        except NotApplicable:
            continue
        for promise in {"complete", "dummy"} & set(plugin.facts["promises"]):  # the dummy is its own unit
            KEPT[promise](plugin, case)
        if estimand in UNITWISE:
            truth = _unitwise(plugin, case)
            _differ(found, truth.expand_as(found), f"misses the {estimand} values of units in equal shares")


def hits_its_estimand(plugin: Plugin[Any]) -> None:
    """Any estimand is known on a linear model; Shapley values and ablations are on every model."""
    estimand = plugin.facts["estimand"]
    if estimand == "none" or not any(_of_features(plugin)):
        return
    for case, truth in _known(plugin):
        found = _maps(plugin, case)
        _differ(found, truth.expand_as(found), f"misses its estimand, {estimand}")


def _known(plugin: Plugin[Any]) -> Iterator[tuple[Case, Tensor]]:
    """Cases with what the method should return there."""
    estimand = plugin.facts["estimand"]
    if estimand in UNITWISE:
        yield from ((case, _unitwise(plugin, case)) for case in _cases(plugin))
    for classes in () if "trees" in plugin.facts["needs"] else (1, 2):
        whole, exact = linear_case(classes)
        case, exact = dataclasses.replace(whole, x=whole.x[:ROWS], target=whole.target[:ROWS]), exact[:ROWS]
        away = (case.x - absent(case, _value(plugin)).mean(0)) / case.x
        factor = {"gradient": 1 / case.x, "gradient_x_input": torch.ones_like(case.x)}.get(estimand, away)
        yield case, _in_its_sign(plugin, exact * factor)


def _unitwise(plugin: Plugin[Any], case: Case) -> Tensor:
    """The exact Shapley values or ablations, by model outputs under coalitions."""
    if plugin.facts["estimand"] == "shapley":
        values = by_enumeration(table(case, Everything(), _value(plugin)))
    else:
        found = table(case, Alone(), _value(plugin))
        values = found.whole[:, None] - found.outputs
    return _in_its_sign(plugin, spread_over_features(case, values))


def _in_its_sign(plugin: Plugin[Any], truth: Tensor) -> Tensor:
    return truth.double() if plugin.facts["signed"] else truth.double().abs()


def _value(plugin: Plugin[Any]) -> Any:
    return plugin.defaults.get("value", plugin.facts["value"])


def keeps_its_promises(plugin: Plugin[Any]) -> None:
    """What it says of all models holds on small ones."""
    for promise in plugin.facts["promises"]:
        for case in _of_features(plugin):
            KEPT[promise](plugin, case)


def _complete(plugin: Plugin[Any], case: Case) -> None:
    wanted = difference(case, _value(plugin)).double()
    gap = (_explained(plugin, case).sum(1) - wanted).abs().mean() / wanted.abs().mean()
    assert gap < 10 * TOLERANCE, f"sums miss f(x) - f(everything absent) by {gap:.1%}"


def _dummy(plugin: Plugin[Any], case: Case) -> None:
    found = _explained(plugin, case)
    share = found[:, DUMMY].abs().max() / found.abs().mean()
    assert share < TOLERANCE, f"gives a feature that the model does not use {share:.1e} of the mean"


# Neither a fitted ensemble with two features that it cannot tell apart nor one that is the sum of two can be
# built.  What explains trees is compared with the enumerated Shapley values instead, if it estimates these,
# and of them both promises are true.


def _symmetric(plugin: Plugin[Any], case: Case) -> None:
    if "trees" not in plugin.facts["needs"]:
        found = _maps(plugin, case)
        first, second = (found[:, :, [twin]] for twin in TWINS)
        _differ(first, second, "two features that the model cannot tell apart differ")


def _linear(plugin: Plugin[Any], case: Case) -> None:
    if "trees" in plugin.facts["needs"]:
        return
    other = network_case(case.model(case.x).shape[1], plugin.facts["needs"], seed=1)
    parts = [dataclasses.replace(case, model=model) for model in (case.model, other.model)]
    f, g = case.model, other.model
    assert isinstance(f, nn.Sequential)  # what is no tree
    assert isinstance(g, nn.Sequential)
    whole = dataclasses.replace(case, model=side_by_side(f, g))
    first, second, both = (_maps(plugin, c) for c in (*parts, whole))
    _differ(both, first + second, "the attribution of a sum is not the sum of the attributions")


KEPT = {"complete": _complete, "dummy": _dummy, "symmetry": _symmetric, "linearity": _linear}

METHOD_CHECKS = (
    explains_a_small_network,
    keeps_shape_and_inputs,
    same_seed_same_attribution,
    rows_do_not_meet,
    columns_are_alike,
    works_in_double_precision,
    serves_any_shape,
    plays_units,
    hits_its_estimand,
    keeps_its_promises,
)
