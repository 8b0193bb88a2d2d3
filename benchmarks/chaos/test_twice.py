"""Two runs on one folder: one of them refuses in one line, the other is not disturbed."""

import os
import signal
import subprocess
import time

import pytest

from assay.benchmarks.chaos.victim import (
    COMMAND,
    Moment,
    assert_one_line,
    assert_resumes,
    assert_sound,
    start,
    tables,
)

TRIES = 3


def test_all_others_refuse_and_the_first_is_undisturbed(tmp_path, small):
    """They start together while it computes; it is suspended soon after, so as not to end before them."""
    folder = tmp_path / "run"
    first = start(folder, small.words)
    assert first.at(Moment("manifest.json", 0), small.seconds)
    runs = [start(folder, [*small.words, *words]) for words in ((), ("--fresh",))]
    reports = [
        subprocess.Popen([*COMMAND, *words, str(folder)], stderr=subprocess.PIPE, text=True)
        for words in (["report"], ["report", "--html"])
    ]
    assert first.at(Moment("journal", 0.05), small.seconds)
    os.kill(first.process.pid, signal.SIGSTOP)
    for second in runs:
        assert_one_line(second, 2, "another run is using this folder")
    for report in reports:
        _, said = report.communicate(timeout=120)
        assert (report.returncode, said.count("\n")) == (2, 1), said
    os.kill(first.process.pid, signal.SIGCONT)
    assert first.end() == 0
    assert first.said == ""
    assert tables(folder) == small.files
    assert_resumes(folder, small)


@pytest.mark.parametrize("attempt", range(TRIES))
def test_of_two_that_start_together_one_wins(tmp_path, tiny, attempt):
    folder = tmp_path / "run"
    pair = [start(folder, tiny.words)]
    time.sleep(attempt * 0.006)
    pair.append(start(folder, tiny.words))
    while all(victim.process.poll() is None for victim in pair):
        time.sleep(0.005)
    ended = next(victim for victim in pair if victim.process.poll() is not None)
    other = next(victim for victim in pair if victim is not ended)
    assert_one_line(ended, 2, "another run is using this folder")
    if attempt:
        assert other.at(Moment("journal", 0.02), tiny.seconds), other.said
        other.kill()
        assert_sound(folder, tiny)
        return
    assert other.end() == 0, other.said
    assert tables(folder) == tiny.files
