"""Inputs near the explained ones: what the model says there, how far the map moves, where it moves most.

Columns of a table have different scales, so nearness is counted feature by feature in standard deviations
of the background.  A feature that is constant there has none, and is not moved.
"""

import copy
import dataclasses
from dataclasses import dataclass
from math import inf, nan
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from .perturb import Predicted, in_blocks, outputs_of, rows_at_once
from .plugin import Case, Evidence, Labels, NotApplicable, Samples, Scores
from .sharing import Recipe, explained_again, of_case, variant_of

ROUNDING = 1e-10  # a deviation this small beside the values is no spread
SPARED = 0.1  # of the outputs' deviation over the background: a regression's output may change by it
HALVINGS = 5  # in the search for how far along a move the prediction stays
CLIMBS = ("gradient", "product", "gradient")  # what is turned away from what it is, at most
STEPS = 10  # of a climb
SOFT = 5.0  # ReLU is log(1 + exp(5 x)) / 5 to a climb, as its own slope does not change (Ghorbani et al.)


# ---- neighbours at random -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Nearby:
    """Every row so many times, moved by uniform noise of at most `radius` deviations in every feature.

    A row's neighbours stand together, and are explained for the row's own target.
    """

    radius: float
    draws: int

    def of(self, evidence: Evidence, rng: Generator) -> Case:
        """The neighbours; those of a row hang on its place, and not on how many rows follow."""
        case = evidence.case
        x = case.x.repeat_interleave(self.draws, 0)
        noise = 2 * torch.rand(x.shape, generator=rng, dtype=torch.float64) - 1
        near = (x.double() + self.radius * noise * deviations(case)).to(x.dtype)
        return dataclasses.replace(case, x=near, target=case.target.repeat_interleave(self.draws))


def deviations(case: Case) -> Float[Tensor, "*feature"]:
    """Every feature's standard deviation in the background, 0 where it is but rounding; float64.

    Raises:
        NotApplicable: no feature varies there.
    """
    background = case.background.double()
    found = background.std(0, correction=0)
    found = found.where(found > ROUNDING * background.abs().amax(0), 0.0)
    if not (found > 0).any():
        raise NotApplicable("moves features by shares of their spread, and in the background none has any")
    return found


def standardised(case: Case, x: Samples) -> Samples:
    """`x` in standard deviations from the background's mean; 0 where a feature is constant there."""
    scale = deviations(case)
    return ((x.double() - case.background.double().mean(0)) / scale).where(scale > 0, 0.0)


def size(at: Float[Tensor, "n *feature"]) -> Float[Tensor, "n 1"]:
    """The norm of every row."""
    return at.double().flatten(1).norm(dim=1, keepdim=True)


def distance(at: Float[Tensor, "n *feature"], near: Float[Tensor, "m *feature"]) -> Float[Tensor, "n draws"]:
    """How far every row is from what stands for it at each of its neighbours."""
    flat = at.double().flatten(1)
    return (near.double().view(len(flat), -1, flat.shape[1]) - flat[:, None]).norm(dim=2)


def ratio(change: Float[Tensor, "n draws"], against: Float[Tensor, "n #draws"]) -> Float[Tensor, "n draws"]:
    """Change over what it is held against; 0 where nothing changed, NaN where something did against 0."""
    share = (change / against).where(change > 0, 0.0)
    return share.masked_fill(share.isinf(), nan)


def sensitivity(evidence: Evidence, nearby: Nearby) -> Float[Tensor, "n draws"]:
    """|a' - a| / |a| at every neighbour."""
    again = explained_again(evidence, nearby)
    return ratio(distance(evidence.attribution, again), size(evidence.attribution))


def stability(evidence: Evidence, nearby: Nearby, change: Float[Tensor, "n draws"], floor: float) -> Scores:
    """The largest relative change of the map over that of something else, of neighbours alike predicted.

    change: the relative change of that; less than `floor` counts as `floor`.
    """
    found = sensitivity(evidence, nearby) / change.clamp_min(floor)
    alike = same_prediction(evidence, nearby)
    return found.masked_fill(~alike, -inf).amax(1).where(alike.any(1), nan)


