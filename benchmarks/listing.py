"""What `list` lists: one object a plug-in or suite."""

from typing import Any

from .declared import Declared, read
from .registry import REGISTRIES, Plugin, why_not
from .sources import Sources, Unreadable
from .suite import load_suite, suite_names
from .terms import aim

FACTS = (
    "noise",
    "has",
    "needs",
    "estimand",
    "value",
    "promises",
    "signed",
    "cost",
    "control",
    "family",
    "best",
    "worst",
    "chance",
    "ceiling",
    "claims",
    "caveat",
)


SHOWN = {
    "models": ("has",),
    "methods": ("estimand", "needs", "promises", "cost"),
    "metrics": ("family", "range", "better", "chance", "needs", "claims", "caveat"),
}  # beside name, parameters, what it is and paper


def shown(kind: str, rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The columns that the terminal shows, as text."""
    columns = (
        "name",
        *SHOWN.get(kind, ()),
        "parameters",
        "summary",
        *(("paper",) if kind != "suites" else ()),
    )
    titles = {"summary": "what it is"}
    return [{titles.get(key, key): _text(row.get(key, "")) for key in columns} for row in rows]


def compact(kind: str, rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The same in two columns, for a terminal: what it is, and under it the rest, where there is any."""
    found = []
    for row in shown(kind, rows):
        name, summary, *rest = row.pop("name"), row.pop("what it is"), row.pop("parameters", "")
        facts = [f"{key} {value}" for key, value in row.items() if value and key != "paper"]
        under = "; ".join(filter(None, [*facts, *rest, row.get("paper", "")]))
        found.append({"name": name, "what it is": f"{summary}\n{under}".strip()})
    return found


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value).removeprefix("https://")


def entries(kind: str, sources: Sources | None = None) -> list[dict[str, Any]]:
    """Everything of one kind (plural), available or not, by name.

    Built-in files are read, not imported; what other packages define has to be.  `load_plugins` noted both.

    sources: the files that have been read so far, which other kinds need too.
    """
    if kind == "suites":
        return [_suite(name) for name in suite_names()]
    registry = REGISTRIES[kind.removesuffix("s")]
    sources = sources or Sources()
    rows: dict[str, dict[str, Any]] = {}
    for name, file in registry.files().items():
        try:
            rows[name] = _plugin(read(registry.kind, file, sources))
        except Unreadable:
            continue  # it is imported below
        except Exception as error:
            rows[name] = _lacking(registry.kind, name, why_not(error))
    rows |= {plugin.name: _plugin(plugin) for plugin in registry.imported(but=rows.copy())}
    for name, why in registry.unavailable.items():
        rows.setdefault(name, _lacking(registry.kind, name, why))
    return [rows[name] for name in sorted(rows)]


def _lacking(kind: str, name: str, why: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "available": False, "summary": f"unavailable: {why}"}


def _plugin(plugin: Plugin[Any] | Declared) -> dict[str, Any]:
    facts = {key: plugin.facts[key] for key in FACTS if key in plugin.facts}
    more: dict[str, str] = {}
    if plugin.kind in MORE:
        more = MORE[plugin.kind](plugin)
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "available": True,
        "summary": plugin.summary,
        "parameters": plugin.defaults,
        "version": plugin.version,
        "paper": plugin.paper,
        **facts,
    } | more


def _of_metric(plugin: Plugin[Any] | Declared) -> dict[str, str]:
    """Range and direction in words, and what random attributions score."""
    best, worst, chance = (plugin.facts[name] for name in ("best", "worst", "chance"))
    return {
        "range": f"{min(best, worst):g} to {max(best, worst):g}",
        "better": "higher" if best > worst else "lower",
        "chance": "measured" if chance is None else f"{chance:g}",
    }


def _of_method(plugin: Plugin[Any] | Declared) -> dict[str, str]:
    """The estimand with the value function that it is of by default."""
    value = plugin.defaults.get("value", plugin.facts["value"])
    return {"estimand": aim(plugin.facts["estimand"], value)}


MORE = {"method": _of_method, "metric": _of_metric}


def _suite(name: str) -> dict[str, Any]:
    suite = load_suite(name)
    return {"kind": "suite", "name": name, "available": True, "summary": suite.title, "seeds": suite.seeds}
