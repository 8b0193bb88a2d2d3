"""Name -> plug-in.  A built-in is found by its file name and imported when first asked for."""

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class AssayError(Exception):
    """What a user did wrong, in one sentence; the command line prints it and exits with 2."""


class UnknownPluginError(AssayError, LookupError):
    """A name that no plug-in of this kind carries."""


class DuplicatePluginError(AssayError, ValueError):
    """Two plug-ins of one kind claim the same name."""


def near_miss(name: str, known: Iterable[str]) -> str:
    """The hint that ends a message about an unknown name: the closest known one, then all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(known) or 'none'}."


@dataclass(frozen=True)
class Plugin(Generic[F]):
    """One registered function and what the benchmark must know about it."""

    kind: str
    name: str
    function: F
    version: str
    paper: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """Hyper-parameters: the keyword-only arguments."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Hyper-parameters and their default values."""
        return {name: p.default for name, p in self.parameters.items()}

    @property
    def summary(self) -> str:
        """First line of the docstring, as the listing shows it."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]


class Registry(Generic[F]):
    """All plug-ins of one kind: files of one package, entry points of others, and users' files."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.unavailable: dict[str, str] = {}
        self._plugins: dict[str, Plugin[F]] = {}
        self._pending: dict[str, Callable[[], object]] = {}
        self._files: dict[str, Path] = {}
        self._told: dict[str, str] = {}

    def add(self, function: F, *, version: int | None, paper: str, **facts: Any) -> F:
        """Register `function` under its own name and hand it back unchanged."""
        name = function.__name__
        if name in self._plugins:
            first = self._plugins[name].function.__module__
            raise DuplicatePluginError(
                f"{self.kind} {name!r} is defined twice: in {first} and in "
                f"{function.__module__}. Rename one of the functions."
            )
        self._plugins[name] = Plugin(self.kind, name, function, _version(function, version), paper, facts)
        return function

    def discover(self, package: ModuleType) -> None:
        """Note every module of `package` and every entry point `assay.<kind>s`, without importing them."""
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
            path = f"{package.__name__}.{module.name}"
            self._pending.setdefault(module.name, partial(importlib.import_module, path))
            self._files[module.name] = Path(getattr(module.module_finder, "path", "")) / f"{module.name}.py"
        for point in importlib.metadata.entry_points(group=f"assay.{self.kind}s"):
            self._pending.setdefault(point.name, point.load)

    def __getitem__(self, name: str) -> Plugin[F]:
        if name not in self._plugins:
            self._load(name)
        try:
            return self._plugins[name]
        except KeyError:
            raise UnknownPluginError(self._explain_absence(name)) from None

    def __iter__(self) -> Iterator[Plugin[F]]:
        return iter(self.imported(but=()))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._plugins or name in self._pending

    def files(self) -> dict[str, Path]:
        """Name and file of every built-in plug-in that has not been imported so far."""
        waiting = {name: file for name, file in self._files.items() if name in self._pending}
        return {name: file for name, file in waiting.items() if name not in self._plugins and file.is_file()}

    def imported(self, *, but: Collection[str]) -> list[Plugin[F]]:
        """All plug-ins, imported; those whose name is among `but` only if they are already."""
        for name in [name for name in self._pending if name not in but]:
            self._load(name)
        return [self._plugins[name] for name in sorted(self._plugins)]

    def insist(self, name: str) -> None:
        """Refuse a name that nothing noted so far carries, without importing anything.

        Raises:
            UnknownPluginError: no plug-in is called so.
        """
        if name not in self:
            raise UnknownPluginError(self._explain_absence(name))

    def names(self) -> list[str]:
        """Every name that is known, whether or not what it stands for can be imported."""
        return sorted({*self._plugins, *self._pending})

    def defined_in(self, module: str) -> list[str]:
        """Names of the plug-ins that this module registered."""
        return [name for name, plugin in self._plugins.items() if plugin.function.__module__ == module]

    def note_version(self, name: str, version: str) -> None:
        """Take note of the version of a plug-in that was asked for, and read instead of imported."""
        self._told[name] = version

    def unimported(self) -> list[str]:
        """Names that were asked for, and whose files were read instead of imported."""
        return [name for name in self._told if name not in self._plugins]

    def versions(self) -> dict[str, str]:
        """Name and version of every plug-in that has been asked for so far."""
        found = self._told | {name: plugin.version for name, plugin in self._plugins.items()}
        return dict(sorted(found.items()))

    def _load(self, name: str) -> None:
        """Import the module that should define `name`; one that cannot be imported is noted, not fatal."""
        load = self._pending.pop(name, None)
        if load is None or name in self._plugins:
            return
        try:
            load()
        except DuplicatePluginError:
            raise
        except Exception as error:  # one broken file must not stop the others
            self.unavailable[name] = why_not(error)

    def _explain_absence(self, name: str) -> str:
        if name in self.unavailable:
            return f"{self.kind} {name!r} {self.unavailable[name]}."
        return f"no {self.kind} is called {name!r}.{near_miss(name, self.names())}"


REGISTRIES: dict[str, Registry[Any]] = {
    kind: Registry(kind) for kind in ("dataset", "model", "method", "metric")
}


def why_not(error: Exception) -> str:
    """Why a plug-in whose import ended with this error is not available."""
    if isinstance(error, ModuleNotFoundError):
        return f"needs {error.name}, which is not installed: install it and run again"
    why = " ".join(f"{type(error).__name__}: {error}".split())
    return f"cannot be imported ({why}): mend the file and run again"


def text_version(file: Path) -> str:
    """A hash of the file's text, the version of a plug-in that declares none: every edit is a new one."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8]


def _version(function: Callable[..., Any], declared: int | None) -> str:
    """The declared version, else that of the file's text."""
    if declared is not None:
        return str(declared)
    file = getattr(sys.modules.get(function.__module__), "__file__", None) or inspect.getfile(function)
    try:
        return text_version(Path(file))
    except OSError:
        raise AssayError(
            f"{function.__name__!r} is in no file ({file}) whose text could be its version; declare one, as "
            "version=1."
        ) from None


_FILE_PREFIX = "assay_file_"


def python_file(path: Path) -> Path:
    """The plug-in file at `path`, with the whole path.

    Raises:
        AssayError: there is none.
    """
    try:
        path = path.resolve()
        there = path.is_file() and path.suffix == ".py"
    except (OSError, RuntimeError, ValueError):  # too long, a link to itself, or no name at all
        there = False
    if not there:
        raise AssayError(f"plug-in file {str(path)!r} is not there or not a .py file; give the path of one.")
    return path


def load_file(path: Path) -> ModuleType:
    """Import the plug-in file at `path`, which registers what it defines; twice is once.

    Raises:
        AssayError: there is no such file, or importing it raised.
    """
    path = python_file(path)
    name = f"{_FILE_PREFIX}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a .py file always has a spec
    assert spec.loader is not None  # and a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except AssayError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise AssayError(
            f"plug-in file {str(path)!r} raised {type(error).__name__} when imported: {error}. Mend the file."
        ) from error
    return module
