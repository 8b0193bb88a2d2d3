"""Every check of metrics, on a metric that is wrong in just that way."""

import math
from dataclasses import replace
from typing import Annotated

import numpy as np
import pytest
import torch
from annotated_types import Ge, Le

from assay.benchmarks import metric_tasks, soundness
from assay.benchmarks.checks import CHECKS
from assay.benchmarks.metric_tasks import LAWS, ROWS, evidence, tasks
from assay.benchmarks.neighbours import Nearby
from assay.benchmarks.perturb import difference
from assay.benchmarks.plugin import NotApplicable
from assay.benchmarks.randomness import rng_for
from assay.benchmarks.ranking import chance_in_top, random_order, top_size
from assay.benchmarks.registry import Plugin
from assay.benchmarks.sharing import explained_again
from assay.benchmarks.variants import OtherClass

FACTS = {
    "family": "ground truth",
    "best": 1.0,
    "worst": 0.0,
    "needs": (),
    "ceiling": "exact",
    "claims": (),
    "chance": None,
    "draws": 10,
}
NAMED = {task.name: task for task in tasks()}


def plugin(function, **facts):
    return Plugin("metric", function.__name__, function, "1", "https://example.org", FACTS | facts)


def fails(check, function, match, **facts):
    with pytest.raises(AssertionError, match=match):
        check(plugin(function, **facts))


# ---- metrics that are right -----------------------------------------------------------------------------


def mass(e):
    """Share of |a| on what is relevant."""
    size, relevant = e.attribution.abs().flatten(1), e.relevant.flatten(1)
    total = size.sum(1)
    return ((size * relevant).sum(1) / total).where(total > 0, relevant.double().mean(1))


def precision(e, *, k: Annotated[int, Ge(0)] = 0):
    """Share of the top that is relevant, ties in expectation."""
    relevant = e.relevant.flatten(1)
    size = top_size(k, relevant)
    return (chance_in_top(e.attribution.abs().flatten(1), size) * relevant).sum(1) / size


def drawn_precision(e, *, k: Annotated[int, Ge(1), Le(3)] = 2):
    """The same with ties drawn; a width of its own that k may have."""
    first = random_order(e.attribution.flatten(1), e.rng) < k
    return (first & e.relevant.flatten(1)).double().sum(1) / min(k, e.attribution[0].numel())


def overall(e):
    """One score for all rows."""
    return mass(e).mean(0, keepdim=True)


def cosine(e):
    """Cosine with the reference; NaN for a zero map."""
    a, t = (v.flatten(1) for v in (e.attribution, e.reference))
    return (a * t).sum(1) / (a.norm(dim=1) * t.norm(dim=1))


def agreement(e):
    """Cosine with the other map alone; NaN for a zero map."""
    assert e.other is not None
    return cosine(replace(e, truth=None))


def steadiness(e):
    """1 / (1 + how far the map moves at a neighbour)."""
    gap = explained_again(e, Nearby(0.1, 1)) - e.attribution
    return 1 / (1 + gap.flatten(1).norm(dim=1))


def contrast(e):
    """How far the maps of two classes are apart; refuses regressions."""
    gap = explained_again(e, OtherClass(least_likely=True)) - e.attribution
    return gap.flatten(1).norm(dim=1) / (1 + gap.flatten(1).norm(dim=1))


def in_plane(e):
    """Mass, of maps that lie in a plane alone."""
    if e.attribution.ndim < 3:
        raise NotApplicable("needs a plane")
    return mass(e)


def learned(e):
    """How well another model predicts."""
    model, test = e.train(e.problem, e.rng), e.problem.test
    x, y = e.problem.x[test], e.problem.y[test]
    if e.problem.task == "classification":
        return (model(x).argmax(1) == y).double().mean(0, keepdim=True)
    return (1 - (model(x)[:, 0] - y).square().mean() / y.var()).double().clamp(0, 1)[None]


SIGNED = {"worst": -1.0, "claims": ("exact", "scale"), "chance": 0.0}
BLIND = {"ceiling": "none", "family": "robustness", "needs": ("explain",)}
GOOD = [
    plugin(mass, claims=("exact", "scale", "sign")),
    plugin(precision, claims=("exact", "scale", "sign", "ties")),
    plugin(drawn_precision, claims=("scale", "sign", "ties")),
    plugin(overall, claims=("exact", "scale", "sign")),
    plugin(cosine, **SIGNED, needs=("reference",)),
    plugin(agreement, **SIGNED, needs=("other",)),
    plugin(steadiness, **BLIND, claims=("sign",)),
    plugin(contrast, **BLIND, claims=("sign",)),
    plugin(in_plane, claims=("exact", "scale", "sign")),
    plugin(learned, family="retraining", ceiling="none", claims=("scale", "sign")),
]


