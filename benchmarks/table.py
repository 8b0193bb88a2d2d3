"""A user's CSV file -> numbers, or one sentence that says which line of it is wrong."""

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64

from .registry import AssayError, near_miss

FEWEST_ROWS: Final = 30
FEWEST_OF_CLASS: Final = 3
MOST_LEVELS: Final = 50  # of a categorical column
MOSTLY: Final = 0.9  # a column with a larger share of numbers is meant to hold nothing else
MOST_CLASSES: Final = 20  # a numeric target with more distinct values is a regression
LARGEST: Final = 1e30  # its square still fits a double, with room for a sum
MISSING: Final = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})

Kind: TypeAlias = Literal["auto", "regression", "classification"]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Features and target of one table, not yet shuffled, split or scaled."""

    values: Float64[np.ndarray, "n d"]  # NaN where a number is missing
    columns: tuple[str, ...]
    units: Int64[np.ndarray, " d"]  # column -> unit: the one-hot columns of one category belong together
    names: tuple[str, ...]  # of the units
    target: Float64[np.ndarray, " n"] | Int64[np.ndarray, " n"]  # class indices for classification
    classes: tuple[str, ...]  # empty: regression


@dataclass(frozen=True)
class _Column:
    """One column of the file as text; a missing value is the empty text."""

    file: str
    name: str
    texts: Sequence[str]
    lines: Sequence[int]  # of the file, one for each row

    def wrong(self, why: str, row: int | None = None) -> AssayError:
        """The error that names file, line and column."""
        line = "" if row is None else f"line {self.lines[row]}, "
        return AssayError(f"file {self.file!r}, {line}column {self.name!r}: {why}.")

    def numbers(self) -> Float64[np.ndarray, " n"] | None:
        """The values, NaN where missing; None if the column holds categories.

        Raises:
            AssayError: it holds numbers but for a few texts, or a number that is infinite or above 1e30.
        """
        values = np.array([_number(text) for text in self.texts])
        huge = np.flatnonzero(np.abs(values) > LARGEST)
        if len(huge):
            raise self.wrong(
                f"{self.texts[huge[0]]!r} is infinite or above {LARGEST:g}; mend it", int(huge[0])
            )
        present = np.array([bool(text) for text in self.texts])
        text_rows = np.flatnonzero(np.isnan(values) & present)
        if not len(text_rows):
            return values
        # A decimal comma counts as a number here: a column full of them is no category.
        meant = [not math.isnan(_number(text.replace(",", "."))) for text in self.texts if text]
        if np.mean(meant) <= MOSTLY:
            return None
        raise self.wrong(
            f"{self.texts[text_rows[0]]!r} is not a number, as most of this column is; write it with a "
            "decimal point, or leave it empty if it is missing",
            int(text_rows[0]),
        )


def read(path: str, target: str, task: Kind = "auto") -> Table:
    """The table in a comma-separated UTF-8 file with a header line.

    Lines without any value are skipped.  A value is missing if it is empty, NA, N/A, NaN, null, None or ?
    in any case.  A column is numeric if all its present values are numbers, an error if only more than 90%
    are (decimal commas count), else categorical: one 0/1 column for each of at most 50 levels, one of them
    "(missing)" where values are.
    Missing numbers stay NaN.  The target is a regression if it is numeric with more than 20 distinct values,
    unless `task` decides.

    Raises:
        AssayError: the file cannot be read or has a bad header or a ragged line; fewer than 30 rows; the
            target is missing, not there, constant, text in a regression, or has a class of fewer than 3
            rows; no other column; a column with no value, a wrong number, or too many levels.
    """
    header, rows, lines = _rows(path)
    _check_header(path, header)
    if target not in header:
        raise AssayError(f"file {path!r} has no column {target!r} for the target.{near_miss(target, header)}")
    if len(header) == 1:
        raise AssayError(
            f"file {path!r} has no column but the target {target!r}; add columns to predict from."
        )
    if len(rows) < FEWEST_ROWS:
        raise AssayError(f"file {path!r} has {len(rows)} rows of data; give at least {FEWEST_ROWS}.")
    texts = list(zip(*rows, strict=True))
    columns = {name: _Column(path, name, text, lines) for name, text in zip(header, texts, strict=True)}
    values, classes = _target(columns.pop(target), task)
    encoded = [_encoded(column) for column in columns.values()]
    return Table(
        values=np.concatenate([values for values, _ in encoded], axis=1),
        columns=tuple(name for _, names in encoded for name in names),
        units=np.repeat(np.arange(len(encoded)), [len(names) for _, names in encoded]),
        names=tuple(columns),
        target=values,
        classes=classes,
    )


def _number(text: str) -> float:
    """The number, or NaN.  "1_000" is a label and not a number, whatever Python thinks."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _rows(path: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows of text with missing values empty, and the line of the file that each row ends on."""
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        _check_file(Path(path).expanduser())
        with Path(path).expanduser().open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if rows and len(row) != len(rows[0]):
                    raise AssayError(
                        f"file {path!r}, line {reader.line_num}: it has {len(row)} values and the header "
                        f"{len(rows[0])}; give every line as many, and put texts with commas in quotes."
                    )
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except UnicodeDecodeError:
        raise AssayError(f"file {path!r} is not UTF-8 text; save it as CSV in UTF-8.") from None
    except csv.Error as error:
        raise AssayError(f"file {path!r}, line {reader.line_num}: {error}; mend the quotes.") from None
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the path; ~ of a user who is not there
        reason = getattr(error, "strerror", None) or error
        raise AssayError(f"file {path!r} cannot be read ({reason}); give the path of a CSV file.") from None
    if not rows:
        raise AssayError(f"file {path!r} is empty; give a CSV file with a header line.")
    data = [["" if cell.lower() in MISSING else cell for cell in row] for row in rows[1:]]
    return rows[0], data, lines[1:]


