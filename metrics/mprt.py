"""Model parameter randomisation test."""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Generator, nn

from ..benchmarks.plugin import Case, Evidence, NotApplicable, Scores, metric
from ..benchmarks.randomness import rng_for, seeded
from ..benchmarks.sharing import explained_again
from ..benchmarks.variants import correlation

STAGES = 4  # of the cascade, at most


@metric(
    version=1,
    paper="https://arxiv.org/abs/1810.03292",
    family="randomisation",
    best=0.0,
    worst=1.0,
    needs=("explain",),
    ceiling="none",
    claims=("scale", "sign"),
)
def mprt(evidence: Evidence, *, draws: Annotated[int, Ge(1)] = 3) -> Scores:
    """How alike the map stays while the model forgets: mean |Spearman of |a|| with maps of redrawn models.

    The layers' weights are drawn anew from the last layer down, as when the layers were made (the cascade of
    Adebayo et al.): in at most four stages, evenly spaced, of which the last redraws every layer.  The mean
    runs over the stages and the draws of the weights.  Two constant maps count as the same, 1, and one with a
    map that varies as unlike, 0.  Noise scores above 0, the more so the fewer the features: read it beside
    chance.

    draws: of the weights; those of one draw are the same for every stage and method.

    No unit; 0 (nothing of the map is left) to 1 (the map does not hang on the weights); lower is better.
    NaN where there is one feature alone.  Source: Adebayo et al. 2018, arXiv 1810.03292; on how noisy the
    similarity is, Hedström et al. 2023, arXiv 2401.06465.

    Raises:
        NotApplicable: the model has no layers with weights, or one that does not say how they are drawn.
    """
    layers = len(_layers_of(evidence.case.model))
    stages = min(STAGES, layers)
    tops = [-(-layers * stage // stages) for stage in range(1, stages + 1)]
    before = evidence.attribution.abs()
    similarity = [
        correlation(before, explained_again(evidence, _Redrawn(top, draw)).abs(), ranks=True).abs()
        for draw in range(draws)
        for top in tops
    ]
    return torch.stack(similarity).mean(0)


@dataclass(frozen=True, slots=True)
class _Redrawn:
    """The model with the weights of its last `top` layers drawn anew."""

    top: int
    draw: int

    def of(self, evidence: Evidence, _: Generator) -> Case:
        model = copy.deepcopy(evidence.case.model)
        # not of this stage alone, and from the last layer down: a longer cascade begins as a shorter one does
        rng = rng_for("redrawn", str(evidence.rng.initial_seed()), str(self.draw))
        with seeded(rng), torch.no_grad():
            for layer in _layers_of(model)[::-1][: self.top]:
                _redraw_of(layer)()
        return dataclasses.replace(evidence.case, model=model)


def _layers_of(model: nn.Module) -> list[nn.Module]:
    """The modules that hold parameters themselves, the first one first, all of which can be drawn anew."""
    found = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    if not found:
        raise NotApplicable("draws the weights of layers anew, and this model has none")
    for layer in found:
        _redraw_of(layer)
    return found


def _redraw_of(layer: nn.Module) -> Callable[[], None]:
    for name in ("reset_parameters", "_reset_parameters"):  # attention has the second alone
        found: Callable[[], None] | None = getattr(layer, name, None)
        if found is not None:
            return found
    raise NotApplicable(f"draws weights anew, and {type(layer).__name__} has no reset_parameters")
