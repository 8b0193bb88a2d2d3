"""`list` reads what plug-in files declare; the oracle is what importing them registers."""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from assay.benchmarks import declared, listing, loading
from assay.benchmarks.registry import REGISTRIES, AssayError, Registry, UnknownPluginError
from assay.benchmarks.sources import Sources, Unreadable
from assay.benchmarks.suite import Block, Suite

loading.load_plugins()
KINDS = ("dataset", "model", "method", "metric")
ROOT = Path(declared.CONTRACT).parent.parent
FILES = [
    pytest.param(kind, file, id=f"{kind}-{file.stem}")
    for kind in KINDS
    for file in sorted((ROOT / f"{kind}s").glob("*.py"))
    if file.name != "__init__.py"
]
HEAVY = {"torch", "numpy", "pandas", "scipy", "sklearn", "captum", "shap", "matplotlib", "altair", "skimage"}


@pytest.fixture(scope="module")
def sources():
    return Sources()


@pytest.mark.parametrize(("kind", "file"), FILES)
def test_a_file_declares_what_importing_it_registers(kind, file, sources):
    registry = REGISTRIES[kind]
    try:
        plugin = registry[file.stem]
    except UnknownPluginError:
        with pytest.raises(ModuleNotFoundError) as missing:
            declared.read(kind, file, sources)
        assert f"needs {missing.value.name}, which is not installed" in registry.unavailable[file.stem]
        return
    found = declared.read(kind, file, sources)
    assert found.facts == plugin.facts
    assert repr(found.facts) == repr({key: plugin.facts[key] for key in found.facts})  # 1 is not 1.0 here
    assert repr(found.defaults) == repr(plugin.defaults)
    for name in ("kind", "name", "summary", "version", "paper"):
        assert getattr(found, name) == getattr(plugin, name)
    assert listing._plugin(found) == listing._plugin(plugin)


# ---- a package of its own, in which anything can be written ----------------------------------------------

