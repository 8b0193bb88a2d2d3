"""Exact attributions against values derived by hand, against brute force, and against their axioms."""

import math
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from torch import nn

from assay.benchmarks import truth
from assay.benchmarks.plugin import NotApplicable, Problem
from assay.benchmarks.truth import exact_attribution, explained_output, integrated_gradients, shapley

torch.set_num_threads(1)


class Columns(nn.Module):
    """A function of columns a, b, c, ... in the dtype of its input; one output or several."""

    def __init__(self, *functions):
        super().__init__()
        self.functions = functions

    def forward(self, x):
        return torch.stack([f(*x.flatten(1).unbind(1)) for f in self.functions], 1)


def polynomial(a, b, c, *_):
    return 2 * a + a * b**2 + c**2


def bent(a, b, c, d, e, *_):
    """No symmetry, interactions of every order."""
    return torch.sin(a + 2 * b * c) * torch.exp(d) + torch.sqrt(1 + (a - e) ** 2) + b * d * e


def draw(rows, width, seed=0):
    return 2 * torch.rand(rows, width, generator=torch.Generator().manual_seed(seed)).double() - 1


def problem(*functions, x=None, relevant=None, baseline=0.0, groups=None):
    """A problem of explained rows alone, behind one row that trains."""
    x = draw(7, 5) if x is None else x
    feature = x.shape[1:]
    relevant = torch.ones(1, *feature, dtype=torch.bool) if relevant is None else torch.as_tensor(relevant)
    return Problem(
        x=torch.cat([torch.full((1, *feature), 9.0), x.float()]),
        y=torch.zeros(len(x) + 1),
        task="regression" if len(functions) == 1 else "classification",
        n_train=1,
        n_validation=0,
        n_explained=len(x),
        baseline=torch.as_tensor(baseline).float().expand(feature),
        background=x.float(),
        masks={"relevant": relevant},
        oracle=Columns(*functions),
        groups=groups,
    )


def exact(given, estimand, target=0, value="baseline"):
    rows = given.n_explained
    targets = torch.as_tensor(target).expand(rows) if isinstance(target, int) else target
    return exact_attribution(given, targets, estimand, value)


def explained(given):
    return given.x[given.explained].double()


def difference(given, output=0):
    x = explained(given)
    at = given.oracle(torch.cat([x, given.baseline[None].double()]))[:, output]
    return at[:-1] - at[-1]


# ---- by hand: f = 2a + a b^2 + c^2, of which d and e are no part -----------------------------------------

BY_HAND = {
    "gradient": lambda a, b, c: (2 + b**2, 2 * a * b, 2 * c),
    "gradient_x_input": lambda a, b, c: (a * (2 + b**2), 2 * a * b**2, 2 * c**2),
    "ablation": lambda a, b, c: (2 * a + a * b**2, a * b**2, c**2),
    # integral of (b t)^2 and of 2 a t b t over t: thirds
    "integrated_gradients": lambda a, b, c: (2 * a + a * b**2 / 3, 2 * a * b**2 / 3, c**2),
    # a and b share what they make together: halves
    "shapley": lambda a, b, c: (2 * a + a * b**2 / 2, a * b**2 / 2, c**2),
    "none": lambda a, b, c: (2 * a + a * b**2 / 2, a * b**2 / 2, c**2),
}
ABC = [[True, True, True, False, False]]


@pytest.mark.parametrize("estimand", BY_HAND)
def test_exact_attributions_are_those_derived_by_hand(estimand):
    given = problem(polynomial, relevant=ABC)
    a, b, c, *_ = explained(given).T
    found = exact(given, estimand)
    assert found.dtype == torch.float64
    torch.testing.assert_close(
        found[:, :3], torch.stack(BY_HAND[estimand](a, b, c), 1), rtol=1e-13, atol=1e-14
    )
    assert (found[:, 3:] == 0).all()  # to the bit


