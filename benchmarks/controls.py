"""Which methods are controls."""

from collections.abc import Iterable

import pandas as pd


def controls(costs: pd.DataFrame) -> set[str]:
    """The methods that cannot know the model; what older tables do not say is asked of the installed ones."""
    said = pd.to_numeric(costs["control"], errors="coerce")
    silent = set(costs.loc[said.isna(), "method"]) - set(costs.loc[said.notna(), "method"])
    return set(costs.loc[said == 1, "method"]) | (installed(silent) if silent else set())


def installed(methods: Iterable[str]) -> set[str]:
    """Those of these methods, as in tables, that are installed as controls."""
    from .loading import load_plugins
    from .plugin import METHODS  # torch waits until it is needed

    load_plugins()
    known = {plugin.name for plugin in METHODS if plugin.facts["control"]}
    return {text for text in methods if text.partition("[")[0] in known}
