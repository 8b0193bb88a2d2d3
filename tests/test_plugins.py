"""Every registered plug-in, every check of its kind; a new file in methods/ is tested by being there."""

import pytest

from assay.benchmarks.checks import all_plugins, checks_of, needs_files
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import NotApplicable

load_plugins()
CASES = [
    pytest.param(plugin, check, id=f"{plugin.kind}-{plugin.name}-{check.__name__}")
    for plugin in all_plugins()
    for check in checks_of(plugin)
]


@pytest.mark.parametrize(("plugin", "check"), CASES)
def test_plugin(plugin, check):
    try:
        check(plugin)
    except NotApplicable as why:
        if not needs_files(plugin):
            raise
        pytest.skip(str(why))
