"""Expected gradients."""

from typing import Annotated

import torch
from annotated_types import Ge

from ..benchmarks.perturb import rows_at_once, slopes
from ..benchmarks.plugin import Case, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/1906.10670",
    needs="gradient",
    estimand="integrated_gradients",
    value="marginal",
    promises=("dummy", "linearity"),
    cost="samples",
)
def expected_gradients(case: Case, *, budget: Annotated[int, Ge(1)] = 200) -> Samples:
    """The integrated gradients from every background row, averaged: one random point of a path at a time.

    The points are stratified, one in each of `budget` equal parts of the path, and the background rows come
    in random turns, none a second time before all have come once.

    budget: points a row; each is one model row, there and back.
    """
    n, others = len(case.x), len(case.background)
    turns = torch.rand(n, -(-budget // others), others, generator=case.rng).argsort(2).flatten(1)
    place = (torch.arange(budget) + torch.rand(n, budget, generator=case.rng)) / budget
    at_once = rows_at_once(case)
    rows, points = max(1, at_once // budget), min(budget, at_once)
    values = torch.zeros_like(case.x, dtype=torch.float64)
    for i in range(0, n, rows):
        for j in range(0, budget, points):
            block = (slice(i, i + rows), slice(j, min(j + points, budget)))
            start = case.background[turns[block]]
            way = case.x[block[0], None] - start
            at = place[block].view(*way.shape[:2], *[1] * (case.x.ndim - 1)).to(way)
            chosen = case.target[block[0]].repeat_interleave(way.shape[1])
            slope = slopes(case, (start + at * way).flatten(0, 1), chosen)
            values[block[0]] += (slope.view_as(way) * way).double().sum(1) / budget
    return values.to(case.x.dtype)
