"""What variants of a case are made of: other models, classes, seeds and rows; and how alike two maps are.

A model is altered within its own layers wherever that is exact, so that methods that go by layers meet
layers; elsewhere it is wrapped, and what such methods make of that is their own business.
"""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from .perturb import Predicted
from .plugin import Case, Evidence, NotApplicable, Problem, Samples, Scores
from .randomness import rng_for
from .ranking import average_ranks, unit_order
from .sharing import explained_again, of_case, variant_of

STILL = (nn.Flatten, nn.Identity, nn.Dropout)  # in eval mode they hand on the numbers that they get
BENT = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish),
)
SHARES = (0.1, 0.3, 0.5)  # of the units, to be removed or kept before models are trained on what is left


# ---- models ---------------------------------------------------------------------------------------------


class Sum(nn.Module):
    """A weighted sum of copies of two models, which share no layer."""

    def __init__(self, first: nn.Module, second: nn.Module, weight: float = 1.0) -> None:
        super().__init__()
        self.first, self.second, self.weight = copy.deepcopy(first), copy.deepcopy(second), weight

    def forward(self, x: Tensor) -> Tensor:
        """[rows, outputs]."""
        return self.weight * (self.first(x) + self.second(x))


class Moved(nn.Module):
    """A copy of a model that sees the features less something, and in another order."""

    less: Tensor
    order: Tensor

    def __init__(self, model: nn.Module, less: Float[Tensor, " d"], order: Int[Tensor, " d"]) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.register_buffer("less", less)
        self.register_buffer("order", order)

    def forward(self, x: Tensor) -> Tensor:
        """[rows, outputs]."""
        return self.model((x.flatten(1) - self.less)[:, self.order].view(x.shape))


def dense_network(case: Case) -> nn.Sequential | None:
    """The model, if it is linear layers with element-wise functions between them and nothing else."""
    net = case.model
    if type(net) is not nn.Sequential:
        return None
    kinds = [type(layer) if is_plain(layer) else None for layer in net]
    if nn.Linear not in kinds or not {*kinds} <= {nn.Linear, *STILL, *BENT}:
        return None
    last = max(i for i, kind in enumerate(kinds) if kind is nn.Linear)
    fits = linear_layers(net)[0].in_features == case.baseline.numel()
    return net if fits and {*kinds[last + 1 :]} <= {*STILL} else None


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer does what its type says: hooks may compute its weights."""
    return not (layer._forward_hooks or layer._forward_pre_hooks)


def linear_layers(net: nn.Module) -> list[nn.Linear]:
    """The linear layers, the first one first."""
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]


def side_by_side(f: nn.Sequential, g: nn.Sequential, weight: float = 1.0) -> nn.Sequential:
    """The weighted sum of two dense networks of the same layers, as one of their kind."""
    built = copy.deepcopy(f)
    at = [i for i, layer in enumerate(f) if isinstance(layer, nn.Linear)]
    for i, a, b in zip(at, linear_layers(f), linear_layers(g), strict=True):
        if i == at[0] == at[-1]:
            both = a.weight + b.weight
        elif i == at[0]:
            both = torch.cat([a.weight, b.weight])
        elif i == at[-1]:
            both = torch.cat([a.weight, b.weight], 1)
        else:
            both = torch.block_diag(a.weight, b.weight)
        p, q = bias_of(a), bias_of(b)
        last = i == at[-1]
        built[i] = dense(weight * both, weight * (p + q)) if last else dense(both, torch.cat([p, q]))
    return built


def bias_of(layer: nn.Linear) -> Tensor:
    """The bias, 0 where there is none."""
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias


def dense(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A layer of these weights."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer.eval().requires_grad_(False)


def spread_of(case: Case) -> Float[Tensor, " d"]:
    """Every feature's standard deviation, 1 where it is constant."""
    found = case.background.flatten(1).std(0, correction=0)
    return found.where(found > 0, 1.0)


# ---- maps of variants, and how alike they are -----------------------------------------------------------


