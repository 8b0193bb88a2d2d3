"""Layer-wise relevance propagation (LRP), as captum computes it."""

import copy
import warnings
from typing import Annotated, Literal, TypeAlias

import torch
from annotated_types import Ge, Gt
from captum.attr import LRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule, IdentityRule
from torch import nn

from ..benchmarks.blocks import Join, Sum
from ..benchmarks.perturb import in_blocks, rows_at_once
from ..benchmarks.plugin import Case, NotApplicable, Note, Samples, method

Rule: TypeAlias = Literal["epsilon", "gamma", "alpha1_beta0"]

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# linear in all that they get, two branches too, or the choice of one of it; reshaping is too, and its shapes
# differ, which rules out captum's identity rule
LINEAR = (
    *(nn.Flatten, nn.Unflatten, nn.ConstantPad1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    *(nn.AdaptiveAvgPool3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(Sum, Join),
)
# element by element: relevance passes as it is.  captum does so by itself at OWN alone.
SHIFTED = (nn.Softplus, nn.Sigmoid)  # not 0 at 0
BENT = (
    *(nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.SELU, nn.CELU, nn.ReLU6, nn.Hardtanh, nn.Hardswish),
    *(nn.Softsign, nn.Tanh, *SHIFTED),
)
OWN = (nn.ReLU, nn.Tanh, nn.Dropout)
ELEMENTWISE = (*BENT, *OWN, nn.LeakyReLU, nn.Identity)
SAME = 1e-4  # share of its norm by which a map may differ from another and be called that


@method(
    version=1,
    paper="https://doi.org/10.1371/journal.pone.0130140",
    needs=("gradient", "layers"),
    cost="passes",
)
def lrp(
    case: Case,
    *,
    rule: Rule = "epsilon",
    epsilon: Annotated[float, Gt(0)] = 1e-9,
    gamma: Annotated[float, Ge(0)] = 0.25,
) -> Samples:
    """The output handed down layer by layer, to each unit by what it put into the one above.

    It shares out f(x), not a difference, and biases keep a part: without them and with a small epsilon the
    map adds up to f(x), and on a ReLU network it is input x gradient.

    rule: of the layers with weights: shares by all contributions (`epsilon`), by the positive weights more
        (`gamma`), or by the positive weights only (`alpha1_beta0`; made for layers whose input is positive).
    epsilon: added to every denominator of the epsilon rule.
    gamma: by how much the gamma rule raises positive weights.
    """
    # a copy, as captum leaves attributes on the layers; in a container, as it sees children only
    model = nn.Sequential(copy.deepcopy(case.model))
    layers, at_once = [m for m in model.modules() if not any(m.children())], rows_at_once(case)
    blocks = []
    for x, target in in_blocks(case, at_once):
        for layer in layers:  # anew for every block: captum takes the rules off the layers when it is done
            _give_rule(layer, rule, epsilon, gamma)
        blocks.append(LRP(model).attribute(x.clone().requires_grad_(), target=target).detach())
    values = torch.cat(blocks)
    _say(case, values)
    return values


def _say(case: Case, found: Samples) -> None:
    """What the map comes to on this model, where that is not what its name says."""
    shifted = sorted({type(m).__name__ for m in case.model.modules() if isinstance(m, SHIFTED)})
    x = case.x.clone().requires_grad_()
    plain = case.x * torch.autograd.grad(case.output(x).sum(), x)[0]
    if (found - plain).norm() <= SAME * plain.norm():
        warnings.warn(Note("is input x gradient: the two maps agree on this model"), stacklevel=3)
    elif shifted:
        warnings.warn(
            Note(f"is unstable at {', '.join(shifted)}: divides by an input near 0 what is not 0 there"),
            stacklevel=3,
        )


def _give_rule(layer: nn.Module, rule: Rule, epsilon: float, gamma: float) -> None:
    """Set a layer's rule: one of its own, as captum's keep what passes through them.

    Raises:
        NotApplicable: there is none for such a layer.
    """
    if type(layer) in OWN:  # captum goes by the very type
        return
    if isinstance(layer, WEIGHTED):
        rules = {
            "epsilon": EpsilonRule(epsilon),
            "gamma": GammaRule(gamma),
            "alpha1_beta0": Alpha1_Beta0_Rule(),
        }
        layer.rule = rules[rule]
    elif isinstance(layer, LINEAR):
        layer.rule = EpsilonRule()
    elif isinstance(layer, ELEMENTWISE):
        layer.rule = IdentityRule()
    else:
        raise NotApplicable(f"has no rule for a layer of the kind {type(layer).__name__}")
