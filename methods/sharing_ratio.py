"""Sharing ratio decomposition."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..benchmarks.layermaps import PlaceMaps, over_channels, picture_size
from ..benchmarks.perturb import in_blocks, rows_at_once
from ..benchmarks.plugin import Case, Labels, NotApplicable, Samples, method
from ..benchmarks.variants import BENT

Vectors: TypeAlias = Float[Tensor, "n channels high wide"]

POINTWISE = (
    *BENT,
    nn.PReLU,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
)  # vectors meet no others
MIXING = (nn.Conv2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d, nn.AdaptiveMaxPool2d)


@method(
    version=1,
    paper="https://arxiv.org/abs/2402.03348",
    needs=("gradient", "layers", "convolution"),
    cost="passes",
)
def sharing_ratio(case: Case) -> Samples:
    """What the class owes to each vector of the last map, shared out among the vectors that it is made of.

    All channels at a place are one vector.  Before its activation, v_j is a sum of what the vectors v_i of
    its field contribute, v_ij, and the share of v_i in it is the projection <v_ij, v_j> / |v_j|^2: these
    ratios sum to 1, and count what the activation will switch off (Han, Kim & Kwak 2024).  An activation
    passes shares on as they are.  Shares of shares lead to the effective receptive field of every vector of
    the last map that has more than one place; the map is the sum of these fields, each times what its vector
    contributes to the explained output.

    The paper's text was not at hand for what follows, which is the closest form: the contribution of a last
    vector is its inner product with the output's gradient (exact for a linear head; the maps sum to that of
    all); batch normalisation counts as part of the convolution before it; a convolution's bias belongs to its
    field in equal parts; and so does a vector that is 0.  Maximum pooling hands every channel to the place it
    is from.

    Raises:
        NotApplicable: the features are no pictures; up to its last map, the network is no plain chain of
            convolutions, batch normalisation, activations and pooling.
    """
    picture_size(case)
    maps = [_shared_out(case, x, target) for x, target in in_blocks(case, rows_at_once(case))]
    return over_channels(case, torch.cat(maps))


def _shared_out(case: Case, x: Samples, target: Labels) -> PlaceMaps:
    """The maps of some rows."""
    with torch.enable_grad():
        start = x.clone().requires_grad_()
        with _recorded(case.model) as links:
            outputs = case.model(start)
        chain = _chain(links, start)
        (slope,) = torch.autograd.grad(outputs.gather(1, target[:, None]).sum(), chain[-1].made)
    worth = (slope * chain[-1].made.detach()).sum(1)
    parts: list[nn.Module] = []
    for link in reversed(chain):
        if isinstance(link.module, nn.BatchNorm2d):
            parts.insert(0, link.module)
        elif isinstance(link.module, MIXING):
            worth = _among_fields(nn.Sequential(link.module, *parts), link.given.detach(), worth)
            parts = []
        else:
            parts = []
    return worth


@dataclass(frozen=True, slots=True)
class _Link:
    """One layer as it was run."""

    name: str
    module: nn.Module
    given: Tensor
    made: Tensor


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[_Link]]:
    """Inside, the innermost layers are collected as the model runs."""
    found: list[_Link] = []

    def record(name: str) -> Any:
        def keep(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
            if given and isinstance(made, Tensor):  # what returns several is in no chain
                found.append(_Link(name, module, given[0], made))

        return keep

    inner = [(name, m) for name, m in model.named_modules() if not any(m.children())]
    handles = [m.register_forward_hook(record(name)) for name, m in inner]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _chain(links: list[_Link], start: Tensor) -> list[_Link]:
    """The layers up to the last whose output has several places, each given what the last one made."""
    laid_out = [link.made.ndim == 4 and link.made[0, 0].numel() > 1 for link in links]
    if not any(laid_out):
        raise NotApplicable("needs layers that are laid out as the picture is, and has none")
    chain = links[: len(laid_out) - laid_out[::-1].index(True)]
    for link, before in zip(chain, [start, *(link.made for link in chain)], strict=False):
        kind = type(link.module).__name__
        if not isinstance(link.module, (*POINTWISE, *MIXING, nn.BatchNorm2d)):
            raise NotApplicable(f"has no sharing ratio for layer {link.name}, {kind}")
        if getattr(link.module, "inplace", False):
            raise NotApplicable(f"needs what layer {link.name}, {kind}, overwrites")
        if link.given is not before:
            raise NotApplicable(
                f"takes a plain chain of layers, and {link.name}, {kind}, is given something else than "
                "what the layer before it made"
            )
    return chain


def _among_fields(layer: nn.Module, given: Vectors, worth: Float[Tensor, "n rows columns"]) -> PlaceMaps:
    """The worth of the vectors that the layer makes, handed to those that it is given, by their ratios."""
    with torch.enable_grad():
        given = given.requires_grad_()
        made = layer(given)
        vector, size = made.detach(), made.detach().square().sum(1)
        weight = (worth / size).where(size > 0, 0)
        (back,) = torch.autograd.grad(made, given, vector * weight[:, None])
    direct = (back * given.detach()).sum(1)
    # what the layer makes of nothing is its bias, shared equally, as is all of a vector that has no direction
    bias = layer(torch.zeros_like(given[:1])).detach()
    equal = ((bias * vector).sum(1) * weight).where(size > 0, worth)
    return direct + _equally(layer, equal, direct)


def _equally(layer: nn.Module, worth: Float[Tensor, "n rows columns"], like: PlaceMaps) -> PlaceMaps:
    """The worth of every place, in equal shares for the places of its field."""
    field = _field(next(iter(layer.children()))).to(like)
    places = torch.ones_like(like[:, None]).requires_grad_()
    with torch.enable_grad():
        count = field(places)
    share = worth[:, None] / count.detach().clamp_min(torch.finfo(worth.dtype).tiny)
    return torch.autograd.grad(count, places, share)[0][:, 0]


def _field(layer: nn.Module) -> nn.Module:
    """A layer of the same geometry that adds up the places of a field, or averages them."""
    if isinstance(layer, nn.Conv2d):
        mode, pads = layer.padding_mode, layer.padding
        size, step = layer.kernel_size, layer.stride
        made = nn.Conv2d(1, 1, size, step, pads, layer.dilation, bias=False, padding_mode=mode)  # type: ignore[arg-type]
        nn.init.ones_(made.weight)
        return made.requires_grad_(False)
    if isinstance(layer, nn.MaxPool2d):
        if layer.dilation not in {1, (1, 1)}:
            raise NotApplicable("has no sharing ratio for maximum pooling with gaps")
        return nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, False)
    if isinstance(layer, nn.AdaptiveMaxPool2d):
        return nn.AdaptiveAvgPool2d(layer.output_size)
    return layer
