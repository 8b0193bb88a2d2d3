"""Symmetry."""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Int
from torch import Generator, Tensor, nn

from ..benchmarks.plugin import Case, Evidence, NotApplicable, Samples, Scores, metric
from ..benchmarks.sharing import explained_again
from ..benchmarks.variants import Moved, Sum, dense_network, linear_layers, side_by_side

ROUNDING = 1e-5  # of the row's largest size; a difference below that is none


@metric(
    version=1,
    paper="https://arxiv.org/abs/1703.01365",
    family="axiom",
    best=0.0,
    worst=2.0,
    needs=("explain",),
    ceiling="best",
    claims=("exact", "scale", "sign"),
)
def symmetry(evidence: Evidence, *, pairs: Annotated[int, Ge(1)] = 5) -> Scores:
    """How unlike two features' attributions are where nothing tells the features apart.

    2 |a_i - a_j| / (|a_i| + |a_j|), on average over pairs of features, for each of which the problem is made
    symmetric: the model becomes the mean of f(x) and of f(x with x_i and x_j swapped), and in rows, baseline
    and background feature j takes feature i's value.  A network of linear layers and element-wise functions
    stays one, twice as wide; other models are wrapped, where a method that goes by layers may not be what its
    name says.  A method that samples misses by its sampling error.  A difference below 1e-5 of the row's
    largest |a| is rounding.

    pairs: of features, drawn at random; features that share a unit with others are left out.

    No unit; 0 (alike) to 2 (opposite signs, or one of them 0); lower is better.  Both zero: 0.
    Source: the axiom in Sundararajan, Taly and Yan 2017, arXiv 1703.01365.

    Raises:
        NotApplicable: fewer than two features are units of their own.
    """
    gaps = []
    for i, j in _pairs(evidence.case, pairs, evidence.rng):
        found = explained_again(evidence, _Alike(i, j)).flatten(1)
        gap, size = (found[:, i] - found[:, j]).abs(), found[:, [i, j]].abs().sum(1)
        rounded = gap <= ROUNDING * found.abs().amax(1)
        gaps.append((2 * gap / size).where(~rounded, 0.0))
    return torch.stack(gaps).mean(0)


def _pairs(case: Case, count: int, rng: Generator) -> list[tuple[int, int]]:
    """Neighbours in a circle on which the features stand in random order: no pair comes twice."""
    features = torch.arange(case.baseline.numel())
    if case.groups is not None:
        _, unit, size = case.groups.flatten().unique(return_inverse=True, return_counts=True)
        features = features[size[unit] == 1]
    if len(features) < 2:
        raise NotApplicable("swaps features, and fewer than two are units of their own")
    circle = features[torch.randperm(len(features), generator=rng)]
    both = torch.stack([circle, circle.roll(-1)], 1)[: 1 if len(circle) == 2 else count]
    return [(i, j) for i, j in both.tolist()]


@dataclass(frozen=True, slots=True)
class _Alike:
    """The case in which features i and j are alike."""

    i: int
    j: int

    def of(self, evidence: Evidence, _: Generator) -> Case:
        case = evidence.case
        order = torch.arange(case.baseline.numel())
        order[[self.i, self.j]] = order[[self.j, self.i]]
        return dataclasses.replace(
            case,
            model=_mean(case, order).eval(),
            x=self._copied(case.x),
            baseline=self._copied(case.baseline[None])[0],
            background=self._copied(case.background),
        )

    def _copied(self, x: Samples) -> Samples:
        flat = x.flatten(1).clone()
        flat[:, self.j] = flat[:, self.i]
        return flat.view(x.shape)


def _mean(case: Case, order: Int[Tensor, " d"]) -> nn.Module:
    """The mean of the model and of the model that sees the features in another order."""
    net = dense_network(case)
    if net is None:
        return Sum(case.model, Moved(case.model, torch.zeros_like(case.baseline.flatten()), order), 0.5)
    other = copy.deepcopy(net)
    first = linear_layers(other)[0]
    with torch.no_grad():
        first.weight.copy_(first.weight[:, order])
    return side_by_side(net, other, 0.5)
