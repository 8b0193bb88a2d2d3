"""Input invariance."""

import copy
import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..benchmarks.plugin import Case, Evidence, Scores, metric
from ..benchmarks.sharing import explained_again
from ..benchmarks.variants import STILL, Moved, bias_of, dense, is_plain, relative_gap, spread_of


@metric(
    version=1,
    paper="https://arxiv.org/abs/1711.00867",
    family="axiom",
    best=0.0,
    worst=2.0,
    needs=("explain",),
    ceiling="best",
    claims=("exact", "scale", "sign"),
)
def input_invariance(evidence: Evidence) -> Scores:
    """By how much the map changes when every input is shifted and the model undoes the shift.

    2 |a - a'| / (|a| + |a'|), a' the map of the case in which rows, baseline and background have a constant
    vector added, drawn at random in each feature's standard deviations, and the model takes it off again: in
    the bias of its first layer where that is linear; other models are wrapped.  What is explained is the same
    function, so a map that changes owes that to where 0 lies.  A method that samples misses by its sampling
    error.

    No unit; 0 (it stays) to 2 (opposite directions, or one of the two is 0); lower is better.  Both zero: 0.
    Source: Kindermans et al. 2017, arXiv 1711.00867.
    """
    return relative_gap(evidence.attribution, explained_again(evidence, _Shifted()))


@dataclass(frozen=True, slots=True)
class _Shifted:
    """The same function of shifted inputs."""

    def of(self, evidence: Evidence, rng: Generator) -> Case:
        case, spread = evidence.case, spread_of(evidence.case)
        shift = spread * torch.randn(len(spread), generator=rng, dtype=spread.dtype)
        added = shift.view(case.baseline.shape)
        return dataclasses.replace(
            case,
            model=_undoing(case.model, shift).eval(),
            x=case.x + added,
            baseline=case.baseline + added,
            background=case.background + added,
        )


def _undoing(model: nn.Module, shift: Float[Tensor, " d"]) -> nn.Module:
    """The model, that takes the shift off its input first."""
    if type(model) is nn.Sequential:
        built = copy.deepcopy(model)
        at = next((i for i, layer in enumerate(built) if type(layer) not in STILL), 0)
        first = built[at]
        if type(first) is nn.Linear and is_plain(first) and first.in_features == len(shift):
            built[at] = dense(first.weight, bias_of(first) - first.weight @ shift)
            return built
    return Moved(model, shift, torch.arange(len(shift)))
