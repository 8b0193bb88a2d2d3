"""Path intervention: causal effects of what parts of the picture send along the paths that matter."""

import itertools
import math
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..benchmarks.coalitions import unit_count, units_of
from ..benchmarks.layermaps import picture_size
from ..benchmarks.perturb import in_blocks, outputs_of, rounding, rows_at_once
from ..benchmarks.plugin import Case, Labels, NotApplicable, Samples, method
from ..benchmarks.shapley import spread_over_features

STEPS = 64  # of the model's precision: smaller effects are rounding


@method(
    version=1,
    paper="https://arxiv.org/abs/2305.08950",
    needs=("gradient", "layers", "convolution"),
    cost="units",
)
def path_intervention(
    case: Case,
    *,
    filters: Annotated[int, Ge(1)] = 32,
    share: Annotated[float, Gt(0), Le(1)] = 0.5,
) -> Samples:
    """What the output loses when a unit's paths into the filters that cause the output are cut.

    The convolutions, last to first, are a causal graph whose nodes are filters and whose paths are kernels.
    A filter's effect is f(x) - f(x; do(its kernels into the causal filters of the next convolution are 0));
    those of the largest effects are causal.  A unit's value is the same of its pixels and the first
    convolution.

    After Ahmad et al. 2023, who find causal graphs by path interventions from the output down; of the paper
    its abstract was at hand, so the cut, the order by size of effect and the last step, to units, are ours.
    With one convolution, or share 1 where all filters have effects, it is ablation to 0 of one unit.

    filters: of a layer that are intervened on, those of the largest activation x gradient; each is one model
        row, as is each unit.
    share: of those intervened on that are causal, at most; those without any effect never are.

    Raises:
        NotApplicable: the features are no pictures; a convolution takes other channels than the last makes.
    """
    picture_size(case)
    layers = _convolutions(case)
    worth = _first_order(case, layers)
    whole = outputs_of(case, 1, lambda rows, _: case.x[rows, None])
    noise = rounding(case, whole, STEPS)[:, None]
    causal = torch.ones(len(case.x), layers[-1].out_channels, dtype=torch.bool)
    for layer, guess in zip(layers[:0:-1], worth[:0:-1], strict=True):
        tried = guess.abs().argsort(dim=1, descending=True, stable=True)[:, :filters]
        one = torch.zeros(*tried.shape, layer.in_channels, dtype=torch.bool).scatter_(
            2, tried[..., None], True
        )
        size = (whole - _Cut(case, layer, causal).outputs(one[..., None, None])).abs()
        size = size.where(size > noise, 0)
        rank = size.argsort(dim=1, descending=True, stable=True).argsort(1)
        found = (rank < math.ceil(share * size.shape[1])) & (size > 0)
        causal = torch.zeros_like(one[:, 0]).scatter_(1, tried, found)
    units = units_of(case) == torch.arange(unit_count(case))[:, None, None, None]
    effect = whole - _Cut(case, layers[0], causal).outputs(units[None].expand(len(case.x), *units.shape))
    return spread_over_features(case, effect.double())


def _convolutions(case: Case) -> list[nn.Conv2d]:
    """The convolutions in the order in which they run, each one's filters the channels of the next."""
    found: list[tuple[str, nn.Conv2d]] = []
    convolutions = [(name, m) for name, m in case.model.named_modules() if isinstance(m, nn.Conv2d)]
    handles = [
        m.register_forward_pre_hook(lambda *_, name=name, m=m: found.append((name, m)))
        for name, m in convolutions
    ]
    try:
        with torch.no_grad():
            case.model.forward(case.x[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise NotApplicable("needs convolutions, and the network has none")
    for (_, before), (name, layer) in itertools.pairwise(found):
        if layer.in_channels != before.out_channels:
            raise NotApplicable(
                f"takes convolutions one after the other, and {name} takes {layer.in_channels} channels "
                f"after one that makes {before.out_channels}"
            )
    return [layer for _, layer in found]


def _first_order(case: Case, layers: list[nn.Conv2d]) -> list[Float[Tensor, "n channels"]]:
    """Activation x gradient of what every layer is given, channel by channel."""
    parts = [_slopes(case, x, t, layers) for x, t in in_blocks(case, rows_at_once(case))]
    return [torch.cat(of_layer) for of_layer in zip(*parts, strict=True)]


def _slopes(case: Case, x: Samples, target: Labels, layers: list[nn.Conv2d]) -> list[Tensor]:
    given: list[Tensor] = []
    handles = [layer.register_forward_pre_hook(lambda _, args: given.append(args[0])) for layer in layers]
    try:
        outputs = case.model(x.clone().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    slopes = torch.autograd.grad(outputs.gather(1, target[:, None]).sum(), given)
    return [(s * g.detach()).sum((2, 3)) for s, g in zip(slopes, given, strict=True)]


@dataclass(slots=True)
class _Cut:
    """Interventions on one convolution: what some of its input sends to its causal filters is taken away."""

    case: Case
    layer: nn.Conv2d
    causal: Bool[Tensor, "n filters"]
    now: tuple[Tensor, Tensor] | None = field(default=None, init=False)  # what is cut, from what

    def outputs(self, parts: Bool[Tensor, "n m channels #high #wide"]) -> Float[Tensor, "n m"]:
        """The explained outputs with each of m parts of the input cut off."""

        def build(rows: slice, which: slice) -> Samples:
            some = parts[rows, which]
            filters = self.causal[rows, None, :, None, None].expand(-1, some.shape[1], -1, -1, -1)
            self.now = some.flatten(0, 1), filters.flatten(0, 1)
            x = self.case.x[rows, None]
            return x.expand(-1, some.shape[1], *x.shape[2:])

        handle = self.layer.register_forward_hook(self.without)
        try:
            return outputs_of(self.case, parts.shape[1], build)
        finally:
            handle.remove()

    def without(self, layer: nn.Module, given: tuple[Any, ...], made: Tensor) -> Tensor:
        if self.now is None:  # the first row alone, to see how many go at once
            return made
        part, filters = self.now
        sent = layer.forward(given[0] * part) - layer.forward(torch.zeros_like(given[0][:1]))
        return made - sent * filters
