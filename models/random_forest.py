"""Random forests."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Generator, nn

from ..benchmarks.plugin import NotApplicable, Problem, model
from ..benchmarks.trees import TreeEnsemble


@model(version=1, paper="https://doi.org/10.1023/A:1010933404324", has="trees")
def random_forest(
    problem: Problem,
    rng: Generator,
    /,
    *,
    trees: Annotated[int, Ge(1)] = 50,
    leaf: Annotated[int, Ge(1)] = 5,
    features: Annotated[float, Gt(0), Le(1)] = 1.0,
) -> nn.Module:
    """A random forest from scikit-learn, whose outputs are probabilities where it classifies.

    trees: how many; a hundred predict a little better, in twice the time.
    leaf: training rows that a leaf holds at least; full trees predict a little better, in half as much again.
    features: share of the features that every split chooses among; among columns of noise, few would miss
        those that matter.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    seed = int(torch.randint(2**31, (1,), generator=rng))
    kind = RandomForestRegressor if problem.task == "regression" else RandomForestClassifier
    forest = kind(
        n_estimators=trees, min_samples_leaf=leaf, max_features=features, n_jobs=1, random_state=seed
    )
    x, y = problem.x[problem.train].flatten(1).double().numpy(), problem.y[problem.train].numpy()
    fitted = forest.fit(x, y)
    if problem.task == "classification" and len(fitted.classes_) < problem.outputs:
        raise NotApplicable("a class has no training row")
    return TreeEnsemble(fitted, problem.task).eval()
