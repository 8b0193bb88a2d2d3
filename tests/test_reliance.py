"""What a model relies on is measured by intervention, and maps are held against it."""

import dataclasses

import pytest
import torch
from torch import Generator, nn

from assay.benchmarks import interventions
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.metric_tasks import evidence, exact, tasks
from assay.benchmarks.plugin import DATASETS, METRICS, MODELS, NotApplicable, Problem
from assay.benchmarks.randomness import seeded

load_plugins()
ERROR, MASS = METRICS["reliance_error"].function, METRICS["shortcut_mass"].function
WEIGHT = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0])  # core: 0 1, shortcut: 2, distractor: 3; in no region: 4
REGION = {"relevant": [0, 1], "shortcut": [2], "distractor": [3]}


def masks():
    found = {name: torch.zeros(1, 5, dtype=torch.bool) for name in REGION}
    for name, columns in REGION.items():
        found[name][0, columns] = True
    return found


def negated_region(x, region, rng):
    """An intervention whose effect is known: the region changes its sign."""
    return torch.where(masks()[region], -x, x)


def problem(rows=60, classes=1):
    """A function of five features; in test rows the shortcut says the class in half of each class."""
    rng = Generator().manual_seed(3)
    x = torch.randn(rows, 5, generator=rng)
    margin = x @ WEIGHT
    y = margin if classes == 1 else (margin > 0).long()
    says = None if classes == 1 else torch.where(torch.arange(rows) % 2 == 0, y, 1 - y)
    test = x[30:]
    return Problem(
        x=x,
        y=y,
        task="regression" if classes == 1 else "classification",
        n_train=20,
        n_validation=10,
        n_explained=12,
        baseline=torch.zeros(5),
        background=x[:10],
        masks=masks(),
        counterfactual=lambda region, r: negated_region(test, region, r),
        says=says,
    )


def linear(classes=1):
    layer = nn.Linear(5, classes, bias=False)
    sign = torch.ones(1) if classes == 1 else torch.tensor([-1.0, 1.0])
    layer.load_state_dict({"weight": sign[:, None] * WEIGHT})
    return nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)


def reliance(given, model, rng):
    outputs = interventions.predict(model, given.x[given.test])
    return interventions.reliance(given, model, outputs, rng)


def group_accuracy(given, model):
    return interventions.group_accuracy(given, interventions.predict(model, given.x[given.test]))


def seen(attribution):
    """The evidence of a metric task, of our problem and model."""
    found, given, model = evidence(tasks()[0], exact), problem(), linear()
    x = given.x[given.explained]
    case = dataclasses.replace(
        found.case, model=model, x=x, target=torch.zeros(12, dtype=torch.long), shared=None
    )
    return dataclasses.replace(
        found, case=case, problem=given, masks=given.masks, attribution=attribution.double(), memo={}
    )


def moved(x):
    """|change of the output| by region: twice what the region contributes."""
    return 2 * torch.stack([(x * WEIGHT)[:, columns].sum(1).abs() for columns in REGION.values()], 1)


def test_a_map_shared_out_as_the_reliance_is_has_no_error():
    x = problem().x[problem().explained]
    share = moved(x) / moved(x).sum(1, keepdim=True)
    wanted = torch.zeros(12, 5)
    wanted[:, 0], wanted[:, 2], wanted[:, 3] = share.T  # the core's share on one of its two features
    assert ERROR(seen(7 * wanted)).abs().max() < 1e-6


def test_what_is_on_the_wrong_region_is_the_error():
    x = problem().x[problem().explained]
    share = moved(x) / moved(x).sum(1, keepdim=True)
    only = torch.zeros(12, 5)
    only[:, 2] = 1.0
    torch.testing.assert_close(ERROR(seen(only)), 1 - share[:, 1].double(), rtol=1e-5, atol=1e-6)
    nowhere = torch.zeros(12, 5)
    nowhere[:, 4] = 1.0  # in no region: nothing that can be redrawn was named
    torch.testing.assert_close(ERROR(seen(nowhere)), torch.ones(12).double())


def test_net_adds_up_a_region_before_it_takes_sizes():
    x = problem().x[problem().explained]
    contributions = x * WEIGHT
    contributions[:, 4] = 0.0
    assert ERROR(seen(contributions), net=True).abs().max() < 1e-6
    assert (ERROR(seen(contributions)) > 0.01).any()


def test_a_row_whose_output_no_region_moves_has_no_score():
    found = seen(torch.ones(12, 5))
    still = nn.Sequential(nn.Flatten(), nn.Linear(5, 1)).requires_grad_(False)
    nn.init.zeros_(still[1].weight)
    assert ERROR(dataclasses.replace(found, case=dataclasses.replace(found.case, model=still))).isnan().all()


def test_mass_is_the_share_of_sizes_on_the_region():
    a = torch.tensor([[1.0, -1.0, 3.0, 0.0, -5.0]]).expand(12, -1)
    torch.testing.assert_close(MASS(seen(a)), torch.full((12,), 0.3).double())
    torch.testing.assert_close(MASS(seen(a), region="relevant"), torch.full((12,), 0.2).double())
    # net: |3| against |1 - 1 + 0 - 5|
    torch.testing.assert_close(MASS(seen(a), net=True), torch.full((12,), 3 / 8).double())


def test_metrics_of_regions_say_why_they_do_not_apply():
    found = seen(torch.ones(12, 5))
    bare = dataclasses.replace(found.problem, counterfactual=None)
    with pytest.raises(NotApplicable, match="cannot redraw two regions"):
        ERROR(dataclasses.replace(found, problem=bare))
    with pytest.raises(NotApplicable, match="'shortcut', and the problem has none"):
        MASS(dataclasses.replace(found, masks={"relevant": masks()["relevant"]}))


