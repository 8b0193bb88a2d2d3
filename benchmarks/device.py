"""Where networks run: those of pictures and of sound on a GPU where there is one.

Rows, maps and scores are on the CPU throughout, and a model takes and gives rows there: methods and metrics
need not know.  Tables go through their small networks faster than they would travel, so these are explained
on the CPU.  One alone would leave a GPU idle in training too: there they are trained in groups (`stacking`).
"""

import os

import torch
from torch import Tensor, nn

from .problem import Problem
from .registry import AssayError
from .terms import DEVICE

VARIABLE = DEVICE
STACKED = "ASSAY_STACKED"  # a type of device, to be served what was trained in groups on it without a GPU


def current() -> torch.device:
    """Where networks run.

    Raises:
        AssayError: a GPU was asked for, and torch sees none.
    """
    wanted = os.environ.get(VARIABLE, "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise AssayError("--device cuda cannot be had, torch sees no GPU; give auto or cpu.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def device_of(problem: Problem) -> torch.device:
    """Where networks of this problem run."""
    return current() if problem.x.dim() > 2 else torch.device("cpu")


def stacked() -> str:
    """Type of the device on which networks of tables are trained in groups; empty if each is by itself."""
    if STACKED in os.environ:
        return os.environ[STACKED]
    gpu = os.environ.get(VARIABLE, "cpu") == "cuda" and torch.cuda.is_available()  # asked for: bits differ
    return "cuda" if gpu else ""


class Away(nn.Module):
    """A network on another device that takes rows from the CPU and gives its outputs back there."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network = network.to(device)
        self.device = device

    def forward(self, x: Tensor) -> Tensor:
        """[rows, outputs]."""
        outputs: Tensor = self.network(x.to(self.device))
        return outputs.to(x.device)


def placed(network: nn.Module, problem: Problem) -> nn.Module:
    """The network where those of the problem run; as it is, if that is the CPU."""
    device = device_of(problem)
    return network if device.type == "cpu" else Away(network, device).eval()
