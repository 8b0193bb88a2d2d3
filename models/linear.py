"""Linear and logistic regression."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Gt
from torch import Generator, nn

from ..benchmarks.plugin import NotApplicable, Problem, model


@model(
    version=1, paper="https://doi.org/10.1080/00401706.1970.10488634", has=("gradient", "layers", "linear")
)
def linear(problem: Problem, rng: Generator, /, *, penalty: Annotated[float, Gt(0)] = 1.0) -> nn.Module:
    """Ridge regression, or logistic regression with the same penalty, fitted by scikit-learn.

    penalty: strength of the L2 penalty on the weights (scikit-learn's alpha, and 1 / C).
    """
    from sklearn.linear_model import LogisticRegression, Ridge  # half a second, paid only where used

    x, y = problem.x[problem.train].flatten(1).double().numpy(), problem.y[problem.train].numpy()
    if problem.task == "regression":
        fitted = Ridge(alpha=penalty).fit(x, y.astype(float))
        weight, bias = fitted.coef_[None], np.atleast_1d(fitted.intercept_)
    else:
        fitted = LogisticRegression(C=1 / penalty, max_iter=1000).fit(x, y)
        if len(fitted.classes_) < problem.outputs:
            raise NotApplicable("a class has no training row")
        weight, bias = fitted.coef_, fitted.intercept_
        if len(weight) == 1:  # two classes: half of the log-odds for one, half against the other
            weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    layer = nn.Linear(weight.shape[1], len(weight))
    layer.load_state_dict({"weight": torch.as_tensor(weight), "bias": torch.as_tensor(bias)})
    return nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)