@pytest.mark.parametrize("check", soundness.METRIC_CHECKS)
@pytest.mark.parametrize("good", GOOD, ids=lambda good: good.name)
def test_a_good_metric_passes(check, good):
    check(good)


def test_these_are_the_checks_of_metrics():
    assert CHECKS["metric"] == soundness.METRIC_CHECKS


# ---- and wrong ones -------------------------------------------------------------------------------------


def test_one_that_serves_nothing():
    def refuses(e):
        raise NotApplicable("never")

    fails(soundness.applies_somewhere, refuses, "refuses all small tasks: regression, classes")


def test_one_whose_share_of_the_features_is_none():
    def top(e):
        """NaN if nothing is in the top."""
        order = e.attribution.abs().flatten(1).argsort(1, descending=True)
        count = int(order.shape[1] * 0.01)  # 0 up to 99 features
        return e.relevant.flatten(1).gather(1, order)[:, :count].double().mean(1)

    fails(soundness.applies_somewhere, top, "scores no row of the exact map")
    top.__doc__ = "Says nothing of it."
    fails(soundness.scores_within_bounds, top, "12 of 12 are NaN .*docstring")


def test_one_that_says_nothing_of_random_maps():
    def certain(e):
        """NaN where the map is not the exact one."""
        return mass(e).where((e.attribution == e.truth).flatten(1).all(1), torch.nan)

    fails(soundness.applies_somewhere, certain, "random map")


def test_one_that_returns_something_else():
    wrong = [
        (lambda e: 0.5, "must return a tensor, got float"),
        (lambda e: mass(e)[1:], r"must return \(12,\) or \(1,\), got \(11,\)"),  # drops what it cannot score
        (lambda e: mass(e)[:, None], r"got \(12, 1\)"),
        (lambda e: mass(e).float(), "must be float64, got torch.float32"),
    ]
    for function, match in wrong:
        fails(soundness.scores_within_bounds, function, match)


def test_one_that_leaves_its_range():
    def signed(e):  # sums of signed values cancel
        a, relevant = e.attribution.flatten(1), e.relevant.flatten(1)
        return ((a * relevant).sum(1) / a.sum(1)).nan_to_num(0.0, 0.0, 0.0)

    fails(soundness.scores_within_bounds, signed, r"scores leave \[0.0, 1.0\], as .*for the random map")
    fails(soundness.scores_within_bounds, signed, r"leave \[0.0, 1.0\]", best=0.0, worst=1.0)
    fails(soundness.scores_within_bounds, lambda e: 1 + mass(e), "for the exact map of regression")


def test_one_that_is_undefined_where_it_does_not_say_so():
    def share(e):
        """A share."""
        size = e.attribution.abs().flatten(1)
        return size.amax(1) / size.sum(1)

    def endless(e):
        """NaN never, but of a zero map infinite."""
        return 1 / e.attribution.abs().flatten(1).sum(1)

    fails(soundness.scores_within_bounds, share, "12 of 12 are NaN for the zero map of regression")
    share.__doc__ = "A share; NaN of a zero map."
    soundness.scores_within_bounds(plugin(share))
    fails(soundness.scores_within_bounds, endless, "infinite for the zero map", best=math.inf)


def test_one_that_is_not_exact():
    def blurred(e):
        return 0.9 * mass(e)

    fails(soundness.exact_scores_best, blurred, "are not 1.0, as 0.9", claims=("exact",))
    soundness.exact_scores_best(plugin(blurred))

    def of_inputs(e):  # right where the baseline is 0
        x = e.case.x.double() * (e.truth / (e.case.x - e.case.baseline))
        return (1 - (e.attribution - x).abs().flatten(1).amax(1)).clamp(0, 1)

    fails(soundness.exact_scores_best, of_inputs, "exact map of regression", claims=("exact",))


def test_one_that_declares_another_chance():
    fails(soundness.random_scores_chance, mass, "declared is 0.5", chance=0.5)  # 3 of 5 matter
    fails(soundness.random_scores_chance, cosine, "declared is 0.1", chance=0.1)
    soundness.random_scores_chance(plugin(cosine, chance=0.0))


