"""Exact attributions of the very model that is explained, and what maps are from them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Generator, Tensor, nn

from . import truth
from .perturb import absent, in_blocks, rows_at_once
from .plugin import Case, Evidence, Labels, NotApplicable, Samples, Scores
from .sharing import of_case, variant_of
from .terms import Estimand, Value

DERIVATIVES: tuple[Estimand, ...] = ("gradient", "gradient_x_input")
SMOOTH: tuple[Estimand, ...] = (*DERIVATIVES, "integrated_gradients")  # what asks for a gradient
NUMBERS = 200_000  # of rows against their baselines at one time: a network makes a hundred of each


@dataclass(frozen=True, slots=True)
class Exact:
    """What there is to know exactly, or why there is nothing."""

    values: Samples | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Exactly:
    """The recipe for the exact attribution of a case's model, in double precision.

    relevant: flat indices of the features that can matter; of all others the model is known to be
        independent.  None where that is not known.
    """

    estimand: Estimand
    value: Value = "baseline"
    relevant: tuple[int, ...] | None = None

    def make(self, case: Case, _: Generator) -> Exact:
        """The attribution; the refusal too is kept, since finding out may take long."""
        try:
            return Exact(self.attribution(case))
        except NotApplicable as why:
            return Exact(None, str(why))

    def attribution(self, case: Case) -> Samples:
        """What a perfect estimator would return for every row.

        Raises:
            NotApplicable: it cannot be had exactly.
        """
        units = _units(case, self.relevant)
        if self.estimand == "shapley" and len(units) > truth.MAX_UNITS:
            raise NotApplicable(
                f"exact Shapley values of a model enumerate at most {truth.MAX_UNITS} units, "
                f"this has {len(units)}"
            )
        # rows are counted by the hooks, which a copy keeps
        net, fillers = copy.deepcopy(case.model).double(), absent(case, self.value).double()
        if self.estimand in SMOOTH and not _has_gradient(net, case.x[:1]):
            raise NotApplicable(f"the model has no gradient, so its exact {self.estimand} does not exist")
        parts = []
        for x, target in in_blocks(case, rows_at_once(case)):
            with torch.enable_grad():
                parts.append(self._of_rows(net, x.double(), target, fillers, units))
        return torch.cat(parts).detach()

    def _of_rows(
        self, net: nn.Module, x: Samples, target: Labels, fillers: Tensor, units: list[Int[Tensor, " _"]]
    ) -> Samples:
        """Of some rows, the mean over what an absent feature is replaced by."""
        f = truth.explained_output(net, target)
        if self.estimand in DERIVATIVES:
            slope = truth.gradient(f, x)
            return slope if self.estimand == "gradient" else slope * x
        total, many = torch.zeros_like(x), [1] * (x.dim() - 1)
        for some in fillers.split(max(1, NUMBERS // x.numel())):
            rows, baseline = x.repeat(len(some), *many), some.repeat_interleave(len(x), 0)
            each = self._against(f, rows, baseline, units)
            total += each.view(len(some), *x.shape).sum(0)
        return total / len(fillers)

    def _against(
        self, f: Callable[[Tensor], Tensor], x: Samples, baseline: Tensor, units: list[Int[Tensor, " _"]]
    ) -> Samples:
        """Of every row, against a baseline of its own."""
        if self.estimand == "ablation":
            return truth.ablation(f, x, baseline, units)
        if self.estimand == "shapley":
            return truth.shapley(f, x, baseline, units)
        try:
            return truth.integrated_gradients(f, x, baseline)
        except NotApplicable as why:
            raise NotApplicable(str(why).replace("of the oracle", "of the model")) from None


@dataclass(frozen=True, slots=True)
class Known:
    """The case of the true function."""

    def of(self, evidence: Evidence, _: Generator) -> Case:
        """The case, in double precision."""
        case, problem = evidence.case, evidence.problem
        if problem is None or problem.oracle is None:
            raise NotApplicable("the problem has no oracle, so its exact attributions are not known")
        return Case(
            model=problem.oracle,
            x=case.x.double(),
            target=case.target,
            baseline=case.baseline.double(),
            background=case.background.double(),
            groups=case.groups,
            rng=case.rng,
        )


def of_model(evidence: Evidence) -> Samples:
    """The exact attribution of the model that is explained, in the method's own estimand.

    Its size, if the method returns sizes; Shapley values, if it names no estimand.  Computed once for all
    methods that estimate the same.

    Raises:
        NotApplicable: it cannot be had exactly.
    """
    estimand = named(evidence)
    value: Value = "baseline" if estimand in DERIVATIVES else evidence.value
    return _had(of_case(evidence.case, Exactly(estimand, value)), evidence.signed)


def shapley_of_function(evidence: Evidence) -> Samples:
    """The exact Shapley values of the true function, in the method's own sense of absent; or their sizes.

    Raises:
        NotApplicable: there is no true function, or more units matter to it than can be enumerated.
    """
    matter = evidence.masks["relevant"].any(0).flatten().nonzero()[:, 0].tolist()
    recipe = Exactly("shapley", evidence.value, tuple(matter))
    return _had(of_case(variant_of(evidence, Known()), recipe), evidence.signed)


def named(evidence: Evidence) -> Estimand:
    """The method's estimand; Shapley values, which it is held against, where it names none."""
    return "shapley" if evidence.estimand == "none" else evidence.estimand


def distance(a: Samples, b: Samples, direction: bool = False) -> Scores:
    """2 |a - b| / (|a| + |b|) of every row, with Euclidean norms; both zero: 0.  0 to 2.

    It is a metric: it has the triangle inequality (Hasto 2002, arXiv math/0108025), which the relative error
    |a - b| / |b| has not, and which fails in other norms.

    direction: first divide each by its norm; it is then 2 sin(angle / 2), a metric too.
    """
    first, second = a.double().flatten(1), b.double().flatten(1)
    if direction:
        first, second = (torch.nn.functional.normalize(v, dim=1, eps=1e-300) for v in (first, second))
    gap, *sizes = (torch.linalg.vector_norm(v, dim=1) for v in (first - second, first, second))
    scale = sizes[0] + sizes[1]
    return (2 * gap / scale).where(scale > 0, 0.0)


def _had(found: Exact, signed: bool) -> Samples:
    if found.values is None:
        raise NotApplicable(found.why)
    return found.values if signed else found.values.abs()


def _units(case: Case, relevant: tuple[int, ...] | None) -> list[Int[Tensor, " _"]]:
    """For every unit that can matter, the flat indices of its features."""
    units = torch.arange(case.baseline.numel()) if case.groups is None else case.groups.flatten()
    among = units if relevant is None else units[list(relevant)]
    return [(units == unit).nonzero()[:, 0] for unit in among.unique()]


def _has_gradient(net: nn.Module, x: Samples) -> bool:
    with torch.enable_grad():
        outputs: Tensor = net(x.detach().double().requires_grad_())
    return outputs.requires_grad
