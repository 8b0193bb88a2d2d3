"""Attack on the map."""

import dataclasses
from dataclasses import dataclass
from math import inf, nan
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Generator, Tensor

from ..benchmarks.concordance import correlation, order
from ..benchmarks.neighbours import Ball, Opening, kept, placed, standardised
from ..benchmarks.plugin import Case, Evidence, Samples, Scores, metric
from ..benchmarks.ranking import Top, of_both, top_size
from ..benchmarks.sharing import explained_again, of_map, variant_of

ROUNDS = 4
TURNED = 0.3  # chance of a feature's move to turn round in the second round; half of it in the next


@metric(
    version=1,
    paper="https://arxiv.org/abs/1710.10547",
    family="robustness",
    best=1.0,
    worst=-1.0,
    needs=("model", "explain"),
    ceiling="none",
    claims=("scale", "sign"),
    draws=3,
    caveat="A map that ignores its input scores best.",
)
def attribution_attack(
    evidence: Evidence,
    *,
    by: Literal["kendall", "cosine", "top_k"] = "kendall",
    k: Annotated[int, Ge(0)] = 0,
    norm: Literal["linf", "l2"] = "linf",
    radius: Annotated[float, Gt(0)] = 0.1,
    budget: Annotated[int, Ge(ROUNDS)] = 20,
) -> Scores:
    """How alike the map stays when the input changes a little, so as to change the map as much as it can.

    The lowest similarity of a(x) and a(x') over all x' tried; these stay near x and keep the prediction: the
    class, or a regression's output to a tenth of its standard deviation over the background.  They come in
    four rounds.  The first tries moves that turn the model's own gradient, or the gradient times the
    difference to the baseline, away from what it is at x, found by ascent where the model has a gradient,
    and moves at random.  Every later round starts from the moves whose maps have the widest angle to a(x),
    and the lowest tau with it, and turns the moves of some features round, at random.  Moves go to the edge
    of the ball, or as far as the prediction stays.  The sampling noise of a randomised method helps the
    attack.

    by: "kendall", tau-b; "cosine", of the angle; "top_k", the share of the k features of largest size that
        both have, ties in expectation.  All three read one attack.
    k: 0 stands for the row's number of relevant features.
    norm: "linf", no feature moves further than the radius; "l2", features do not in root mean square.
    radius: in each feature's standard deviations in the background; a feature constant there is not moved.
    budget: explanations of a row, a fourth in each round.

    No unit; -1 (0 for top_k) to 1 (nothing that was tried changes the map); higher is better.  NaN where the
    map is constant (kendall) or zero (cosine), or k = 0 and no feature is relevant (top_k).
    Source: Ghorbani, Abid and Zou 2019, arXiv 1710.10547; an attack by the cosine, which tau follows, is Wang
    and Kong's, 2022, arXiv 2205.07279.
    """
    tried = of_map(evidence, _Attack(Ball(norm, radius), budget // ROUNDS))
    found = torch.stack([_similarity(evidence, a, by, k) for a in tried.maps.unbind(1)], 1)
    lowest = found.nan_to_num(nan=inf).amin(1)  # where a(x') alone has none, other tries have
    return lowest.where(lowest.isfinite(), nan)


def _similarity(evidence: Evidence, again: Samples, by: str, k: int) -> Scores:
    pair = dataclasses.replace(evidence, other=again, reference_memo={})
    if by == "cosine":
        return correlation(pair, "values")
    if by == "kendall":
        found = order(pair, sizes=False)
        own, other = found.untied
        return (found.surplus / (own.double() * other).sqrt()).clamp(-1, 1)
    first, second = of_both(pair, Top(k))
    return (first * second).sum(1) / top_size(k, evidence.relevant.flatten(1))


@dataclass(frozen=True, slots=True)
class _Tried:
    """What was tried on each row."""

    x: Float[Tensor, "n tries *feature"]
    maps: Float[Tensor, "n tries *feature"]


@dataclass(frozen=True, slots=True)
class _Attack:
    """The reading of all tries of an attack."""

    ball: Ball
    candidates: int  # in a round

    def read(self, evidence: Evidence, rng: Generator) -> _Tried:
        case, opening = evidence.case, Opening(self.ball, self.candidates)
        shape = (len(case.x), -1, *case.baseline.shape)
        x = variant_of(evidence, opening).x.view(shape)
        maps = explained_again(evidence, opening).view(shape)
        # a seed for every round: the moves of a row hang on its place, and not on how many rows follow
        for i, seed in enumerate(torch.randint(2**62, (ROUNDS - 1,), generator=rng).tolist()):
            best = [standardised(case, _lowest(evidence, x, maps, by)) for by in ("cosine", "kendall")]
            near = torch.stack([best[j % 2] for j in range(self.candidates)], 1)
            start = (near - standardised(case, case.x)[:, None]).flatten(2)
            moves = self.ball.to_edge(_turned(start, i, Generator().manual_seed(seed)))
            near = placed(case, kept(case, moves))
            again = evidence.explain(_of_inputs(case, near, seed)).detach().double()
            x, maps = torch.cat([x, near], 1), torch.cat([maps, again.view(shape)], 1)
        return _Tried(x, maps)


def _lowest(
    evidence: Evidence, x: Float[Tensor, "n m *feature"], maps: Float[Tensor, "n m *feature"], by: str
) -> Samples:
    """Every row's input whose map is least like the row's; where that is undefined, any."""
    found = torch.stack([_similarity(evidence, a, by, 0) for a in maps.unbind(1)], 1)
    return x[torch.arange(len(x)), found.nan_to_num(nan=1.0).argmin(1)]


def _turned(moves: Float[Tensor, "n m d"], i: int, rng: Generator) -> Float[Tensor, "n m d"]:
    """The moves with the signs of some features turned; in round 0 once of all of them."""
    chance = torch.full((moves.shape[1], 1), TURNED / 2**i, dtype=torch.float64)
    if i == 0:
        chance[0] = 1.0  # what changes a map to one side may change it more to the other
    drawn = torch.rand(moves.shape, generator=rng, dtype=torch.float64)
    turns = (drawn < chance) | (drawn == drawn.amin(2, keepdim=True))  # one at least
    return torch.where(turns, -moves, moves)


def _of_inputs(case: Case, x: Float[Tensor, "n m *feature"], seed: int) -> Case:
    """A case of these inputs; a randomised method gets random numbers of its own."""
    return dataclasses.replace(
        case,
        x=x.flatten(0, 1),
        target=case.target.repeat_interleave(x.shape[1]),
        rng=Generator().manual_seed(seed),
        shared=None,
    )