def test_the_ledger_gets_the_reliance_of_all_test_rows():
    given = problem()
    rows = {row["region"]: row for row in reliance(given, linear(), Generator())}
    wanted = moved(given.x[given.test]).double()
    for i, region in enumerate(REGION):
        own, total = wanted[:, i], float(wanted.mean(0).sum())
        assert rows[region]["change"] == pytest.approx(float(own.mean()), rel=1e-5, abs=1e-6)
        assert rows[region]["change_error"] == pytest.approx(float(own.std()) / 30**0.5, rel=1e-5, abs=1e-6)
        assert rows[region]["share"] == pytest.approx(float(own.mean()) / total, rel=1e-5, abs=1e-6)
        assert rows[region]["accuracy_drop"] is None
    assert rows["distractor"]["change"] < 1e-6


def test_of_classes_the_drop_of_accuracy_stands_beside_it():
    given = problem(classes=2)
    rows = {row["region"]: row for row in reliance(given, linear(2), Generator())}
    x, y = given.x[given.test], given.y[given.test]
    kept = ((negated_region(x, "relevant", None) @ WEIGHT > 0).long() == y)[given.aligned].double().mean()
    assert rows["relevant"]["accuracy_drop"] == pytest.approx(float(1 - kept))
    assert rows["distractor"]["accuracy_drop"] == 0


def test_who_follows_the_shortcut_loses_by_its_redrawing():
    """Over all test rows, half of them conflicting, it would be right in half before and after."""
    given = problem(rows=2000, classes=2)
    y, says = given.y, given.says
    given.x[:, 2] = 2.0 * says - 1  # the shortcut's column says it
    seen = given.x[given.test]

    def redraw(region, rng):
        new = seen.clone()
        new[:, 2] = 2.0 * torch.randint(2, (len(new),), generator=rng) - 1
        return new

    model = nn.Sequential(nn.Flatten(), nn.Linear(5, 2, bias=False)).requires_grad_(False)
    nn.init.zeros_(model[1].weight)
    model[1].weight[1, 2] = 1.0
    given = dataclasses.replace(given, counterfactual=redraw)
    rows = {row["region"]: row for row in reliance(given, model, Generator().manual_seed(1))}
    assert rows["shortcut"]["accuracy_drop"] == pytest.approx(0.5, abs=0.05)
    assert (says == y)[given.test].double().mean() == pytest.approx(0.5, abs=0.01)


def test_groups_of_rows_have_an_accuracy_each():
    given = problem(classes=2)
    always = nn.Sequential(nn.Flatten(), nn.Linear(5, 2)).requires_grad_(False)
    nn.init.zeros_(always[1].weight)
    always[1].bias.copy_(torch.tensor([0.0, 1.0]))  # always says 1
    found, follows = group_accuracy(given, always)
    y, says = given.y[given.test], given.says[given.test]
    assert found["accuracy_aligned"] == pytest.approx(float((y[y == says] == 1).double().mean()))
    assert found["accuracy_conflicting"] == pytest.approx(float((y[y != says] == 1).double().mean()))
    assert found["accuracy_worst_group"] == 0
    agrees, most = float((says == 1).double().mean()), float(says.bincount().max()) / len(says)
    assert follows == pytest.approx((agrees - most) / (1 - most))
    assert follows <= 0  # who always says the same does not follow
    assert group_accuracy(problem(), linear()) == ({}, 0.0)


@pytest.mark.parametrize("region", ["relevant", "shortcut"])
def test_a_model_that_is_shown_one_region_relies_on_it_alone(region):
    given = problem(rows=400, classes=2)
    model = MODELS["region_only"].function(given, Generator().manual_seed(0), region=region)
    rows = {row["region"]: row for row in reliance(given, model, Generator())}
    assert rows.pop(region)["share"] == pytest.approx(1, abs=1e-6)
    assert all(row["change"] < 1e-6 for row in rows.values())


def test_a_region_that_moves_or_is_not_there_cannot_be_shown_alone():
    given, rng = problem(), Generator().manual_seed(0)
    moving = {name: mask.expand(12, -1) for name, mask in given.masks.items()}
    with pytest.raises(NotApplicable, match="moves from row to row"):
        MODELS["region_only"].function(dataclasses.replace(given, masks=moving), rng)
    without = {"relevant": given.masks["relevant"]}
    with pytest.raises(NotApplicable, match="the problem has none"):
        MODELS["region_only"].function(dataclasses.replace(given, masks=without), rng, region="shortcut")


SHORTCUTS = {
    "shortcut_latent": {},
    "shortcut_latent pictures": {"form": "pictures"},
    "easy_hard": {},
    "equal_cues": {},
    "composition": {},
    "decoy": {},
    "coloured_digits": {},
    "suppressor": {},
    "correlated_tabular": {},
}


@pytest.mark.parametrize("name", SHORTCUTS)
def test_what_is_shown_the_core_alone_does_not_rely_on_the_shortcut(name):
    """By hand, on every problem: 0 to 1e-6 of the change of the output, however the shortcut is redrawn."""
    draw = DATASETS[name.partition(" ")[0]].function
    given = draw(Generator().manual_seed(4), train=200, explained=5, **SHORTCUTS[name])
    rng = Generator().manual_seed(0)
    with seeded(rng):
        model = MODELS["region_only"].function(given, rng, epochs=1)
    rows = {row["region"]: row for row in reliance(given, model, rng)}
    assert rows.pop("relevant")["change"] > 1e-3
    assert rows
    assert all(row["share"] < 1e-6 and row["change"] < 1e-6 for row in rows.values())
