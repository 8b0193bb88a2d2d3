"""DeepLIFT's multipliers for any model written in torch: differences in place of derivatives.

Rows and their baselines go through the model together.  An element-wise operation passes back what its
output changes by over what its input changes by (the rescale rule); a product of two activations passes each
factor's change times the mean of the other; softmax, normalisation and quotients are made of these.  Linear
operations are left as they are.  Every rule is complete, so what they are chained to is complete too.  What
has no rule here (pooling by maximum, recurrent cells, fused attention) passes its gradient: the sum shows it.

Operations are met where torch calls them, not at modules: functional activations are treated as modules are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .perturb import rows_at_once
from .plugin import Case, Labels, NotApplicable, Samples

CLOSE = 1e-9  # inputs closer than this get the derivative between them

Operation: TypeAlias = Callable[..., Any]

ELEMENTWISE = """
relu relu_ relu6 gelu silu silu_ mish elu elu_ selu selu_ celu celu_ leaky_relu leaky_relu_ prelu
hardtanh hardtanh_ hardswish hardsigmoid softplus softsign softshrink hardshrink tanhshrink logsigmoid
threshold threshold_ tanh tanh_ sigmoid sigmoid_ sin cos tan sinh cosh asinh atan exp expm1 log log1p
log2 sqrt rsqrt abs square reciprocal erf pow __pow__ clamp clamp_min clamp_max __rpow__ __abs__
"""
PRODUCTS = "mul multiply __mul__ __rmul__ matmul __matmul__ __rmatmul__ bmm mm"
QUOTIENTS = "div divide true_divide __truediv__ __rtruediv__ __div__ __rdiv__"


def attributed(case: Case, fillers: Float[Tensor, "b *feature"]) -> Samples:
    """The attribution of every row against each of the fillers as its baseline, averaged over them."""
    pairs = torch.cartesian_prod(torch.arange(len(case.x)), torch.arange(len(fillers)))
    total = torch.zeros_like(case.x)
    for some in pairs.split(max(1, rows_at_once(case) // 2)):
        row, filler = some.unbind(1)
        total.index_add_(0, row, _rescaled(case.model, case.x[row], fillers[filler], case.target[row]))
    return total / len(fillers)


def _rescaled(model: nn.Module, x: Samples, baseline: Samples, target: Labels) -> Samples:
    """The attribution of every row against its own baseline; sums to the difference of their outputs."""
    with _constant_weights(model), torch.enable_grad():
        pair = torch.cat([x, baseline]).requires_grad_()
        with _Rules(2 * len(x)):
            outputs = model(pair.clone())  # an operation in place may come first
        chosen = outputs[: len(x)].gather(1, target[:, None]).sum()
        multipliers = torch.autograd.grad(chosen, pair)[0][: len(x)]
    return multipliers * (x - baseline)


@contextmanager
def _constant_weights(model: nn.Module) -> Iterator[None]:
    """Inside, only what depends on the input asks for a gradient."""
    asking = [p for p in model.parameters() if p.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_()


class _Rules(TorchFunctionMode):
    """Inside, the operations that have a rule follow it."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def __torch_function__(
        self, func: Operation, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        rule = RULES.get(func)
        if rule is None or not any(_depends(a) for a in (*args, *given.values())):
            return func(*args, **given)
        for tensor in filter(_depends, (*args, *given.values())):
            if tensor.dim() == 0 or len(tensor) % self.rows:  # the first half must be the rows'
                raise NotApplicable(f"has no rule for {func.__name__} where rows are not on the first axis")
        return rule(func, *args, **given)


