"""What `list` lists: one object a plug-in or suite."""

from typing import Any

from .grid import REGISTRIES
from .registry import Plugin
from .suite import load_suite, suite_names

FACTS = (
    "noise",
    "has",
    "needs",
    "estimand",
    "value",
    "promises",
    "signed",
    "cost",
    "family",
    "best",
    "worst",
)


def entries(kind: str) -> list[dict[str, Any]]:
    """Everything of one kind (plural), available or not, by name."""
    if kind == "suites":
        return [_suite(name) for name in suite_names()]
    registry = REGISTRIES[kind.removesuffix("s")]
    rows = [_plugin(plugin) for plugin in registry]
    lacking = [
        {"kind": registry.kind, "name": name, "available": False, "summary": f"unavailable: {why}"}
        for name, why in sorted(registry.unavailable.items())
    ]
    return rows + lacking


def _plugin(plugin: Plugin[Any]) -> dict[str, Any]:
    facts = {key: plugin.facts[key] for key in FACTS if key in plugin.facts}
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "available": True,
        "summary": plugin.summary,
        "parameters": plugin.defaults,
        "version": plugin.version,
        "paper": plugin.paper,
        **facts,
    }


def _suite(name: str) -> dict[str, Any]:
    suite = load_suite(name)
    return {"kind": "suite", "name": name, "available": True, "summary": suite.title, "seeds": suite.seeds}
