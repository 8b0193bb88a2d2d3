"""Remove and debias."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from ..benchmarks.coalitions import unit_count
from ..benchmarks.perturb import NUMBERS, outputs_of
from ..benchmarks.plugin import Case, Evidence, NotApplicable, Scores, metric
from ..benchmarks.sharing import of_case
from ..benchmarks.thresholds import child, falling, latin_normal, share_counts

LEAST = 1e-3  # shrinkage, so that features that repeat each other leave the system solvable
MOST = 2048  # features whose covariance is inverted
CLOSE = 1e-10  # what is left of the neighbours' equations, in shares of their right-hand side


@metric(
    version=1,
    paper="https://arxiv.org/abs/2202.00449",
    family="faithfulness",
    best=inf,
    worst=0.0,
    needs=("model",),
    ceiling="ablation",
    claims=("scale", "sign", "ties"),
    caveat="Blurring an image's map can raise it, whatever the map says (arXiv 2304.13836).",
)
def road(evidence: Evidence, *, noise: Annotated[float, Ge(0)] = 0.01) -> Scores:
    """How far the prediction moves when the top features are guessed from the rest: mean |f(x) - f(x~)|.

    The mean is over shares of 1, 5, 10, 20 and 50% of the units, at least one unit, by falling |a|, ties at
    random.  In x~ they are imputed, so that what the others say of them stays, and noise is added.  Features
    [channels, height, width]: every missing value is the mean of its eight neighbours, weight 1/6 beside it
    and 1/12 at its corners, the missing ones among them solved for together, channel by channel; the
    baseline where a whole channel is missing.  Other features, up to 2048: the mean of the missing ones given
    those kept, under a Gaussian with the background's mean and covariance; correlations are shrunk as in OAS
    (Chen et al. 2010), by 0.001 at least.  A distance, unlike the paper's accuracy.

    noise: standard deviation of what is added, in those of each feature in the background; one draw, the same
        for all methods.

    Unit of the output; 0 to infinity; higher is better.  Source: Rong et al. 2022, arXiv 2202.00449.
    """
    case = evidence.case
    shake = latin_normal(case, 1, child(evidence.rng))[:, 0] * noise * case.background.std(0, correction=0)
    rank, limits = falling(evidence, evidence.rng), [0, *share_counts(unit_count(case)).tolist()]
    impute = _imputer(case)

    def build(rows: slice, which: slice) -> Tensor:
        gone = [rank[rows] < limit for limit in limits[which]]
        filled = [impute(case.x[rows], g) for g in gone]
        pairs = zip(gone, filled, strict=True)
        return torch.stack([torch.where(g, f + shake[rows], case.x[rows]) for g, f in pairs], 1)

    outputs = outputs_of(case, len(limits), build).double()
    return (outputs[:, 1:] - outputs[:, :1]).abs().mean(1)


def _imputer(case: Case) -> Callable[[Tensor, Tensor], Tensor]:
    """What fills in the features [rows, *feature] that are gone.

    Raises:
        NotApplicable: they have no neighbours, and are too many for a covariance.
    """
    if case.baseline.dim() == 3:
        return partial(_from_neighbours, case.baseline)
    if case.baseline.numel() > MOST:
        raise NotApplicable(
            f"inverts the covariance of at most {MOST:,} features, and this has {case.baseline.numel():,}"
        )
    return partial(_from_correlated, of_case(case, _Gaussian()))


@dataclass(frozen=True, slots=True)
class _Gaussian:
    """The recipe for the law of the background: mean, scale, and inverse correlations, over flat features."""

    def make(self, case: Case, _: Generator) -> tuple[Tensor, Tensor, Float[Tensor, "d d"]]:
        """Float64; a feature that does not vary has scale 1 and is correlated with none."""
        rows = case.background.double().flatten(1)
        at, scale = rows.mean(0), rows.std(0, correction=0)
        varies = scale > 1e-9 * rows.abs().amax(0)
        scale = scale.where(varies, 1.0)
        z = ((rows - at) / scale) * varies
        correlation = z.T @ z / len(rows)
        shrinkage = _shrinkage(len(rows), int(varies.sum()), float(correlation.square().sum()))
        correlation *= 1 - shrinkage
        correlation.fill_diagonal_(1.0)
        return at, scale, torch.cholesky_inverse(torch.linalg.cholesky(correlation))


def _shrinkage(n: int, p: int, square: float) -> float:
    """How far to shrink the correlations of p features over n rows, whose squares add up to `square`."""
    beyond = (n + 1 - 2 / max(p, 1)) * (square - p)
    return min(1.0, max(LEAST, ((1 - 2 / p) * square + p * p) / beyond)) if beyond > 0 else 1.0


def _from_correlated(
    law: tuple[Tensor, Tensor, Tensor], x: Float[Tensor, "rows *feature"], gone: Bool[Tensor, "rows *feature"]
) -> Float[Tensor, "rows *feature"]:
    """Every feature that is gone at its mean given those kept."""
    at, scale, precision = law
    z, missing = (x.double().flatten(1) - at) / scale, gone.flatten(1)
    width = int(missing.sum(1).max())
    step = max(1, NUMBERS // max(1, width * width))
    parts = [_solved(a, b, precision, width) for a, b in zip(z.split(step), missing.split(step), strict=True)]
    return (torch.cat(parts) * scale + at).view(x.shape).to(x.dtype)


def _solved(
    z: Float[Tensor, "rows d"], gone: Bool[Tensor, "rows d"], precision: Float[Tensor, "d d"], width: int
) -> Float[Tensor, "rows d"]:
    """The conditional means: P_gg z_g = -P_gk z_k, for rows that lack different features."""
    place: Int[Tensor, "rows width"] = gone.long().argsort(1, descending=True)[:, :width]
    lacks = gone.gather(1, place)  # a row that lacks fewer has equations z = z to fill up
    both = lacks[:, :, None] & lacks[:, None]
    system = precision[place[:, :, None], place[:, None]].where(both, torch.eye(width, dtype=z.dtype))
    right = (-(z * ~gone) @ precision).gather(1, place).where(lacks, z.gather(1, place))
    found = torch.cholesky_solve(right[:, :, None], torch.linalg.cholesky(system))[:, :, 0]
    return z.scatter(1, place, found)


def _from_neighbours(
    baseline: Float[Tensor, "*feature"],
    x: Float[Tensor, "rows *feature"],
    gone: Bool[Tensor, "rows *feature"],
) -> Float[Tensor, "rows *feature"]:
    """Every pixel that is gone at the weighted mean of its neighbours, by conjugate gradients."""
    values, missing = x.double().flatten(0, 1), gone.flatten(0, 1)
    weight = _around(torch.ones_like(values[:1]))  # at the border there are fewer neighbours
    found = torch.zeros_like(values)
    residual = _around(values * ~missing) * missing
    enough = CLOSE * residual.abs().amax((1, 2), keepdim=True)
    scaled = residual / weight
    direction, power = scaled, (residual * scaled).sum((1, 2), keepdim=True)
    for _ in range(values[0].numel()):
        if (residual.abs() <= enough).all():
            break
        image = (weight * direction - _around(direction)) * missing
        step = power / (direction * image).sum((1, 2), keepdim=True).clamp_min(1e-300)
        found, residual = found + step * direction, residual - step * image
        scaled = residual / weight
        new = (residual * scaled).sum((1, 2), keepdim=True)
        direction, power = scaled + new / power.clamp_min(1e-300) * direction, new
    found = found.view(x.shape).to(x.dtype)
    return found.where(~gone.flatten(2).all(2)[:, :, None, None], baseline)


def _around(v: Float[Tensor, "m height width"]) -> Float[Tensor, "m height width"]:
    """The sum of every pixel's neighbours, 1/6 of those beside it and 1/12 of those at its corners."""
    # (1, 2, 1) along both axes is twelve times these weights, and 4 in the middle
    return (_smoothed(_smoothed(v, 1), 2) - 4 * v) / 12


def _smoothed(v: Float[Tensor, "m height width"], axis: int) -> Float[Tensor, "m height width"]:
    """Every value twice, and the one before and the one after along the axis."""
    edge, most = torch.zeros_like(v.narrow(axis, 0, 1)), v.shape[axis] - 1
    before, after = v.narrow(axis, 0, most), v.narrow(axis, 1, most)
    return 2 * v + torch.cat([edge, before], axis) + torch.cat([after, edge], axis)
