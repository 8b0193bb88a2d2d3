"""Ctrl-C and SIGTERM at any time: one line, the code that says so, nothing left behind, nothing lost."""

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
    run,
    start,
    struck,
)

MOMENTS = [
    *(Moment("elapsed", share) for share in (0.12, 0.25, 0.4)),  # while modules are imported, here and beside
    *(Moment(file, 0) for file in ("ledger.sqlite", "manifest.json")),
    *(Moment("journal", share) for share in (0.001, 0.1, 0.4)),
    *(Moment(file, 0) for file in ("scores.csv", "leaderboard.csv")),
]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.mark.parametrize("how", CODES, ids=lambda how: how.name)
def test_stopped_again_and_again(tmp_path, small, how):
    """By turns all processes are told, as by a terminal, and the first alone, as by a batch system."""
    folder, before = tmp_path / "run", 0
    for i, moment in enumerate(MOMENTS):
        alone = i % 2 == (how == signal.SIGTERM)
        victim = struck(folder, small, moment, lambda v, alone=alone: v.strike(how, alone=alone))
        assert_one_line(victim, CODES[how], "stopped; what is finished is kept")
        after = assert_sound(folder, small)
        assert victim.anew or after >= before
        before = after
    assert_resumes(folder, small)


def test_ctrl_c_twice(tmp_path, small):
    folder = tmp_path / "run"
    for pause in (0.0, 0.05, 0.5):

        def strike(victim, pause=pause):
            victim.strike(signal.SIGINT)
            time.sleep(pause)
            victim.strike(signal.SIGINT)

        victim = struck(folder, small, Moment("journal", 0.1), strike)
        assert_one_line(victim, 130, "stopped")
        assert_sound(folder, small)


def test_stopped_while_a_worker_is_suspended(tmp_path, small):
    """It cannot end by itself, and is not waited for."""
    victim = start(tmp_path / "run", small.words)
    assert victim.at(Moment("journal", 0.02), small.seconds)
    os.kill(victim.workers()[0], signal.SIGSTOP)
    victim.strike(signal.SIGTERM, alone=True)
    assert_one_line(victim, 143, "stopped")


def test_a_report_that_is_stopped_says_so(tmp_path, tiny):
    folder = tmp_path / "run"
    run(folder, tiny.words)
    report = subprocess.Popen([*COMMAND, "report", str(folder), "--html"], stderr=subprocess.PIPE, text=True)
    time.sleep(tiny.seconds / 4)
    report.send_signal(signal.SIGINT)
    _, said = report.communicate()
    assert (report.returncode, said.count("\n")) in {(130, 1), (0, 0)}, said
    assert_sound(folder, tiny)
