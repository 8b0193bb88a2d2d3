"""What networks of sound share: a front end of one convolution, and a read-out of the largest over time."""

import math
from typing import Final, TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from .plugin import NotApplicable, Problem
from .training import Recipe, descend, plain_loss

N = TypeVar("N", bound=nn.Module)
POOL: Final = 4  # steps of the convolution that become one of the sequence
HEIGHT: Final = 0.6  # of the filters that a network begins with: batch norm undoes it, and steps are smaller
SOUND: Final = Recipe(
    lr=3e-3,
    epochs=9,
    batch=32,
    weight_decay=0.1,
    one_cycle=True,
    patience=12,
    least_steps=200,
)


def front_end(
    problem: Problem, hidden: int, kernel: int, stride: int, dropout: float
) -> tuple[nn.Sequential, int]:
    """[n, channels, time] -> [n, hidden, steps], and how many steps there are.

    One convolution over all channels, batch norm, ReLU, the largest of every four steps, dropout.  A kernel
    longer than the clip is cut to it; pools are smaller where there are fewer than four steps.  The filters
    begin as tones (`_tune`).

    Raises:
        NotApplicable: features are not [channels, time].
    """
    shape = tuple(problem.x.shape[1:])
    if len(shape) != 2:
        raise NotApplicable(f"takes sound, [channels, time], and gets features of shape {shape}")
    kernel = min(kernel, shape[1])
    steps = (shape[1] - kernel) // stride + 1
    pool = min(POOL, steps)
    first = nn.Conv1d(shape[0], hidden, kernel, stride)
    _tune(first.weight)
    layers = (first, nn.BatchNorm1d(hidden), nn.ReLU())
    return nn.Sequential(*layers, nn.MaxPool1d(pool), nn.Dropout(dropout)), steps // pool


def _tune(weight: Float[Tensor, "hidden channels kernel"]) -> None:
    """Let every filter begin as a tone under a Hann window: one in all channels, of phases drawn at random.

    The tones of all filters cover the spectrum evenly.  From filters of noise, which layers begin with
    elsewhere, a recurrent network finds no word whose channel changes from row to row.
    """
    hidden, _, kernel = weight.shape
    window = torch.hann_window(kernel + 2, periodic=False)[1:-1]
    often = (torch.arange(hidden) + 0.5) / (2 * hidden)  # turns a sample
    turns = often[:, None, None] * torch.arange(kernel) + torch.rand(*weight.shape[:2], 1)
    with torch.no_grad():
        weight.copy_(HEIGHT * window * torch.cos(2 * math.pi * turns))


def read_out(hidden: int, steps: int, outputs: int) -> nn.Sequential:
    """[n, hidden, steps] -> [n, outputs]: the largest over time of every unit, and a linear layer."""
    return nn.Sequential(nn.MaxPool1d(steps), nn.Flatten(), nn.Linear(hidden, outputs))


class Turned(nn.Module):
    """[n, a, b] -> [n, b, a]: time last for convolutions, features last for the others."""

    def forward(self, x: Float[Tensor, "n a b"]) -> Float[Tensor, "n b a"]:
        """The same numbers."""
        return x.transpose(1, 2)


class Recurrent(nn.Module):
    """A recurrent network's state at every step, from a state of zeros; [n, steps, width] throughout."""

    def __init__(self, net: nn.RNN | nn.LSTM) -> None:
        super().__init__()
        self.net = net
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights so that signals neither die nor grow: Glorot's from below, orthogonal ones in time.

        Biases are 0, but for 1 of the gates by which an LSTM forgets, so that it begins by remembering.
        """
        width = self.net.hidden_size
        for name, value in self.net.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(value)
                if name.startswith("bias_ih") and len(value) == 4 * width:
                    nn.init.ones_(value[width : 2 * width])
                continue
            draw = nn.init.orthogonal_ if name.startswith("weight_hh") else nn.init.xavier_uniform_
            for gate in value.split(width):
                draw(gate)

    def forward(self, x: Float[Tensor, "n steps width"]) -> Float[Tensor, "n steps hidden"]:
        """The states of its last layer."""
        # on a GPU, cuDNN's recurrent layers have no gradient in eval mode, in which they are explained
        with torch.backends.cudnn.flags(enabled=self.training):
            states: Tensor = self.net(x)[0]
        return states


def fitted(net: N, problem: Problem, rng: Generator, recipe: Recipe, shift: float) -> N:
    """The network, trained as networks of sound are.

    shift: share of the clip by which channels are moved in training at most; see `_moved`.
    """

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return plain_loss(net, _moved(x, shift) if net.training else x, y)

    return descend(net, problem, rng, recipe, loss)


def _moved(x: Float[Tensor, "n channels time"], shift: float) -> Float[Tensor, "n channels time"]:
    """Every channel of the batch somewhat later or earlier, what leaves at one end coming in at the other.

    The channels' noises never meet again as they did, by which else a network would know its training rows.
    """
    most = int(shift * x.shape[2])
    steps = torch.randint(-most, most + 1, (x.shape[1],)).tolist()
    return torch.stack([one.roll(by, 1) for one, by in zip(x.unbind(1), steps, strict=True)], 1)
