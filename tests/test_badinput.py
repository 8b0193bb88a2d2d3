"""Malformed input of every kind: exit code 2, one line that says what is wrong, and no file touched.

The files are in badinput/, and its README says what each kind is.  Everything runs in this process.
"""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.benchmarks import cli, formula, manifest, spec
from assay.benchmarks.evaluation import draw
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import DATASETS
from assay.benchmarks.registry import AssayError
from assay.benchmarks.store import FILE, Ledger
from assay.benchmarks.suite import load_suite
from assay.benchmarks.tables import read_table

BAD = Path(__file__).parent / "badinput"
TINY = [
    "--model",
    "oracle",
    "--method",
    "random",
    "--method",
    "saliency",
    "--metric",
    "auroc",
    "--seeds",
    "1",
]
HERE = ["--jobs", "0"]
PROBLEM = "symbolic[function=3,columns=2,rows=60,explained=2]"
load_plugins()


def files(kind, pattern="*"):
    """The files of one kind, each as a case with its name."""
    found = sorted((BAD / kind).glob(pattern))
    assert found
    return [pytest.param(path, id=path.name) for path in found]


def texts(name):
    """The texts of a list, each as a case."""
    lines = [json.loads(line) for line in (BAD / name).read_text(encoding="utf-8").splitlines()]
    found = [x if isinstance(x, str) else x[0] + x[1] * x[2] + x[3] for x in lines]
    return [pytest.param(text, id=f"{i}-{ascii(text)[1:30]}") for i, text in enumerate(found)]


def tree(folder):
    """Every name under a folder, with what it holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kept = path.is_file() and not path.is_symlink()
        found[str(path.relative_to(folder))] = path.read_bytes() if kept else None
    return found


@pytest.fixture
def assay(monkeypatch, capsys, tmp_path):
    """Run a command in this process, from an empty folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        draw.cache_clear()  # a process of its own would not know the folder of the test before
        monkeypatch.setattr(sys, "argv", ["assay", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call


@pytest.fixture
def refused(assay, tmp_path):
    """Run a command, and see that it is refused as it should be; the line that it says."""

    def call(*words):
        before = tree(tmp_path)
        code, out, err = assay(*words)
        assert code == 2, (code, out[-500:], err)
        assert len(err.splitlines()) == 1, err
        assert err.endswith("\n")
        assert err.startswith("error: ")
        assert err.strip().endswith((".", "Try --help."))
        assert len(err) < 2_000
        assert all(c.isprintable() for c in err[:-1]), ascii(err)
        assert "Traceback" not in out
        assert tree(tmp_path) == before
        return err

    return call


# ---- suites, settings, formulas -------------------------------------------------------------------------


@pytest.mark.parametrize("path", files("suites"))
def test_suites(refused, tmp_path, path):
    shutil.copy(path, tmp_path)
    said = refused("run", path.name, *HERE)
    if path.name.startswith("unknown_") and "escaped" not in path.name:
        lines = path.read_text(encoding="utf-8").split("\n")
        place = next(i for i, line in enumerate(lines, 1) if f"line {i}: " in said)
        assert said.split(": ")[2].split(".")[-1] in lines[place - 1]


@pytest.mark.parametrize("name", ["", ".toml", "\0.toml", "x" * 300 + ".toml", "../x.toml", "a\nb.toml"])
def test_names_of_suites(refused, name):
    refused("run", name, *HERE)


def test_suite_files_that_are_no_files(refused, tmp_path):
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    for name in ("folder", "pipe", "loop", "zero"):
        refused("run", f"{name}.toml", *HERE)
    (tmp_path / "large.toml").write_text("#" * 1_000_001)
    assert "1,000,000" in refused("run", "large.toml", *HERE)


@pytest.mark.parametrize("text", texts("settings.txt"))
def test_settings(refused, text):
    refused("run", "smoke", "--dataset", text, *TINY, *HERE)


@pytest.mark.parametrize("kind", ["model", "method", "metric"])
@pytest.mark.parametrize("text", ["no[", "<b>", "../x", "x\0", "random[x=1]", "oracle[x=1]", "auroc[x=1]"])
def test_settings_of_other_kinds(refused, kind, text):
    refused("run", "smoke", f"--{kind}", text, *HERE)


@pytest.mark.parametrize("text", texts("formulas.txt"))
def test_formulas(refused, text):
    quote = "'" if '"' in text else '"'
    refused("run", "smoke", "--dataset", f"symbolic[formula={quote}{text}{quote}]", *TINY, *HERE)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--seeds", text) for text in ("0", "-1", "x", "1.5", "1e3", "nan", "10000000", "9" * 400, "")),
        *(("--first-seed", text) for text in ("-1", "x", "9007199254740993")),
        *(("--jobs", text) for text in ("-1", "x", "1.5")),
        *(("--device", text) for text in ("gpu", "", "cuda:x")),
        *(("--out", text) for text in ("\0", "x" * 300, "a_file", "a_file/b", "loop", "/dev/null")),
        *(("--plugin", text) for text in ("none.py", ".", "\0.py", "x" * 300 + ".py", "a_file", "loop")),
        *(("--sedes", "3"), ("--a\nb", "3"), ("--\x1b[31m", "3")),
    ],
)
def test_options(refused, tmp_path, option, value):
    (tmp_path / "a_file").write_text("precious")
    (tmp_path / "loop").symlink_to("loop")
    refused("run", "smoke", "--dataset", PROBLEM, *TINY[:-2], *HERE, option, value)


