"""Gradient-boosted trees."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Generator, nn

from ..benchmarks.plugin import NotApplicable, Problem, model
from ..benchmarks.trees import TreeEnsemble


@model(version=1, paper="https://doi.org/10.1214/aos/1013203451", has="trees")
def boosted_trees(
    problem: Problem,
    rng: Generator,
    /,
    *,
    trees: Annotated[int, Ge(1)] = 100,
    lr: Annotated[float, Gt(0)] = 0.1,
    leaves: Annotated[int, Ge(2)] = 31,
) -> nn.Module:
    """Histogram gradient boosting from scikit-learn; methods that need a gradient cannot explain it."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    seed = int(torch.randint(2**31, (1,), generator=rng))
    kind = HistGradientBoostingRegressor if problem.task == "regression" else HistGradientBoostingClassifier
    trees_ = kind(
        max_iter=trees, learning_rate=lr, max_leaf_nodes=leaves, early_stopping=False, random_state=seed
    )
    x, y = problem.x[problem.train].flatten(1).double().numpy(), problem.y[problem.train].numpy()
    fitted = trees_.fit(x, y)
    if problem.task == "classification" and len(fitted.classes_) < problem.outputs:
        raise NotApplicable("a class has no training row")
    return TreeEnsemble(fitted, problem.task).eval()
