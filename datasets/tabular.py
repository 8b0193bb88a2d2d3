"""Real tables, with columns added of which it is certain that they tell nothing."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float64, Int64

from ..benchmarks.plugin import Problem, Targets, dataset
from ..benchmarks.registry import AssayError
from ..benchmarks.table import Kind, Table, read

BACKGROUND: Final = 100  # rows
ROUNDING: Final = 1e-10  # a spread this small relative to the values is a constant that was rounded


@dataset(
    version=1,
    paper="https://scikit-learn.org/stable/datasets/toy_dataset.html",
    noise=("probes",),
    instead={"csv": "name"},
)
def tabular(
    rng: torch.Generator,
    /,
    *,
    name: Literal["breast_cancer", "wine", "diabetes", "digits"] = "breast_cancer",
    csv: Path | None = None,
    target: str = "",
    task: Kind = "auto",
    probes: Annotated[int, Ge(0), Le(1_000)] = 10,
    explained: Annotated[int, Ge(1), Le(100_000)] = 100,
) -> Problem:
    """A real table plus probes: real columns whose values are shuffled over the rows.

    A probe is certainly irrelevant, so `masks["distractor"]` is the truth.  `masks["relevant"]` is every
    real column that varies: which of them matter, nobody knows, so that a method that ranks some real
    column below a probe is not thereby wrong; on the whole it should rank them above.

    The seed shuffles the rows (classes evenly spread), the columns, and chooses the column that each probe
    copies.  60% of the rows train, 15% validate, 25% test.  A column is scaled to mean 0 and standard
    deviation 1 over the train rows, a constant one is 0, and so is a missing number: it is the baseline,
    the train mean, as every absent value is in this benchmark.  The target of a regression is scaled alike.
    A probe is shuffled within the train, validation and test rows, so it is scaled as its original is.
    The one-hot columns of a category are one unit: copied, shuffled and grouped together.

    Args:
        rng: source of all random numbers.
        name: a table that scikit-learn ships.
        csv: path of your own file instead; see `assay.benchmarks.table.read` for the rules.
        target: column of your file that is to be predicted.
        task: of your file; auto takes a numeric target of more than 20 distinct values for a regression.
        probes: irrelevant columns (units) added.
        explained: test rows that are explained; all of them where there are fewer.

    Raises:
        AssayError: the file is refused, or only one of `csv` and `target` is given, or no column varies.
    """
    table = _table(name, csv, target, task)
    draw = np.random.default_rng(int(torch.randint(2**62, (1,), generator=rng).item()))
    n = len(table.values)
    n_train, n_validation = round(0.6 * n), round(0.15 * n)
    order = _row_order(table, draw)
    real = _standardised(table.values[order], n_train)
    lively = np.unique(table.units[real[:n_train].any(0)])
    if not len(lively):
        raise AssayError(f"no feature of {str(csv or name)!r} varies over its train rows; add one that does.")
    slots = _slots(table, lively, probes, draw)
    parts = np.split(np.arange(n), [n_train, n_train + n_validation])
    x = torch.from_numpy(np.concatenate([_block(real, slot, parts, draw) for slot in slots], 1)).float()
    widths = torch.tensor([len(slot.sources) for slot in slots])
    known = torch.tensor([slot.probe is None and slot.unit in lively for slot in slots])
    probe = torch.tensor([slot.probe is not None for slot in slots])
    return Problem(
        x=x,
        y=_targets(table, order, n_train),
        task="classification" if table.classes else "regression",
        n_train=n_train,
        n_validation=n_validation,
        n_explained=min(explained, n - n_train - n_validation),
        baseline=torch.zeros(x.shape[1]),
        background=x[: min(BACKGROUND, n_train)],
        masks={
            name: m.repeat_interleave(widths)[None]
            for name, m in (("relevant", known), ("distractor", probe))
        },
        groups=torch.arange(len(slots)).repeat_interleave(widths) if widths.max() > 1 else None,
        facts=_facts(table, order[:n_train], order[n_train + n_validation :], csv),
        columns=tuple(column for slot in slots for column in slot.columns(table)),
    )


@dataclass(frozen=True)
class _Slot:
    """What stands at one place: a real unit, or the probe of that number made from it."""

    unit: int
    sources: Int64[np.ndarray, " k"]  # columns of the table
    probe: int | None

    def columns(self, table: Table) -> list[str]:
        """The names of its columns."""
        prefix = "" if self.probe is None else f"probe_{self.probe}:"
        return [prefix + table.columns[source] for source in self.sources]


def _table(name: str, csv: Path | None, target: str, task: Kind) -> Table:
    """The user's table, or the one of scikit-learn."""
    if csv and target:
        return read(str(csv), target, task)
    if csv or target:
        raise AssayError(
            f"csv = {str(csv or '')!r} and target = {target!r}, but a file needs both; give the path and the "
            "name of the column to predict, or neither."
        )
    from sklearn import datasets as shipped  # slow to import, and most runs need none of it

    bunch = getattr(shipped, f"load_{name}")()
    columns = tuple(str(column) for column in bunch.feature_names)
    return Table(
        values=np.asarray(bunch.data, dtype=np.float64),
        columns=columns,
        units=np.arange(len(columns)),
        names=columns,
        target=np.asarray(bunch.target),
        classes=tuple(str(c) for c in bunch.get("target_names", ())),
    )