# ---- data -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", files("tables"))
def test_tables(refused, tmp_path, path):
    shutil.copy(path, tmp_path / "mine.csv")
    refused(
        "run", "smoke", "--dataset", "tabular[csv=mine.csv,target=y]", "--model", "linear", *TINY[2:], *HERE
    )


def test_a_wrong_table_leaves_a_finished_run_as_it_was(refused, assay, tmp_path):
    sound = "a,b,y\n" + "".join(f"{i},{i * i % 7},{i * 0.5}\n" for i in range(60))
    words = ["run", "smoke", "--dataset", "tabular[csv=mine.csv,target=y,explained=2]", "--model", "linear"]
    words += [*TINY[2:], *HERE, "--out", "r"]
    (tmp_path / "mine.csv").write_text(sound)
    assert assay(*words)[0] == 0
    (tmp_path / "mine.csv").write_text(sound + "1,2\n")
    assert "line 62" in refused(*words)


def test_tables_that_are_no_files(refused, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    for name in ("folder.csv", "pipe.csv", "loop.csv", "/dev/zero", "/dev/urandom"):
        problem = f"tabular[csv={name},target=y]"
        refused("run", "smoke", "--dataset", problem, "--model", "linear", *TINY[2:], *HERE)


def published(folder, lines, kind="vision"):
    """A small folder as the published ones are; its train rows are these."""
    name, columns = (
        ("p{}.png", "foreground_label,position_x,position_y")
        if kind == "vision"
        else ("p{}.wav", "label,position")
    )
    zeros = ",0" * columns.count(",")
    sound = BAD / ("pictures/sound.png" if kind == "vision" else "sounds/sound.wav")
    for split in ("train", "val"):
        (folder / "RBFP" / split).mkdir(parents=True)
        for i in range(3):
            shutil.copy(sound, folder / "RBFP" / split / name.format(i))
        rows = "".join(f"{name.format(i)},{i % 2}{zeros}\n" for i in range(3))
        (folder / "RBFP" / split / "metadata.csv").write_text(f"file_name,{columns}\n{rows}")
    train = folder / "RBFP" / "train"
    if lines is not None:
        (train / "metadata.csv").write_bytes(lines)
    (train / "link.png").symlink_to("/etc/passwd")
    (train / "loop.png").symlink_to("loop.png")
    os.mkfifo(train / "pipe.png")
    return train


def counts(kind):
    more = ",foreground=4,patch=4" if kind == "vision" else ""
    return f"chaosmining_{kind}[path=data,train=2,validation=1,test=2,explained=1{more}]"


def run_on(kind):
    return ["run", "smoke", "--dataset", counts(kind), "--model", "linear", *TINY[2:], *HERE]


@pytest.mark.parametrize("kind", ["vision", "audio"])
def test_a_sound_folder_is_read(assay, tmp_path, kind):
    """Else all that follows could be refused for another reason."""
    published(tmp_path / "data", None, kind)
    assert assay(*run_on(kind))[0] == 0


@pytest.mark.parametrize("path", files("metadata"))
def test_metadata(refused, tmp_path, path):
    published(tmp_path / "data", path.read_bytes())
    assert "root:" not in refused(*run_on("vision"))


@pytest.mark.parametrize("path", files("pictures", "*.bin"))
def test_pictures(refused, tmp_path, path):
    train = published(tmp_path / "data", None)
    shutil.copy(path, train / "p1.png")
    refused(*run_on("vision"))


@pytest.mark.parametrize("path", files("sounds", "*.bin"))
def test_sounds(refused, tmp_path, path):
    train = published(tmp_path / "data", None, "audio")
    shutil.copy(path, train / "p1.wav")
    refused(*run_on("audio"))


@pytest.mark.parametrize("what", ["folder", "pipe", "loop", "zero", "absent"])
def test_metadata_that_is_no_file(refused, tmp_path, what):
    train = published(tmp_path / "data", None)
    listed = train / "metadata.csv"
    listed.unlink()
    makers = {"folder": listed.mkdir, "pipe": lambda: os.mkfifo(listed)}
    makers |= {
        "loop": lambda: listed.symlink_to("metadata.csv"),
        "zero": lambda: listed.symlink_to("/dev/zero"),
    }
    makers.get(what, lambda: None)()
    refused(*run_on("vision"))


# ---- results --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished tiny run, made once."""
    folder = tmp_path_factory.mktemp("finished") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys, "argv", ["assay", "run", "smoke", "--dataset", PROBLEM, *TINY, *HERE, "--out", str(folder)]
        )
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert stop.value.code == 0
    return folder