CONSTANTS = '''
"""Values that others import."""

import math
from dataclasses import dataclass
from math import inf as endless
from typing import Final

SIX = 6
LEAST: Final = -2.5
BOUND: Final[float] = -endless
AGAIN = 1
AGAIN = 2
if SIX:
    HIDDEN = 3


@dataclass(frozen=True)
class Recipe:
    epochs: int
    decay: float = 0.5


RECIPE = Recipe(epochs=SIX)
SUM = SIX + 1
'''
METHOD = '''
"""A method."""

import math
from typing import Annotated

from assay.benchmarks.plugin import Case, Samples, method
from ..engine.constants import AGAIN, BOUND, HIDDEN, LEAST, RECIPE, SIX, SUM
from ..engine.constants import SIX as HALF_A_DOZEN

@method({declaration})
def mine(case: Case, *, {parameters}) -> Samples:
    """First line.

    Second line.
    """
    import a_library_that_is_needed_only_when_it_runs
    return case.x
'''
PAPER = 'paper="https://arxiv.org/abs/1605.01713"'


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that writes methods/mine.py and gives a registry of its package, and the file."""
    name = f"house_{abs(hash(str(tmp_path)))}"
    root = tmp_path / name
    for folder in ("", "engine", "methods"):
        (root / folder).mkdir()
        (root / folder / "__init__.py").write_text("")
    (root / "engine" / "constants.py").write_text(CONSTANTS)
    monkeypatch.syspath_prepend(tmp_path)
    fresh = Registry("method")
    monkeypatch.setitem(REGISTRIES, "method", fresh)
    monkeypatch.setattr("assay.benchmarks.plugin.METHODS", fresh)

    def write(text):
        (root / "methods" / "mine.py").write_text(text)
        importlib.invalidate_caches()
        fresh.discover(importlib.import_module(f"{name}.methods"))
        return fresh, root / "methods" / "mine.py"

    yield write
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[module]


def method(declaration=PAPER, parameters="factor: float = 1.0"):
    return METHOD.replace("{declaration}", declaration).replace("{parameters}", parameters)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("1", True),
        ("1.0", True),
        ("-1", True),
        ("True", True),
        ("None", True),
        ("'text'", True),
        ("(1, 'two', None)", True),
        ("math.inf", True),
        ("-math.pi", True),
        ("float('inf')", True),
        ("-float('inf')", True),
        ("SIX", True),
        ("HALF_A_DOZEN", True),
        ("LEAST", True),
        ("-LEAST", True),
        ("BOUND", True),
        ("RECIPE.epochs", True),
        ("RECIPE.decay", False),  # the default of a field: not told by the call
        ("AGAIN", False),
        ("HIDDEN", False),
        ("SUM", False),
        ("max(1, 2)", False),
    ],
)
def test_a_default_is_what_it_would_be_or_is_left_to_the_import(package, text, plain):
    registry, file = package(method(parameters=f"size: object = {text}"))
    if plain:
        found = declared.read("method", file, Sources())
        assert repr(found.defaults) == repr(registry["mine"].defaults)
    else:
        with pytest.raises(Unreadable):
            declared.read("method", file, Sources())
    assert listing.entries("methods") == [listing._plugin(registry["mine"])]


def listed_and_imported(registry):
    """The one entry, read from the text, and after importing; the text must have been enough."""
    (read,) = listing.entries("methods")
    assert not registry._plugins
    assert not registry.unavailable
    list(registry)  # imports
    (imported,) = listing.entries("methods")
    return read, imported


@pytest.mark.parametrize(
    "declaration",
    [
        PAPER,
        f"{PAPER}, version=3",
        f"{PAPER}, needs='gradient', estimand='shapley', value='marginal'",
        f"{PAPER}, needs=('gradient', 'layers'), promises=('complete', 'dummy'), signed=False, control=True",
    ],
)
def test_what_is_not_declared_is_what_the_contract_says(package, declaration):
    read, imported = listed_and_imported(package(method(declaration))[0])
    assert read == imported
    assert read["available"]
    assert read["summary"] == "First line."


WRONG = {
    "no Python": "def mine(:\n",
    "a null byte": "x = '\0'\n",
    "a library that is not there": "import torch\nimport no_such_library.part\n" + method(),
    "one that a class needs": "import json\nfrom no_such_library import Thing\n" + method(),
    "a library that a file of ours needs": "from ..engine import needy\n" + method(),
    "one that its import needs": "from ..engine.indirect import thing\n" + method(),
    "a file of ours that is no Python": "from ..engine.broken import thing\n" + method(),
}


@pytest.mark.parametrize("case", WRONG)
def test_why_it_is_not_available_is_told_as_the_import_tells_it(package, case, tmp_path):
    registry, file = package(WRONG[case])
    engine = file.parent.parent / "engine"
    (engine / "needy.py").write_text("import no_such_library\n")
    (engine / "indirect.py").write_text("from .needy import thing\n")
    (engine / "broken.py").write_text("thing = = 1\n")
    read, imported = listed_and_imported(registry)
    assert read == imported
    assert not read["available"]


UNCLEAR = {
    "a name that is not there": "from ..engine.constants import NOTHING\n" + method(),
    "a module of ours that is not there": "from ..engine.nothing import x\n" + method(),
    "a module of a library that is not there": "import email.nothing\n" + method(),
    "an optional library": "try:\n    import no_such_library\nexcept ImportError:\n    pass\n" + method(),
    "a word too many": method(f"{PAPER}, colour='red'"),
    "a word too few": method("version=1"),
    "two decorators": method().replace("@method", "@(lambda f: f)\n@method"),
    "another name": method().replace("def mine", "def yours"),
    "no plug-in": "x = 1\n",
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_what_the_text_does_not_tell_is_imported(package, case):
    registry, file = package(UNCLEAR[case])
    with pytest.raises(Unreadable):
        declared.read("method", file, Sources())
    found = listing.entries("methods")
    list(registry)
    assert found == listing.entries("methods")
    assert [row["name"] for row in found] == sorted({*registry.versions(), *registry.unavailable})


def test_an_unknown_word_is_told(package):
    _, file = package(method(f"{PAPER}, needs='gradiant'"))
    with pytest.raises(AssayError, match=r"needs cannot be 'gradiant'\. Did you mean 'gradient'"):
        declared.read("method", file, Sources())
    (row,) = listing.entries("methods")
    assert row["summary"].startswith(
        "unavailable: cannot be imported (AssayError: needs cannot be 'gradiant'."
    )


def test_every_edit_of_a_file_without_a_version_is_a_new_one(package):
    _, file = package(method())
    first = declared.read("method", file, Sources()).version
    file.write_text(method() + "\n")
    assert declared.read("method", file, Sources()).version != first


def test_a_library_that_is_missing_is_missing_to_all_that_need_it(monkeypatch):
    """Captum, hidden: the methods that import it, and those that import what imports it, and no others."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "captum" else find(name))
    files = {file.stem: file for file in (ROOT / "methods").glob("*.py")}
    for name in ("captum_lime", "saliency"):
        with pytest.raises(ModuleNotFoundError) as missing:
            declared.read("method", files[name], Sources())
        assert missing.value.name == "captum"
    assert declared.read("method", files["constant"], Sources()).name == "constant"


