"""Two runs on one folder: one of them refuses in one line, the other is not disturbed."""

import subprocess
import time

import pytest

from assay.benchmarks.chaos.victim import (
    COMMAND,
    Moment,
    assert_one_line,
    assert_resumes,
    assert_sound,
    run,
    start,
    tables,
)

TRIES = 8


@pytest.mark.parametrize("words", [(), ("--fresh",)], ids=["same", "fresh"])
def test_the_second_refuses_and_the_first_is_undisturbed(tmp_path, small, words):
    folder = tmp_path / "run"
    first = start(folder, small.words)
    assert first.at(Moment("manifest.json", 0), small.seconds)
    assert_one_line(run(folder, [*small.words, *words]), 2, "another run is using this folder")
    assert first.end() == 0
    assert first.said == ""
    assert tables(folder) == small.files


@pytest.mark.parametrize("attempt", range(TRIES))
def test_of_two_that_start_together_one_wins(tmp_path, tiny, attempt):
    folder = tmp_path / "run"
    pair = [start(folder, tiny.words)]
    time.sleep(attempt % 5 * 0.004)
    pair.append(start(folder, tiny.words))
    while all(victim.process.poll() is None for victim in pair):
        time.sleep(0.005)
    ended = next(victim for victim in pair if victim.process.poll() is not None)
    other = next(victim for victim in pair if victim is not ended)
    assert_one_line(ended, 2, "another run is using this folder")
    if attempt % 5:
        assert other.at(Moment("journal", 0.02), tiny.seconds), other.said
        other.kill()
        assert_sound(folder, tiny)
        return
    assert other.end() == 0, other.said
    assert tables(folder) == tiny.files


@pytest.mark.parametrize("kind", [["report"], ["report", "--html"]], ids=" ".join)
def test_a_report_beside_a_run(tmp_path, small, kind):
    folder = tmp_path / "run"
    first = start(folder, small.words)
    assert first.at(Moment("journal", 0.05), small.seconds)
    done = subprocess.run(
        [*COMMAND, *kind, str(folder)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert first.end() == 0
    assert first.said == ""
    assert tables(folder) == small.files
    assert_resumes(folder, small)