@pytest.fixture
def results(finished, tmp_path):
    """A copy of it, for a test to do with as it likes; its command goes on with the same run."""
    shutil.copytree(finished, tmp_path / "a")
    return shutil.copytree(finished, tmp_path / "sound")


RERUN = ["run", "smoke", "--dataset", PROBLEM, *TINY, *HERE, "--out", "a"]
READERS = [
    ["report", "a"],
    ["report", "a", "--html"],
    ["trust", "a"],
    ["compare", "a", "sound"],
    ["compare", "sound", "a"],
]


@pytest.mark.parametrize("path", files("scores"))
def test_scores(refused, results, tmp_path, path):
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").mkdir()
    shutil.copy(path, tmp_path / "a" / ("scores.csv.gz" if path.suffix == ".gz" else "scores.csv"))
    for words in READERS:
        refused(*words)


@pytest.mark.parametrize("table", ["agreement", "models", "costs", "metrics", "reliance", "problems"])
@pytest.mark.parametrize("name", ["bytes.csv", "utf16.csv", "column_twice.csv", "nul.csv", "one_column.csv"])
def test_other_tables(refused, results, tmp_path, table, name):
    (tmp_path / "a" / FILE).unlink()
    shutil.copy(BAD / "scores" / name, tmp_path / "a" / f"{table}.csv")
    refused("report", "a")


@pytest.mark.parametrize("path", files("manifests"))
def test_manifests(refused, results, tmp_path, path):
    shutil.copy(path, tmp_path / "a" / "manifest.json")
    for words in (
        ["submit", "a"],
        ["merge", "a", "sound", "-o", "new"],
        ["merge", "sound", "a", "-o", "new"],
    ):
        refused(*words)
    for words in READERS[:2] + READERS[3:]:
        refused(*words)


@pytest.mark.parametrize("path", files("ledgers"))
def test_ledgers(refused, results, tmp_path, path):
    file = tmp_path / "a" / FILE
    if path.suffix == ".bin":
        shutil.copy(path, file)
    else:
        db = sqlite3.connect(file, isolation_level=None)
        db.executescript(path.read_text(encoding="utf-8"))
        db.execute("PRAGMA journal_mode = DELETE")
        db.close()
    said = [refused("report", "a"), refused("merge", "a", "sound", "-o", "new")]
    if path.stem != "scores_twice":  # which a run does not look at
        said.append(refused(*RERUN))
    assert all("'a" in line for line in said)


