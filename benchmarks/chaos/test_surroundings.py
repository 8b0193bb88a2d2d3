"""Clocks that jump, other languages, odd paths, closed streams: the tables are the same to the bit."""

import os
import subprocess

import pandas as pd
import pytest

from assay.benchmarks.chaos.victim import COMMAND, assert_one_line, environment, run, tables

# put in front of every process by PYTHONPATH; the jumps differ from call to call, and are not random
JUMPING = """
import itertools, time
DAY = 86400.0
jumps = itertools.cycle([0.0, 3 * DAY, -5 * DAY, 0.5, -0.5, 400 * DAY])
real, real_ns, gmtime = time.time, time.time_ns, time.gmtime
time.time = lambda: real() + next(jumps)
time.time_ns = lambda: real_ns() + int(next(jumps) * 1e9)
"""
STANDING = "import time\ntime.perf_counter = lambda: 17.0\ntime.perf_counter_ns = lambda: 17_000_000_000\n"
COARSE = "import time\ncounter = time.perf_counter\ntime.perf_counter = lambda: float(int(counter()))\n"
LEAPING = """
import itertools, time
real = time.perf_counter
steps = itertools.count()
time.perf_counter = lambda: real() + 86400.0 * next(steps)
"""
CLOCKS = {"jumping, coarse": JUMPING + COARSE, "standing": STANDING, "leaping": LEAPING}
# each of them several at once: a start costs more than what is told apart
ELSEWHERE = {
    "east": {
        "TZ": "Pacific/Kiritimati",
        "LANG": "tr_TR.UTF-8",
        "LC_ALL": "tr_TR.UTF-8",
        "PYTHONHASHSEED": "1",
        "COLUMNS": "20",
        "TERM": "dumb",
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "4"),
    },
    "bare": {
        **{"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        **dict.fromkeys(("HOME", "USER", "XDG_CACHE_HOME", "MPLCONFIGDIR", "OMP_NUM_THREADS")),
        **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), "/nonexistent/folder"),  # nothing of a run is kept there
        **{"PYTHONHASHSEED": "4294967295", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
    },
}
PLACES = {
    "quotes": 'a b  c/it\'s "quoted" `so` 100%?#&;$HOME <b> [red]x',
    "letters": "[red]x[/red] [/nothing]/two\nlines Größe-日本語-🎲",
    "dash": "d" * 200 + "/--fresh",
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_clocks(tmp_path, tiny, clock):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CLOCKS[clock])
    path = os.pathsep.join(filter(None, (str(tmp_path / "site"), os.environ.get("PYTHONPATH"))))
    folder = tmp_path / "run"
    victim = run(folder, tiny.words, env=environment(PYTHONPATH=path))
    assert (victim.process.returncode, victim.said) == (0, "")
    assert tables(folder) == tiny.files
    for name in ("costs", "scoring"):
        frame = pd.read_csv(folder / f"{name}.csv")
        timed = frame.filter(like="seconds")
        assert len(timed)
        assert (timed >= 0).all(axis=None), timed.min()


@pytest.mark.parametrize("where", ELSEWHERE)
def test_environments(tmp_path, tiny, where):
    folder = tmp_path / "run"
    victim = run(folder, tiny.words, env=environment(**ELSEWHERE[where]))
    assert (victim.process.returncode, victim.said) == (0, "")
    assert tables(folder) == tiny.files


@pytest.mark.parametrize("place", PLACES)
def test_places(tmp_path, tiny, place):
    """The folder is named in full, so that no name looks like an option; started from another folder."""
    folder = tmp_path / PLACES[place]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    victim = run(folder, tiny.words, cwd=elsewhere)
    assert (victim.process.returncode, victim.said) == (0, "")
    assert tables(folder) == tiny.files
    assert list(elsewhere.iterdir()) == []


def test_a_name_that_is_too_long_is_refused(tmp_path, tiny):
    assert_one_line(run(tmp_path / ("n" * 300), tiny.words), 2, "cannot be read or written", "another path")


def test_a_path_that_is_too_long_is_refused(tmp_path, tiny):
    """SQLite takes no more than 512 bytes."""
    deep = tmp_path.joinpath(*["d" * 200] * 3)
    assert_one_line(run(deep, tiny.words), 2, "cannot be opened", "--out")


@pytest.mark.parametrize("closed", [(0,), (0, 1), (2,), (0, 1, 2)], ids=str)
def test_closed_streams(tmp_path, tiny, closed):
    """As some schedulers start programs; the first file that is opened must not take their place."""
    folder = tmp_path / "run"
    victim = run(folder, tiny.words, preexec_fn=lambda: [os.close(number) for number in closed])
    assert victim.process.returncode == 0
    assert "Traceback" not in victim.said
    assert tables(folder) == tiny.files


@pytest.mark.parametrize("words", [("list",), ("--help",), ("run",)], ids=" ".join)
def test_nobody_reads_the_output(tmp_path, tiny, words):
    """Into `head -1`: it may stop, and says nothing of it."""
    folder = tmp_path / "run"
    words = (*tiny.words, "--out", str(folder)) if words == ("run",) else words
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() in {0, 1, 141}
    assert said == ""
    if folder.exists():
        victim = run(folder, tiny.words)
        assert victim.process.returncode == 0, victim.said
        assert tables(folder) == tiny.files
