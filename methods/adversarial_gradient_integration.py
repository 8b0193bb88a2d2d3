"""Adversarial gradient integration (AGI)."""

import warnings
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from ..benchmarks.perturb import rows_at_once
from ..benchmarks.plugin import Case, Feature, Labels, NotApplicable, Remark, Samples, method


@method(
    version=1,
    paper="https://doi.org/10.24963/ijcai.2021/396",
    needs="gradient",
    promises="dummy",
    cost="path",
)
def adversarial_gradient_integration(
    case: Case,
    *,
    step: Annotated[float, Gt(0)] = 0.01,
    max_steps: Annotated[int, Ge(1)] = 100,
    classes: Annotated[int, Ge(1)] = 20,
) -> Samples:
    """What the explained output loses on the steepest ways to other classes, feature by feature.

    Towards each other class, every feature moves by one step, up or down as that class's probability grows,
    until it is the predicted one.  The paper integrates the slope of the probability of the row's own class;
    this is that of the explained output, so that the map is in its unit.

    step: of a feature, as a share of its range in the background; with the paper's 0.05, half of what the
        map shows on small networks is the step's.
    max_steps: most steps towards a class.
    classes: how many others; where there are more, so many are drawn at random.
    """
    with torch.no_grad():
        outputs = case.model(case.x[:1]).shape[1]
    if outputs == 1:
        raise NotApplicable("needs other classes, and this is a regression")
    others = 1 + torch.randperm(outputs - 1, generator=case.rng)[:classes]
    size, at_once = step * (case.background.amax(0) - case.background.amin(0)), rows_at_once(case)
    values, arrived = torch.zeros_like(case.x), 0
    for rows in torch.arange(len(case.x)).split(at_once):
        for other in others:
            found, short = _ascent(case, rows, (case.target[rows] + other) % outputs, (size, max_steps))
            values[rows] += found
            arrived += len(rows) - short
    share = arrived / (len(case.x) * len(others))
    warnings.warn(Remark(f"{share:.0%} of the ways arrived at the other class"), stacklevel=2)
    return values


def _ascent(case: Case, rows: Tensor, towards: Labels, stride: tuple[Feature, int]) -> tuple[Samples, int]:
    """The map of some rows against a class each, and how many of them have not arrived at it."""
    size, most = stride
    now, target = case.x[rows], case.target[rows]
    values, left = torch.zeros_like(now), torch.arange(len(rows))
    for step in range(most + 1):
        x = now[left].requires_grad_()
        outputs = case.model(x)
        short = outputs.argmax(1) != towards[left]
        left = left[short]
        if step == most or len(left) == 0:
            break
        # the logarithm has the same signs, and still has a slope where the probability is next to 0
        chance = outputs[short].log_softmax(1).gather(1, towards[left, None]).sum()
        (up,) = torch.autograd.grad(chance, x, retain_graph=True)
        (slope,) = torch.autograd.grad(outputs[short].gather(1, target[left, None]).sum(), x)
        move = up[short].sign() * size
        values[left] -= slope[short] * move
        now[left] += move
    return values, len(left)
