"""Plug-ins that cost nothing, so that what is left of a run is what the benchmark itself costs.

    assay run SUITE.toml --plugin benchmarks/speed/nothing.py

One problem of two features and four rows; a model that is known before; any number of methods and of metrics.
With `turns` methods and one metric of each kind a unit has turns + turns * (turns - 1) / 2 cells.
"""

import torch
from torch import Generator, nn

from assay.benchmarks.plugin import Case, Evidence, Problem, dataset, method, metric, model
from assay.benchmarks.problem import Samples, Scores

PAPER = "https://example.org"
ROWS = 4


class _First(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1]


@dataset(version=1, paper=PAPER, noise=("copies",))
def blank(rng: Generator, /, *, copies: int = 0) -> Problem:
    """Rows of two features, the first of which is the answer."""
    x = torch.linspace(0, 1, 6 * ROWS * 2).reshape(-1, 2)
    return Problem(
        x=x,
        y=x[:, 0],
        task="regression",
        n_train=2 * ROWS,
        n_validation=ROWS,
        n_explained=ROWS,
        baseline=torch.zeros(2),
        background=x[:2],
        masks={"relevant": torch.tensor([[True, False]])},
        oracle=_First(),
    )


@model(version=1, paper=PAPER, has="gradient")
def known(problem: Problem, rng: Generator, /) -> nn.Module:
    """The answer itself."""
    return _First()


@method(version=1, paper=PAPER, cost="none")
def turned(case: Case, /, *, turn: int = 0) -> Samples:
    """The input, with a little of another feature."""
    return case.x + turn / 1000


@metric(version=1, paper=PAPER, family="ground truth", best=1.0, worst=0.0)
def first_share(evidence: Evidence, /, *, turn: int = 0) -> Scores:
    """The share of the first feature."""
    sizes = evidence.attribution.abs() + 1e-9
    return sizes[:, 0] / sizes.sum(1)


@metric(version=1, paper=PAPER, family="agreement", best=0.0, worst=1.0, needs=("other",))
def apart(evidence: Evidence, /, *, turn: int = 0) -> Scores:
    """The distance of two maps."""
    return (evidence.attribution - evidence.reference).abs().sum(1)
