"""Exact attributions of a known function, in double precision, one function per estimand."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .plugin import Labels, NotApplicable, Problem
from .terms import Estimand, Value

MAX_UNITS = 12  # 2^12 coalitions a row
COMPLETENESS = 1e-9  # integrated gradients must add up to this share of the largest difference
MAX_NODES = 2048
NUMBERS = 2_000_000  # of rows against their baselines at one time

Function = Callable[[Tensor], Tensor]


def explained_output(net: nn.Module, target: Labels) -> Function:
    """The scalar that is explained, as a function of rows; rows may come in whole multiples."""

    def f(x: Tensor) -> Tensor:
        outputs: Tensor = net(x)
        chosen = target.repeat(len(x) // len(target))
        return outputs.gather(1, chosen[:, None]).squeeze(1)

    return f


def exact_attribution(
    problem: Problem, target: Labels, estimand: Estimand, value: Value = "baseline"
) -> Float[Tensor, "n *feature"]:
    """What a perfect estimator of `estimand` would return for the explained rows of the oracle.

    Where the value is "marginal", the mean of what it would return for each background row as the baseline.

    Raises:
        NotApplicable: the problem has no oracle, or this estimand cannot be had exactly.
    """
    if problem.oracle is None:
        raise NotApplicable("the problem has no oracle, so its exact attributions are not known")
    f = explained_output(problem.oracle, target)
    x = problem.x[problem.explained].double()
    if estimand == "gradient":
        return gradient(f, x)
    if estimand == "gradient_x_input":
        return gradient(f, x) * x
    fillers = problem.baseline[None] if value == "baseline" else problem.background
    total, many = torch.zeros_like(x), [1] * (x.dim() - 1)
    for some in fillers.double().split(max(1, NUMBERS // x.numel())):
        each = _against(f, x.repeat(len(some), *many), some.repeat_interleave(len(x), 0), problem, estimand)
        total += each.view(len(some), *x.shape).sum(0)
    return total / len(fillers)


def _against(
    f: Function, x: Tensor, baseline: Tensor, problem: Problem, estimand: Estimand
) -> Float[Tensor, "n *feature"]:
    """The exact attribution of each row against a baseline of its own."""
    if estimand == "integrated_gradients":
        return integrated_gradients(f, x, baseline)
    if estimand == "ablation":
        return ablation(f, x, baseline, relevant_units(problem))
    # Shapley values are also the yardstick of methods that name no estimand: the one attribution that
    # the axioms leave
    return shapley(f, x, baseline, relevant_units(problem))


def relevant_units(problem: Problem) -> list[Int[Tensor, " _"]]:
    """For every unit that matters in any row, the flat indices of its features."""
    relevant = problem.masks["relevant"].any(0).flatten()
    units = torch.arange(len(relevant)) if problem.groups is None else problem.groups.flatten()
    return [(units == unit).nonzero()[:, 0] for unit in units[relevant].unique()]


def gradient(f: Function, x: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
    """The derivative of every row's output in its own features."""
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def ablation(
    f: Function,
    x: Float[Tensor, "n *feature"],
    baseline: Float[Tensor, "n *feature"],
    units: list[Int[Tensor, " _"]],
) -> Float[Tensor, "n *feature"]:
    """f(x) - f(x with one unit at the baseline)."""
    out = torch.zeros_like(x).flatten(1)
    with torch.no_grad():
        whole = f(x)
        for unit in units:
            out[:, unit] = (whole - f(_replaced(x, baseline, unit)))[:, None] / len(unit)
    return out.view_as(x)


def integrated_gradients(
    f: Function, x: Float[Tensor, "n *feature"], baseline: Float[Tensor, "n *feature"]
) -> Float[Tensor, "n *feature"]:
    """Gauss-Legendre quadrature of the gradient on the straight path, nodes doubled until it is complete."""
    with torch.no_grad():
        difference = f(x) - f(baseline)
    scale = difference.abs().max().clamp_min(1e-12)
    last = math.inf
    for nodes in (16 << i for i in range((MAX_NODES // 16).bit_length())):
        points, weights = np.polynomial.legendre.leggauss(nodes)
        out = torch.zeros_like(x)
        for t, w in zip((points + 1) / 2, weights / 2, strict=True):
            out += w * gradient(f, baseline + t * (x - baseline))
        out *= x - baseline
        error = (out.flatten(1).sum(1) - difference).abs().max() / scale
        if error < COMPLETENESS:
            return out
        if nodes >= 128 and not error < last / 8:
            break  # a kink on the path: the error falls with the nodes, and would need millions of them
        last = float(error)
    raise NotApplicable(f"integrated gradients of the oracle do not converge: error {error:.1e} at {nodes}")


def shapley(
    f: Function,
    x: Float[Tensor, "n *feature"],
    baseline: Float[Tensor, "n *feature"],
    units: list[Int[Tensor, " _"]],
) -> Float[Tensor, "n *feature"]:
    """Shapley values by enumeration of all coalitions of the relevant units; the others are exactly 0."""
    k = len(units)
    if k > MAX_UNITS:
        raise NotApplicable(
            f"exact Shapley values enumerate at most {MAX_UNITS} relevant units, this has {k}"
        )
    coalitions = list(itertools.product((False, True), repeat=k))
    weights = _shapley_weights(coalitions)
    values, now = x.new_zeros(k, len(x)), x.flatten(1).clone()
    fill, given = baseline.flatten(1), x.flatten(1)
    present = [True] * k
    with torch.no_grad():
        # one coalition to the next: only what changes is written, and irrelevant features stay
        for coalition, weight in zip(coalitions, weights.T, strict=True):
            for i, unit in enumerate(units):
                if coalition[i] != present[i]:
                    now[:, unit] = (given if coalition[i] else fill)[:, unit]
            present = list(coalition)
            values += weight[:, None] * f(now.view_as(x))
    out = torch.zeros_like(given)
    for unit, value in zip(units, values, strict=True):
        out[:, unit] = value[:, None] / len(unit)
    return out.view_as(x)


def _shapley_weights(coalitions: list[tuple[bool, ...]]) -> Float[Tensor, "units coalitions"]:
    """What every coalition's value counts for in every unit's Shapley value: + with the unit, - without."""
    member = torch.tensor(coalitions, dtype=torch.bool).T
    k, size = len(member), member.sum(0)
    orders = torch.tensor([math.factorial(s) * math.factorial(k - 1 - s) for s in range(k)] + [0])
    share = orders.double() / math.factorial(k)
    return torch.where(member, share[size - 1], -share[size])


def _replaced(x: Tensor, baseline: Tensor, unit: Int[Tensor, " _"]) -> Tensor:
    """`x` with the features of `unit` at the baseline."""
    out = x.flatten(1).clone()
    out[:, unit] = baseline.flatten(1)[:, unit]
    return out.view_as(x)