def correlation(a: Samples, b: Samples, *, ranks: bool = False) -> Scores:
    """Pearson's correlation over the features of every row, or, of their ranks, Spearman's.

    Of two constant maps it is 1, as neither changes the other's shape; of one and a map that varies, 0.
    NaN where there is a single feature.
    """
    pair = [m.double().flatten(1) for m in (a, b)]
    flat, flat_too = ((m == m[:, :1]).all(1) for m in pair)
    if ranks:
        pair = [average_ranks(m) for m in pair]
    p, q = (m - m.mean(1, keepdim=True) for m in pair)
    p, q = (m / m.norm(dim=1, keepdim=True).clamp_min(torch.finfo(m.dtype).tiny) for m in (p, q))
    found = (p * q).sum(1).clamp(-1, 1).where(~(flat | flat_too), (flat & flat_too).double())
    return found if p.shape[1] > 1 else torch.full_like(found, torch.nan)


def relative_gap(a: Samples, b: Samples) -> Scores:
    """2 |a - b| / (|a| + |b|) in every row: 0 where they are the same, at most 2; of two zero maps 0."""
    gap, *sizes = (m.double().flatten(1).norm(dim=1) for m in (a - b, a, b))
    scale = sizes[0] + sizes[1]
    return (2 * gap / scale).where(scale != 0, 0.0)


@dataclass(frozen=True, slots=True)
class OtherClass:
    """Of every row another class than the explained one: the least likely, or one drawn at random."""

    least_likely: bool

    def of(self, evidence: Evidence, rng: Generator) -> Case:
        """The case; NotApplicable where there is no other class."""
        case = evidence.case
        outputs = of_case(case, Predicted())
        count = outputs.shape[1]
        if count == 1:
            raise NotApplicable("compares classes, and the model has a single output")
        step = torch.randint(1, count, case.target.shape, generator=rng)
        target = outputs.argmin(1) if self.least_likely else (case.target + step) % count
        return dataclasses.replace(case, target=target)


@dataclass(frozen=True, slots=True)
class Seeds:
    """The case with its own model (0) or one trained from another seed, for the method to run once more."""

    model: int
    run: int

    def of(self, evidence: Evidence, rng: Generator) -> Case:
        """The case; the class explained stays the same."""
        if self.model == 0:
            return evidence.case
        if self.run > 0:
            return variant_of(evidence, Seeds(self.model, 0))
        problem, train = trainable(evidence)
        rng = rng_for("another model", str(rng.initial_seed()), str(self.model))
        return dataclasses.replace(evidence.case, model=train(copy.deepcopy(problem), rng))


@dataclass(frozen=True, slots=True)
class SeedShares:
    """Of the maps' mean square, the share that other models make, and that other runs of the method make."""

    models: int
    runs: int

    def read(self, evidence: Evidence, _: Generator) -> tuple[Scores, Scores]:
        """Both shares, a row."""
        trainable(evidence)  # refuses before anything is explained
        seeds = [Seeds(m, r) for m in range(self.models) for r in range(self.runs)][1:]
        maps = [evidence.attribution.double(), *(explained_again(evidence, s) for s in seeds)]
        return shares_of_variance(torch.stack(maps).flatten(2).unflatten(0, (self.models, self.runs)))


def shares_of_variance(maps: Float[Tensor, "models runs n d"]) -> tuple[Scores, Scores]:
    """What differs between models, and between runs on one, as shares of the mean square of the maps.

    The components of a nested analysis of variance, summed over the features: unbiased estimates, clipped
    at 0 after that.  The rest of the mean square is the squared mean.
    """
    runs = _variance(maps.transpose(0, 1)).mean(0).sum(1)
    means = _variance(maps.mean(1)).sum(1)  # these differ by the runs too
    models = (means - runs / maps.shape[1]).clamp_min(0)
    whole = torch.maximum(maps.square().mean((0, 1)).sum(1), models + runs)
    return (models / whole).where(whole != 0, 0.0), (runs / whole).where(whole != 0, 0.0)