@pytest.mark.parametrize("share", [0.03, 0.3, 0.6, 0.9])
def test_a_ledger_that_was_cut(refused, results, tmp_path, share):
    file = tmp_path / "a" / FILE
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    for words in (["report", "a"], ["merge", "a", "sound", "-o", "new"], RERUN):
        refused(*words)


@pytest.mark.parametrize("what", ["folder", "loop", "pipe", "zero"])
def test_a_ledger_that_is_no_file(refused, results, tmp_path, what):
    file = tmp_path / "a" / FILE
    file.unlink()
    makers = {"folder": file.mkdir, "pipe": lambda: os.mkfifo(file)}
    makers |= {"loop": lambda: file.symlink_to(FILE), "zero": lambda: file.symlink_to("/dev/zero")}
    makers[what]()
    refused(*RERUN)
    refused("merge", "a", "sound", "-o", "new")


@pytest.mark.parametrize("words", [["report"], ["trust"], ["submit"], ["compare", "sound"]])
@pytest.mark.parametrize(
    "name", ["", ".", "none", "\0", "a_file", "loop", "/dev/zero", "a\nb", "~nobody_here"]
)
def test_results_that_are_none(refused, results, tmp_path, words, name):
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a_file").write_text("precious")
    (tmp_path / "loop").symlink_to("loop")
    refused(*words, name)


# ---- whatever there is ----------------------------------------------------------------------------------

EXAMPLES = int(os.environ.get("ASSAY_FUZZ_EXAMPLES", "25"))
fuzzed = settings(
    derandomize=EXAMPLES == 25,
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def reading(call):
    """A reader may take an input, or refuse it; any other exception is a defect."""
    with contextlib.suppress(AssayError):
        call()


@fuzzed
@given(st.text(max_size=40) | st.from_regex(r"\A(symbolic|mlp)\[(columns|formula)=[^\]]{0,20}\]?\Z"))
def test_any_text_as_a_setting(text):
    reading(lambda: spec.settings(DATASETS, text))


@fuzzed
@given(st.text(alphabet="ab019.+-*/() ,sinexplog_e", max_size=30) | st.text(max_size=30))
def test_any_text_as_a_formula(text):
    reading(lambda: formula.parse(text))


@fuzzed
@given(st.binary(max_size=200) | st.text(alphabet='[]grid="\n seeds1,{}#', max_size=60).map(str.encode))
def test_any_bytes_as_a_suite(tmp_path, content):
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    reading(lambda: load_suite(str(file)))


@fuzzed
@given(st.binary(max_size=300), st.sampled_from(["scores", "models", "costs"]))
def test_any_bytes_as_a_table(tmp_path, content, name):
    (tmp_path / f"{name}.csv").write_bytes(content)
    reading(lambda: read_table(tmp_path, name))


@fuzzed
@given(VALUES.map(json.dumps).map(str.encode) | st.binary(max_size=100))
def test_any_bytes_as_a_manifest(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    reading(lambda: manifest.read(tmp_path))


@fuzzed
@given(st.integers(0, 40_000), st.binary(min_size=1, max_size=40))
def test_any_bytes_in_a_ledger(finished, tmp_path, place, content):
    good = (finished / FILE).read_bytes()
    place %= len(good)
    folder = tmp_path / "fuzzed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / FILE).write_bytes(good[:place] + content + good[place + len(content) :])
    reading(lambda: Ledger(folder).close())


EVIL = "<script>alert(1)</script>"


def test_a_name_from_a_table_is_shown_and_not_run(assay, finished, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for table in ("scores", "costs"):
            text = (finished / f"{table}.csv").read_text().replace("saliency", EVIL)
            (tmp_path / folder / f"{table}.csv").write_text(text)
    assert assay("report", "a")[0] == 0
    assert assay("report", "a", "--html")[0] == 0
    assert assay("compare", "a", "b")[0] == 0
    for page in ("a/report.html", "b/comparison.html", "a/leaderboard.md", "b/comparison.md"):
        text = (tmp_path / page).read_text()
        assert EVIL not in re.sub(r"`[^`\n]*`", "", text), page  # what is in Markdown's code is shown
        assert "alert(1)" in text, page
