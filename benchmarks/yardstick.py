"""What every score is held against: chance, ceiling and exact truth of one problem and model."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from .coalitions import Alone, table
from .perturb import empty_output, random_map
from .plugin import METRICS, Case, Evidence, NotApplicable, Problem
from .randomness import rng_for
from .shapley import spread_over_features
from .spec import Setting
from .terms import Estimand, Value
from .truth import exact_attribution

CHANCE_DRAWS = 10


@dataclass(frozen=True, slots=True)
class Aim:
    """What a method is held against."""

    estimand: Estimand = "none"
    value: Value = "baseline"
    signed: bool = True


class Yardstick:
    """Chance, ceiling and truth on one unit, each computed once however many methods are scored."""

    def __init__(self, problem: Problem, case: Case, key: str) -> None:
        self.problem = problem
        self.case = case
        self.key = key
        self.exact = functools.cache(self._exact)
        self.chance = functools.cache(self._chance)
        self.ceiling = functools.cache(self._ceiling)
        self.own_ablation = functools.cache(self._ablation_of_model)
        self.empty = functools.cache(functools.partial(empty_output, case))

    def evidence(
        self,
        values: Tensor,
        aim: Aim,
        *,
        explain: Callable[[Case], Tensor] | None = None,
        other: Tensor | None = None,
    ) -> Evidence:
        """A map with everything that a metric may see beside it."""
        try:
            truth = self.truth(aim)
        except NotApplicable:
            truth = None
        return Evidence(
            # a generator of its own: what a metric draws when it explains again hangs on no other metric
            case=dataclasses.replace(self.case, rng=rng_for("again", self.key)),
            attribution=values.clone(),  # the next metric gets the map as it was
            masks=self.problem.masks,
            truth=None if truth is None else truth.clone(),
            empty=self.empty(aim.value).clone(),
            other=other,
            explain=explain or (lambda _: values),
            rng=rng_for("metric", self.key),
        )

    def rows_of(self, metric: Setting, evidence: Evidence) -> Float[np.ndarray, " n"]:
        """One metric's score a row.

        Raises:
            ValueError: the metric returned anything else.
        """
        scores = METRICS[metric.name].function(evidence, **metric.params)
        if not isinstance(scores, Tensor) or scores.shape not in {(len(self.case.x),), (1,)}:
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ValueError(
                f"it must return one score a row, {(len(self.case.x),)}, or one in all, got {got}"
            )
        return scores.detach().double().numpy()

    def bounds(
        self, metric: Setting, aim: Aim
    ) -> tuple[Float[np.ndarray, "draws n"], Float[np.ndarray, " n"]]:
        """Chance, a draw and a row, and ceiling, a row, for a method of this kind."""
        facts = METRICS[metric.name].facts
        if "truth" not in facts["needs"]:
            # such a metric looks at sizes or sums only: one yardstick serves every method
            exact = facts["ceiling"] == "exact"
            aim = Aim(aim.estimand if exact else "none", aim.value)
        return self.chance(metric, aim), self.ceiling(metric, aim)

    def truth(self, aim: Aim) -> Tensor:
        """The exact attribution, or its size.

        Raises:
            NotApplicable: it cannot be had.
        """
        found = self.exact(aim.estimand, aim.value)
        if isinstance(found, NotApplicable):
            raise found
        return found if aim.signed else found.abs()

    def _exact(self, estimand: Estimand, value: Value) -> Tensor | NotApplicable:
        """The refusal too is kept: finding out that a path integral does not converge takes long."""
        try:
            return exact_attribution(self.problem, self.case.target, estimand, value)
        except NotApplicable as why:
            return why

    def _chance(self, metric: Setting, aim: Aim) -> Float[np.ndarray, "draws n"]:
        """Scores of random attributions."""
        return np.stack([self.rows_of(metric, self.evidence(m, aim)) for m in self._random(aim)])

    def _random(self, aim: Aim) -> Iterator[Tensor]:
        """Random attributions, of the same law as the control `random`."""
        for draw in range(CHANCE_DRAWS):
            rng = rng_for("chance", self.key, str(draw))
            noise = random_map(self.case, rng, aim.value).double()
            yield noise if aim.signed else noise.abs()

    def _ceiling(self, metric: Setting, aim: Aim) -> Float[np.ndarray, " n"]:
        facts = METRICS[metric.name].facts
        if facts["ceiling"] == "ablation":
            return self.rows_of(metric, self.evidence(self.own_ablation(), aim))
        try:
            truth = self.truth(aim)
        except NotApplicable:
            truth = None
        if facts["ceiling"] == "exact" and truth is not None:
            return self.rows_of(metric, self.evidence(truth, aim))
        return np.full(self.chance(metric, aim).shape[1], float(facts["best"]))

    def _ablation_of_model(self) -> Tensor:
        """What the trained model's output loses with each unit, exactly."""
        found = table(self.case, Alone())
        return spread_over_features(self.case, found.whole[:, None] - found.outputs).double()
