"""Suites as they are written: names and lists.  Needs no torch, so that a wrong name is told at once."""

import pkgutil
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import pydantic

from .registry import AssayError, near_miss

ALL = "all"
KINDS = ("dataset", "model", "method", "metric")
LARGEST: Final = 1_000_000  # bytes of a suite file
MOST_SEEDS: Final = 1_000_000
LONGEST: Final = 200  # characters of a wrong value that are shown
MOST_TRIED: Final = 500  # lines that may be those of a wrong entry


class Block(pydantic.BaseModel):
    """One product of lists."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    dataset: list[str] = [ALL]
    model: list[str] = [ALL]
    method: list[str] = [ALL]
    metric: list[str] = [ALL]


class Suite(pydantic.BaseModel):
    """A named grid: one or more products of lists, over the same seeds.

    seeds: how often the data are drawn, from `first_seed` on.
    model_seeds: how often every model is trained on each draw of the data.
    method_seeds: how often every trained model is explained.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    name: str = ""
    title: str = ""
    seeds: int = pydantic.Field(default=1, ge=1, le=MOST_SEEDS)
    # not told where it is 1, or 0, so that a manifest of a suite that does not ask for it stays what it was
    model_seeds: int = pydantic.Field(default=1, ge=1, le=MOST_SEEDS, exclude_if=lambda count: count == 1)
    method_seeds: int = pydantic.Field(default=1, ge=1, le=MOST_SEEDS, exclude_if=lambda count: count == 1)
    first_seed: int = pydantic.Field(default=0, ge=0, lt=2**52, exclude_if=lambda seed: seed == 0)
    grid: list[Block] = pydantic.Field(min_length=1)

    def with_lists(self, lists: Mapping[str, list[str]]) -> "Suite":
        """The suite with these lists in place of its own; a kind whose list is empty keeps its own."""
        given = {kind: values for kind, values in lists.items() if values}
        blocks = {b.model_copy(update=given).model_dump_json(): b.model_copy(update=given) for b in self.grid}
        return self.model_copy(update={"grid": list(blocks.values())})

    def with_numbers(self, numbers: Mapping[str, int]) -> "Suite":
        """The suite with these numbers, such as of seeds, in place of its own.

        Raises:
            AssayError: one of them is not allowed.
        """
        try:
            return Suite.model_validate({**self.model_dump(), **numbers})
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            option = "--" + str(first["loc"][0]).replace("_", "-")
            raise AssayError(
                f"{option} cannot be {brief(first['input'])}: {first['msg'].lower()}; give another number."
            ) from None

    def with_added(self, kind: str, names: Iterable[str]) -> "Suite":
        """The suite with these plug-ins beside its own in every block."""
        blocks = [b.model_copy(update={kind: [*getattr(b, kind), *names]}) for b in self.grid]
        return self.model_copy(update={"grid": blocks})


def suite_names() -> list[str]:
    """The suites that come with the package."""
    folder = resources.files(f"{__package__}.suites")
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def load_suite(name: str) -> Suite:
    """A suite by its name, or from a user's TOML file.

    Raises:
        AssayError: no such suite or file, or it cannot be read.
    """
    if name.endswith(".toml"):
        return _parse_suite(_read(name), name, Path(name).stem)
    if name not in suite_names():
        raise AssayError(
            f"no suite is called {name!r}.{near_miss(name, suite_names())} Or give a .toml file."
        )
    text = resources.files(f"{__package__}.suites").joinpath(f"{name}.toml").read_bytes()
    return _parse_suite(text, f"{name}.toml", name)


def _read(name: str) -> bytes:
    """What stands in a user's file."""
    path = Path(name)
    try:
        there, size = path.is_file(), path.stat().st_size if path.is_file() else 0
        if there and size <= LARGEST:
            return path.read_bytes()
    except OSError as error:  # a name that is too long, or a file that may not be read
        raise AssayError(
            f"suite file {brief(name)} cannot be read ({error.strerror}); give the path of a TOML file."
        ) from None
    if there:
        raise AssayError(
            f"suite file {name!r} has {size:,} bytes, and at most {LARGEST:,} are read; part it."
        )
    raise AssayError(f"suite file {brief(name)} is not there; give the path of a TOML file.")


def brief(value: Any) -> str:
    """A value as messages show it: `repr`, and of a long one the beginning."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested, or a number, without end
        return f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _parse_suite(content: bytes, file: str, name: str) -> Suite:
    try:
        text = content.decode()
        return Suite.model_validate({"name": name, **tomllib.loads(text)})
    except RecursionError:
        raise AssayError(
            f"suite file {file!r} nests too deep to be read; a suite has lists of text in [[grid]] blocks."
        ) from None
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        line = _line(text, first["loc"])
        at = f", line {line}" if line else ""
        raise AssayError(
            f"suite file {file!r}{at}: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}, got "
            f"{brief(first['input'])}; allowed are title, seeds, model_seeds, method_seeds, first_seed and "
            "[[grid]] blocks with lists of text: dataset, model, method, metric."
        ) from None
    except ValueError as error:  # no TOML, no UTF-8, or a number of more than 4,300 digits
        raise AssayError(f"suite file {file!r} is not valid TOML: {error}; mend that line.") from None


def _line(text: str, place: tuple[int | str, ...]) -> int | None:
    """The line on which what stands at `place` begins, or the innermost thing around it that has a line.

    A key may be anywhere in a comment or a text too.  So a line that holds its name is taken only if what
    stands above is TOML without the key, and the statement that begins with the line brings it.
    """
    lines = text.split("\n")
    inside: list[int] = []
    for depth in range(len(place), 0, -1):
        inner = place[:depth]
        key = next((part for part in reversed(inner) if isinstance(part, str)), "")
        named = re.compile(rf"(?<![\w-]){re.escape(key)}(?![\w-])")
        found = [number for number, line in enumerate(lines) if named.search(line)]
        for number in found[:MOST_TRIED]:
            if _holds(lines[:number], inner) is False and _brings(lines, number, inner):
                alone = [line for line in inside if line >= number]  # of a statement on several lines
                return (alone[0] if len(alone) == 1 else number) + 1
        inside = inside or found
    return None


def _brings(lines: list[str], number: int, place: tuple[int | str, ...]) -> bool:
    """Whether the statement that begins on this line makes a document in which there is such a place."""
    ends = range(number + 1, min(len(lines), number + MOST_TRIED) + 1)
    found = (_holds(lines[:end], place) for end in ends)
    return next((held for held in found if held is not None), False)


def _holds(lines: list[str], place: tuple[int | str, ...]) -> bool | None:
    """Whether there is such a place in the document that these lines are; None if they are none."""
    try:
        found: Any = tomllib.loads("".join(f"{line}\n" for line in lines))
    except (ValueError, RecursionError):
        return None
    for part in place:
        try:
            found = found[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def modules(suite: Suite) -> list[str]:
    """The modules of ours that the suite's plug-ins stand in, by their names alone."""
    root = Path(__file__).resolve().parent.parent
    found: dict[str, None] = {}
    for kind in KINDS:
        files = [module.name for module in pkgutil.iter_modules([str(root / f"{kind}s")])]
        for text in (text for block in suite.grid for text in getattr(block, kind)):
            name = text.partition("[")[0].strip()
            names = files if name == ALL else [name]
            found.update(dict.fromkeys(f"assay.{kind}s.{name}" for name in names))
    return list(found)