def test_one_that_turns_its_direction_round():
    fails(soundness.prefers_truth_to_noise, mass, "scores 1.000, noise", best=0.0, worst=1.0)
    fails(soundness.prefers_truth_to_noise, lambda e: torch.ones(12).double(), "scores 1.000, noise 1.000")

    def falling(e):
        return (1 - cosine(e)).nan_to_num(1.0)

    soundness.prefers_truth_to_noise(plugin(falling, best=0.0, worst=2.0))
    fails(soundness.prefers_truth_to_noise, falling, "noise", best=2.0)
    fails(soundness.prefers_truth_to_noise, falling, "its negative 2.000", best=2.0, family="axiom")
    soundness.prefers_truth_to_noise(plugin(falling, best=2.0, family="robustness", ceiling="none"))


def test_one_whose_rows_meet():
    def by_largest(e):  # of the batch
        size = e.attribution.abs().flatten(1)
        return size.mean(1) / size.max()

    def across(e):  # a correlation of rows, not within them
        a, t = (v.flatten(1) - v.flatten(1).mean(0) for v in (e.attribution, e.truth))
        return (a * t).sum(1) / (a.norm() * t.norm())

    def by_place(e):
        return mass(e) / torch.arange(1, len(e.attribution) + 1)

    def counted(e):
        return mass(e) / len(e.attribution)

    for function in (by_largest, across, by_place, counted):
        fails(soundness.rows_do_not_meet, function, "three rows: other scores of the exact map: ")
    fails(soundness.rows_do_not_meet, lambda e: mass(e)[1:], "must return")

    def by_tied_batch(e):  # only where values repeat
        flat = e.attribution.flatten(1)
        return flat.unique().numel() / flat.numel() * torch.ones(len(flat)).double()

    fails(soundness.rows_do_not_meet, by_tied_batch, "other scores")


def test_one_whose_rows_meet_in_what_they_draw():
    def noisy(e):
        noise = torch.rand(len(e.attribution), generator=e.rng).double()
        return (mass(e) / e.attribution.abs().max() + 0.1 * noise) / 2

    def fair(e):
        return (mass(e) + torch.rand(len(e.attribution), generator=e.rng)) / 2

    fails(soundness.rows_do_not_meet, noisy, "other scores")
    soundness.rows_do_not_meet(plugin(fair))


def test_one_that_knows_the_order_of_rows_alone():
    def sorted_rows(e):
        return mass(e) * (1 + e.attribution.flatten(1).argmax(1).cummax(0).values) / 5

    fails(soundness.rows_do_not_meet, sorted_rows, "other scores")


def test_one_that_settles_ties_by_column():
    def first(e, *, k: int = 2):
        order = e.attribution.abs().flatten(1).argsort(dim=1, descending=True, stable=True)
        return e.relevant.flatten(1).gather(1, order)[:, :k].double().mean(1)

    def largest(e):
        at = e.attribution.abs().flatten(1).argmax(1, keepdim=True)
        return e.relevant.flatten(1).gather(1, at)[:, 0].double()

    def weighted(e):
        size = e.attribution.abs().flatten(1)
        place = torch.arange(1.0, size.shape[1] + 1).double()
        return (size * place).sum(1) / (size.sum(1) * place[-1]).clamp_min(1e-9)

    for function in (first, largest, weighted):
        fails(soundness.columns_are_alike, function, "features in another order: other scores")
    for function in (first, largest):
        fails(soundness.ties_score_their_mean, function, "ties broken at random", claims=("ties",))


def test_one_that_draws_and_still_prefers_columns():
    def biased(e):
        flat = e.attribution.abs().flatten(1)
        shuffle = flat + 1e-12 * torch.rand(flat.shape, generator=e.rng, dtype=flat.dtype)
        shuffle[:, 0] += 1e-12  # wins every tie
        at = shuffle.argmax(1, keepdim=True)
        return e.relevant.flatten(1).gather(1, at)[:, 0].double()

    def fair(e):
        return ((random_order(e.attribution.flatten(1), e.rng) == 0) & e.relevant.flatten(1)).double().sum(1)

    fails(soundness.columns_are_alike, biased, "other scores")
    fails(soundness.ties_score_their_mean, biased, "other scores", claims=("ties",))
    for check in (soundness.columns_are_alike, soundness.ties_score_their_mean):
        check(plugin(fair, claims=("ties",)))


def test_one_that_counts_ties_as_losses():
    def strict(e):
        size, relevant = e.attribution.abs().flatten(1), e.relevant.flatten(1)
        wins = (size[:, :, None] > size[:, None]) & relevant[:, :, None] & ~relevant[:, None]
        return wins.sum((1, 2)) / (relevant.sum(1) * (~relevant).sum(1)).double()

    soundness.columns_are_alike(plugin(strict))
    fails(soundness.ties_score_their_mean, strict, "claims ties", claims=("ties",))