def test_the_baseline_need_not_be_0():
    """With b = 1 in the baseline, b alone changes nothing while a is 0; by hand from f(1/2, 1, 0) = 3/2."""
    given = problem(polynomial, relevant=ABC, baseline=[0.5, 1.0, 0.0, 0.0, 0.0])
    a, b, c, *_ = explained(given).T
    whole = 2 * a + a * b**2 + c**2
    ablation = torch.stack([whole - (1 + b**2 / 2 + c**2), whole - (3 * a + c**2), c**2], 1)
    torch.testing.assert_close(exact(given, "ablation")[:, :3], ablation, rtol=1e-13, atol=1e-14)
    # Shapley of a pair: the mean of coming first and coming last
    first_a, last_a = 3 * a - 1.5, whole - c**2 - (1 + b**2 / 2)
    first_b, last_b = (1 + b**2 / 2) - 1.5, whole - c**2 - 3 * a
    wanted = torch.stack([(first_a + last_a) / 2, (first_b + last_b) / 2, c**2], 1)
    torch.testing.assert_close(exact(given, "shapley")[:, :3], wanted, rtol=1e-13, atol=1e-14)
    # integral of 2 + (1 + (b - 1) t)^2 over t, times (a - 1/2)
    slope = 2 + ((b**3 - 1) / (3 * (b - 1)))
    torch.testing.assert_close(
        exact(given, "integrated_gradients")[:, 0], (a - 0.5) * slope, rtol=1e-12, atol=1e-13
    )


def test_a_linear_function_has_one_attribution():
    given = problem(lambda a, b, *_: 3 * a - 2 * b + 7)
    wanted = explained(given) * torch.tensor([3, -2, 0, 0, 0]).double()
    for estimand in set(BY_HAND) - {"gradient"}:
        torch.testing.assert_close(exact(given, estimand), wanted, rtol=1e-13, atol=1e-14)


def test_the_class_that_is_explained_is_the_row_s_own():
    given = problem(polynomial, lambda a, *_: a**3, relevant=ABC)
    target = torch.tensor([0, 1, 0, 0, 1, 1, 0])
    for estimand in BY_HAND:
        mixed = exact(given, estimand, target)
        pure = torch.stack([exact(given, estimand, k) for k in (0, 1)])
        assert torch.equal(mixed, pure[target, torch.arange(7)])
        assert not torch.equal(pure[0], pure[1])


# ---- axioms and brute force -----------------------------------------------------------------------------


@pytest.mark.parametrize("estimand", ["integrated_gradients", "shapley"])
def test_complete_attributions_add_up(estimand):
    given = problem(bent, baseline=[0.3, -0.1, 0.2, 0.0, 0.5])
    gap = exact(given, estimand).sum(1) - difference(given)
    assert gap.abs().max() < 1e-9 * difference(given).abs().max()


def test_shapley_is_the_mean_over_all_orders_of_arrival():
    given = problem(bent, baseline=[0.3, -0.1, 0.2, 0.0, 0.5])
    x, baseline, f = explained(given), given.baseline.double(), given.oracle
    total = torch.zeros_like(x)
    for order in permutations(range(5)):
        now = baseline.expand_as(x).clone()
        before = f(now)[:, 0]
        for arriving in order:
            now[:, arriving] = x[:, arriving]
            after = f(now)[:, 0]
            total[:, arriving] += after - before
            before = after
    torch.testing.assert_close(exact(given, "shapley"), total / math.factorial(5), rtol=1e-12, atol=1e-14)


def test_ablation_takes_away_one_column_at_a_time():
    given = problem(bent, baseline=0.25)
    x, f = explained(given), given.oracle
    for i in range(5):
        without = x.clone()
        without[:, i] = 0.25
        assert torch.equal(exact(given, "ablation")[:, i], (f(x) - f(without))[:, 0])


def test_integrated_gradients_are_those_of_a_fine_sum():
    """The midpoint rule with 20,000 points, which has an error of its own of 1e-9."""
    given = problem(bent, baseline=-0.5)
    x, baseline = explained(given), given.baseline.double()
    t = (torch.arange(20_000).double() + 0.5) / 20_000
    for row, found in zip(x, exact(given, "integrated_gradients"), strict=True):
        path = (baseline + t[:, None] * (row - baseline)).requires_grad_()
        slope = torch.autograd.grad(given.oracle(path).sum(), path)[0].mean(0)
        torch.testing.assert_close(found, slope * (row - baseline), rtol=0, atol=1e-8)


def test_left_point_sums_would_miss_completeness_by_percents_and_ours_do_not():
    """Defect 4 of the paper's code: for a^2 on [0, 1] the left-point sum of n terms is (n - 1) / n."""
    given = problem(lambda a, *_: a**2, x=torch.ones(1, 5))
    n = 50
    left = sum(2 * (k / n) / n for k in range(n))
    assert left == pytest.approx((n - 1) / n, abs=1e-12)
    assert abs(left - difference(given).item()) > 0.01
    assert abs(exact(given, "integrated_gradients").sum() - difference(given)).item() < 1e-14