def _depends(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _elementwise(func: Operation, z: Tensor, *rest: Any, **given: Any) -> Tensor:
    if not _depends(z) or any(_depends(a) for a in rest):
        return func(z, *rest, **given)
    in_place = given.pop("inplace", False) or func.__name__.rstrip("_") + "_" == func.__name__
    constants = [a.double() if isinstance(a, Tensor) else a for a in rest]
    out = _chord(lambda v: func(v, *constants, **given), z)
    return z.copy_(out) if in_place else out


def _chord(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """An element-wise function whose derivative is the slope of its chord from the baseline to the row."""
    output: Tensor = _Chord.apply(z, function)  # type: ignore[no-untyped-call]
    return output


class _Chord(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        # in double precision: else rounding of near outputs, over a small difference, would make the slope
        wide = z.detach().double()
        out = function(wide.clone())
        (x, b), (at_x, at_b) = wide.chunk(2), out.chunk(2)
        change = x - b
        near = change.abs() < CLOSE
        slope = (at_x - at_b) / change.where(~near, 1.0)
        if near.any():
            with torch.enable_grad():
                middle = _mean_of_pair(wide).requires_grad_()
                between = torch.autograd.grad(function(middle.clone()).sum(), middle)[0]
                slope = torch.where(near, between[: len(x)], slope)
        ctx.save_for_backward(torch.cat([slope, slope]).to(z.dtype))
        return out.to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.saved_tensors[0], None


def _product(func: Operation, a: Any, b: Any, **given: Any) -> Tensor:
    if not (_depends(a) and _depends(b)):
        return func(a, b, **given)
    output: Tensor = _Bilinear.apply(a, b, func)  # type: ignore[no-untyped-call]
    return output


class _Bilinear(torch.autograd.Function):
    """A product of two activations: each factor's change counts times the mean of the other."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, function: Operation) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.function = function
        output: Tensor = function(a.detach(), b.detach())
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        means = [_mean_of_pair(v.detach()).requires_grad_() for v in ctx.saved_tensors]
        with torch.enable_grad():
            output = ctx.function(*means)
        a, b = torch.autograd.grad(output, means, gradients[0])
        return a, b, None


def _mean_of_pair(v: Tensor) -> Tensor:
    x, b = v.chunk(2)
    return ((x + b) / 2).repeat(2, *[1] * (v.dim() - 1))


def _quotient(func: Operation, a: Any, b: Any, **given: Any) -> Tensor:
    if func in REVERSED:
        a, b = b, a
    if not _depends(b) or given.get("rounding_mode") is not None:
        return torch.div(a, b, **given)
    return _product(torch.mul, _chord(torch.reciprocal, b), a)


def _softmax(_: Operation, z: Tensor, dim: int | None = None, **given: Any) -> Tensor:
    share = _chord(torch.exp, _log_share(z, z.dim() - 1 if dim is None else dim))
    return share.to(given.get("dtype") or z.dtype)


def _log_softmax(_: Operation, z: Tensor, dim: int | None = None, **given: Any) -> Tensor:
    return _log_share(z, z.dim() - 1 if dim is None else dim).to(given.get("dtype") or z.dtype)


def _log_share(z: Tensor, axis: int) -> Tensor:
    """What z exceeds the logarithm of the sum of its exponentials by; no step is larger than that."""
    wide = z.double()  # row and baseline can differ by many powers of e
    highest = torch.maximum(*wide.detach().amax(axis, keepdim=True).chunk(2))
    centred = wide - torch.cat([highest, highest])  # both by the same amount: no change is lost
    return centred - _chord(torch.log, _chord(torch.exp, centred).sum(axis, keepdim=True))


def _layer_norm(
    _: Operation,
    z: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    axes = tuple(range(-len(tuple(normalized_shape)), 0))
    centred = z - z.mean(axes, keepdim=True)
    variance = _chord(torch.square, centred).mean(axes, keepdim=True)
    out = _product(torch.mul, centred, _chord(torch.rsqrt, variance + eps).expand_as(centred))
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _named(names: str) -> Iterator[Operation]:
    """The functions of these names, wherever torch has them."""
    for name in names.split():
        for place in (torch, Tensor, functional):
            found = getattr(place, name, None)
            if found is not None:
                yield found


REVERSED = set(_named("__rtruediv__ __rdiv__"))
RULES: dict[Operation, Operation] = {
    **dict.fromkeys(_named(ELEMENTWISE), _elementwise),
    **dict.fromkeys(_named(PRODUCTS), _product),
    **dict.fromkeys(_named(QUOTIENTS), _quotient),
    **dict.fromkeys(_named("softmax"), _softmax),
    **dict.fromkeys(_named("log_softmax"), _log_softmax),
    **dict.fromkeys(_named("layer_norm"), _layer_norm),
}