def test_one_that_claims_too_much():
    def raw(e):
        size = e.attribution.flatten(1).norm(dim=1)
        return size / (1 + size)

    def halves(e):
        return (cosine(e).nan_to_num() + 1) / 2

    fails(soundness.keeps_its_claims, raw, "claims scale, and times 3.7", claims=("scale", "sign"))
    fails(soundness.keeps_its_claims, halves, "claims sign, and times -1.0", claims=("scale", "sign"))
    soundness.keeps_its_claims(plugin(halves, claims=("scale",)))

    def explained(e):  # scales the map that it has, and not the one that it asks for
        gap = explained_again(e, Nearby(0.1, 1)) - e.attribution
        return (gap.flatten(1).norm(dim=1) / (1 + gap.flatten(1).norm(dim=1))).double()

    fails(soundness.keeps_its_claims, explained, "claims scale", claims=("scale",))


def test_one_that_needs_more_features_than_there_are():
    def top(e, *, k: int = 2):
        found = e.attribution.abs().flatten(1).topk(k, 1).indices
        return e.relevant.flatten(1).gather(1, found).double().mean(1)

    def beyond(e, *, k: int = 2):  # a share of the features that there are, of k
        return k * mass(e) / 5

    with pytest.raises(RuntimeError, match="out of range"):
        soundness.serves_any_size(plugin(top))
    fails(soundness.serves_any_size, beyond, r"scores leave .*regression, k = 99")

    def named(e, *, k: str = "all"):  # no number of features
        return mass(e)

    soundness.serves_any_size(plugin(named))


def test_one_that_fails_on_one_feature_or_one_row():
    def spread(e):
        """A standard deviation."""
        size = e.attribution.abs().flatten(1)
        return size.std(1).clamp_max(1)

    def squeezed(e):
        return mass(e).squeeze()

    def over_rows(e):
        """Standardised over rows."""
        size = e.attribution.abs().flatten(1).sum(1)
        return (size / (size.std() + 1e-9)).clamp_max(1)

    with pytest.warns(UserWarning, match="degrees of freedom"):
        fails(soundness.serves_any_size, spread, "are NaN .*regression, one feature")
    fails(soundness.serves_any_size, squeezed, r"got \(\), .*one row")
    with pytest.warns(UserWarning, match="degrees of freedom"):
        fails(soundness.serves_any_size, over_rows, "are NaN .*one row")

    def refuses(e):
        if e.attribution[0].numel() < 2 or len(e.attribution) < 2:
            raise NotApplicable("compares features, and rows")
        return mass(e)

    soundness.serves_any_size(plugin(refuses))


def test_one_that_takes_the_second_axis_for_all_features():
    def first_axis(e):
        return (mass(e) * e.attribution.shape[1] / 16).clamp_max(1)

    fails(soundness.serves_any_size, first_axis, r"features of shape \(1, 5\): other scores")


def test_one_that_changes_what_it_is_given():
    def changes(what):
        def changing(e):
            what(e)
            return mass(e)

        return changing

    def forget(e):
        e.case.model[1].weight.zero_()

    wrong = [
        (lambda e: e.attribution.abs_(), "the attribution"),
        (lambda e: e.truth.zero_(), "the truth"),
        (lambda e: e.masks["relevant"].fill_(True), "mask 'relevant'"),
        (lambda e: e.empty.zero_(), "the empty"),
        (lambda e: e.case.x.zero_(), "its input"),
        (lambda e: e.case.background.zero_(), "its input"),
        (lambda e: e.case.x.requires_grad_(), "requires_grad of its input"),
        (forget, "the model's weights"),
        (lambda e: e.case.model.train(), "the model's mode"),
        (lambda e: e.case.model.requires_grad_(), "requires_grad of the model"),
        (lambda e: e.problem.x[:1].zero_(), "the problem's x"),
        (lambda e: torch.manual_seed(3), "the state of torch's global generator"),
        (lambda e: np.random.seed(3), "the state of numpy's global generator"),  # noqa: NPY002
    ]
    for what, name in wrong:
        fails(soundness.keeps_what_it_is_given, changes(what), f"changed {name}")
    fails(
        soundness.keeps_what_it_is_given,
        changes(lambda e: e.other.zero_()),
        "changed the other",
        needs=("other",),
    )


def test_a_check_is_not_spoilt_by_one_that_changes_what_it_is_given():
    """The next metric meets the tasks as they were."""

    def spoils(e):
        for tensor in (e.problem.x, e.case.x, e.case.baseline, e.masks["relevant"], e.case.model[1].weight):
            tensor.zero_()
        return torch.ones(len(e.attribution)).double()

    soundness.scores_within_bounds(plugin(spoils))
    soundness.exact_scores_best(plugin(mass, claims=("exact",)))


