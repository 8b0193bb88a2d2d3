"""What a model's output does when units are taken away or shaken, beside what a map says that it does.

The outputs do not hang on any map: each table is computed once for all methods and metrics of a unit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from .coalitions import MOST_ROWS, Design, table, unit_count, units_of
from .perturb import outputs_of, rounding
from .plugin import Case, Evidence, NotApplicable, Scores
from .ranking import unit_sums
from .sharing import of_case

ROUNDING = 100  # machine epsilons of what is added up: smaller differences may be rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Of every row and perturbation, by how much the map says that the output falls, and by how much it does.

    The first is the dot product of map and perturbation.
    """

    said: Float[Tensor, "n m"]
    done: Float[Tensor, "n m"]
    said_rounding: Float[Tensor, " n"]
    done_rounding: Float[Tensor, " n"]
    weights: Float[Tensor, " m"]  # sum to 1
    sizes: Int[Tensor, " m"]  # units removed; 0 where none is

    def correlation(self, which: Bool[Tensor, " m"] | None = None) -> Scores:
        """Pearson's, row by row, over some of the perturbations; NaN where either side does not vary."""
        some = torch.ones_like(self.sizes, dtype=torch.bool) if which is None else which
        return correlation(self.said[:, some], self.done[:, some], self.said_rounding, self.done_rounding)


def correlation(
    a: Float[Tensor, "n m"],
    b: Float[Tensor, "n m"],
    a_rounding: Float[Tensor, " n"] | float = 0.0,
    b_rounding: Float[Tensor, " n"] | float = 0.0,
) -> Scores:
    """Pearson's correlation of every row; NaN where either varies by no more than rounding."""
    return (_directions(a, a_rounding) * _directions(b, b_rounding)).sum(1).clamp(-1, 1)


def _directions(values: Float[Tensor, "n m"], rounding: Float[Tensor, " n"] | float) -> Float[Tensor, "n m"]:
    """Deviations from the row's mean, of length 1."""
    away = values - values.mean(1, keepdim=True)
    largest = away.abs().amax(1)
    away = away / largest.where(largest > rounding, torch.nan)[:, None]  # first: squares may underflow
    return away / away.norm(dim=1, keepdim=True)


def _paired(
    case: Case,
    said: Float[Tensor, "n m"],
    terms: Float[Tensor, "n _"],
    outputs: tuple[Float[Tensor, " n"], Float[Tensor, "n m"]],
    weights: Float[Tensor, " m"],
    sizes: Int[Tensor, " m"],
) -> Paired:
    """Pairs from the terms that what is said adds up, and from the outputs whole and perturbed."""
    whole, perturbed = outputs
    return Paired(
        said=said,
        done=whole[:, None] - perturbed,
        said_rounding=ROUNDING * torch.finfo(torch.float64).eps * terms.abs().sum(1),
        done_rounding=rounding(case, torch.cat([whole[:, None], perturbed], 1), ROUNDING),
        weights=weights,
        sizes=sizes,
    )


