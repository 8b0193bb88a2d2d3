"""The rows of the ledger: where each belongs, by which key it is found, and what it says without a score."""

from dataclasses import dataclass, field
from typing import Any

from .grid import Cell, Unit, again, digest, noise_of, parameters_of
from .plugin import METRICS
from .spec import Setting

CELLS = ("scores", "agreement")  # the tables whose rows are cells


@dataclass(frozen=True, slots=True)
class Record:
    """One row for the ledger; with no row, only word of what is now at work."""

    table: str
    key: str
    row: dict[str, Any] = field(default_factory=dict)
    method: str = ""  # at work: if the process dies now, it is this one's doing

    def __reduce__(self) -> tuple[type["Record"], tuple[Any, ...]]:
        """Its four parts: what dataclasses pickle with slots takes several times as long, for every cell."""
        return Record, (self.table, self.key, self.row, self.method)

    @property
    def of_cell(self) -> bool:
        """Whether it is the row of a cell, not what was measured beside one."""
        return self.table in CELLS


def place(unit: Unit) -> dict[str, Any]:
    """The columns that say where a row belongs."""
    return {
        "dataset": unit.dataset.name,
        "parameters": parameters_of(unit.dataset),
        "noise": noise_of(unit.dataset),
        "model": unit.model.text,
        "seed": unit.seed,
        "model_seed": unit.model_seed,
    }


def problem_key(unit: Unit) -> str:
    """Key of what is known of a problem."""
    return digest(unit.dataset.key, unit.seed)


def scoring_key(unit: Unit, metric: Setting) -> str:
    """Key of what a metric cost on a unit."""
    return digest(unit.key, "scoring", metric.key)


def reliance_key(unit: Unit, region: str) -> str:
    """Key of how far a model relies on a region."""
    return digest(unit.key, "reliance", region)


def cost_key(unit: Unit, method: Setting, method_seed: int = 0) -> str:
    """Key of what a method cost on a unit."""
    return digest(unit.key, method.key, *again("method_seed", method_seed))


def pictures_key(unit: Unit) -> str:
    """Key of the rows of a unit that are kept to be looked at."""
    return digest(unit.key, "pictures")


def maps_key(unit: Unit, method: Setting) -> str:
    """Key of a method's maps of these rows."""
    return digest(unit.key, "maps", method.key)


def working(where: dict[str, Any], model: str, method: str = "") -> Record:
    """Word of what is now at work."""
    parts = (where["dataset"], where["parameters"], where["noise"], model, method)
    return Record("", " ".join(part for part in parts if part), method=method)


def row_of(cell: Cell, where: dict[str, Any] | None = None) -> dict[str, Any]:
    """The columns that say of which cell a row is; `where`, if known, is the place of its unit."""
    settings = (cell.unit.dataset, cell.unit.model, cell.method, cell.other, cell.metric)
    row = (where or place(cell.unit)) | {"method": cell.method.text, "metric": cell.metric.text}
    row["method_seed"] = cell.method_seed
    row["family"] = METRICS[cell.metric.name].facts["family"]
    if cell.other is not None:
        row["other"] = cell.other.text
    return row | {"version": "/".join(s.version for s in settings if s is not None)}


def failed(cell: Cell, reason: str) -> Record:
    """The cell's row when it was lost for this reason."""
    return unscored(cell, "failed", reason)


def unscored(cell: Cell, status: str, reason: str) -> Record:
    """The cell's row when it has no score."""
    row = row_of(cell) | {"rows": 0, "nan_rows": 0, "status": status, "reason": reason}
    return Record("scores" if cell.other is None else "agreement", cell.key, row)


def facts_key(metric: Setting) -> str:
    """Key of what a metric declares."""
    return digest("facts", metric.key)


def facts_row(metric: Setting) -> dict[str, Any]:
    """What a metric declares, as its readers need it beside its scores."""
    plugin = METRICS[metric.name]
    names = ("family", "best", "worst", "chance", "caveat")
    row = {name: plugin.facts[name] for name in names} | {"needs": " ".join(plugin.facts["needs"])}
    return row | {"metric": metric.text, "paper": plugin.paper, "version": metric.version}