def test_one_that_draws_from_elsewhere():
    def noisy(e):
        return torch.rand(len(e.attribution)).double()

    fails(soundness.same_seed_same_scores, noisy, "two runs from one seed differ on regression")


# ---- the tasks that all this is tried on ----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED)
def test_the_tasks_are_what_a_run_would_hand_over(name):
    given = evidence(NAMED[name], metric_tasks.exact)
    case, problem = given.case, given.problem
    assert torch.equal(case.x, problem.x[problem.explained])
    assert case.x.shape == (ROWS, *NAMED[name].shape)
    assert torch.equal(case.target, case.model(case.x).argmax(1))
    assert not torch.equal(
        case.model(case.x), problem.oracle(case.x)
    )  # some metrics refuse the known function
    assert problem.oracle(case.x.double()).dtype == torch.float64
    assert given.explain(case).equal(given.attribution)
    relevant = problem.masks["relevant"]
    assert relevant.any()
    assert not relevant.all()
    assert (given.truth[~relevant.expand_as(given.truth)] == 0).all()
    assert (given.truth[relevant.expand_as(given.truth)] != 0).all()
    assert problem.outputs == case.model(case.x).shape[1]
    assert name in ("regression", "picture") or len(case.target.unique()) > 1


@pytest.mark.parametrize("name", [name for name, task in NAMED.items() if task.linear])
def test_the_exact_map_adds_up(name):
    given = evidence(NAMED[name], metric_tasks.exact)
    gap = given.truth.flatten(1).sum(1) - difference(given.case)
    assert gap.abs().max() < 1e-5  # of sums of a few single-precision numbers near 1


@pytest.mark.parametrize("name", NAMED)
def test_features_in_another_order_or_shape_are_the_same_task(name):
    task = NAMED[name]
    for other, order in (
        (task.moved(), task.order),
        (task.within_one_more_axis(), torch.arange(len(task.order))),
    ):
        here, there = (evidence(t, metric_tasks.exact) for t in (task, other))
        torch.testing.assert_close(other.net(there.case.x), task.net(here.case.x))
        torch.testing.assert_close(other.problem.oracle(there.case.x), task.problem.oracle(here.case.x))
        torch.testing.assert_close(
            there.attribution.flatten(1), here.attribution.flatten(1)[:, order], rtol=0, atol=1e-5
        )
        assert torch.equal(there.relevant.flatten(1), here.relevant.flatten(1)[:, order])
    assert not torch.equal(task.order, torch.arange(len(task.order)))


def test_other_rows_of_a_task_are_those():
    task = NAMED["classes"]
    some, whole = (evidence(t, metric_tasks.exact) for t in (task.rows([5, 2, 9]), task))
    assert torch.equal(some.attribution, whole.attribution[[5, 2, 9]])
    assert torch.equal(some.case.x, some.problem.x[some.problem.explained])
    start = task.problem.explained.start
    kept = [p.problem.x[start:].flatten(1).sum(1).sort().values for p in (some, whole)]
    assert torch.equal(*kept)
    assert torch.equal(some.problem.x[:start], whole.problem.x[:start])


@pytest.mark.parametrize("name", NAMED)
def test_models_of_a_task_can_be_trained(name):
    task, test = NAMED[name], NAMED[name].problem.test
    first, again, other = (task.train(task.problem, rng_for(seed)) for seed in ("a", "a", "b"))
    x, y = task.problem.x[test], task.problem.y[test]
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))
    if task.problem.task == "regression":
        assert (first(x)[:, 0] - y).square().mean() < 0.1 * y.var()
    else:
        lazy = (y == y.mode().values).float().mean()
        assert (first(x).argmax(1) == y).float().mean() > lazy
    assert [type(layer) for layer in first] == [type(layer) for layer in task.net]


def test_maps_are_drawn_as_said():
    given = {name: evidence(NAMED["regression"], law) for name, law in LAWS.items()}
    assert torch.equal(given["negated"].attribution, -given["exact"].attribution)
    noise = given["random"]
    assert not torch.equal(noise.attribution, noise.explain(noise.case))
    other = evidence(NAMED["regression"], LAWS["random"], seed=1)
    assert not torch.equal(noise.attribution, other.attribution)
    sizes = given["tied"].attribution.abs()
    assert (sizes > 0).all()
    mixed = [
        len(row[relevant].unique()) < 3 or row[0] == row[4]
        for row, relevant in zip(sizes, noise.relevant, strict=True)
    ]
    assert sum(mixed) > ROWS / 2  # ties, in most rows
