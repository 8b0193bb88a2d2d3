"""Suites as they are written: names and lists.  Needs no torch, so that a wrong name is told at once."""

import pkgutil
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

import pydantic

from .registry import AssayError, near_miss

ALL = "all"
KINDS = ("dataset", "model", "method", "metric")


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
    seeds: int = pydantic.Field(default=1, ge=1)
    # not told where it is 1, or 0, so that a manifest of a suite that does not ask for it stays what it was
    model_seeds: int = pydantic.Field(default=1, ge=1, exclude_if=lambda count: count == 1)
    method_seeds: int = pydantic.Field(default=1, ge=1, exclude_if=lambda count: count == 1)
    first_seed: int = pydantic.Field(default=0, ge=0, exclude_if=lambda seed: seed == 0)
    grid: list[Block] = pydantic.Field(min_length=1)

    def with_lists(self, lists: Mapping[str, list[str]]) -> "Suite":
        """The suite with these lists in place of its own; a kind whose list is empty keeps its own."""
        given = {kind: values for kind, values in lists.items() if values}
        blocks = {b.model_copy(update=given).model_dump_json(): b.model_copy(update=given) for b in self.grid}
        return self.model_copy(update={"grid": list(blocks.values())})

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
        path = Path(name)
        if not path.is_file():
            raise AssayError(f"suite file {name!r} is not there; give the path of a TOML file.")
        return _parse_suite(path.read_bytes(), name, path.stem)
    if name not in suite_names():
        raise AssayError(
            f"no suite is called {name!r}.{near_miss(name, suite_names())} Or give a .toml file."
        )
    text = resources.files(f"{__package__}.suites").joinpath(f"{name}.toml").read_bytes()
    return _parse_suite(text, f"{name}.toml", name)


def _parse_suite(text: bytes, file: str, name: str) -> Suite:
    try:
        return Suite.model_validate({"name": name, **tomllib.loads(text.decode())})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AssayError(f"suite file {file!r} is not valid TOML: {error}; mend that line.") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise AssayError(
            f"suite file {file!r}: {where}: {first['msg'].lower()}, got {first['input']!r}; allowed are "
            "title, seeds, model_seeds, method_seeds, first_seed and [[grid]] blocks with lists of text: "
            "dataset, model, method, metric."
        ) from None


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
