"""Folders of published pictures and sounds: what metadata.csv lists, checked, and a draw of its rows."""

import csv
import errno
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from .plugin import NotApplicable
from .registry import AssayError, near_miss
from .suite import brief

Condition: TypeAlias = Literal["RBFP", "RBRP", "SBFP", "SBRP"]
LIST: Final = "metadata.csv"
DIGITS: Final = 15  # of a whole number


@dataclass(frozen=True)
class Entry:
    """One line of a metadata.csv."""

    source: Path
    line: int
    values: Mapping[str, str]

    def wrong(self, why: str) -> AssayError:
        """The error that names file and line."""
        return AssayError(f"file {str(self.source)!r}, line {self.line}: {why}.")

    def whole(self, column: str) -> int:
        """The whole number in this column.

        Raises:
            AssayError: there is something else, or a negative one.
        """
        text = self.values[column]
        if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
            raise self.wrong(
                f"{column} is {brief(text)}, and must be a whole number of 0 or more, of at most {DIGITS} "
                "digits; mend it"
            )
        return int(text)

    def file(self) -> Path:
        """The file that the line names.

        Raises:
            AssayError: it is not there, or lies outside the folder of the metadata.
        """
        name, folder = self.values["file_name"], self.source.parent.resolve()
        try:
            found = (folder / name).resolve()
            inside = (
                found.is_relative_to(folder) and not Path(name).is_absolute() and ".." not in Path(name).parts
            )
            there = found.is_file()
        except (OSError, ValueError, RuntimeError):  # a name too long or with a NUL, a link to itself
            inside, there = True, False
        if not inside:
            raise self.wrong(
                f"file_name {brief(name)} leaves the folder; name a file inside it, and no link out"
            )
        if not there:
            raise self.wrong(f"the file {brief(name)} is not there; complete the folder or drop the line")
        return found


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The rows of one problem: train, validation and test, in this order."""

    entries: Sequence[Entry]
    y: Int64[Tensor, " n"]
    facts: dict[str, float | str]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many rows are asked for."""

    train: int
    validation: int
    test: int
    explained: int

    def __post_init__(self) -> None:
        if self.explained > self.test:
            raise AssayError(
                f"explained = {self.explained} is more than test = {self.test}; explain fewer or test more."
            )


def drawn(
    path: Path | None,
    condition: Condition,
    columns: tuple[str, ...],
    counts: Counts,
    rng: Generator,
) -> Draw:
    """Rows of `<path>/<condition>/{train,val}/metadata.csv`, drawn at random and evenly over the classes.

    The folder `train` gives the train and validation rows, `val` the test rows.  `columns` is what the
    metadata must list, in any order; the second is the label.  Classes are numbered in the order of their
    labels, whole numbers by size and others by alphabet, the same for all rows.

    Raises:
        NotApplicable: no path is given.
        AssayError: a file is missing or cannot be read; columns are missing or unknown; it lists too few
            rows; a label of `val` is not in `train`.
    """
    if path is None:
        raise NotApplicable("needs path, the folder of the published data set, which is yours to download")
    folder = path.expanduser() / condition
    if not folder.is_dir():
        raise AssayError(
            f"path = {str(path)!r} has no folder {condition!r}; give the folder of the published data set, "
            f"in which {condition}/train/{LIST} and {condition}/val/{LIST} lie."
        )
    draw = np.random.default_rng(int(torch.randint(2**62, (1,), generator=rng).item()))
    own, held_out = (_listed(folder / split / LIST, columns) for split in ("train", "val"))
    classes = _classes(own, held_out, columns[1])
    if counts.train < len(classes):
        raise AssayError(
            f"train = {counts.train} is fewer than the {len(classes)} classes of {str(folder)!r}; ask for "
            f"at least {len(classes)}."
        )
    index = {label: i for i, label in enumerate(classes)}
    needed = {"train + validation": counts.train + counts.validation, "test": counts.test}
    entries: list[Entry] = []
    for (what, n), listed in zip(needed.items(), (own, held_out), strict=True):
        if n > len(listed):
            raise AssayError(
                f"{what} = {n} rows is more than the {len(listed)} that {str(listed[0].source)!r} lists; ask "
                "for fewer."
            )
        labels = np.array([index[entry.values[columns[1]]] for entry in listed])
        entries += [listed[i] for i in _in_rounds(labels, draw)[:n]]
    y = torch.tensor([index[entry.values[columns[1]]] for entry in entries])
    return Draw(entries=entries, y=y, facts=_facts(y, counts, classes, folder))


