"""Coalitions of units, drawn once for all rows, and the weighted fits on the model's output under them."""

import itertools

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from .perturb import outputs_under
from .plugin import Case


def units_of(case: Case) -> Tensor:
    """Feature -> unit, numbered from 0 without gaps; [*feature]."""
    if case.groups is None:
        return torch.arange(case.baseline.numel()).view(case.baseline.shape)
    return case.groups.unique(return_inverse=True)[1]


def fits(units: int, samples: int) -> bool:
    """Whether all coalitions of so many units can be had for this budget."""
    return units < 31 and 2**units <= samples


def all_coalitions(units: int) -> Bool[Tensor, "m units"]:
    """Every subset but the empty and the whole one."""
    return torch.tensor(list(itertools.product((False, True), repeat=units))[1:-1], dtype=torch.bool)


def shapley_weights(coalitions: Bool[Tensor, "m units"]) -> Float[Tensor, " m"]:
    """The kernel (d - 1) / (C(d, s) s (d - s)) of Lundberg & Lee (2017), up to a factor."""
    d = coalitions.shape[1]
    size = coalitions.sum(1).double()
    log_choose = torch.lgamma(torch.tensor(d + 1.0)) - torch.lgamma(size + 1) - torch.lgamma(d - size + 1)
    return torch.exp(-log_choose) / (size * (d - size))


def paired_coalitions(units: int, samples: int, rng: Generator) -> Bool[Tensor, "m units"]:
    """Subsets whose sizes follow the Shapley kernel, stratified by size, each with its complement.

    Drawn so, they all count the same in the fit; the pairing cancels the odd part of the sampling error
    (Covert & Lee 2021).
    """
    sizes = torch.arange(1, units)
    probability = 1.0 / (sizes * (units - sizes)).double()
    edges = torch.cumsum(probability / probability.sum(), 0)
    half = max(1, samples // 2)
    # one uniform draw per stratum of the size distribution: no size is over- or under-represented by luck
    u = (torch.arange(half) + torch.rand(half, generator=rng)) / half
    size = sizes[torch.searchsorted(edges, u.double().clamp(max=1 - 1e-12))]
    rank = torch.rand(half, units, generator=rng).argsort(1).argsort(1)
    drawn = rank < size[:, None]
    return torch.cat([drawn, ~drawn])


def coalition_outputs(
    case: Case, coalitions: Bool[Tensor, "m units"]
) -> tuple[Float[Tensor, "n m"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Outputs under every coalition, with everything present, and with nothing present; float64."""
    units = units_of(case)
    ends = torch.stack([torch.zeros_like(coalitions[0]), torch.ones_like(coalitions[0])])
    keep = torch.cat([ends, coalitions])[:, units]
    outputs = outputs_under(case, keep[None]).double()
    return outputs[:, 2:], outputs[:, 1], outputs[:, 0]


def shapley_regression(
    coalitions: Bool[Tensor, "m units"],
    weights: Float[Tensor, " m"],
    outputs: Float[Tensor, "n m"],
    difference: Float[Tensor, " n"],
) -> Float[Tensor, "n units"]:
    """Weighted least squares of the outputs on membership, adding up to `difference`: one solve for all rows.

    outputs: minus the output with nothing present.
    """
    z = coalitions.double()
    normal = z.T @ (weights[:, None] * z)
    # a unit that is in no pair twice makes the normal matrix singular: the ridge is far below rounding of v
    normal += 1e-10 * normal.diagonal().mean() * torch.eye(len(normal), dtype=torch.float64)
    factor = torch.linalg.cholesky(normal)
    free = torch.cholesky_solve(z.T @ (weights * outputs).T, factor)
    ones = torch.cholesky_solve(torch.ones(len(normal), 1, dtype=torch.float64), factor)
    excess = (free.sum(0) - difference) / ones.sum()
    return (free - ones * excess).T


def shared_out(case: Case, values: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
    """Maps that give every feature its unit's whole value, as captum's do, in equal shares instead."""
    units = units_of(case)
    return values / units.flatten().bincount().to(values)[units]


def spread_over_features(case: Case, values: Float[Tensor, "n units"]) -> Float[Tensor, "n *feature"]:
    """Hand each unit's value to its features in equal shares: sums stay what they were."""
    return shared_out(case, values[:, units_of(case)])
