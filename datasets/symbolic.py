"""Regression on a known formula hidden among irrelevant columns."""

import math
from functools import lru_cache
from itertools import count, islice
from typing import Annotated, Final

import torch
from annotated_types import Ge, Le
from jaxtyping import Float64
from pydantic import AfterValidator
from torch import Tensor
from torch.quasirandom import SobolEngine

from ..benchmarks.formula import Formula, checked, parse
from ..benchmarks.plugin import Problem, dataset
from ..benchmarks.registry import AssayError

SPREAD: Final = 0.33  # standard deviation of a column before it is clipped to [-1, 1]
BACKGROUND: Final = 100  # rows
SAMPLE: Final = 2**16  # points that measure effects and the signal; a quarter of them is 30% off

FUNCTIONS: Final = (
    "a",
    "a**2",
    "2 / (a**2 + 1) - 1",
    "sin(a)",
    "exp(a) - 1.5",
    "2 * log(a**2 + 1) - 1",
    "a**3 / 4 + 3 * b**2 / 4",
    "a**3 / 2 + 3 * b**2 / 4 + a * c",
    "exp(a) * sin(b) / 2 - cos(d)**5 / (4 * (c**2 + 1))",
    "(a - b)**2 / 2 + (c + d * e)**3 / 5 - 1 / 2",
    "cos(a) * tan(b) / 2 - log((c - d)**2 + 1) / ((e + f + 1)**2 + 1)",
    "(b - c)**2 / (2 * (a**2 + 1)) + tan(d) * log(e**2 + 1) + cos(f) * sin(g) / 2",
    "a + b**2 / 2 + c**3 / 3 + d**4 / 4 + e**5 / 5 + f**6 / 6 + f**7 / 7 + g**8 / 8",
    "(a - 1) / (2 * (b**2 + 1)) - c**3 / (2 * (d**2 + 1)) + e**5 / (2 * (f**2 + 1))"
    " - g**7 / (2 * (h**2 + 1)) + tan(i) / 2 + 1 / 2",
    "sin(a) / 2 - b**3 / 2 - log(c**2 + 1) + sqrt((d + e)**2 + 1) / 2 - cos(f) * g / 2"
    " + h * i**2 / ((1 - j)**2 + 1) - 1 / 2",
)


@dataset(
    version=1,
    paper="https://arxiv.org/abs/2406.12150",
    noise=("columns", "label_sd"),
    instead={"formula": "function"},
)
def symbolic(
    rng: torch.Generator,
    /,
    *,
    function: Annotated[int, Ge(0), Le(14)] = 14,
    formula: Annotated[str, AfterValidator(checked)] = "",
    columns: Annotated[int, Ge(0), Le(5_000)] = 100,
    label_sd: Annotated[float, Ge(0), Le(1e6)] = 0.01,
    rows: Annotated[int, Ge(50), Le(200_000)] = 10_000,
    explained: Annotated[int, Ge(1), Le(40_000)] = 200,
) -> Problem:
    """A formula of a few columns among many irrelevant ones of the same law, plus label noise.

    Every column is clip(0.33 N(0, 1), -1, 1), independent of all others, and the relevant ones stand at
    positions drawn by the seed.  72% of the rows train, 8% validate, 20% test.  `facts` holds the SNR in dB
    and, as "effect[a]", how much of y's standard deviation each relevant column moves (the square root of
    its total-effect variance; Jansen 1999).

    Args:
        rng: source of all random numbers.
        function: which of the 15 functions of the paper.
        formula: your own function instead, such as "a * sin(3 * b) + exp(c)"; see `parse` for the rules.
        columns: irrelevant columns.
        label_sd: standard deviation of the noise added to y, in units of y.
        rows: of train, validation and test together.
        explained: test rows that are explained.

    Raises:
        AssayError: the formula is refused, or there are fewer test rows than are to be explained.
    """
    f = parse(formula or FUNCTIONS[function])
    n_train, n_validation = round(0.72 * rows), round(0.08 * rows)
    n_test = rows - n_train - n_validation
    if explained > n_test:
        raise AssayError(
            f"explained = {explained} is more than the {n_test} test rows (20% of rows = {rows}); "
            f"explain at most {n_test} or draw more rows."
        )
    k, width = len(f.variables), len(f.variables) + columns
    # The signal and the label noise are drawn first: with one seed, more irrelevant columns do not change y.
    signal = torch.randn(rows, k, generator=rng)
    noise = label_sd * torch.randn(rows, 1, generator=rng, dtype=torch.float64)
    order = torch.randperm(width, generator=rng)  # order[position] = which column stands there
    x = torch.cat([signal, torch.randn(rows, columns, generator=rng)], 1).mul_(SPREAD).clamp_(-1, 1)
    x = x.index_select(1, order)
    oracle = f.at(order.argsort()[:k])
    relevant = order < k
    fillers = (name for i in count() if (name := f"noise_{i}") not in f.variables)
    names = (*f.variables, *islice(fillers, columns))
    return Problem(
        x=x,
        y=(oracle(x.double()) + noise).squeeze(1).float(),
        task="regression",
        n_train=n_train,
        n_validation=n_validation,
        n_explained=explained,
        baseline=torch.zeros(width),
        background=x[: min(BACKGROUND, n_train)],
        masks={"relevant": relevant[None]},
        oracle=oracle,
        facts=_facts(f.text, label_sd),
        columns=tuple(names[i] for i in order),
    )


def _facts(text: str, label_sd: float) -> dict[str, float | str]:
    """What is known of the formula under the law of x; the same for every seed."""
    effects, f_sd = _effects(text)
    snr = 20 * math.log10(f_sd / label_sd) if label_sd else math.inf
    return {"snr_db": snr, "f_sd": f_sd, **{f"effect[{name}]": effect for name, effect in effects}}


@lru_cache
def _effects(text: str) -> tuple[tuple[tuple[str, float], ...], float]:
    """The effect of each variable, and the standard deviation of the formula, by quasi-Monte Carlo."""
    f = parse(text)
    x, redrawn = _law(2 * len(f.variables)).chunk(2, dim=1)
    value = f(x)
    effects = tuple(
        (name, _effect(f, x, value, redrawn[:, i : i + 1], i)) for i, name in enumerate(f.variables)
    )
    return effects, float(value.std())


def _law(width: int) -> Float64[Tensor, "m width"]:
    """Evenly spread points under the law of x."""
    uniform = SobolEngine(width).draw(SAMPLE, dtype=torch.float64) + 0.5 / SAMPLE
    return torch.special.ndtri(uniform).mul(SPREAD).clamp(-1, 1)


def _effect(
    f: Formula,
    x: Float64[Tensor, "m variables"],
    value: Float64[Tensor, "m 1"],
    redrawn: Float64[Tensor, "m 1"],
    variable: int,
) -> float:
    """Root of E (f(x) - f(x with the variable redrawn))^2 / 2, in units of y."""
    other = torch.cat([x[:, :variable], redrawn, x[:, variable + 1 :]], 1)
    return float((value - f(other)).square().mean().div(2).sqrt())
