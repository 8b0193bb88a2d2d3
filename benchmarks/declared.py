"""What plug-in files say of themselves, read from their text: to list them, none has to be imported."""

import ast
import contextlib
import inspect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .registry import text_version
from .sources import Source, Sources, Unreadable, original
from .terms import Capability, Ceiling, Claim, Cost, Estimand, Family, Need, Promise, Value, words

CONTRACT = Path(__file__).resolve().parent / "plugin.py"  # whose decorators say what holds by default
ALLOWED: dict[str, dict[str, Any]] = {
    "dataset": {},
    "model": {"has": Capability},
    "method": {
        "needs": Capability,
        "estimand": Estimand,
        "value": Value,
        "promises": Promise,
        "cost": Cost,
    },
    "metric": {"needs": Need, "claims": Claim, "family": Family, "ceiling": Ceiling},
}
SEVERAL = {"has", "needs", "promises", "claims"}  # words of which there may be more than one


@dataclass(frozen=True, slots=True)
class Declared:
    """A plug-in that has not been imported; the names are those of `registry.Plugin`."""

    kind: str
    name: str
    summary: str
    defaults: dict[str, Any]
    version: str
    paper: str
    facts: dict[str, Any]


def read(kind: str, file: Path, sources: Sources) -> Declared:
    """What importing the file would register.

    What only running it would show, as a misspelt name or a library that fails to load, is not seen.

    kind: of its plug-in: dataset, model, method or metric.
    sources: what has been read so far; it grows.

    Raises:
        Unreadable: the file says more than literals, constants and imports do.
        ModuleNotFoundError: as the import would: a library is not installed.
        Exception: as the import would: the file, or one of ours that it imports, is not Python, or a word of
            the declaration is unknown.
    """
    sources.imports(file)
    source = sources.source(file)
    function = source.names.get(file.stem)
    if not isinstance(function, ast.FunctionDef):
        raise Unreadable
    values = _Values(sources, source)
    given = _given(kind, function, values)
    version, paper = given.pop("version"), given.pop("paper")
    return Declared(
        kind,
        function.name,
        (ast.get_docstring(function) or "").partition("\n")[0],
        values.defaults(function),
        str(version) if version is not None else text_version(file),
        paper,
        {key: _fact(ALLOWED[kind].get(key), key, value) for key, value in given.items()},
    )


def _given(kind: str, function: ast.FunctionDef, values: "_Values") -> dict[str, Any]:
    """What the decorator is given, and its defaults for the rest."""
    match function.decorator_list:
        case [ast.Call(func=ast.Name(id=name), args=[], keywords=keywords)] if name == kind:
            given = {str(keyword.arg): values.value(keyword.value) for keyword in keywords}
        case _:
            raise Unreadable
    contract = values.sources.source(CONTRACT)
    decorator = contract.names[kind]
    assert isinstance(decorator, ast.FunctionDef)
    known = _Values(values.sources, contract).defaults(decorator)
    found = known | given
    if found.keys() != known.keys() or inspect.Parameter.empty in found.values():
        raise Unreadable  # a word too many, or one too few
    return found


def _fact(allowed: Any, key: str, value: Any) -> Any:
    """A fact as the decorators of `plugin` register it."""
    if allowed is None:
        return {} if key == "instead" and value is None else value
    found = words(key, value, allowed)
    return found if key in SEVERAL else found[0]


@dataclass(frozen=True, slots=True)
class _Values:
    """The values of expressions in a file that are made of literals and constants."""

    sources: Sources
    source: Source

    def defaults(self, function: ast.FunctionDef) -> dict[str, Any]:
        """The keyword-only parameters and their default values."""
        pairs = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
        empty = inspect.Parameter.empty
        return {a.arg: empty if default is None else self.value(default) for a, default in pairs}

    def value(self, node: ast.expr) -> Any:
        """The value of an expression."""
        with contextlib.suppress(ValueError):
            return ast.literal_eval(node)
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str(text))], keywords=[]):
                return float(text)
            case ast.Name(id=name):
                return self._constant(name)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                return self._attribute(name, attribute)
        raise Unreadable

    def _constant(self, name: str) -> Any:
        bound, home = self.sources.bound(name, self.source)
        match bound:
            case ast.ImportFrom(level=0, module="math"):
                return _of_math(original(bound, name))
            case ast.Assign(value=node) | ast.AnnAssign(value=ast.expr() as node):
                return _Values(self.sources, home).value(node)
        raise Unreadable

    def _attribute(self, name: str, attribute: str) -> Any:
        """That of `math`, or a field of a constant that is made of a data class of ours."""
        bound, home = self.sources.bound(name, self.source)
        match bound:
            case ast.Import(names=[ast.alias(name="math")]):
                return _of_math(attribute)
            case ast.Assign(value=ast.Call() as made) | ast.AnnAssign(value=ast.Call() as made):
                return _Values(self.sources, home)._field(made, attribute)
        raise Unreadable

    def _field(self, made: ast.Call, name: str) -> Any:
        """What a data class is given for this field."""
        match made:
            case ast.Call(func=ast.Name(id=called), args=[], keywords=keywords):
                kind, _ = self.sources.bound(called, self.source)
                given = [keyword.value for keyword in keywords if keyword.arg == name]
                if given and _is_dataclass(kind):
                    return self.value(given[0])
        raise Unreadable


def _of_math(name: str) -> Any:
    if name not in vars(math):
        raise Unreadable
    return vars(math)[name]


def _is_dataclass(statement: ast.stmt | None) -> bool:
    decorators = statement.decorator_list if isinstance(statement, ast.ClassDef) else []
    return any("dataclass" in ast.unparse(decorator) for decorator in decorators)