def same_prediction(evidence: Evidence, nearby: Nearby) -> Bool[Tensor, "n draws"]:
    """Whether the model predicts the row's own class at each of its neighbours; always for regression."""
    at, near = at_and_near(evidence, nearby, Predicted())
    return near.argmax(1).view(len(at), -1) == at.argmax(1)[:, None]


def at_and_near(
    evidence: Evidence, nearby: Nearby, recipe: Recipe[Tensor]
) -> tuple[Float[Tensor, "n width"], Float[Tensor, "m width"]]:
    """What a recipe makes of the rows, and of their neighbours."""
    return of_case(evidence.case, recipe), of_case(variant_of(evidence, nearby), recipe)


@dataclass(frozen=True, slots=True)
class Represented:
    """What goes into the last linear layer, for every row of a case."""

    def make(self, case: Case, _: Generator) -> Float[Tensor, "n width"]:
        """The representations.

        Raises:
            NotApplicable: the model does not end in a linear layer after others.
        """
        found: list[Tensor] = []
        with torch.no_grad():
            layer, blocks = _last_linear(case), in_blocks(case, rows_at_once(case))
            handle = layer.register_forward_pre_hook(lambda _, given: found.append(given[0].flatten(1)))
            try:
                for x, _target in blocks:
                    case.model(x)
            finally:
                handle.remove()
        return torch.cat(found)


def _last_linear(case: Case) -> nn.Linear:
    """The linear layer that makes the outputs of what other layers made."""
    called: list[nn.Linear] = []
    linear = [layer for layer in case.model.modules() if isinstance(layer, nn.Linear)]
    handles = [layer.register_forward_hook(lambda layer, *_: called.append(layer)) for layer in linear]
    try:
        outputs: Tensor = case.model.forward(case.x[:1].clone())  # past the model's own hooks
    finally:
        for handle in handles:
            handle.remove()
    holders = [m for m in case.model.modules() if next(m.parameters(recurse=False), None) is not None]
    if len(holders) < 2 or not called or called[-1].out_features != outputs.shape[1]:
        raise NotApplicable("reads what goes into the last linear layer, and the model has none after others")
    return called[-1]


# ---- neighbours on purpose ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ball:
    """How far features may move, in deviations: the furthest ("linf"), or in root mean square ("l2")."""

    norm: Literal["linf", "l2"]
    radius: float

    def to_edge(self, moves: Float[Tensor, "*m d"]) -> Float[Tensor, "*m d"]:
        """The moves, made as long as may be; none stays none."""
        share = self._share(moves)
        return moves / share.where(share > 0, 1.0)

    def within(self, moves: Float[Tensor, "*m d"]) -> Float[Tensor, "*m d"]:
        """What is nearest to the moves in the ball."""
        if self.norm == "linf":
            return moves.clamp(-self.radius, self.radius)
        return moves / self._share(moves).clamp_min(1)

    def along(self, slope: Float[Tensor, "*m d"]) -> Float[Tensor, "*m d"]:
        """The move in the ball that goes up most along a slope."""
        return self.radius * slope.sign() if self.norm == "linf" else self.to_edge(slope)

    def _share(self, moves: Float[Tensor, "*m d"]) -> Float[Tensor, "*m 1"]:
        if self.norm == "linf":
            return moves.abs().amax(-1, keepdim=True) / self.radius
        return moves.square().mean(-1, keepdim=True).sqrt() / self.radius


@dataclass(frozen=True, slots=True)
class Opening:
    """Every row so many times, moved to where maps may change most: by climbs, the rest at random."""

    ball: Ball
    candidates: int

    def of(self, evidence: Evidence, rng: Generator) -> Case:
        """The moved rows; those of a row hang on its place."""
        case, scale = evidence.case, deviations(evidence.case).flatten()
        noise = torch.rand(len(case.x), self.candidates, len(scale), generator=rng, dtype=torch.float64)
        moves = self.ball.along((2 * noise - 1) * (scale > 0))
        for i, what in enumerate(CLIMBS[: max(1, self.candidates - 2)]):
            moves[:, i] = _climbed(case, self.ball, moves[:, i], product=what == "product")
        x = placed(case, kept(case, moves)).flatten(0, 1)
        return dataclasses.replace(case, x=x, target=case.target.repeat_interleave(self.candidates))


