"""What every score is held against: chance, ceiling and exact truth of one problem and model."""

import copy
import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float
from torch import Generator, Tensor, nn

from .coalitions import Alone, table
from .perturb import difference, empty_output, random_map
from .plugin import METRICS, Case, Evidence, NotApplicable, Problem, Scores
from .randomness import rng_for, seeded
from .shapley import spread_over_features
from .sharing import isolated
from .spec import Setting
from .terms import Estimand, Value
from .truth import exact_attribution

Memo: TypeAlias = dict[Any, Any]
OURS = f"{__package__.rpartition('.')[0]}.metrics."  # they leave what they see as it is
Train: TypeAlias = Callable[[Problem, Generator], nn.Module]


@dataclass(frozen=True, slots=True)
class Aim:
    """What a method is held against."""

    estimand: Estimand = "none"
    value: Value = "baseline"
    signed: bool = True


@dataclass(frozen=True, slots=True)
class Remembered:
    """A map, with what was computed of it for other metrics."""

    values: Tensor  # float64 [n, *feature]
    memo: Memo


def aimed(metric: Setting) -> bool:
    """Whether its scores hang on what a method is after, and not on sizes and sums alone."""
    return bool({"truth", "reference", "estimand"} & set(METRICS[metric.name].facts["needs"]))


def noise(case: Case, rng: Generator, aim: Aim, total: Scores | None = None) -> Tensor:
    """A random attribution, of the same law as the control `random`."""
    values = random_map(case, rng, aim.value, total).double()
    return values if aim.signed else values.abs()