def test_a_name_is_refused_without_importing_anything(tmp_path):
    def suite(**lists):
        return Suite(grid=[Block(**lists)])

    loading.insist_on_names(suite(method=["saliency", "lime[budget=[4,8]]", "all"]))
    with pytest.raises(AssayError, match=r"no method is called 'salency'\. Did you mean 'saliency'"):
        loading.insist_on_names(suite(method=["salency[x=1]"]))
    with pytest.raises(AssayError, match=r"cannot read 'mlp\['"):
        loading.insist_on_names(suite(model=["mlp["]))
    (tmp_path / "mine.py").write_text("")
    loading.insist_on_names(suite(method=["perhaps_mine"]), [tmp_path / "mine.py"])
    with pytest.raises(AssayError, match="not there"):
        loading.insist_on_names(suite(), [tmp_path / "none.py"])


# ---- what a process has imported when it has answered ------------------------------------------------------

ASK = """
import sys
from assay.benchmarks import cli
try:
    cli.main()
except SystemExit as stop:
    code = stop.code
print("\\n" + " ".join({m.partition(".")[0] for m in sys.modules}))
sys.exit(code)
"""


def ask(folder, *words):
    """The exit code, the output and errors, and the libraries that were imported."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", ASK, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    out, _, modules = done.stdout.rstrip().rpartition("\n")
    return done.returncode, out, done.stderr, set(modules.split())


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--help", 0),
        ("run --help", 0),
        ("list --help", 0),
        ("check --help", 0),
        ("report --help", 0),
        ("list", 0),
        ("list methods --json", 0),
        ("list nothing", 2),
        ("runn", 2),
        ("run --sedes 3", 2),
        ("run --jobs -1", 2),
        ("run no_such_suite", 2),
    ],
)
def test_an_answer_that_needs_no_library_imports_none(tmp_path, words, code):
    found, out, err, modules = ask(tmp_path, *words.split())
    assert found == code, err
    assert out if code == 0 else err.startswith("error: ")
    assert "typer" in modules
    assert not HEAVY & modules


def test_an_installed_package_is_imported_to_be_listed_and_our_files_are_not(tmp_path):
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[assay.methods]\nfrom_outside = outside_package:mine\n")
    text = (
        method()
        .replace("from ..engine", "from fractions import Fraction  #")
        .replace("mine(", "from_outside(")
    )
    (tmp_path / "outside_package.py").write_text(textwrap.dedent(text) + "\nmine = from_outside\n")
    run = "import sys; sys.path.insert(0, '.')\n" + ASK
    done = subprocess.run(
        [sys.executable, "-P", "-c", run, "list", "methods", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    out, _, modules = done.stdout.rstrip().rpartition("\n")
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["from_outside"]["summary"] == "First line."
    assert rows["saliency"]["available"]
    assert "torch" in modules.split()
    assert "captum" not in modules.split()
