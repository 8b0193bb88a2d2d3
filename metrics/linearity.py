"""Linearity."""

import copy
import dataclasses
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from ..benchmarks.plugin import Case, Evidence, Scores, metric
from ..benchmarks.sharing import explained_again, variant_of
from ..benchmarks.variants import Sum, dense_network, linear_layers, relative_gap, side_by_side, spread_of


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
def linearity(evidence: Evidence) -> Scores:
    """By how much the map of a sum of models misses the sum of their maps, over the mean of their sizes.

    2 |a(f + g) - a(f) - a(g)| / (|a(f + g)| + |a(f) + a(g)|) with a random g, whose outputs change as much
    from the baseline to the background as f's.  Where f is a network of linear layers and element-wise
    functions, g is another with weights drawn anew, and f + g is the two side by side; elsewhere g is linear
    and f + g is wrapped, where a method that goes by layers may not be what its name says.  A method that
    samples explains each of the three from draws of its own and misses by its sampling error; sizes, which do
    not add up, by more.

    No unit; 0 (it adds up) to 2 (opposite directions, or one of the two is 0); lower is better.  Both 0: 0.
    Source: the axiom in Sundararajan, Taly and Yan 2017, arXiv 1703.01365.
    """
    apart = evidence.attribution.double() + explained_again(evidence, _Another())
    return relative_gap(explained_again(evidence, _Both()), apart)


@dataclass(frozen=True, slots=True)
class _Another:
    """A random function of the size of the model."""

    def of(self, evidence: Evidence, _: Generator) -> Case:
        case, spread = evidence.case, spread_of(evidence.case)
        model: nn.Module = copy.deepcopy(case.model)
        if dense_network(case) is None:
            outputs = case.model.forward(case.x[:1]).shape[1]
            model = nn.Sequential(nn.Flatten(), nn.Linear(len(spread), outputs, dtype=case.x.dtype)).eval()
        for layer in linear_layers(model):
            layer.requires_grad_(False).reset_parameters()
        layers = linear_layers(model)
        layers[0].weight.div_(spread)  # so that features count alike, whatever their scales
        factor = _size(case, case.model) / _size(case, model)
        layers[-1].weight.mul_(factor if factor.isfinite() else 1.0)
        return dataclasses.replace(case, model=model)


def _size(case: Case, model: nn.Module) -> Tensor:
    """How far the outputs of the background are from the baseline's."""
    with torch.no_grad():
        away: Tensor = model(case.background) - model(case.baseline[None])
    return away.norm()


@dataclass(frozen=True, slots=True)
class _Both:
    """The sum of the model and of the other function."""

    def of(self, evidence: Evidence, _: Generator) -> Case:
        case, other = evidence.case, variant_of(evidence, _Another())
        f, g = dense_network(case), dense_network(other)
        model = Sum(case.model, other.model) if f is None or g is None else side_by_side(f, g)
        return dataclasses.replace(case, model=model.eval())