NEVER = {
    "an infinite slope at the baseline": lambda a, *_: a.abs().sqrt(),
    "a kink on the path": lambda a, *_: (a - 0.01).abs(),
    "not a number at the baseline": lambda a, *_: torch.log(a),
}


@pytest.mark.parametrize("what", NEVER)
def test_integrated_gradients_that_do_not_converge_are_not_passed_off_as_exact(what, monkeypatch):
    monkeypatch.setattr(truth, "MAX_NODES", 128)  # more are no help, they only take time
    f = explained_output(Columns(NEVER[what]), torch.zeros(5, dtype=torch.int64))
    x = draw(5, 3)
    with pytest.raises(NotApplicable, match=r"do not converge: error .* at 128"):
        integrated_gradients(f, x, torch.zeros_like(x))


# ---- units ----------------------------------------------------------------------------------------------


def test_relevance_decides_what_is_enumerated_and_the_rest_is_exactly_0():
    wide = torch.zeros(1, 40, dtype=torch.bool)
    wide[0, [3, 17, 39]] = True
    given = problem(lambda *v: v[3] * v[17] ** 2 + v[39], x=draw(4, 40), relevant=wide)
    x = explained(given)
    for estimand in ("shapley", "ablation"):
        assert (exact(given, estimand)[:, ~wide[0]] == 0).all()
    torch.testing.assert_close(
        exact(given, "shapley")[:, 3], x[:, 3] * x[:, 17] ** 2 / 2, rtol=1e-13, atol=1e-15
    )


def test_a_column_relevant_in_one_row_is_enumerated_in_all():
    masks = torch.zeros(7, 5, dtype=torch.bool)
    masks[0, :2] = masks[6, 2] = True
    whole, given = problem(polynomial, relevant=ABC), problem(polynomial, relevant=masks)
    assert torch.equal(exact(given, "shapley"), exact(whole, "shapley"))


def test_too_many_units_are_refused_with_the_number():
    given = problem(lambda *v: sum(v), x=draw(2, truth.MAX_UNITS + 1))
    with pytest.raises(NotApplicable, match=f"at most {truth.MAX_UNITS} relevant units, this has 13"):
        exact(given, "shapley")
    assert exact(given, "integrated_gradients").shape == (2, 13)


def test_without_an_oracle_there_is_no_truth():
    given = problem(polynomial)
    object.__setattr__(given, "oracle", None)
    with pytest.raises(NotApplicable, match="no oracle"):
        exact(given, "gradient")


GROUPS = torch.tensor([4, 4, 7, 7, 9])


def test_shapley_of_groups_is_that_of_the_groups_as_players():
    """f = 2a + a b^2 + c^2 with players {a, b}, {c, d}, {e}: 2a + a b^2, c^2 and 0, by hand."""
    given = problem(polynomial, relevant=ABC, groups=GROUPS)
    a, b, c, *_ = explained(given).T
    found = exact(given, "shapley")
    torch.testing.assert_close(found[:, :2].sum(1), 2 * a + a * b**2, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found[:, 2:4].sum(1), c**2, rtol=1e-12, atol=1e-14)
    assert (found[:, 4] == 0).all()


def slow_shapley(f, x, baseline, units):
    """Of one row: the mean over all orders of arrival; what a unit adds in equal shares for its features."""
    found = torch.zeros_like(x)
    for order in permutations(units):
        now, before = baseline.clone(), f(baseline[None]).item()
        for unit in order:
            now[unit] = x[unit]
            after = f(now[None]).item()
            found[unit] += (after - before) / len(unit) / math.factorial(len(units))
            before = after
    return found


@pytest.mark.parametrize(
    "units", [[[0, 3], [1], [2, 4]], [[4], [2], [0], [3, 1]], [[0, 1, 2, 3, 4]], [[0], [1], [2], [3], [4]]]
)
def test_shapley_of_units_of_several_features_equals_its_twin(units):
    """Every row from a baseline of its own; what is no unit stays as it is in the row."""
    units = [torch.tensor(unit) for unit in units]
    x, baseline = draw(4, 5), draw(4, 5, seed=1)
    target = torch.tensor([0, 1, 1, 0])
    model = Columns(bent, polynomial)
    found = shapley(explained_output(model, target), x, baseline, units)
    for i, row in enumerate(x):
        wanted = slow_shapley(lambda v, i=i: model(v)[:, target[i]], row, baseline[i], units)
        torch.testing.assert_close(found[i], wanted, rtol=1e-11, atol=1e-13)


