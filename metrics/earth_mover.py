"""Earth mover's score."""

from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from scipy.optimize import linprog
from scipy.sparse import csc_array
from torch import Tensor

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.ranking import over_space

EXACT: Any = {"presolve": False, "primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


@metric(
    version=1,
    paper="https://arxiv.org/abs/2306.12816",
    family="ground truth",
    best=1.0,
    worst=0.0,
    claims=("scale", "sign"),
    draws=2,
)
def earth_mover(evidence: Evidence, *, side: Annotated[int, Ge(2)] = 8) -> Scores:
    """1 - the work of moving |a| onto the relevant features, over that of moving it across the whole plane.

    |a| and the mask are each divided by their sum; work is mass times straight distance, the least that does
    it, found by linear programming.  It is divided by the distance of opposite corners.  The last two axes of
    the features are space; the others are summed over.  A zero map counts as a constant one.

    side: a longer axis is cut into at most so many cells of equal length (the last may be shorter), and mass
        lies at their centres, from corner to corner too.  A row takes about 5 ms at 8, and 25 ms at 16.

    No unit; 0 to 1 (spread evenly over the relevant features, as a map of unequal effects is not); higher is
    better.  NaN where no feature is relevant.  Source: Clark et al. 2023 (XAI-TRIS), arXiv 2306.12816.

    Raises:
        NotApplicable: the features are not laid out in a plane.
    """
    size, relevant = over_space(evidence.attribution.abs()), over_space(evidence.relevant)
    constant = size.sum((1, 2), keepdim=True) == 0
    a, m = (_pooled(v, side) for v in (size.masked_fill(constant, 1.0), relevant))
    y, x = (_centres(length, side) for length in size.shape[1:])
    places = torch.cartesian_prod(y, x)
    distance = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    pairs, which = torch.stack([a, m], 1).unique(dim=0, return_inverse=True)  # many rows may be alike
    work = [np.nan if np.isnan(b).any() else _work(b[0] - b[1], distance) for b in pairs.numpy()]
    farthest = distance.max() or 1.0  # one place: nothing can be moved
    return (1 - torch.tensor(work, dtype=torch.float64)[which] / farthest).clamp(0, 1)


def _pooled(mass: Float[Tensor, "n height width"], side: int) -> Float[Tensor, "n cells"]:
    """Every cell's share of the row's mass; NaN where there is none."""
    for axis in (1, 2):
        cell = _cells(mass.shape[axis], side)
        empty = mass.new_zeros([int(cell[-1]) + 1 if i == axis else n for i, n in enumerate(mass.shape)])
        mass = empty.index_add_(axis, cell, mass)
    flat = mass.flatten(1)
    return flat / flat.sum(1, keepdim=True)


def _cells(length: int, side: int) -> Int[Tensor, " length"]:
    """Which cell each place of an axis is in."""
    return torch.arange(length) // -(-length // side)


def _centres(length: int, side: int) -> Float[Tensor, " cells"]:
    """Mean place of each cell."""
    cell = _cells(length, side)
    total = torch.zeros(int(cell[-1]) + 1, dtype=torch.float64)
    return total.index_add(0, cell, torch.arange(length).double()) / cell.bincount()


def _work(surplus: Float[np.ndarray, " cells"], distance: Float[np.ndarray, "cells cells"]) -> float:
    """Least work that levels the surplus; mass that is at its aim may stay, as detours are never shorter."""
    source, aim = np.flatnonzero(surplus > 0), np.flatnonzero(surplus < 0)
    routes = len(source) * len(aim)
    if routes == 0:
        return 0.0
    route = np.arange(routes)
    ends = np.stack([route // len(aim), len(source) + route % len(aim)], 1).ravel()
    leaves: Any = csc_array((np.ones(2 * routes), ends, np.arange(0, 2 * routes + 1, 2)))
    amounts = np.abs(surplus[np.concatenate([source, aim])])
    cost = distance[np.ix_(source, aim)].ravel()
    found: Any = linprog(cost, A_eq=leaves, b_eq=amounts, method="highs-ds", options=EXACT)
    return float(found.fun)
