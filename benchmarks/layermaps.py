"""Maps made of a layer's activations and gradients; found in the network, laid over the picture."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .perturb import in_blocks, rows_at_once
from .plugin import Case, Labels, NotApplicable, Samples
from .problem import as_picture

Activations: TypeAlias = Float[Tensor, "n channels high wide"]
PlaceMaps: TypeAlias = Float[Tensor, "n high wide"]
Rule: TypeAlias = Callable[[Activations, Activations], PlaceMaps]

NO_LAYERS = (
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d),
    *(nn.LPPool2d, nn.FractionalMaxPool2d),
    *(nn.Softmax, nn.LogSoftmax),  # weights of attention, [rows, heads, tokens, tokens]
)


def picture_size(case: Case) -> tuple[int, int]:
    """Height and width of the pictures.

    Raises:
        NotApplicable: the features are none.
    """
    return as_picture(tuple(case.baseline.shape))[1:]


def layer_maps(case: Case, layer: int, rule: Rule) -> PlaceMaps:
    """One number a place of the picture: what a rule makes of a layer, upsampled bilinearly.

    layer: of those that `activations_of` finds; -1 is the last.
    rule: (activations, derivatives of the explained output in them) -> one number a place of the layer.

    Raises:
        NotApplicable: no such layer, or no pictures.
    """
    size, at_once = picture_size(case), rows_at_once(case)
    made = [rule(*_with_gradients(case, x, target, layer)) for x, target in in_blocks(case, at_once)]
    maps = functional.interpolate(torch.cat(made)[:, None], size, mode="bilinear")
    return maps[:, 0]


def over_channels(case: Case, maps: PlaceMaps) -> Samples:
    """The maps in equal shares for the channels of every place."""
    return (maps[:, None] / case.x.shape[1]).expand_as(case.x).to(case.x.dtype).contiguous()


def activations_of(model: nn.Module, x: Samples) -> tuple[Tensor, list[Activations]]:
    """The model's outputs and, in the order in which they arise, its layers that are laid out as pictures.

    A layer is what a module returns that is [rows, channels, height, width] with more than one place: of
    leaf modules, and of those that hold them, where these end in an operation of their own (a sum, a
    concatenation).  What pools is none, nor are weights of attention; what returns what it was given
    (dropout, identity) is no second one.
    """
    with _recorded(model) as layers:
        outputs: Tensor = model(x)
    return outputs, layers


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[Activations]]:
    """Inside, the layers are collected as the model runs."""
    found: list[Activations] = []
    seen: list[Tensor] = []  # kept, so that no address is given to another tensor

    def record(module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        if not isinstance(out, Tensor) or out.ndim != 4 or any(out is s for s in (*seen, *given)):
            return
        seen.append(out)
        if out.shape[2] * out.shape[3] > 1 and not isinstance(module, NO_LAYERS):
            found.append(out)

    handles = [module.register_forward_hook(record) for module in model.modules()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _with_gradients(case: Case, x: Samples, target: Labels, layer: int) -> tuple[Activations, Activations]:
    """A layer's activations, and the derivatives of the explained outputs in them."""
    with torch.enable_grad():
        outputs, layers = activations_of(case.model, x.clone().requires_grad_().clone())
        if not -len(layers) <= layer < len(layers):
            raise NotApplicable(f"has {len(layers)} layers laid out as pictures, and none is number {layer}")
        chosen = outputs.gather(1, target[:, None]).sum()
        (slope,) = torch.autograd.grad(chosen, layers[layer], allow_unused=True)
    if slope is None:
        raise NotApplicable(f"explains by layer {layer}, on which the output does not depend")
    return layers[layer].detach(), slope
