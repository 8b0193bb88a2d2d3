"""Our files as text: the names that they bind, and whether they could be imported, without importing them."""

import ast
import gc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class Unreadable(Exception):  # noqa: N818 - not an error: whoever asks imports the file instead
    """The text alone does not tell."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file, and the statement that binds each of its names; None where that is not plain to see."""

    file: Path
    body: list[ast.stmt]
    names: dict[str, ast.stmt | None]


class Sources:
    """Files that are read once each; one edited in the meantime wants new `Sources`."""

    def __init__(self) -> None:
        self._sources: dict[Path, Source] = {}
        self._failed: dict[Path, Exception | None] = {}
        self._libraries: set[str] = set()

    def source(self, file: Path) -> Source:
        """The file.

        Raises:
            Unreadable: it cannot be opened.
            Exception: it is not Python, as importing it would say.
        """
        if file not in self._sources:
            try:
                text = file.read_bytes()
            except OSError:
                raise Unreadable from None
            body = _parsed(text, file)
            names: dict[str, ast.stmt | None] = {}
            for statement in body:
                for name in _names(statement):
                    names[name] = None if name in names else statement
            self._sources[file] = Source(file, body, names)
        return self._sources[file]

    def bound(self, name: str, source: Source) -> tuple[ast.stmt | None, Source]:
        """The statement that binds the name, and the file of ours where it stands."""
        found = source.names.get(name)
        if isinstance(found, ast.ImportFrom) and found.level:
            return self.bound(
                original(found, name), self.source(_place(found, source.file).with_suffix(".py"))
            )
        return found, source

    def imports(self, file: Path) -> None:
        """Follow what importing the file would import, in its order, and end as it would.

        Raises:
            Unreadable: imports are conditional, or a name or module is not where it is imported from.
            ModuleNotFoundError: the file, or one of ours that it imports, needs a library that is not there.
            Exception: likewise, one of them is not Python.
        """
        if file not in self._failed:
            self._failed[file] = None
            try:
                for statement in self.source(file).body:
                    self._follow(statement, file)
            except Exception as error:
                self._failed[file] = error
        failed = self._failed[file]
        if failed is not None:
            raise failed

    def _follow(self, statement: ast.stmt, file: Path) -> None:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                self._find(alias.name)
        elif isinstance(statement, ast.ImportFrom) and statement.level:
            self._ours(statement, file)
        elif isinstance(statement, ast.ImportFrom):
            self._find(str(statement.module))
        elif _has_imports(statement):
            raise Unreadable

    def _ours(self, statement: ast.ImportFrom, file: Path) -> None:
        place = _place(statement, file)
        if place.is_dir():  # the names are of modules
            for alias in statement.names:
                self.imports(place / f"{alias.name}.py")
            return
        module = place.with_suffix(".py")
        self.imports(module)
        if not {alias.name for alias in statement.names} <= self.source(module).names.keys():
            raise Unreadable

    def _find(self, module: str) -> None:
        """Look for a module of a library where its import would, importing nothing."""
        if module in self._libraries:
            return
        head, *rest = module.split(".")
        spec = _spec(head)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {head!r}", name=head)
        for part in rest:
            places = spec.submodule_search_locations
            if places is None:
                break  # os.path
            found = (finder.find_spec(f"{spec.name}.{part}", places) for finder in sys.meta_path)
            spec = next(filter(None, found), None)
            if spec is None:
                raise Unreadable  # some packages make modules that are no files
        self._libraries.add(module)


def original(statement: ast.ImportFrom, name: str) -> str:
    """What a name is called where it is imported from."""
    return next(alias.name for alias in statement.names if (alias.asname or alias.name) == name)


def _parsed(text: bytes, file: Path) -> list[ast.stmt]:
    """The statements; looking for garbage while trees are built, which are none, would take as long again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text, str(file)).body
    finally:
        if collecting:
            gc.enable()


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # it is imported and has no spec, or its import was forbidden
        if sys.modules.get(name) is None:
            return None
        raise Unreadable from None


def _has_imports(node: ast.AST) -> bool:
    """Whether anything is imported in it while the module is; functions wait until they are called."""
    match node:
        case ast.Import() | ast.ImportFrom():
            return True
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.expr():
            return False
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[]):
            return False
    return any(map(_has_imports, ast.iter_child_nodes(node)))


def _names(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement of a module binds."""
    match statement:
        case ast.Import(names=aliases):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
        case ast.ImportFrom(names=aliases):
            yield from (alias.asname or alias.name for alias in aliases)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case _:  # twice, so that what binds it is not plain to see
            names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
            stored = [node.id for node in names if not isinstance(node.ctx, ast.Load)]
            yield from (name for name in stored for _ in range(2))


def _place(statement: ast.ImportFrom, file: Path) -> Path:
    """Where what is imported from stands: a folder, or the path of a module without its .py."""
    parts = statement.module.split(".") if statement.module else ()
    return file.parents[statement.level - 1].joinpath(*parts)