class Yardstick:
    """Chance, ceiling and truth on one unit, each computed once however many methods are scored."""

    def __init__(self, problem: Problem, case: Case, key: str, train: Train | None = None) -> None:
        self.problem = problem
        self.case = case
        self.key = key
        self.train = train
        self.exact = functools.cache(self._exact)
        self.shown = functools.cache(self._shown)
        self.chance = functools.cache(self._chance)
        self.ceiling = functools.cache(self._ceiling)
        self.own_ablation = functools.cache(self._ablation_of_model)
        self.agreement_by_chance = functools.cache(self._agreement_by_chance)
        self.random = functools.cache(self._random)
        self.empty = functools.cache(functools.partial(empty_output, case))
        self.total = functools.cache(functools.partial(difference, case))
        # of the truth and of the model's own ablation, for each aim
        self.memos: defaultdict[Hashable, Memo] = defaultdict(dict)

    def evidence(
        self,
        values: Tensor,
        aim: Aim,
        *,
        memo: Memo | None = None,
        explain: Callable[[Case], Tensor] | None = None,
        other: Remembered | None = None,
    ) -> Evidence:
        """A map with everything that a metric may see beside it.

        memo: what was computed of the map for other metrics.
        other: a second map, with its memo.
        """
        try:
            truth = self.truth(aim) if other is None else None
        except NotApplicable:
            truth = None
        return Evidence(
            # a generator of its own: what a metric draws when it explains again hangs on no other metric
            case=dataclasses.replace(self.case, rng=rng_for("again", self.key)),
            attribution=values.clone(),  # the next metric gets the map as it was
            masks=self.problem.masks,
            truth=None if truth is None else truth.clone(),
            empty=self.empty(aim.value).clone(),
            other=None if other is None else other.values.clone(),
            explain=explain or (lambda _: values.clone()),
            rng=rng_for("metric", self.key),
            problem=self.problem,
            train=self.train,
            estimand=aim.estimand,
            value=aim.value,
            signed=aim.signed,
            memo={} if memo is None else memo,
            reference_memo=self.memos["truth", aim] if other is None else other.memo,
        )

    def rows_of(self, metric: Setting, evidence: Evidence) -> Float[np.ndarray, " n"]:
        """One metric's score a row.

        Raises:
            ValueError: the metric returned anything else.
        """
        scores = self._scores(metric, evidence)
        if not isinstance(scores, Tensor) or scores.shape not in {(len(self.case.x),), (1,)}:
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ValueError(
                f"it must return one score a row, {(len(self.case.x),)}, or one in all, got {got}"
            )
        return scores.detach().double().numpy()

    def _scores(self, metric: Setting, evidence: Evidence) -> Any:
        """What the metric returns; one of somebody else's is shown copies, and draws apart from others."""
        function: Callable[..., Any] = METRICS[metric.name].function
        if function.__module__.startswith(OURS):
            return function(evidence, **metric.params)
        own = dataclasses.replace(
            evidence,
            case=isolated(evidence.case),
            masks={name: mask.clone() for name, mask in evidence.masks.items()},
            problem=self.shown(metric),
            memo={},
            reference_memo={},
        )
        with seeded(rng_for("metric", str(evidence.rng.initial_seed()), metric.key)):
            return function(own, **metric.params)

    def _shown(self, _: Setting) -> Problem:
        """The problem as one metric of somebody else's sees it: its own copy, which may be large."""
        return copy.deepcopy(self.problem)

    def bounds(
        self, metric: Setting, aim: Aim
    ) -> tuple[Float[np.ndarray, "draws n"], Float[np.ndarray, " n"]]:
        """Chance, a draw and a row, and ceiling, a row, for a method of this kind."""
        if not aimed(metric):  # one chance serves every method, and one ceiling where that is not the truth
            exact = METRICS[metric.name].facts["ceiling"] == "exact"
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
        if aim.estimand != "none" and not aimed(metric):
            return self.chance(metric, dataclasses.replace(aim, estimand="none"))
        draws = range(METRICS[metric.name].facts["draws"])
        return np.stack([self.rows_of(metric, self._by_chance(draw, aim)) for draw in draws])

    def _agreement_by_chance(self, metric: Setting, signed: bool) -> Float[np.ndarray, "draws n"]:
        """Agreement of two random attributions."""
        aim = Aim(signed=signed)
        draws = range(METRICS[metric.name].facts["draws"])
        maps = [self.random(draw, aim) for draw in draws]
        pairs = zip(maps, [*maps[1:], maps[0]], strict=True)
        scored = (self.evidence(a.values, aim, memo=a.memo, other=b) for a, b in pairs)
        return np.stack([self.rows_of(metric, evidence) for evidence in scored])

    def _by_chance(self, draw: int, aim: Aim) -> Evidence:
        """A random attribution with what metrics see; explained again, it is another random one."""
        found = self.random(draw, aim)

        def explain(case: Case) -> Tensor:
            again = str(case.rng.initial_seed())
            return noise(case, rng_for("chance again", self.key, str(draw), again), aim)

        return self.evidence(found.values, aim, memo=found.memo, explain=explain)

    def _random(self, draw: int, aim: Aim) -> Remembered:
        rng = rng_for("chance", self.key, str(draw))
        return Remembered(noise(self.case, rng, aim, self.total(aim.value)), {})

    def _ceiling(self, metric: Setting, aim: Aim) -> Float[np.ndarray, " n"]:
        facts = METRICS[metric.name].facts
        if facts["ceiling"] == "none":
            return np.full(self.chance(metric, aim).shape[1], np.nan)
        if facts["ceiling"] == "ablation":
            memo = self.memos["ablation", aim]
            return self.rows_of(metric, self.evidence(self.own_ablation(), aim, memo=memo))
        try:
            truth = self.truth(aim)
        except NotApplicable:
            truth = None
        if facts["ceiling"] == "exact" and truth is not None:
            return self.rows_of(metric, self.evidence(truth, aim, memo=self.memos["truth", aim]))
        return np.full(self.chance(metric, aim).shape[1], float(facts["best"]))

    def _ablation_of_model(self) -> Tensor:
        """What the trained model's output loses with each unit, exactly."""
        found = table(self.case, Alone())
        return spread_over_features(self.case, found.whole[:, None] - found.outputs).double()
