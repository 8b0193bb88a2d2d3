"""Model outputs under masks: the one place where features are taken away."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .plugin import Case, Labels, Samples, Scores
from .terms import Value

MEMORY = 512 * 2**20  # bytes that rows may take while a model is at them, with what its layers make of them
NUMBERS = 2_000_000  # of these at one time: larger batches miss the caches
FEWEST = 16  # rows at one time where memory allows: smaller batches cost more than the caches save


def rows_at_once(case: Case) -> int:
    """How many rows may go through the model together.

    What its operations write is measured on the first row; all of it counts, as a backward pass keeps it.
    """
    first = case.x[:1].clone()  # an operation in place may come first
    with torch.no_grad(), _Written() as written:
        case.model.forward(first)  # past the model's own hooks: no row of the method's
    each = case.x[0].numel() + written.numbers
    return max(1, min(max(FEWEST, NUMBERS // each), MEMORY // (case.x.element_size() * each)))


def in_blocks(case: Case, at_once: int) -> Iterator[tuple[Samples, Labels]]:
    """The rows with their targets, so many at a time."""
    yield from zip(case.x.split(at_once), case.target.split(at_once), strict=True)


class _Written(TorchDispatchMode):
    """Inside, the numbers that operations write are counted; views write none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: marking the method as not to be compiled imports torch's compiler, 1.7 s in every worker."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        made = out if isinstance(out, tuple | list) else (out,)
        fresh = (o for o in made if isinstance(o, Tensor) and o.untyped_storage().data_ptr() not in given)
        self.numbers += sum(o.numel() for o in fresh)
        return out


def absent(case: Case, value: Value) -> Float[Tensor, "b *feature"]:
    """What an absent feature is replaced by: one row, or the rows over which the output is averaged."""
    return case.baseline[None] if value == "baseline" else case.background


def outputs_of(
    case: Case, count: int, build: Callable[[slice, slice], Tensor], *, every: bool = False
) -> Float[Tensor, "n m"] | Float[Tensor, "n m outputs"]:
    """The explained output of `count` inputs for each row of the case, in batches that fit.

    build: which rows, which of the `count` -> their inputs [rows, some, *feature].
    every: all outputs of the model, not the explained one alone.
    """
    at_once = rows_at_once(case)
    rows = max(1, min(len(case.x), at_once))
    some = max(1, at_once // rows)
    parts = []
    for i in range(0, len(case.x), rows):
        block = slice(i, min(i + rows, len(case.x)))
        which = [slice(j, min(j + some, count)) for j in range(0, count, some)]
        parts.append(torch.cat([_through(case, block, build(block, w), every=every) for w in which], 1))
    return torch.cat(parts)


def _through(case: Case, rows: slice, x: Tensor, *, every: bool) -> Tensor:
    """The outputs of the inputs [rows, some, *feature]."""
    n, m = x.shape[:2]
    with torch.no_grad():
        outputs: Tensor = case.model(x.flatten(0, 1))
    if every:
        return outputs.view(n, m, -1)
    chosen = case.target[rows].repeat_interleave(m)[:, None]
    return outputs.gather(1, chosen).view(n, m)


def slopes(case: Case, x: Samples, target: Labels) -> Samples:
    """The derivative of the explained output of these rows in each of their features."""
    at = x.detach().clone().requires_grad_()
    outputs = case.model(at.clone()).gather(
        1, target[:, None]
    )  # the model may begin with an operation in place
    return torch.autograd.grad(outputs.sum(), at)[0]


@dataclass(frozen=True, slots=True)
class Predicted:
    """The recipe for all outputs of the model for every row of a case; float64."""

    def make(self, case: Case, _: Generator) -> Float[Tensor, "n outputs"]:
        """The outputs."""
        return outputs_of(case, 1, lambda rows, _: case.x[rows, None], every=True).double()[:, 0]


def rounding(case: Case, outputs: Float[Tensor, "n _"], steps: int) -> Float[Tensor, " n"]:
    """What may be nothing but rounding: steps of the model's precision at each row's largest output."""
    return steps * torch.finfo(case.x.dtype).eps * outputs.abs().amax(1)


def outputs_under(
    case: Case,
    keep: Bool[Tensor, "#n m *feature"],
    value: Value = "baseline",
    at_once: int | None = None,
) -> Float[Tensor, "n m"]:
    """The explained output of every row with the features outside `keep` absent.

    keep: one mask for each of m perturbations, for each row or (first axis 1) shared by all rows.
    at_once: rows that may go through the model together, where the caller knows.
    """
    at_once, fillers = at_once or rows_at_once(case), absent(case, value)
    rows = max(1, min(len(case.x), at_once // len(fillers)))
    masks = max(1, at_once // (rows * len(fillers)))
    out = case.x.new_zeros(len(case.x), keep.shape[1])
    for i in range(0, len(out), rows):
        shared = keep if len(keep) == 1 else keep[i : i + rows]
        for j in range(0, keep.shape[1], masks):
            block = (slice(i, i + rows), slice(j, j + masks))
            for some in fillers.split(at_once):
                out[block] += _outputs(case, block[0], shared[:, block[1]], some) * (len(some) / len(fillers))
    return out


def _outputs(
    case: Case, rows: slice, keep: Bool[Tensor, "#n m *feature"], fillers: Float[Tensor, "b *feature"]
) -> Float[Tensor, "n m"]:
    """One batch of `outputs_under`, averaged over the fillers."""
    x = torch.where(keep[:, :, None], case.x[rows, None, None], fillers)
    return _through(case, rows, x.flatten(1, 2), every=False).view(x.shape[:3]).mean(2)


def empty_output(case: Case, value: Value = "baseline") -> Scores:
    """The explained output with every feature absent."""
    with torch.no_grad():
        outputs: Tensor = case.model(absent(case, value)).mean(0)
    return outputs[case.target]


def difference(case: Case, value: Value = "baseline") -> Scores:
    """f(x) - f(everything absent): what the attributions of a row should add up to."""
    with torch.no_grad():
        return case.output(case.x) - empty_output(case, value)


def random_map(case: Case, rng: Generator, value: Value = "baseline", total: Scores | None = None) -> Samples:
    """Gaussian noise whose norm is |f(x) - f(everything absent)|, row by row.

    The size matters to metrics that see scale: noise of any size would make chance as bad as one likes.

    total: f(x) - f(everything absent), where the caller knows it.
    """
    noise = torch.randn(case.x.shape, generator=rng, dtype=case.x.dtype)
    total = difference(case, value) if total is None else total
    size = total.abs() / noise.flatten(1).norm(dim=1)
    return noise * size.view(-1, *[1] * (noise.ndim - 1))