def _check_file(path: Path) -> None:
    """Raise OSError if this is a folder, or a pipe or a device, which may have no end."""
    path.stat()
    if not path.is_file():
        raise OSError("it is no file")


def _check_header(path: str, header: list[str]) -> None:
    """Refuse columns without a name of their own."""
    if "" in header:
        number = header.index("") + 1
        raise AssayError(f"file {path!r}: column {number} of the header has no name; name it or drop it.")
    twice = [name for name, n in Counter(header).items() if n > 1]
    if twice:
        raise AssayError(f"file {path!r} has more than one column {twice[0]!r}; rename or drop one.")


def _encoded(column: _Column) -> tuple[Float64[np.ndarray, "n k"], list[str]]:
    """A feature as columns of numbers with their names: one if it is numeric, else one for each level."""
    if not any(column.texts):
        raise column.wrong("it has no value; drop it")
    numbers = column.numbers()
    if numbers is not None:
        return numbers[:, None], [column.name]
    levels = sorted(set(column.texts) - {""}) + ([""] if "" in column.texts else [])
    if len(levels) > MOST_LEVELS:
        raise column.wrong(
            f"it holds text with {len(levels)} distinct values, more than the {MOST_LEVELS} allowed; drop "
            "it, as an ID or a free text says nothing of other rows"
        )
    one_hot = np.array([[text == level for level in levels] for text in column.texts], dtype=np.float64)
    return one_hot, [f"{column.name}={level or '(missing)'}" for level in levels]


def _target(column: _Column, task: Kind) -> tuple[Any, tuple[str, ...]]:
    """Values and no classes for regression; class indices and the classes, sorted, for classification."""
    if "" in column.texts:
        row = list(column.texts).index("")
        raise column.wrong("the target is missing; fill it in or drop the line", row)
    numbers = column.numbers()
    distinct = len(set(column.texts if numbers is None else numbers.tolist()))
    if distinct == 1:
        raise column.wrong(f"the target is {column.texts[0]!r} in every row; give one that varies")
    if numbers is None and task == "regression":
        row = next(i for i, text in enumerate(column.texts) if math.isnan(_number(text)))
        raise column.wrong(f"{column.texts[row]!r} is no target of a regression; use task = auto", row)
    if numbers is not None and (task == "regression" or (task == "auto" and distinct > MOST_CLASSES)):
        return numbers, ()
    return _classes(column, numbers)


def _classes(column: _Column, numbers: Float64[np.ndarray, " n"] | None) -> tuple[Any, tuple[str, ...]]:
    """The class index of every row, and the classes in the order of their numbers or the alphabet."""
    labels = [f"{value:.17g}" for value in numbers] if numbers is not None else list(column.texts)
    for label, n in Counter(labels).items():
        if n < FEWEST_OF_CLASS:
            raise column.wrong(
                f"class {label!r} has {n} of the {len(labels)} rows, fewer than {FEWEST_OF_CLASS}; merge or "
                "drop it, or use task = regression if the target is a quantity"
            )
    classes = sorted(set(labels), key=float if numbers is not None else None)
    index = {label: i for i, label in enumerate(classes)}
    return np.array([index[label] for label in labels]), tuple(classes)
