"""The rules of the house that a machine can check."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = ("datasets", "models", "methods", "metrics")
LAYERS = {  # the modules of benchmarks/, low to high, with the plug-ins where they stand
    "what flows": (
        "registry threads suite terms sources declared signals problem plugin ambient randomness formula "
        "table published drawing backdrops sprites association gaussian decoys embedding device "
        "fingerprint folders"
    ),
    "what plug-ins may use": (
        "truth sharing perturb exact_model ranking concordance coalitions thresholds effects variants "
        "neighbours regions endtasks shapley games trees noise relu_rules captum_units rescale speech "
        "soundscape layermaps cache descent training blocks transformer sequence adapters"
    ),
    "plug-ins": ("PLUGINS"),
    "one unit": (
        "metering shared stats spec grid explaining yardstick records interventions thumbnails "
        "scoring evaluation"
    ),
    "many": (
        "loading stacking workers tasks local keeper errand reach cluster exporting intact store "
        "tables runner frozen"
    ),
    "their checks": ("linear_task network_task promises metric_tasks soundness checks"),
    "tables": (
        "writing controls intervals leaderboard pairs significance profiles breakdown accord "
        "estimators trust detection shortcuts variance errorsplit overview manifest beforehand "
        "findings page gallery report provenance differences compare payload diagrams charts html "
        "comparison palette rankplots curveplots plots latex results suite_union merge vetting submit"
    ),
    "the terminal": ("listing scaffold screen terminal finished reading running cli"),
}
ORDER = " ".join(LAYERS.values()).split()
FOLDERS = ("benchmarks", *PLUGINS)
FILES = sorted(p for d in FOLDERS for p in (ROOT / d).glob("*.py") if p.name != "__init__.py")
FORBIDDEN = {"utils", "helpers", "common", "base", "misc", "tools"}


def named(path):
    return f"{path.parent.name}/{path.name}"


def imports(path):
    """Every (level, dotted name) that the module at `path` imports, anywhere in its body."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is None:
            yield from ((node.level, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_imports_point_down(path):
    own = "PLUGINS" if path.parent.name in PLUGINS else path.stem
    for level, name in imports(path):
        head, _, rest = name.partition(".")
        if level == 0:
            assert head not in (*FOLDERS, "assay"), f"{path.name}: import {name} relatively"
            continue
        layer = (rest if head == "benchmarks" else head).partition(".")[0]
        layer = "PLUGINS" if layer in PLUGINS else layer
        assert ORDER.index(layer) < ORDER.index(own), f"{own} must not import {layer}: above or beside it"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_modules_are_short_and_have_a_name_that_says_something(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    assert path.stem not in FORBIDDEN


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name in PLUGINS], ids=named)
def test_a_plugin_file_has_one_public_function_named_like_it(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    assert public == [path.stem]


@pytest.mark.parametrize("path", FILES, ids=named)
def test_only_the_terminal_writes_to_the_terminal(path):
    calls = [n.func for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    assert not any(isinstance(f, ast.Name) and f.id == "print" for f in calls)
    if path.name not in {"cli.py", "terminal.py", "screen.py"}:
        assert not any(name.startswith("rich") for _, name in imports(path))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_annotations_are_not_strings(path):
    assert "from __future__ import annotations" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    ["evaluation", "scoring", "explaining", "yardstick", "runner", "leaderboard", "trust", "compare"],
)
def test_only_stats_averages_scores(name):
    """Rows become numbers in one place; pandas' groupby means of finished columns are not rows."""
    text = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
    assert not re.search(r"np\.(nan)?mean|\.nanmean\(|numpy\(\)\.mean", text)


def test_wheel_lists_every_package_and_its_data():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = [p.parent.relative_to(ROOT).parts for d in FOLDERS for p in (ROOT / d).rglob("__init__.py")]
    assert sorted(setup["packages"]) == sorted(".".join(("assay", *parts)) for parts in found)
    for package, patterns in setup["package-data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:]) if package != "*" else ROOT / "benchmarks"
        assert all(list(folder.glob(pattern)) for pattern in patterns), package


def test_constraints_pin_every_dependency_within_its_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {re.sub(r"[-_.]+", "-", line.split("==")[0].lower()) for line in lines if "==" in line}
    lacking = {re.split(r"[<>=\[]", w)[0] for w in wanted} - pins
    assert not {name for name in lacking if name.lower().replace("_", "-") not in pins}


def test_no_path_of_a_machine_and_no_foreign_name_is_in_the_tree():
    for path in [*FILES, ROOT / "Makefile", *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/work/|/root/|/home/|\.library|shared/(?:design|reference)", text), path.name


def python(*arguments, path, cwd=ROOT):
    """Run Python in a process of its own, with `path` before what is installed."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_a_library_that_imports_datasets_still_gets_its_own(tmp_path):
    """The folder datasets/ must not shadow Hugging Face's package of that name."""
    (tmp_path / "datasets.py").write_text("load_dataset = 'theirs'")
    code = "import runpy; runpy.run_path('run_bench.py'); import datasets; print(datasets.load_dataset)"
    found = python("-c", code, path=tmp_path)
    assert found.stdout.strip() == "theirs", found.stderr


def test_importing_our_datasets_flat_says_what_happened(tmp_path):
    found = python("-c", "import datasets", path=tmp_path)
    assert "this is assay.datasets, not Hugging Face's" in found.stderr
