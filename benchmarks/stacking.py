"""Many small networks trained as one: weights stacked, so that every step is one multiplication for all.

One small network leaves a GPU idle; a group of them does not.  Each is trained as it would be alone, on the
same minibatches, and keeps its own best epoch; sums in another order change last bits.  What comes out is put
into the cache, where the run that follows finds it (`device.stacked`).
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from . import cache
from .cache import Training
from .descent import BETAS, Recipe, loss_of, plain_loss, schedule
from .evaluation import draw, looked_into, train
from .grid import Unit
from .training import ACTIVATIONS, Postponed, postponing

LIMIT = 2 * 2**30  # bytes that the networks of a group, their rows and their batches may take together
ROOM = 8  # copies of the weights: gradients, moments, the best, and what a step needs; likewise of a batch
SIMPLE = {nn.Sequential, nn.Flatten, nn.Linear, nn.Identity, nn.LayerNorm, nn.Dropout, *ACTIVATIONS.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A training that is to be done in a group."""

    training: Training[Any]
    key: str  # of the trained network in the cache


def train_together(units: Sequence[Unit], device: torch.device) -> int:
    """Train the networks of these units that can be in groups, and put them into the cache.

    What cannot be stacked, fails, or lies there already is left to the run, which trains it as ever.  Groups
    are made in the order of the units, so that the same units give the same bits.

    Args:
        units: of one plan, those of one problem one after the other.
        device: where to train.

    Returns:
        How many networks were put into the cache.

    Raises:
        ValueError: there is no cache to put them into.
    """
    return sum(in_groups(units, device))


def in_groups(units: Sequence[Unit], device: torch.device) -> Iterator[int]:
    """The same step by step: how many more networks are in the cache, after every unit and every group."""
    store = cache.current()
    if store is None:
        raise ValueError("networks that are trained together are handed on through a cache; set one")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the run: scales and initial weights must have the same bits there
    try:
        for group in _groups(units, device, store):
            yield _kept(group, device, store) if group else 0
    finally:
        torch.set_num_threads(threads)


def stackable(training: Training[Any]) -> bool:
    """Whether a group can train it: simple layers without state or noise of their own, and the plain loss."""
    net, modules = training.net, list(training.net.modules())
    weights = list(net.parameters())
    return (
        training.loss is plain_loss
        and {type(m) for m in modules} <= SIMPLE
        and not any(isinstance(m, nn.Dropout) and m.p for m in modules)
        and not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in modules)
        and not list(net.buffers())
        and bool(weights)
        and len(weights) == len(list(net.named_parameters(remove_duplicate=False)))
        and all(w.dtype == torch.float32 and w.requires_grad for w in weights)
    )


def _groups(units: Sequence[Unit], device: torch.device, store: cache.Cache) -> Iterator[list[Member]]:
    """Members that can be trained as one, no more at a time than there is room for; none after each unit."""
    waiting: dict[tuple[object, ...], list[Member]] = {}
    held = 0
    for unit in units:
        yield []
        member = _member(unit, device, store)
        needed = _bytes(member.training) if member else LIMIT + 1
        if member is None or needed > LIMIT:
            continue
        while waiting and held + needed > LIMIT:
            group = waiting.pop(max(waiting, key=lambda k: len(waiting[k])))
            held -= sum(_bytes(m.training) for m in group)
            yield group
        waiting.setdefault(_build(member.training), []).append(member)
        held += needed
    yield from waiting.values()


def _member(unit: Unit, device: torch.device, store: cache.Cache) -> Member | None:
    """What the unit's model would train, if a group can and nobody has."""
    if looked_into(unit.model):
        return None  # fitted by other means, which would take their time here and again in the run
    try:
        with postponing():
            train(unit, copy.deepcopy(draw(*unit.problem)))
    except Postponed as asked:
        training = asked.training
        if not stackable(training):
            return None
        key = cache.key_together(training.fingerprint(), device.type)
        known = store.found(key, training.net)
        return None if known else Member(training=training, key=key)
    except (Exception, SystemExit):  # the run will meet it again, and say what is wrong
        return None
    return None


def _build(training: Training[Any]) -> tuple[object, ...]:
    """Equal for trainings that can go in one group."""
    x, y, problem = training.problem.x, training.problem.y, training.problem
    rows = x.shape[1:], x.dtype, y.dtype, problem.n_train, problem.n_validation
    shapes = tuple(weight.shape for weight in training.net.parameters())
    return repr(training.net), shapes, training.recipe, *rows


def _bytes(training: Training[Any]) -> int:
    """Memory that a training takes as a member of a group, roughly."""
    x, net = training.problem.x, training.net
    batch = max(training.recipe.batch or len(x), training.problem.n_validation)
    widths = sum(m.out_features for m in net.modules() if isinstance(m, nn.Linear)) + x[0].numel()
    weights = sum(weight.numel() for weight in net.parameters())
    return 4 * (ROOM * (weights + batch * widths) + 2 * x.numel())


def _kept(group: list[Member], device: torch.device, store: cache.Cache) -> int:
    """Train the group and put every member into the cache; how many could be."""
    best = Stack.of([member.training for member in group], device).trained()
    count = 0
    for i, member in enumerate(group):
        net = member.training.net
        with torch.no_grad():
            for name, weight in net.named_parameters():
                weight.copy_(best[name][i])
        # what a group can train draws nothing from the global generator, and leaves it as it was
        count += store.keep(member.key, net, member.training.rng, member.training.global_state)
    return count