def placed(case: Case, moves: Float[Tensor, "n m d"]) -> Float[Tensor, "n m *feature"]:
    """The inputs to which these moves, in deviations, lead."""
    change = moves.view(*moves.shape[:2], *case.baseline.shape) * deviations(case)
    return (case.x.double()[:, None] + change).to(case.x.dtype)


def kept(case: Case, moves: Float[Tensor, "n m d"]) -> Float[Tensor, "n m d"]:
    """The moves, each cut short where the prediction stays: the class, or nearly a regression's output."""
    before = of_case(case, Predicted())[:, None]
    with torch.no_grad():
        room = SPARED * case.model(case.background).double().std(0, correction=0)
    share = torch.zeros_like(moves[:, :, :1])
    for i in range(HALVINGS + 1):
        longer = (share + 0.5**i).clamp(max=1)  # the whole first, then as in a search by halves
        after = _predicted_at(case, placed(case, longer * moves))
        if len(room) == 1:
            stays = ((after - before).abs() <= room).all(2)
        else:
            stays = after.argmax(2) == before.argmax(2)
        share = torch.where(stays[:, :, None], longer, share)
    return share * moves


def _predicted_at(case: Case, x: Float[Tensor, "n m *feature"]) -> Float[Tensor, "n m outputs"]:
    return outputs_of(case, x.shape[1], lambda rows, some: x[rows, some], every=True).double()


def _climbed(case: Case, ball: Ball, start: Float[Tensor, "n d"], *, product: bool) -> Float[Tensor, "n d"]:
    """The moves, of those met on a climb from `start`, at which the gradient has turned furthest.

    product: the gradient times the difference to the baseline instead.  Where the model has no gradient, or
        none that changes, it is the start.
    """
    model = copy.deepcopy(case.model).double().requires_grad_(False)  # in double precision no step hangs on
    _soften(model)  # how many rows go through together
    at_once = max(1, rows_at_once(case) // 4)  # a graph of the gradient's own is kept too
    blocks = zip(in_blocks(case, at_once), start.split(at_once), strict=True)
    try:
        return torch.cat([_climb(case, _Slope(model, *rows, product), ball, at) for rows, at in blocks])
    except RuntimeError:  # the gradient of an operation has no gradient
        return start


@dataclass(frozen=True, slots=True)
class _Slope:
    """The gradient of some rows' explained outputs, or its product with the difference to the baseline."""

    model: nn.Module
    x: Samples
    target: Labels
    product: bool

    def at(self, case: Case, moves: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """There; zero where the model has none."""
        x = self.x.double() + moves.view(self.x.shape) * deviations(case)
        outputs: Tensor = self.model(x).gather(1, self.target[:, None])
        if not outputs.requires_grad:
            return torch.zeros_like(moves)
        (slope,) = torch.autograd.grad(outputs.sum(), x, create_graph=True)
        return (slope * (x - case.baseline) if self.product else slope).flatten(1)


def _climb(case: Case, slope: _Slope, ball: Ball, start: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Steps against the cosine of what the slope was and has become; the later, the shorter."""
    before = slope.at(case, torch.zeros_like(start).requires_grad_()).detach()
    best, lowest = start, torch.full((len(start), 1), inf, dtype=start.dtype)
    moves = start
    for i in range(STEPS + 1):
        moves = moves.detach().requires_grad_()
        alike = nn.functional.cosine_similarity(slope.at(case, moves), before, eps=1e-30)[:, None]
        lower = alike < lowest
        best, lowest = torch.where(lower, moves, best).detach(), torch.minimum(lowest, alike).detach()
        if not alike.requires_grad:
            break
        (change,) = torch.autograd.grad(alike.sum(), moves, allow_unused=True, materialize_grads=True)
        moves = ball.within(moves.detach() - 2 * (1 - i / STEPS) * ball.along(change))
    return best


def _soften(model: nn.Module) -> None:
    """Put what is smooth in the place of every ReLU."""
    for layer in model.modules():
        for name, inner in layer.named_children():
            if isinstance(inner, nn.ReLU):
                setattr(layer, name, nn.Softplus(beta=SOFT))