def test_what_is_no_unit_stays_as_it_is_in_the_row():
    f = explained_output(Columns(bent), torch.zeros(4, dtype=torch.int64))
    x, baseline = draw(4, 5), draw(4, 5, seed=1)
    found = shapley(f, x, baseline, [torch.tensor([1, 2])])
    gain = f(x) - f(torch.cat([x[:, :1], baseline[:, 1:3], x[:, 3:]], 1))
    torch.testing.assert_close(found[:, 1:3], (gain / 2)[:, None].expand(4, 2), rtol=1e-12, atol=1e-14)
    assert (found[:, [0, 3, 4]] == 0).all()


# ---- absence as the background ----------------------------------------------------------------------------


@pytest.mark.parametrize("estimand", ["shapley", "ablation", "integrated_gradients", "none"])
@pytest.mark.parametrize("groups", [None, GROUPS])
def test_the_marginal_truth_is_the_mean_of_the_truths_from_each_background_row(estimand, groups):
    target = torch.tensor([0, 1, 0, 0, 1, 1, 0])
    given = problem(bent, polynomial, groups=groups, baseline=0.4)
    given = replace(given, background=draw(4, 5, seed=8).float())
    each = [exact(replace(given, baseline=row), estimand, target) for row in given.background]
    found = exact(given, estimand, target, "marginal")
    torch.testing.assert_close(found, torch.stack(each).mean(0), rtol=1e-9, atol=1e-12)
    assert (found - exact(given, estimand, target)).abs().max() > 0.01


@pytest.mark.parametrize("estimand", ["gradient", "gradient_x_input"])
def test_a_gradient_knows_no_absence(estimand):
    given = replace(problem(bent, baseline=0.4), background=draw(4, 5, seed=8).float())
    assert torch.equal(exact(given, estimand), exact(given, estimand, value="marginal"))


@pytest.mark.parametrize("estimand", ["shapley", "integrated_gradients"])
def test_marginal_truths_add_up_to_the_output_less_its_mean_over_the_background(estimand):
    given = replace(problem(bent), background=draw(6, 5, seed=8).float())
    x, background = explained(given), given.background.double()
    total = given.oracle(x)[:, 0] - given.oracle(background)[:, 0].mean()
    torch.testing.assert_close(exact(given, estimand, value="marginal").sum(1), total, rtol=0, atol=1e-8)


def test_shapley_of_groups_adds_up():
    given = problem(bent, groups=GROUPS)
    gap = exact(given, "shapley").sum(1) - difference(given)
    assert gap.abs().max() < 1e-9


def test_ablation_of_groups_takes_the_whole_group_away():
    given = problem(bent, groups=GROUPS)
    x, found = explained(given), exact(given, "ablation")
    for unit in (4, 7, 9):
        without = torch.where(unit == GROUPS, 0.0, x)
        wanted = (given.oracle(x) - given.oracle(without))[:, 0]
        torch.testing.assert_close(found[:, unit == GROUPS].sum(1), wanted, rtol=1e-12, atol=1e-14)


def test_features_may_have_any_shape():
    flat = problem(bent, x=draw(3, 6))
    square = problem(
        bent, x=draw(3, 6).view(3, 2, 3), relevant=torch.ones(1, 2, 3, dtype=torch.bool), baseline=0.0
    )
    for estimand in BY_HAND:
        found = exact(square, estimand)
        assert found.shape == (3, 2, 3)
        assert torch.equal(found.flatten(1), exact(flat, estimand))


def test_shapley_and_the_rest_leave_the_rows_as_they_were():
    given = problem(bent)
    before = given.x.clone()
    for estimand in BY_HAND:
        assert not exact(given, estimand).requires_grad
    assert torch.equal(given.x, before)
    f = explained_output(given.oracle, torch.zeros(7, dtype=torch.int64))
    x = explained(given)
    shapley(f, x, torch.zeros_like(x), [torch.tensor([0, 1])])
    assert torch.equal(x, explained(given))