@dataclass(frozen=True, slots=True)
class Removals:
    """A reading: sums of the map over the units that are absent, beside f(x) - f(x without them).

    The map is read as contributions: a is in units of the output.
    """

    design: Design

    def read(self, evidence: Evidence, _: Generator) -> Paired:
        """The pairs, coalition after coalition."""
        case = evidence.case
        found = table(case, self.design)
        removed, a = ~found.coalitions, unit_sums(evidence.attribution, case.groups)
        said = a @ removed.double().T
        return _paired(case, said, a, (found.whole, found.outputs), found.weights, removed.sum(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaken:
    """Outputs of every row with noise taken off that all rows share."""

    noise: Float[Tensor, "m *feature"]
    whole: Float[Tensor, " n"]
    outputs: Float[Tensor, "n m"]


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A recipe: independent normal noise on every feature.

    sd: of the noise, as a share of the feature's own in the background; a feature that is constant there
        gets none.
    """

    sd: float
    draws: int

    def make(self, case: Case, rng: Generator) -> Shaken:
        """Noise, and f(x - noise)."""
        spread = case.background.std(0, correction=0)
        noise = torch.randn(self.draws, *case.x.shape[1:], generator=rng, dtype=case.x.dtype)
        noise *= self.sd * spread
        outputs = outputs_of(case, self.draws, lambda rows, which: case.x[rows, None] - noise[which])
        return Shaken(noise=noise, whole=_whole(case), outputs=outputs.double())


@dataclass(frozen=True, slots=True)
class Shifts:
    """A reading: the dot product of map and noise, beside f(x) - f(x - noise).

    The map is read as a gradient: a is in units of the output for a unit of the feature.
    """

    noise: Gaussian

    def read(self, evidence: Evidence, _: Generator) -> Paired:
        """The pairs, draw after draw."""
        case = evidence.case
        found = of_case(case, self.noise)
        a, noise = evidence.attribution.double().flatten(1), found.noise.double().flatten(1)
        weights = torch.full((len(noise),), 1 / len(noise), dtype=torch.float64)
        sizes = torch.zeros(len(noise), dtype=torch.int64)
        terms = a * noise.abs().amax(0)
        return _paired(case, a @ noise.T, terms, (found.whole, found.outputs), weights, sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Responses:
    """How the output of every row responds when one unit is replaced by that of background rows."""

    square: Float[Tensor, "n units"]  # mean square of the change; changes that may be rounding count as 0
    largest: Float[Tensor, "n units"]  # the largest size of a change
    rounding: Float[Tensor, " n"]  # changes that are no larger may be rounding
    tried: Bool[Tensor, "n units"]  # whether any background row had other values there

    @property
    def there(self) -> Bool[Tensor, "n units"]:
        """Whether the output responded at all."""
        return self.largest > self.rounding[:, None]


@dataclass(frozen=True, slots=True)
class Effects:
    """A recipe: every unit alone replaced by that of background rows, which all rows and units share.

    draws: background rows, drawn without repetition; all of them where there are no more.
    """

    draws: int

    def make(self, case: Case, rng: Generator) -> Responses:
        """The responses.

        Raises:
            NotApplicable: it would take too many model rows.
        """
        fillers = case.background
        if self.draws < len(fillers):
            fillers = fillers[torch.randperm(len(fillers), generator=rng)[: self.draws]]
        units, count, draws = units_of(case), unit_count(case), len(fillers)
        if count * draws > MOST_ROWS:
            raise NotApplicable(
                f"takes at most {MOST_ROWS:,} model rows for a row explained, and {draws} draws for each of "
                f"{count:,} units are {count * draws:,}: ask for fewer draws"
            )

        def replaced(rows: slice, which: slice) -> Tensor:
            at = torch.arange(which.start, which.stop)
            unit = (at // draws).view(-1, *[1] * units.dim())
            return torch.where(units == unit, fillers[at % draws], case.x[rows, None])

        whole, outputs = _whole(case), outputs_of(case, count * draws, replaced).double()
        least = rounding(case, torch.cat([whole[:, None], outputs], 1), ROUNDING)
        change = (whole[:, None] - outputs).view(len(whole), count, draws).abs()
        certain = change.where(change > least[:, None, None], 0.0)
        return Responses(
            square=certain.square().mean(2),
            largest=change.amax(2),
            rounding=least,
            tried=_tried(case, fillers),
        )


def _whole(case: Case) -> Float[Tensor, " n"]:
    """f(x), through batches of the size that perturbed rows have."""
    return outputs_of(case, 1, lambda rows, _: case.x[rows, None]).double()[:, 0]


def _tried(case: Case, fillers: Float[Tensor, "b *feature"]) -> Bool[Tensor, "n units"]:
    """Which units of which rows any of the fillers changes."""
    differs = torch.zeros_like(case.x, dtype=torch.bool)
    for filler in fillers:
        differs |= case.x != filler
    return unit_sums(differs, case.groups) > 0
