"""Transformers of plain layers, whose attention can be read: blocks, tokens in their places, readouts."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .perturb import in_blocks, rows_at_once
from .plugin import Case, Labels, Samples
from .registry import AssayError
from .signals import NotApplicable

Positions: TypeAlias = Literal["learned", "sinusoids"]
Sequences: TypeAlias = Float[Tensor, "n tokens width"]
Weights: TypeAlias = Float[Tensor, "n heads to from"]  # how much each token takes from each; rows sum to 1


class Attention(nn.Module):
    """Self-attention by softmax(q k / sqrt(d)) v, a head at a time, with a linear layer over all heads.

    The softmax is a layer of its own, so that a hook sees, and a gradient reaches, the weights that are used.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise AssayError(f"heads must divide the width, got {heads} heads and {width}; change one.")
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.weights = nn.Softmax(dim=-1)
        self.out = nn.Linear(width, width)

    def forward(self, x: Sequences) -> Sequences:
        """What every token takes from all."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        weights = self.weights(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]))
        taken: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return taken


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)): the order of norms of ViT and GPT-2.

    ratio: the perceptron's hidden width as a multiple of `width`.
    """

    def __init__(self, width: int, heads: int, ratio: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(width), Attention(width, heads), nn.Dropout(dropout))
        self.think = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, ratio * width),
            nn.GELU(),
            nn.Linear(ratio * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Sequences) -> Sequences:
        """The sequence, token by token richer."""
        x = x + self.attend(x)
        thought: Tensor = x + self.think(x)
        return thought


def sinusoids(grid: tuple[int, ...], width: int) -> Float[Tensor, "tokens width"]:
    """Fixed positional encodings (Vaswani et al. 2017, section 3.5) of the places of a grid, row by row.

    Every axis gets an equal part of the width: sin and cos of the place over 10000^(2 i / part).  What is
    left of the width is 0.
    """
    half = width // len(grid) // 2
    rates = 10000.0 ** -(torch.arange(half) / max(half, 1))
    places = torch.cartesian_prod(*(torch.arange(float(size)) for size in grid)).view(-1, len(grid))
    angles = places[:, :, None] * rates  # [tokens, axes, half]
    codes = torch.cat([angles.sin(), angles.cos()], 2).flatten(1)
    return nn.functional.pad(codes, (0, width - codes.shape[1]))


class Tokens(nn.Module):
    """Adds positions to [n, tokens, width], puts a class token first if there is one, and knows the places.

    Methods that read attention find it in the model: it tells how the tokens lie in the input.  A model whose
    attention they are to read has exactly one, before its first block.

    grid: tokens along each axis of places, as (8, 8) for 64 patches of a picture or (50,) for 50 frames; the
        tokens are in its order, the last axis fastest, and share the input's places evenly.
    """

    def __init__(
        self,
        grid: tuple[int, ...],
        width: int,
        *,
        class_token: bool = False,
        positions: Positions = "learned",
    ) -> None:
        super().__init__()
        self.grid = grid
        self.positions: Tensor
        if positions == "learned":
            self.positions = nn.Parameter(torch.empty(math.prod(grid), width))
        else:
            self.register_buffer("positions", sinusoids(grid, width))
        self.first = nn.Parameter(torch.empty(1, 1, width)) if class_token else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw what is learned anew: normal numbers of deviation 0.02, as ViT starts from."""
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, x: Sequences) -> Float[Tensor, "n more width"]:
        """The tokens in their places."""
        x = x + self.positions
        return x if self.first is None else torch.cat([self.first.expand(len(x), 1, -1), x], 1)

    def read(self, paths: Float[Tensor, "n to from"]) -> Float[Tensor, "n tokens"]:
        """What flows from each token of the input to what the model reads out.

        That is the class token, whose share in itself is left out, or else the mean of all tokens.
        """
        return paths.mean(1) if self.first is None else paths[:, 0, 1:]

    def spread(self, tokens: Float[Tensor, "n tokens"], shape: torch.Size) -> Float[Tensor, "n *feature"]:
        """What the tokens have, in equal parts to the features of each token's places.

        shape: of a row's features, [channels, *places].  A place is of the token that it falls on when the
            places are cut into `grid` even parts.

        Raises:
            NotApplicable: the features do not have the axes of the grid, or fewer places than tokens.
        """
        if len(shape) != 1 + len(self.grid) or any(p < g for p, g in zip(shape[1:], self.grid, strict=True)):
            raise NotApplicable(f"tokens in a grid of {self.grid} do not lie in features of {tuple(shape)}")
        spread = tokens.view(len(tokens), 1, *self.grid)
        for axis, (places, parts) in enumerate(zip(shape[1:], self.grid, strict=True), start=2):
            owner = torch.arange(places) * parts // places
            share = spread / owner.bincount(minlength=parts).view(-1, *[1] * (len(shape) - axis))
            spread = share.index_select(axis, owner)
        return spread.expand(-1, *shape) / shape[0]


class Patches(nn.Module):
    """Squares of pictures as tokens: [n, channels, height, width] -> [n, tokens, width], row by row."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, patch)

    def forward(self, x: Float[Tensor, "n channels high wide"]) -> Sequences:
        """One token for each square, by a linear map of its pixels."""
        tokens: Tensor = self.embed(x).flatten(2).transpose(1, 2)
        return tokens


class Readout(nn.Module):
    """[n, tokens, width] -> [n, width]: the class token, or the mean of all tokens."""

    def __init__(self, *, class_token: bool = False) -> None:
        super().__init__()
        self.class_token = class_token

    def forward(self, x: Sequences) -> Float[Tensor, "n width"]:
        """What the head is given."""
        return x[:, 0] if self.class_token else x.mean(1)


@contextlib.contextmanager
def recorded(model: nn.Module) -> Iterator[list[Weights]]:
    """Inside, each pass of the model adds its attention weights to the list, first layer first.

    They are the tensors that the model goes on with, so that `torch.autograd.grad` of an output in them works
    where its input requires gradients.  Outputs are as without; nothing stays in the model afterwards.
    """
    found: list[Weights] = []
    layers = [layer for layer in model.modules() if isinstance(layer, Attention)]
    hooks = [layer.weights.register_forward_hook(lambda _, __, out: found.append(out)) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def token_maps(
    case: Case, paths: Callable[[Samples, Labels], Float[Tensor, "#n to from"]]
) -> Float[Tensor, "n *feature"]:
    """What of every token reaches what the model reads out, in equal parts to the token's features.

    paths: rows and their targets -> how much flows to each token from each.

    Raises:
        NotApplicable: it is not known where the model's tokens lie.
    """
    tokens = tokens_of(case.model)
    parts = [
        tokens.spread(tokens.read(paths(x, target)), x.shape[1:])
        for x, target in in_blocks(case, rows_at_once(case))
    ]
    return torch.cat(parts)


def attention_in(model: nn.Module, x: Samples) -> list[Weights]:
    """Every layer's attention on these rows, the first layer's first."""
    with torch.no_grad(), recorded(model) as layers:
        model(x)
    return layers


def tokens_of(model: nn.Module) -> Tokens:
    """The layer that knows where the model's tokens stand.

    Raises:
        NotApplicable: the model has none, or several.
    """
    found = [layer for layer in model.modules() if isinstance(layer, Tokens)]
    if len(found) != 1:
        raise NotApplicable(
            f"reads attention to tokens that one layer, transformer.Tokens, puts in their places, and the "
            f"model has {len(found)} of these"
        )
    return found[0]
