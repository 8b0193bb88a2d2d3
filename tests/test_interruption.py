"""A run that is stopped, killed or out of room says so in one line, leaves nothing behind, and goes on later.

The long versions, at many more moments, are in benchmarks/chaos (`make chaos`).
"""

import os
import resource
import signal
from pathlib import Path

import pytest

from assay.benchmarks.chaos.victim import (
    TINY,
    Moment,
    assert_one_line,
    assert_resumes,
    assert_sound,
    run,
    start,
    whole,
)

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="processes are found in /proc"
)
AT_WORK = Moment("journal", 0.04)  # past the plan, among the cells


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return whole(tmp_path_factory.mktemp("whole") / "run", TINY)


def test_beset_by_a_second_run_then_stopped_then_killed_it_ends_with_the_same_bytes(tmp_path, undisturbed):
    folder = tmp_path / "run"
    first = start(folder, TINY)
    assert first.at(AT_WORK, undisturbed.seconds)
    os.kill(first.workers()[0], signal.SIGSTOP)  # it cannot end by itself, and must not be waited for
    first.strike(signal.SIGSTOP, alone=True)  # holds the ledger as long as it takes
    assert_one_line(run(folder, TINY), 2, "another run is using this folder")
    first.strike(signal.SIGCONT, alone=True)
    first.strike(signal.SIGTERM, alone=True)
    assert_one_line(first, 143, "stopped; what is finished is kept")
    stopped = assert_sound(folder, undisturbed)

    second = start(folder, TINY)
    second.workers()
    second.strike(signal.SIGKILL, alone=True)
    assert second.end() == -signal.SIGKILL  # and its workers are gone
    assert second.said == ""
    assert assert_sound(folder, undisturbed) >= stopped
    assert_resumes(folder, undisturbed)


def test_a_file_that_may_not_grow_is_told_in_one_line(tmp_path, undisturbed):
    """As a full disk, for which a test would have to be root."""
    limits = (300_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    victim = run(tmp_path / "run", TINY, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))
    assert_one_line(victim, 2, "cannot be written", "make room")
    assert_sound(tmp_path / "run", undisturbed)


def test_ctrl_c_while_workers_import_is_no_traceback(tmp_path):
    """Of nobody: the fork server and its children are not in the terminal's ear."""
    victim = start(tmp_path / "run", TINY)
    assert victim.at(Moment("ledger.sqlite", 0), 0.0)
    victim.strike(signal.SIGINT)
    assert_one_line(victim, 130, "stopped")
