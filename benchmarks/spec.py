"""`name[parameter=value,...]` as users write it: read, checked against the plug-in, swept, written back."""

import contextlib
import functools
import hashlib
import inspect
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from . import declared
from .registry import AssayError, Plugin, Registry, near_miss
from .sources import Sources
from .suite import brief

TOKEN = re.compile(r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<mark>[\[\],=])|(?P<word>[^\[\],="'\s]+))""")
END = ""
LONGEST = 100_000  # characters of a setting
MOST = 10_000  # settings that one text may sweep
LISTS = tuple(above + "metadata.csv" for above in ("", "*/", "*/*/"))  # what tells of a folder's files


@dataclass(frozen=True, slots=True)
class Setting:
    """One plug-in with the values of all its parameters."""

    name: str
    values: tuple[tuple[str, Any], ...]  # every parameter, in the order of the signature
    version: str
    text: str  # as in the tables: only what differs from the defaults
    key: str = field(init=False, compare=False)  # what this computes: name, version, values, files by content

    def __post_init__(self) -> None:
        contents = {key: _content(value) for key, value in self.values}
        object.__setattr__(self, "key", json.dumps([self.name, self.version, contents], sort_keys=True))

    @property
    def params(self) -> dict[str, Any]:
        """Parameter -> value."""
        return dict(self.values)


def _content(value: Any) -> Any:
    """A path counts by what the file or folder holds, so that an edited table is computed anew."""
    if not isinstance(value, Path):
        return value
    try:
        return _read(value.expanduser()) or str(value)
    except (OSError, RuntimeError, ValueError) as error:  # no such user, a name that is too long, no right
        why = getattr(error, "strerror", None) or error
        raise AssayError(f"path {brief(str(value))} cannot be read ({why}); give another.") from None


def _read(path: Path) -> str | None:
    """A hash of what a file or folder holds; None where there is nothing to be read."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    # folders of pictures are too large to be read whole, or even to be listed; metadata.csv names the files
    lists = sorted((file.relative_to(path).as_posix(), file) for at in LISTS for file in path.glob(at))
    parts = [(name, hashlib.sha256(file.read_bytes()).hexdigest()) for name, file in lists if file.is_file()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest() if parts else None


def shown(value: Any) -> str:
    """A value as in the columns of tables: of a folder's path the last two parts, whatever lies above it."""
    if isinstance(value, Path) and value.expanduser().is_dir():
        return Path(*value.parts[-2:]).as_posix()
    return str(value)


def settings(registry: Registry[Any], text: str) -> list[Setting]:
    """All settings that `text` asks for; a list as a parameter's value sweeps it.

    Raises:
        AssayError: the text cannot be read, or names no plug-in, no parameter, or a value not allowed.
    """
    name, given = parse(text)
    if not given and (known := _as_declared(registry, name)):
        return [known]
    plugin = registry[name]
    for key in given:
        if key not in plugin.parameters:
            raise AssayError(
                f"{plugin.kind} {name!r} has no parameter {key!r}.{near_miss(key, plugin.parameters)}"
            )
    asked = math.prod(len(values) for values in given.values() if isinstance(values, list))
    if asked > MOST:
        raise AssayError(f"{brief(text)} asks for {asked:,} settings; give lists that make at most {MOST:,}.")
    sweeps = [[(k, v) for v in (vs if isinstance(vs, list) else [vs])] for k, vs in given.items()]
    return [setting(plugin, dict(chosen)) for chosen in itertools.product(*sweeps)]


@functools.cache
def _sources() -> Sources:
    return Sources()


def _as_declared(registry: Registry[Any], name: str) -> Setting | None:
    """A built-in method with its defaults as its file's text gives them, if that tells.

    Whoever plans a run calls no method: captum and shap, which method files import, take two seconds.
    """
    file = registry.files().get(name) if registry.kind == "method" else None
    if file is None:
        return None
    try:
        plugin = declared.read(registry.kind, file, _sources())
    except Exception:  # what is wrong with it, importing it says
        return None
    if inspect.Parameter.empty in plugin.defaults.values():
        return None
    registry.note_version(name, plugin.version)
    return Setting(name, tuple(plugin.defaults.items()), plugin.version, name)


def setting(plugin: Plugin[Any], given: Mapping[str, Any]) -> Setting:
    """The plug-in with its defaults and the `given` values, each checked against its annotation."""
    defaults = {key: _default(plugin, key) for key in plugin.parameters}
    values = tuple(
        (key, _checked(plugin, key, given[key]) if key in given else default)
        for key, default in defaults.items()
    )
    changed = [f"{key}={_written(value)}" for key, value in values if value != defaults[key]]
    text = f"{plugin.name}[{','.join(changed)}]" if changed else plugin.name
    return Setting(plugin.name, values, plugin.version, text)


def _default(plugin: Plugin[Any], key: str) -> Any:
    """The default in the type of the annotation, so that 1 and 1.0 are one value of a float."""
    default = plugin.defaults[key]
    if default is inspect.Parameter.empty:
        raise AssayError(f"{plugin.kind} {plugin.name!r}: parameter {key} has no default; give it one.")
    return default if default is None else _checked(plugin, key, default)


def _checked(plugin: Plugin[Any], key: str, value: Any) -> Any:
    """`value` if the parameter's annotation allows it; text may become a path, never a number."""
    adapter = pydantic.TypeAdapter(plugin.parameters[key].annotation)
    if isinstance(value, str):
        with contextlib.suppress(pydantic.ValidationError):
            return adapter.validate_python(Path(value), strict=True)
    try:
        return adapter.validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ").removesuffix(".")
        raise AssayError(
            f"{plugin.kind} {plugin.name!r}: parameter {key} cannot be {brief(value)}: "
            f"{why[0].lower()}{why[1:]}; " + _remedy(value, why, plugin.defaults[key])
        ) from None


def _remedy(value: Any, why: str, default: Any) -> str:
    """What to do about a value that is not allowed."""
    if "string" in why and not isinstance(value, str):
        return f'write it in quotes, "{brief(value)}", if it is meant as text.'
    return f"the default is {default!r}." if default not in (None, "") else "leave it out, or mend it."


def _written(value: Any) -> str:
    """A value as `parse` reads it back."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if isinstance(value, int | float):
        return text
    if re.fullmatch(r"[A-Za-z_][\w.-]*", text) and isinstance(_scalar(text), str):  # not true, nan, inf
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Name and parameters of `name[a=1,b=[x,y],c="free text"]`.

    Raises:
        AssayError: not of that form.
    """
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise AssayError(f"{brief(text)} is not UTF-8; rename the file, or mend the text.")
    tokens = _tokens(text)
    try:
        name = _take(tokens, "word")
        given: dict[str, Any] = {}
        mark, expected = next(tokens)[1], "["
        while mark == expected:
            key = _take(tokens, "word")
            _take(tokens, "mark", "=")
            if key in given:
                raise AssayError(
                    f"{brief(text)} gives {brief(key)} twice; leave one out, or write [...] to sweep."
                )
            given[key] = _value(tokens, *next(tokens))
            mark, expected = next(tokens)[1], ","
        if mark != ("]" if given else END) or (given and next(tokens)[1] != END):
            raise ValueError
    except (ValueError, StopIteration, RecursionError):
        raise AssayError(
            f"cannot read {brief(text)}: write name, or name[parameter=value,...] with numbers, words, "
            '"quoted text" or [lists] as values.'
        ) from None
    return name, given


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position, end = 0, len(text.rstrip())
    if end > LONGEST:
        raise ValueError
    while position < end:
        match = TOKEN.match(text, position)
        if match is None:
            raise ValueError
        yield str(match.lastgroup), match[str(match.lastgroup)]
        position = match.end()
    yield "mark", END


def _take(tokens: Iterator[tuple[str, str]], kind: str, text: str | None = None) -> str:
    """The next token, which must be of this kind."""
    got_kind, got = next(tokens)
    if got_kind != kind or (text is not None and got != text):
        raise ValueError
    return got


def _value(tokens: Iterator[tuple[str, str]], kind: str, text: str) -> Any:
    """The value that begins with this token."""
    if kind == "quoted":
        return text[1:-1]
    if kind == "word":
        return _scalar(text)
    if text != "[":
        raise ValueError
    values = []
    while True:
        values.append(_value(tokens, *next(tokens)))
        mark = _take(tokens, "mark")
        if mark == "]":
            return values
        if mark != ",":
            raise ValueError


def _scalar(word: str) -> Any:
    """A bare word as the boolean or number that it looks like, else as text."""
    if word in {"true", "false"}:
        return word == "true"
    for kind in (int, float):
        try:
            return kind(word) if word.isascii() else word
        except ValueError:  # no such number, or one of more than 4,300 digits
            continue
    return word