def _row_order(table: Table, draw: np.random.Generator) -> Int64[np.ndarray, " n"]:
    """A random order of the rows; each class is spread evenly over it, so that every part has its share."""
    order = draw.permutation(len(table.target))
    if not table.classes:
        return order
    labels = table.target[order]
    place = np.empty(len(order))
    for label in range(len(table.classes)):
        rows = np.flatnonzero(labels == label)
        place[rows] = (np.arange(len(rows)) + draw.random()) / len(rows)
    return order[place.argsort(kind="stable")]


def _standardised(values: Float64[np.ndarray, "n d"], n_train: int) -> Float64[np.ndarray, "n d"]:
    """Columns of mean 0 and standard deviation 1 over the train rows; 0 where constant or missing."""
    missing = np.isnan(values)
    train = np.where(missing, 0.0, values)[:n_train]
    count = np.maximum((~missing[:n_train]).sum(0), 1)
    mean = train.sum(0) / count
    centred = np.where(missing, 0.0, values - mean)
    sd = np.sqrt(np.square(centred[:n_train]).sum(0) / count)
    constant = sd <= ROUNDING * np.abs(train).max(0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, sd))


def _slots(
    table: Table, lively: Int64[np.ndarray, " u"], probes: int, draw: np.random.Generator
) -> list[_Slot]:
    """All real units and the probes, in random order."""
    copied = draw.choice(lively, probes)
    sources = [(unit, None) for unit in range(len(table.names))] + [(int(u), i) for i, u in enumerate(copied)]
    slots = [_Slot(unit, np.flatnonzero(table.units == unit), probe) for unit, probe in sources]
    return [slots[i] for i in draw.permutation(len(slots))]


def _block(
    real: Float64[np.ndarray, "n d"],
    slot: _Slot,
    parts: list[Int64[np.ndarray, " _"]],
    draw: np.random.Generator,
) -> Float64[np.ndarray, "n k"]:
    """The values of one slot; a probe's rows are shuffled within each part of the split."""
    block = real[:, slot.sources]
    if slot.probe is None:
        return block
    return block[np.concatenate([draw.permutation(part) for part in parts])]


def _targets(table: Table, order: Int64[np.ndarray, " n"], n_train: int) -> Targets:
    """Class indices, or the standardised quantity."""
    y = table.target[order]
    if table.classes:
        return torch.from_numpy(y)
    return torch.from_numpy(_standardised(y[:, None], n_train)[:, 0]).float()


def _facts(
    table: Table, train: Int64[np.ndarray, " m"], test: Int64[np.ndarray, " k"], csv: Path | None
) -> dict[str, float | str]:
    """Chance: test accuracy of the commonest train class, or the R2 of the train mean."""
    facts: dict[str, float | str] = {"rows": float(len(table.values)), "snr_db": "unknown", "chance": 0.0}
    if table.classes:
        commonest = np.bincount(table.target[train]).argmax()
        facts["chance"] = float(np.mean(table.target[test] == commonest))
        facts["classes"] = ", ".join(table.classes)
    if csv:  # tells which version of the file the numbers come from
        facts["sha256"] = hashlib.sha256(csv.expanduser().read_bytes()).hexdigest()
    return facts
