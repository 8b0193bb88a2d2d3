"""Shapley values of units and linear fits from tables of coalitions, for all rows at once."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .coalitions import Everything, Table, Walks, fits, table, unit_count, units_of
from .plugin import Case, NotApplicable
from .terms import Value

UNSAFE = (0.7, 4.0)  # pairs of coalitions a unit, between which a plain fit follows its noise
MANY = 8  # units, from which on there are coalitions enough to choose a penalty by


def by_enumeration(found: Table) -> Float[Tensor, "n units"]:
    """Exact Shapley values from all coalitions: what a unit adds to every coalition of the others."""
    units = found.coalitions.shape[1]
    size = found.coalitions.sum(1)
    orders = [math.factorial(s) * math.factorial(units - 1 - s) for s in range(units)]
    share = torch.tensor([o / math.factorial(units) for o in orders], dtype=torch.float64)
    values = []
    for unit in range(units):
        # binary order: the unit's bit splits the table in blocks without it and with it
        without, present = found.outputs.view(len(found.outputs), -1, 2, 2 ** (units - 1 - unit)).unbind(2)
        weight = share[size.view(-1, 2, 2 ** (units - 1 - unit))[:, 0]]
        values.append(((present - without) * weight).sum((1, 2)))
    return torch.stack(values, 1)


def by_regression(found: Table) -> Float[Tensor, "n units"]:
    """Weighted least squares of the outputs on membership under the Shapley kernel, adding up exactly.

    The table's coalitions are pairs of complements, the first of each, then the others: of a pair, only the
    difference of its two outputs tells anything about the values (Covert & Lee 2021).  One factorisation
    serves all rows.

    With about as many pairs as units, plain least squares follows its noise, to errors of many times the
    values: every row then gets the ridge that cross-validation chooses (Golub, Heath & Wahba 1979).
    """
    half, units = len(found.coalitions) // 2, found.coalitions.shape[1]
    first = found.coalitions[:half].double()
    size = first.sum(1)
    kernel = found.weights[:half] / (size * (units - size))
    total = found.whole - found.empty
    odd = (found.outputs[:, :half] - found.outputs[:, half:]) / 2
    # what is left beyond equal shares of the total is fitted by values that add up to 0
    residual = odd - (size / units - 0.5) * total[:, None]
    centred = first - (size / units)[:, None]
    if units >= MANY and UNSAFE[0] * units <= half < UNSAFE[1] * units:
        root = kernel.sqrt()
        values = _cross_validated(root[:, None] * centred, root * residual)
    else:
        values = ridge(centred, kernel, residual, 0.0)
    return values - values.mean(1, keepdim=True) + total[:, None] / units


def _cross_validated(z: Float[Tensor, "m units"], y: Float[Tensor, "n m"]) -> Float[Tensor, "n units"]:
    """Ridge regression of every row of `y` on `z`, each with its own penalty."""
    u, s, v = torch.linalg.svd(z, full_matrices=False)
    along, power = y @ u, s.square()
    beside = y.square().sum(1) - along.square().sum(1)  # what no penalty can fit
    penalties = power.mean() * torch.logspace(-8, 2, 61, dtype=y.dtype)
    kept = power / (power + penalties[:, None])
    misfit = beside + (1 - kept).square() @ along.square().T
    score = misfit / (len(z) - kept.sum(1)).square()[:, None]
    best = kept[score.argmin(0)]
    return (along * best / s.clamp_min(1e-300)) @ v


def ridge(
    z: Float[Tensor, "m units"], weights: Float[Tensor, " m"], y: Float[Tensor, "n m"], penalty: float
) -> Float[Tensor, "n units"]:
    """Slopes of weighted ridge regressions of every row of `y` on `z`, without intercept; one factorisation.

    Where there are fewer coalitions than units, the same by the smaller system of the coalitions.  `z` is
    used up: of many units, a second copy would not fit in memory.
    """
    root = weights.sqrt()
    z, y = z.mul_(root[:, None]), root * y
    wide = len(z) < z.shape[1]
    normal = z @ z.T if wide else z.T @ z
    # where coalitions leave a direction open, the shortest solution: this ridge is far below rounding of y
    floor = 1e-10 * float(normal.diagonal().mean()) if normal.numel() else 1.0
    normal.diagonal().add_(penalty + max(floor, 1e-300))
    factor = torch.linalg.cholesky(normal)
    if wide:
        return torch.cholesky_solve(y.T, factor).T @ z
    return torch.cholesky_solve(z.T @ y.T, factor).T


def by_budgeted_walks(case: Case, budget: int, value: Value, *, paired: bool) -> Float[Tensor, "n units"]:
    """Shapley values from as many whole random orders as the budget allows; exact where all coalitions fit.

    paired: every order is also walked backwards.

    Raises:
        NotApplicable: the budget does not allow one.
    """
    units, ways = unit_count(case), 2 if paired else 1
    if fits(units, budget):
        return by_enumeration(table(case, Everything(), value))
    orders = (budget - 2) // (ways * (units - 1))
    if orders < 1:
        what = f"{units} units and back" if paired else f"{units} units"
        raise NotApplicable(
            f"one order of {what} takes {ways * (units - 1) + 2} model rows, and the budget is {budget}"
        )
    return by_walks(table(case, Walks(orders, paired), value), ways * orders)


def by_walks(found: Table, walks: int) -> Float[Tensor, "n units"]:
    """What every unit adds when it comes, averaged over walks."""
    n, units = len(found.outputs), found.coalitions.shape[1]
    way = found.outputs.view(n, walks, units - 1)
    ends = (v[:, None, None].expand(n, walks, 1) for v in (found.empty, found.whole))
    empty, whole = ends
    added = torch.cat([empty, way, whole], 2).diff(dim=2)
    steps = found.coalitions.view(walks, units - 1, units)
    place = (units - 1 - steps.sum(1)).expand(n, walks, units)  # absent on so many steps: comes at this one
    return added.gather(2, place).mean(1)


def shared_out(case: Case, values: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
    """Maps that give every feature its unit's whole value, as captum's do, in equal shares instead."""
    units = units_of(case)
    return values / units.flatten().bincount().to(values)[units]


def spread_over_features(case: Case, values: Float[Tensor, "n units"]) -> Float[Tensor, "n *feature"]:
    """Hand each unit's value to its features in equal shares, in the precision of x: sums stay."""
    return shared_out(case, values[:, units_of(case)]).to(case.x.dtype)
