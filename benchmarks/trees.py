"""Ensembles of trees that answer in tensors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .terms import Task


class TreeEnsemble(nn.Module):
    """A fitted scikit-learn ensemble that answers in tensors; it has no gradient.

    `fitted` is the scikit-learn model, for methods that read its trees.
    """

    def __init__(self, fitted: Any, task: Task) -> None:
        super().__init__()
        self.fitted = fitted
        self.task = task

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (regression), else log-odds, or probabilities where there are no log-odds."""
        rows = x.detach().flatten(1).double().numpy()
        if self.task == "regression":
            out = self.fitted.predict(rows)
        elif hasattr(self.fitted, "decision_function"):
            out = self.fitted.decision_function(rows)
        else:
            out = self.fitted.predict_proba(rows)
        return torch.as_tensor(out if out.ndim == 2 else self.outputs_of(out), dtype=x.dtype)

    def outputs_of(self, single: np.ndarray) -> np.ndarray:
        """What an ensemble says in a single number, as outputs, which become the last axis.

        Of two classes, half of the log-odds go for one and half against the other.
        """
        return single[..., None] if self.task == "regression" else np.stack([-single, single], -1) / 2
