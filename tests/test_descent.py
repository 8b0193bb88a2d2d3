"""The training loop makes torch's own steps, to the bit."""

import copy
import dataclasses
import subprocess
import sys

import pytest
import torch
from torch import nn

from assay.benchmarks.descent import MOMENTA, descended, plain_loss, schedule
from assay.benchmarks.linear_task import linear_problem
from assay.benchmarks.training import LAID_OUT, RECIPES

torch.set_num_threads(1)


def optimiser_of(net, recipe, steps):
    optimiser = torch.optim.AdamW(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    if not recipe.one_cycle:
        return optimiser, None
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.lr, total_steps=steps, pct_start=recipe.rise
    )


@pytest.mark.parametrize("steps", [4, 5, 7, 10, 12, 200, 600, 945])
@pytest.mark.parametrize("recipe", [*RECIPES.values(), LAID_OUT], ids=[*RECIPES, "laid out"])
def test_rates_and_momenta_are_torch_s(recipe, steps):
    if recipe.one_cycle and recipe.rise * steps == 1:
        rate, momentum = schedule(recipe, steps)[0]  # torch divides by zero here
        assert (rate, momentum) == pytest.approx((recipe.lr, MOMENTA[1]))
        return
    optimiser, cycle = optimiser_of(nn.Linear(1, 1), recipe, steps)
    found = []
    for step in range(steps):
        group = optimiser.param_groups[0]
        found.append((group["lr"], group["betas"][0]))
        optimiser.step()
        if cycle is not None and step < steps - 1:
            cycle.step()
    assert list(schedule(recipe, steps)) == found


def by_torch(net, problem, rng, recipe):
    """The loop as torch's documentation has it, without validation."""
    rows = slice(problem.n_train + problem.n_validation)
    x, y = problem.x[rows], problem.y[rows]
    batch = recipe.batch or len(x)
    steps = -(-len(x) // batch)
    optimiser, cycle = optimiser_of(net, recipe, recipe.epochs * steps)
    net.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(x), generator=rng) if steps > 1 else torch.arange(len(x))
        for some in order.split(batch):
            optimiser.zero_grad()
            plain_loss(net, x[some], y[some]).backward()
            optimiser.step()
            if cycle is not None:
                cycle.step()
    return net.eval()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("kind", RECIPES)
def test_trained_weights_are_torch_s_to_the_bit(kind, classes):
    problem = linear_problem(classes)
    recipe = dataclasses.replace(RECIPES[kind], epochs=6, patience=0, least_steps=0)
    torch.manual_seed(3)
    width = problem.x[0].numel()
    net = nn.Sequential(nn.Linear(width, 9), nn.GELU(), nn.Dropout(0.2), nn.Linear(9, problem.outputs))
    other, states = copy.deepcopy(net), []
    for train, one in ((descended, net), (by_torch, other)):
        torch.manual_seed(5)
        arguments = (one, problem, torch.Generator().manual_seed(7), recipe)
        train(*arguments, plain_loss) if train is descended else train(*arguments)
        states.append(torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert torch.equal(*states)


def test_weights_that_the_loss_does_not_use_stay():
    problem = linear_problem(1)
    net = nn.Sequential(nn.Linear(problem.x[0].numel(), 1))
    net.idle = nn.Linear(2, 2)
    net.forward = net[0].forward
    before = copy.deepcopy(net.idle.state_dict())
    descended(net, problem, torch.Generator().manual_seed(0), RECIPES["fast"], plain_loss)
    assert all(torch.equal(before[name], value) for name, value in net.idle.state_dict().items())


def test_nothing_that_every_worker_does_imports_torch_s_compiler():
    """It takes longer than to train a network."""
    code = (
        "import sys, torch\n"
        "from assay.benchmarks.linear_task import linear_problem\n"
        "from assay.benchmarks.perturb import _Written\n"
        "from assay.benchmarks.training import fit, perceptron\n"
        "problem = linear_problem(1)\n"
        "fit(perceptron(problem, 1, 4, 'relu'), problem, torch.Generator().manual_seed(0), 'fast')\n"
        "with _Written() as written: torch.ones(2) + 1\n"
        "assert written.numbers == 4\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
