"""What every score is held against: chance, ceiling and exact truth of one problem and model."""

import functools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .coalitions import spread_over_features, units_of
from .perturb import outputs_under, random_map
from .plugin import METRICS, Case, Estimand, Evidence, NotApplicable, Problem
from .randomness import rng_for
from .spec import Setting
from .truth import exact_attribution

CHANCE_DRAWS = 10


class Yardstick:
    """Chance, ceiling and truth on one unit, each computed once however many methods are scored."""

    def __init__(self, problem: Problem, case: Case, key: str) -> None:
        self.problem = problem
        self.case = case
        self.key = key
        self._truth = functools.cache(self._truth)  # type: ignore[method-assign]
        self.chance = functools.cache(self._chance)
        self.ceiling = functools.cache(self._ceiling)
        self._own_ablation = functools.cache(self._ablation_of_model)

    def evidence(
        self,
        values: Tensor,
        estimand: Estimand,
        signed: bool,
        *,
        explain: Callable[[Case], Tensor] | None = None,
        other: Tensor | None = None,
    ) -> Evidence:
        """A map with everything that a metric may see beside it."""
        try:
            truth = self.truth(estimand, signed)
        except NotApplicable:
            truth = None
        return Evidence(
            case=self.case,
            attribution=values.clone(),  # the next metric gets the map as it was
            masks=self.problem.masks,
            truth=None if truth is None else truth.clone(),
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
        self, metric: Setting, estimand: Estimand, signed: bool
    ) -> tuple[Float[np.ndarray, "draws n"], Float[np.ndarray, " n"]]:
        """Chance, a draw and a row, and ceiling, a row, for a method of this kind."""
        facts = METRICS[metric.name].facts
        if "truth" not in facts["needs"]:
            signed = True  # such a metric looks at sizes or sums only: one yardstick serves every method
            if facts["ceiling"] != "exact":
                estimand = "none"
        return self.chance(metric, estimand, signed), self.ceiling(metric, estimand, signed)

    def truth(self, estimand: Estimand, signed: bool) -> Tensor:
        """The exact attribution, or its size.

        Raises:
            NotApplicable: it cannot be had.
        """
        found = self._truth(estimand)
        if isinstance(found, NotApplicable):
            raise found
        return found if signed else found.abs()

    def _truth(self, estimand: Estimand) -> Tensor | NotApplicable:
        """The refusal too is kept: finding out that a path integral does not converge takes long."""
        try:
            return exact_attribution(self.problem, self.case.target, estimand)
        except NotApplicable as why:
            return why

    def _chance(self, metric: Setting, estimand: Estimand, signed: bool) -> Float[np.ndarray, "draws n"]:
        """Scores of random attributions."""
        return np.stack(
            [self.rows_of(metric, self.evidence(m, estimand, signed)) for m in self._random(signed)]
        )

    def _random(self, signed: bool) -> Iterator[Tensor]:
        """Random attributions, of the same law as the control `random`."""
        for draw in range(CHANCE_DRAWS):
            noise = random_map(self.case, rng_for("chance", self.key, str(draw))).double()
            yield noise if signed else noise.abs()

    def _ceiling(self, metric: Setting, estimand: Estimand, signed: bool) -> Float[np.ndarray, " n"]:
        facts = METRICS[metric.name].facts
        if facts["ceiling"] == "ablation":
            return self.rows_of(metric, self.evidence(self._own_ablation(), estimand, signed))
        try:
            truth = self.truth(estimand, signed)
        except NotApplicable:
            truth = None
        if facts["ceiling"] == "exact" and truth is not None:
            return self.rows_of(metric, self.evidence(truth, estimand, signed))
        return np.full(self.chance(metric, estimand, signed).shape[1], float(facts["best"]))

    def _ablation_of_model(self) -> Tensor:
        """What the trained model's output loses with each unit, exactly."""
        units = units_of(self.case)
        alone = ~torch.eye(int(units.max()) + 1, dtype=torch.bool)[:, units]
        with torch.no_grad():
            whole = self.case.output(self.case.x)[:, None]
        return spread_over_features(self.case, (whole - outputs_under(self.case, alone[None])).double())
