"""Killed at fifty seeded moments, and gone on with each time: the tables are the same to the bit."""

import os
import random
import signal
import time

import pandas as pd
import psutil
import pytest

from assay.benchmarks.chaos.victim import (
    LEDGER,
    Moment,
    assert_resumes,
    assert_sound,
    killed,
    moments,
    rows,
    run,
    start,
    struck,
    tables,
)

SEED = 8
CHAINS, LINKS = 2, 25  # fifty in all


@pytest.mark.parametrize("chain", range(CHAINS))
def test_killed_again_and_again(tmp_path, smoke, chain):
    """Each run but the last is killed; together they lose nothing that one of them has finished."""
    folder, before = tmp_path / "run", 0
    for moment in moments(SEED + chain, LINKS):
        victim = killed(folder, smoke, moment)
        after = assert_sound(folder, smoke)
        assert victim.anew or after >= before
        before = after
    assert_resumes(folder, smoke)


@pytest.mark.xfail(strict=True, reason="a model that was gone on with tells the times of its last cells only")
def test_times_of_metrics_survive_a_kill(tmp_path, tiny):
    """Every cell is in the times of its metric, whichever run has computed it."""
    folder = tmp_path / "run"
    killed(folder, tiny, Moment("writes", 30))
    assert_resumes(folder, tiny)
    timed = pd.read_csv(folder / "scoring.csv")["cells"].sum()
    assert timed == sum(len(tiny.rows[name]) for name in ("scores", "agreement"))


def test_the_first_process_alone_is_killed(tmp_path, small):
    """Its workers notice, and none of them is left."""
    folder = tmp_path / "run"
    for amount in (0.02, 0.2, 0.5):
        moment = Moment("journal", amount)
        victim = struck(folder, small, moment, lambda v: v.strike(signal.SIGKILL, alone=True))
        assert victim.end() == -signal.SIGKILL
        assert victim.said == ""
        assert_sound(folder, small)
    assert_resumes(folder, small)


@pytest.mark.parametrize("seed", range(2))
def test_a_worker_alone_is_killed(tmp_path, small, seed):
    """It costs what it was at; the next run tries that again."""
    folder, rng = tmp_path / "run", random.Random(seed)
    moment = Moment("journal", rng.uniform(0.01, 0.3))
    victim = struck(folder, small, moment, lambda v: os.kill(rng.choice(v.workers()), signal.SIGKILL))
    assert victim.end() == 0, victim.said
    assert victim.said == ""
    found = rows(folder)
    cells = {name: found[name] for name in ("scores", "agreement")}
    wrong = [row for name in cells for key, row in cells[name].items() if row != small.rows[name][key]]
    assert all("failed" in row and any("worker process died" in str(v) for v in row) for row in wrong)
    assert {name: set(keys) for name, keys in cells.items()} == {
        name: set(small.rows[name]) for name in cells
    }
    assert_resumes(folder, small)


def test_the_fork_server_alone_is_killed(tmp_path, tiny):
    """What workers are started from is started again where it is needed."""
    folder = tmp_path / "run"

    def strike(victim):
        victim.workers()
        below = psutil.Process(victim.process.pid).children()
        next(p for p in below if "forkserver" in " ".join(p.cmdline())).kill()

    struck(folder, tiny, Moment("journal", 0.02), strike).end()
    run(folder, tiny.words)
    assert_resumes(folder, tiny)


def test_a_run_that_was_suspended_goes_on(tmp_path, small):
    """As when a laptop is closed: all of it, and its first process or a worker alone."""
    folder = tmp_path / "run"
    victim = start(folder, small.words)
    assert victim.at(Moment("journal", 0.02), small.seconds)
    workers = victim.workers()
    for pids in ([victim.process.pid, *workers], [victim.process.pid], workers[:1]):
        for how in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                os.kill(pid, how)
            time.sleep(0.3)
    assert victim.end() == 0
    assert victim.said == ""
    assert tables(folder) == small.files


def test_fresh_that_was_killed_can_be_given_again(tmp_path, tiny):
    """What it was about to throw away may be there or not; the folder is ours either way."""
    folder = tmp_path / "run"
    run(folder, tiny.words)
    for moment in (Moment(LEDGER, 0), Moment("elapsed", 0.5), Moment("writes", 40), Moment("scores.csv", 0)):
        victim = start(folder, [*tiny.words, "--fresh"])
        assert victim.at(moment, tiny.seconds)
        victim.kill()
        assert_sound(folder, tiny)
    assert_resumes(folder, tiny)