def _listed(source: Path, columns: tuple[str, ...]) -> list[Entry]:
    """The lines of a metadata.csv, with exactly these columns."""
    entries: list[Entry] = []
    header: list[str] = []
    try:
        source.stat()
        if not source.is_file():  # a pipe or a device may have no end
            raise OSError(errno.EINVAL, "it is no file")
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            _check_header(source, header, columns)
            for row in reader:
                if row:
                    entries.append(_entry(source, reader.line_num, header, row))
    except (UnicodeDecodeError, csv.Error) as error:
        raise AssayError(f"file {str(source)!r} is no CSV in UTF-8 ({error}); save it as one.") from None
    except OSError as error:
        raise AssayError(
            f"file {str(source)!r} cannot be read ({error.strerror}); give the folder of the published data "
            "set, with all its files."
        ) from None
    if not entries:
        raise AssayError(f"file {str(source)!r} lists no row; complete the folder.")
    return entries


def _check_header(source: Path, header: list[str], columns: tuple[str, ...]) -> None:
    for column in columns:
        if header.count(column) != 1:
            raise AssayError(
                f"file {str(source)!r} has {header.count(column)} columns {column!r}, and must have one; its "
                f"columns are to be {', '.join(columns)}."
            )
    unknown = [column for column in header if column not in columns]
    if unknown:
        raise AssayError(
            f"file {str(source)!r} has a column {unknown[0]!r} that is not of this condition; give the "
            f"condition that it is of, or drop it.{near_miss(unknown[0], columns)}"
        )


def _entry(source: Path, line: int, header: list[str], row: list[str]) -> Entry:
    entry = Entry(source, line, dict(zip(header, (cell.strip() for cell in row), strict=False)))
    if len(row) != len(header):
        raise entry.wrong(f"it has {len(row)} values and the header {len(header)}; give as many")
    empty = [column for column, text in entry.values.items() if not text]
    if empty:
        raise entry.wrong(f"{empty[0]} is empty; fill it in or drop the line")
    return entry


def _classes(own: list[Entry], held_out: list[Entry], column: str) -> tuple[str, ...]:
    """The labels of the train folder, in order."""
    labels = {entry.values[column] for entry in own}
    if len(labels) < 2:
        raise own[0].wrong(f"{column} is {labels.pop()!r} in every line; list at least two classes")
    for entry in held_out:
        if entry.values[column] not in labels:
            raise entry.wrong(
                f"{column} {brief(entry.values[column])} is in no line of {str(own[0].source)!r}, so no "
                "model can learn it; drop the line"
            )
    numbers = all(label.isascii() and label.isdigit() and len(label) <= DIGITS for label in labels)
    return tuple(sorted(labels, key=int if numbers else None))


def _in_rounds(labels: Int64[np.ndarray, " n"], draw: np.random.Generator) -> Int64[np.ndarray, " n"]:
    """All rows in random order, but one of every class before the second of any, and so on."""
    order = draw.permutation(len(labels))
    turn = np.empty(len(order), dtype=np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels[order] == label)
        turn[places] = np.arange(len(places))
    return order[turn.argsort(kind="stable")]


def _facts(
    y: Int64[Tensor, " n"], counts: Counts, classes: tuple[str, ...], folder: Path
) -> dict[str, float | str]:
    """Chance: test accuracy of the commonest train class; sha256: of both metadata files in one."""
    commonest = int(y[: counts.train].bincount().argmax())
    lists = [folder / split / LIST for split in ("train", "val")]
    return {
        "snr_db": "unknown",
        "chance": float((y[-counts.test :] == commonest).double().mean()),
        "classes": ", ".join(classes),
        "sha256": hashlib.sha256(b"".join(file.read_bytes() for file in lists)).hexdigest(),
    }