def _variance(values: Float[Tensor, "k *rest"]) -> Float[Tensor, "*rest"]:
    """Unbiased, along the first axis; by the differences of pairs, as equal values then give exactly 0."""
    first, second = torch.combinations(torch.arange(len(values))).unbind(1)
    return (values[first] - values[second]).square().sum(0) / (len(values) * (len(values) - 1))


def trainable(evidence: Evidence) -> tuple[Problem, Callable[[Problem, Generator], nn.Module]]:
    """The problem, and what trains models of it; NotApplicable where that is not known."""
    if evidence.problem is None or evidence.train is None:
        raise NotApplicable("trains models anew, and it is not known how")
    return evidence.problem, evidence.train


# ---- training on what is left ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Splits:
    """Rows to train, validate and test on, at most so many and half as many twice, with their classes."""

    most: int

    def of(self, evidence: Evidence, rng: Generator) -> Case:
        """The case."""
        case, (problem, train) = evidence.case, trainable(evidence)
        x = problem.x[torch.cat(self.rows(problem))].to(case.x)
        # what cannot be trained, as a known function, refuses here, before methods explain all this in vain
        train(_left(problem, self.rows(problem), torch.ones_like(x, dtype=torch.bool)), rng)
        whole = dataclasses.replace(case, x=x, target=torch.zeros(len(x), dtype=torch.int64))
        return dataclasses.replace(whole, target=of_case(whole, Predicted()).argmax(1))

    def rows(self, problem: Problem) -> list[Int[Tensor, " _"]]:
        """The rows of each split."""
        every, half = torch.arange(len(problem.x)), (self.most + 1) // 2
        splits = zip((problem.train, problem.validation, problem.test), (self.most, half, half), strict=True)
        return [every[split][:size] for split, size in splits]


def quality_of_what_is_left(evidence: Evidence, most: int, *, keep: bool) -> Scores:
    """Test quality of models trained with the top units of every row alone, or without them: a single number.

    The mean over the shares of the units that are the top.
    """
    problem, train = trainable(evidence)
    splits = Splits(most)
    rank, units = unit_order(explained_again(evidence, splits), evidence.case.groups, evidence.rng)
    found = []
    for share in SHARES:
        top = rank < max(1, round(share * units))
        left = _left(problem, splits.rows(problem), top if keep else ~top)
        # from one seed whatever the map is, so that methods are compared on equal terms
        model = train(left, rng_for("what is left", str(evidence.rng.initial_seed()), str(share)))
        found.append(_quality(left, model))
    return torch.stack(found).mean(0, keepdim=True)


def _left(problem: Problem, rows: list[Int[Tensor, " _"]], left: Tensor) -> Problem:
    """The problem of what is `left` of these rows; what else is known of it is nothing to learn from."""
    index, sizes = torch.cat(rows), [len(part) for part in rows]
    return dataclasses.replace(
        problem,
        x=torch.where(left, problem.x[index], problem.baseline),
        y=problem.y[index],
        n_train=sizes[0],
        n_validation=sizes[1],
        n_explained=sizes[2],
        masks={"relevant": torch.ones_like(left[:1])},
        oracle=None,
        counterfactual=None,
    )


def _quality(problem: Problem, model: nn.Module) -> Float[Tensor, ""]:
    """R2, or the share of the way from the commonest training class to perfect; at least 0."""
    with torch.no_grad():
        outputs = model(problem.x[problem.test]).double()
    wanted, train = problem.y[problem.test], problem.y[problem.train]
    if problem.task == "regression":
        missed, lazy = outputs[:, 0] - wanted, train.double().mean() - wanted
    else:
        missed, lazy = outputs.argmax(1) != wanted, train.bincount().argmax() != wanted
    missed, lazy = (gap.double().square().mean() for gap in (missed, lazy))
    return (1 - missed / lazy).clamp_min(0).where(lazy > 0, torch.nan)
