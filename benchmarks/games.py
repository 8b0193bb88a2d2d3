"""A row's coalitions as a game that a library can play, row by row."""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from .coalitions import unit_count, units_of
from .perturb import outputs_under, rows_at_once
from .plugin import Case, Samples
from .shapley import spread_over_features
from .terms import Value

Game: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def play_rows(case: Case, value: Value, solve: Callable[[Game, int], NDArray[np.float64]]) -> Samples:
    """What `solve` makes of every row's game, a number a unit, handed out to the units' features.

    solve: gets the row's game and the number of its units.
    """
    count = unit_count(case)
    values = np.array([solve(game_of(case, row, value), count) for row in range(len(case.x))])
    return spread_over_features(case, torch.from_numpy(values.reshape(len(case.x), count)))


def game_of(case: Case, row: int, value: Value) -> Game:
    """The explained output of one row under coalitions: rows of ones (present) and zeros, a column a unit."""
    units = units_of(case)
    alone = dataclasses.replace(case, x=case.x[row : row + 1], target=case.target[row : row + 1])
    at_once = rows_at_once(alone)

    def game(present: NDArray[np.float64]) -> NDArray[np.float64]:
        keep = torch.from_numpy(np.asarray(present) > 0)[:, units]
        return outputs_under(alone, keep[None], value, at_once)[0].double().numpy()

    return game