@dataclass(kw_only=True)
class Stack:
    """Networks of one build with their rows, of which `places` are still in training."""

    trainings: list[Training[Any]]
    weights: dict[str, Tensor]  # [places, *shape]
    best: dict[str, Tensor]  # [all, *shape]
    rows: tuple[Tensor, Tensor]  # x [places, n, *feature], y [places, n]
    held_out: tuple[Tensor, Tensor] | None
    places: list[int]  # where each stands among all
    device: torch.device
    found: list[float] = field(default_factory=list)  # of all, the least loss on held-out rows so far,
    stale: list[int] = field(default_factory=list)  # and the epochs since

    @classmethod
    def of(cls, trainings: list[Training[Any]], device: torch.device) -> "Stack":
        """All of them, untrained."""
        first, count = trainings[0], len(trainings)
        weights, _ = stack_module_state([t.net for t in trainings])
        weights = {k: w.detach().to(device).requires_grad_() for k, w in weights.items()}
        held_out = first.recipe.patience > 0 and first.problem.n_validation > 0
        n = first.problem.n_train + first.problem.n_validation

        def of_all(rows: slice) -> tuple[Tensor, Tensor]:
            x = torch.stack([t.problem.x[rows] for t in trainings]).to(device)
            return x, torch.stack([t.problem.y[rows] for t in trainings]).to(device)

        return cls(
            trainings=trainings,
            weights=weights,
            best={k: w.detach().clone() for k, w in weights.items()},
            rows=of_all(first.problem.train if held_out else slice(n)),
            held_out=of_all(first.problem.validation) if held_out else None,
            places=list(range(count)),
            device=device,
            found=[math.inf] * count,
            stale=[0] * count,
        )

    def trained(self) -> dict[str, Tensor]:
        """The weights of every network at its best epoch, or at the last one if no rows are held out."""
        recipe: Recipe = self.trainings[0].recipe
        n = self.rows[0].shape[1]
        batch = min(recipe.batch or n, n)
        steps = math.ceil(n / batch)
        epochs = max(recipe.epochs, math.ceil(recipe.least_steps / steps))
        weights = list(self.weights.values())
        optimiser = torch.optim.AdamW(weights, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        rates = iter(schedule(recipe, epochs * steps))
        for _ in range(epochs):
            for chosen in self._order(n, steps).split(batch, 1):
                rate, momentum = next(rates)
                optimiser.param_groups[0].update(lr=rate, betas=(momentum, BETAS[1]))
                optimiser.zero_grad()
                # no network's loss depends on another's weights: the sum's gradient is that of each
                self._losses(*self._batch(chosen)).sum().backward()
                optimiser.step()
            self._judge(recipe, optimiser)
            if not self.places:
                break
        return self.best if self.held_out else {k: w.detach() for k, w in self.weights.items()}

    def _order(self, n: int, steps: int) -> Tensor:
        """[places, n]: every network's rows in the order in which it alone would see them."""
        if steps == 1:
            return torch.arange(n).expand(len(self.places), n)
        return torch.stack([torch.randperm(n, generator=self.trainings[i].rng) for i in self.places])

    def _batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        each, chosen = torch.arange(len(self.places), device=self.device)[:, None], chosen.to(self.device)
        return self.rows[0][each, chosen], self.rows[1][each, chosen]

    def _losses(self, x: Tensor, y: Tensor) -> Float[Tensor, " places"]:
        """Every network's loss of its own batch."""
        shell = self.trainings[0].net.eval()  # dropout of 0 need not be drawn

        def one(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return loss_of(functional_call(shell, weights, (x,)), y)

        losses: Tensor = torch.vmap(one)(self.weights, x, y)
        return losses

    def _judge(self, recipe: Recipe, optimiser: torch.optim.Optimizer) -> None:
        """Keep the weights of those that were never better, and let go those whose patience is at its end."""
        if self.held_out is None:
            return
        with torch.no_grad():
            losses = self._losses(*self.held_out).tolist()
        better = [row for row, i in enumerate(self.places) if losses[row] < self.found[i]]
        for row, i in enumerate(self.places):
            self.stale[i] = 0 if row in better else self.stale[i] + 1
            self.found[i] = min(self.found[i], losses[row])
        at = [self.places[row] for row in better]
        for name, weight in self.weights.items():
            self.best[name][at] = weight.detach()[better]
        going_on = [row for row, i in enumerate(self.places) if self.stale[i] < recipe.patience]
        if len(going_on) < len(self.places):
            self._narrow(going_on, optimiser)

    def _narrow(self, rows: list[int], optimiser: torch.optim.Optimizer) -> None:
        """Go on with these alone: the others' generators must be left as they are."""
        self.places = [self.places[row] for row in rows]
        self.rows = self.rows[0][rows], self.rows[1][rows]
        if self.held_out is not None:
            self.held_out = self.held_out[0][rows], self.held_out[1][rows]
        for weight in self.weights.values():
            moments = optimiser.state[weight]
            for name in ("exp_avg", "exp_avg_sq"):
                moments[name] = moments[name][rows]
            weight.grad = None
            weight.data = weight.data[rows]
