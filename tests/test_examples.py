"""The example package, installed as a user would, into an environment of its own."""

import json
import os
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "docs" / "examples" / "leave_one_in"


def run(*words, cwd, **changes):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | changes
    found = subprocess.run(
        list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An environment with the example in it, that sees what this one has installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    (packages,) = folder.glob("lib/python*/site-packages")
    ours = [p for p in site.getsitepackages() if Path(p).is_dir()]
    # addsitedir and not a plain path: the packages' own .pth files count too, as that of an editable install
    (packages / "ours.pth").write_text("".join(f"import site; site.addsitedir({p!r})\n" for p in ours))
    source = folder / "leave_one_in"
    source.mkdir()
    for file in EXAMPLE.iterdir():
        if file.is_file():  # a copy: building leaves folders behind
            (source / file.name).write_bytes(file.read_bytes())
    options = ["--quiet", "--no-deps", "--disable-pip-version-check", "--target", packages]
    run(sys.executable, "-m", "pip", "install", *options, source, cwd=folder)
    return folder / "bin" / "python"


def test_it_appears_in_the_list(python, tmp_path):
    listed = json.loads(run(python, "-m", "assay.benchmarks.cli", "list", "methods", "--json", cwd=tmp_path))
    (mine,) = [row for row in listed if row["name"] == "leave_one_in"]
    assert mine["available"]
    assert mine["summary"] == "What the output gains when one unit alone is present."
    assert mine["promises"] == ["dummy", "linearity"]


def test_it_satisfies_the_checks_and_appears_in_a_run(python, tmp_path):
    run(python, "-m", "assay.benchmarks.cli", "check", "leave_one_in", cwd=tmp_path)
    lists = {
        "--dataset": "symbolic[function=6,columns=5,rows=500,explained=10]",
        "--model": "oracle",
        "--metric": "auroc",
    }
    words = [word for pair in lists.items() for word in pair] + [
        "--method",
        "leave_one_in",
        "--method",
        "random",
    ]
    out = run(
        *(python, "-m", "assay.benchmarks.cli", "run", "smoke", *words, "--seeds", "1", "--jobs", "1"),
        *("--out", tmp_path / "out"),
        cwd=tmp_path,
        COLUMNS="200",
    )
    assert "leave_one_in" in out
    scores = (tmp_path / "out" / "scores.csv").read_text()
    assert ",leave_one_in,auroc," in scores
    assert ",ok," in scores
