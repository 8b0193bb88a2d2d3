"""Records from worker processes: in order, to the last one, whatever becomes of the worker."""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest

from assay.benchmarks import local, workers
from assay.benchmarks.grid import Cell, Unit
from assay.benchmarks.records import Record, cost_key
from assay.benchmarks.registry import AssayError
from assay.benchmarks.spec import Setting
from assay.benchmarks.tasks import Progress, Task, missing
from assay.benchmarks.workers import Limits, Pool, WorkerDied

# What the workers do; a module of its own, because a worker imports it by name.
WORK = '''
import os
import signal
import threading
import time
from pathlib import Path

from assay.benchmarks.records import Record, cost_key
from assay.benchmarks.registry import AssayError

PREPARED = []
SURVIVED = Path(__file__).with_name("survived")


def prepare():
    PREPARED.append(os.getpid())


def refuse():
    raise AssayError("cannot prepare; do something else.")


def work(task):
    """What to do is the text before the colon, how often the number behind it."""
    deed, _, count = task.strip().partition(":")
    for i in range(int(count or 0)):
        yield i
    if deed == "pid":
        yield os.getpid()
    if deed == "prepared":
        yield list(PREPARED)
    if deed == "exit":
        os._exit(3)
    if deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "wrong":
        raise AssayError("that column is not in the file; name another.")
    if deed == "bug":
        raise KeyError("a bug of ours")
    if deed == "wait":
        yield os.getpid()
        time.sleep(5)
        SURVIVED.touch()  # nobody ended it
    if deed == "hang":
        yield os.getpid()
        time.sleep(1000)
    if deed == "slow":  # together longer than the limit, and never from one record to the next
        for i in range(4):
            time.sleep(0.3)
            yield i
    if deed == "eat":
        yield os.getpid()
        hoard = [b"x" * 10_000_000 for _ in range(60)]
        time.sleep(1000)
    if deed == "feed":  # a child eats
        yield os.getpid()
        if os.fork() == 0:
            hoard = [b"x" * 10_000_000 for _ in range(60)]
            time.sleep(1000)
        time.sleep(1000)
    if deed == "fork":  # the child stays, with its end of the pipe; then the parent dies
        child = os.fork()
        if child == 0:
            time.sleep(1000)
        yield child
        os._exit(4)
    if deed == "kill between":  # after the task is done, and before the next one comes
        yield os.getpid()
        threading.Timer(0.1, os._exit, (9,)).start()
    if deed == "kill in record":  # larger than the pipe, so that the rest waits for a reader
        yield os.getpid()
        threading.Timer(0.6, os._exit, (9,)).start()
        yield b"x" * 50_000_000
'''


@pytest.fixture(scope="module")
def deeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    (folder / "assay_test_deeds.py").write_text(WORK)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("assay_test_deeds")
    sys.path.remove(str(folder))


@pytest.fixture(autouse=True)
def light(monkeypatch):
    monkeypatch.setattr(workers, "PRELOAD", [])  # these workers need no torch


def first(waiting, last, busy):
    return waiting[0]


def pool(deeds, jobs=2, choose=first, prepare="prepare"):
    return Pool(deeds.work, getattr(deeds, prepare), jobs, choose)


def outcomes(pool, tasks):
    """Task -> its records, a death as the text of it."""
    found = {}
    for task, record in pool.run(list(tasks)):
        found.setdefault(task, []).append(str(record) if isinstance(record, WorkerDied) else record)
    return found


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for_the_end_of(pid):
    while not is_gone(pid):
        time.sleep(0.01)


# ---- records --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_every_record_of_every_task_arrives_in_the_order_of_its_task(deeds, jobs):
    tasks = ["a:100", "b:3", "c:0", "d:7"]
    found = outcomes(pool(deeds, jobs), tasks)
    assert found == {"a:100": [*range(100)], "b:3": [0, 1, 2], "d:7": [*range(7)]}


def test_no_task_needs_no_worker(deeds):
    assert list(pool(deeds).run([])) == []


def test_tasks_are_taken_out_of_the_list_and_what_is_added_on_the_way_is_done(deeds):
    waiting = ["a:1"]
    found = []
    for task, _ in pool(deeds, 1).run(waiting):
        found.append(task)
        if task == "a:1":
            waiting.append("b:1")
    assert found == ["a:1", "b:1"]
    assert waiting == []


def test_the_caller_chooses_knowing_what_each_worker_did_and_what_others_are_at(deeds):
    seen = []

    def choose(waiting, last, busy):
        seen.append((tuple(waiting), last, tuple(busy)))
        return waiting[-1]

    assert list(outcomes(pool(deeds, 1, choose), ["a:1", "b:1", "c:1"])) == ["c:1", "b:1", "a:1"]
    assert seen == [
        (("a:1", "b:1", "c:1"), None, ()),
        (("a:1", "b:1"), "c:1", ()),
        (("a:1",), "b:1", ()),
    ]


def test_a_worker_is_prepared_once_whatever_the_number_of_its_tasks(deeds):
    found = outcomes(pool(deeds, 1), ["prepared", "pid", "prepared "])
    assert found["prepared"] == [found["pid"]]


# ---- deaths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("deed", "code"), [("exit:2", 3), ("kill:2", -9)])
def test_a_death_is_reported_after_the_records_before_it_and_the_others_finish(deeds, deed, code):
    found = outcomes(pool(deeds), ["a:5", deed, "b:5", "c:5"])
    assert found[deed] == [0, 1, f"worker process died (exit code {code})"]
    assert [found[task] for task in ("a:5", "b:5", "c:5")] == [[0, 1, 2, 3, 4]] * 3


def test_every_worker_may_die(deeds):
    found = outcomes(pool(deeds), ["exit:1", "kill:1", "exit:0", "kill:0", "a:1"])
    assert found.pop("a:1") == [0]
    ends = {
        "exit:1": 2,
        "kill:1": 2,
        "exit:0": 1,
        "kill:0": 1,
    }  # records of each, in whichever order they end
    assert {task: len(records) for task, records in found.items()} == ends
    assert all("died" in records[-1] for records in found.values())


def test_a_bug_in_the_work_is_a_death_and_not_silence(deeds):
    found = outcomes(pool(deeds), ["bug:1", "a:1"])
    assert found == {"bug:1": [0, "worker process died (exit code 1)"], "a:1": [0]}


def test_what_is_left_of_a_dead_task_can_be_given_back(deeds):
    waiting, found = ["exit:1"], []
    for task, record in pool(deeds).run(waiting):
        found.append((task, isinstance(record, WorkerDied)))
        if isinstance(record, WorkerDied):
            waiting.append("rest:1")
    assert found == [("exit:1", False), ("exit:1", True), ("rest:1", False)]


def test_a_death_between_two_tasks_costs_neither(deeds):
    """As when the kernel is short of memory and ends a worker that has just finished."""
    pids = []

    def choose(waiting, last, busy):
        if pids:
            wait_for_the_end_of(pids[0])
        return waiting[0]

    found = {}
    for task, record in pool(deeds, 1, choose).run(["kill between", "a:3"]):
        found.setdefault(task, []).append(record)
        if task == "kill between":
            pids.append(record)
    assert found["a:3"] == [0, 1, 2]


def test_a_death_in_the_middle_of_a_record_is_a_death(deeds):
    found = {}
    for task, record in pool(deeds, 1).run(["kill in record", "a:3"]):
        found.setdefault(task, []).append(record)
        if found["kill in record"] == [record]:
            wait_for_the_end_of(record)  # nobody reads while the worker writes
    assert isinstance(found["kill in record"][1], WorkerDied)
    assert found["a:3"] == [0, 1, 2]


# ---- limits ---------------------------------------------------------------------------------------------


def limited(deeds, limits):
    return Pool(deeds.work, deeds.prepare, 2, first, limits)


def test_a_worker_that_takes_longer_than_it_may_is_ended_and_the_others_finish(deeds):
    found = outcomes(limited(deeds, Limits(timeout=1.0)), ["hang", "a:3", "slow:0", "b:2"])
    pid, why = found["hang"]
    assert is_gone(pid)
    assert why == "worker process was ended: it took longer than the 1 s of --timeout"
    assert [found[task] for task in ("a:3", "slow:0", "b:2")] == [[0, 1, 2], [0, 1, 2, 3], [0, 1]]


@pytest.mark.parametrize("deed", ["eat", "feed"])
def test_a_worker_that_holds_more_than_it_may_is_ended_with_its_children(deeds, deed):
    found = outcomes(limited(deeds, Limits(memory=400_000_000)), [deed, "a:3"])
    pid, why = found[deed]
    assert is_gone(pid)
    assert "worker process was ended: it held 0." in why
    assert "more than the 0.40 GB of --memory" in why
    assert found["a:3"] == [0, 1, 2]


def test_a_child_that_a_dead_worker_leaves_behind_neither_stops_the_run_nor_stays(deeds):
    found = outcomes(pool(deeds), ["fork", "a:3"])
    child, why = found["fork"]
    assert why == "worker process died (exit code 4)"
    assert found["a:3"] == [0, 1, 2]
    wait_for_the_end_of(child)


def test_workers_leave_when_the_parent_is_killed(deeds, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import assay_test_deeds as deeds\n"
        "from assay.benchmarks import workers\n"
        "workers.PRELOAD = []\n"
        "pool = workers.Pool(deeds.work, deeds.prepare, 2, lambda w, last, busy: w[0])\n"
        "for task, pid in pool.run(['hang', 'hang ']): print(pid, flush=True)\n"
    )
    file = tmp_path / "parent.py"
    file.write_text("if __name__ == '__main__':\n" + "".join(f"    {x}\n" for x in code.splitlines()))
    command = [sys.executable, "-P", str(file), str(Path(deeds.__file__).parent)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    pids = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.communicate()
    for pid in pids:
        wait_for_the_end_of(pid)


# ---- errors and ends ------------------------------------------------------------------------------------


def test_what_the_user_did_wrong_reaches_the_user_and_ends_the_others(deeds):
    pids = []
    records = pool(deeds).run(["wait", "wrong:1"])
    with pytest.raises(AssayError, match="that column is not in the file; name another"):
        pids.extend(record for task, record in records if task == "wait")
    assert all(is_gone(pid) for pid in pids)
    assert not deeds.SURVIVED.exists()


def test_a_worker_that_has_the_same_to_say_when_nobody_listens_is_silent():
    """Two workers may meet one error; the parent hangs up after the first."""
    ours, theirs = multiprocessing.Pipe()

    def refuse():
        ours.close()
        raise AssayError("cannot be had; do something else.")

    workers._serve(theirs, iter, refuse)  # raises nothing


def test_what_is_wrong_before_the_first_task_reaches_the_user(deeds):
    with pytest.raises(AssayError, match="cannot prepare"):
        outcomes(pool(deeds, prepare="refuse"), ["a:1", "b:1"])


def test_no_process_is_left_after_the_end(deeds):
    found = outcomes(pool(deeds), ["pid", "pid ", "exit", "pid  "])
    pids = {record for task, (record,) in found.items() if task != "exit"}
    assert pids
    assert all(is_gone(pid) for pid in pids)


def test_no_process_is_left_when_the_caller_stops_early(deeds):
    records = pool(deeds).run(["wait", "wait "])
    pids = [next(records)[1], next(records)[1]]
    assert not any(is_gone(pid) for pid in pids)
    records.close()
    assert all(is_gone(pid) for pid in pids)
    assert not deeds.SURVIVED.exists()


# ---- what a death costs ---------------------------------------------------------------------------------


def plain(name):
    return Setting(name, (), "1", name)


UNIT = Unit(plain("data"), plain("net"), 0)
A, B, C = (plain(name) for name in "abc")
SINGLE = [Cell(UNIT, m, plain("hits")) for m in (A, B, C)]
PAIRS = [Cell(UNIT, m, plain("same"), other) for m, other in ((A, B), (A, C), (B, C))]
TASK = Task(UNIT, (*SINGLE, *PAIRS))


def progress(*done, method="", trained=True, mapped=()):
    """What was heard of a task whose worker then died."""
    heard = Progress(TASK, {cell.key for cell in done})
    if trained:
        heard.hear(Record("models", UNIT.key, {"rows": 1}))
    for m in mapped:
        heard.hear(Record("costs", cost_key(UNIT, m), {"seconds": 1}))
    heard.hear(Record("", "at it", method=method))
    return heard


def test_a_death_before_the_model_is_there_costs_the_unit():
    assert progress(trained=False).lost() == [*SINGLE, *PAIRS]


def test_a_method_whose_map_was_not_made_loses_its_cells_its_pairs_among_them():
    assert progress(method="b").lost() == [SINGLE[1], PAIRS[0], PAIRS[2]]
    assert progress(SINGLE[0], method="b", mapped=[A]).lost() == [SINGLE[1], PAIRS[0], PAIRS[2]]


def test_once_the_map_is_made_a_death_is_the_metric_s_and_costs_one_cell():
    assert progress(method="a", mapped=[A]).lost() == [SINGLE[0]]


def test_at_the_pairs_a_death_costs_one_pair():
    done = [*SINGLE, PAIRS[0]]
    assert progress(*done, mapped=[A, B, C]).lost() == [PAIRS[1]]


def test_a_death_that_is_nobody_s_doing_costs_all_that_is_left():
    """As while the trained model was looked at; a second try would die again."""
    assert progress(SINGLE[0]).lost() == [*SINGLE[1:], *PAIRS]


def test_a_death_with_everything_finished_costs_nothing():
    assert progress(*TASK.cells, method="b").lost() == []


def test_every_cell_is_asked_for_until_it_is_there_or_has_killed(monkeypatch):
    """A metric that kills on one method is asked of the next; what others have finished is not lost."""

    class Fake:
        def __init__(self, *_):
            pass

        def run(self, waiting):
            while waiting:
                task = waiting.pop(0)
                tries.append(len(task.cells))
                yield task, Record("models", UNIT.key, {"rows": 1})
                for cell in task.cells:
                    yield task, Record("", "", method="" if cell.other else cell.method.text)
                    yield task, Record("costs", cost_key(UNIT, cell.method), {"seconds": 1})
                    if cell.metric.name == "same":
                        yield task, WorkerDied("killed")
                        break
                    yield task, Record("scores", cell.key, {"status": "ok"})

    def failed(cell, why):
        return Record("agreement", cell.key, {"status": why})

    tries = []
    monkeypatch.setattr(local, "Pool", Fake)
    monkeypatch.setattr(local, "failed", failed)
    found = {r.key: r.row["status"] for r in local.records([TASK], 1) if "status" in r.row}
    assert found == {c.key: "ok" for c in SINGLE} | {c.key: "killed" for c in PAIRS}
    assert tries == [6, 2, 1]


def test_a_death_after_the_last_cell_costs_nothing(monkeypatch):
    class Fake:
        def __init__(self, *_):
            pass

        def run(self, waiting):
            task = waiting.pop(0)
            yield task, Record("models", UNIT.key, {"rows": 1})
            yield from ((task, Record("scores", cell.key, {"status": "ok"})) for cell in task.cells)
            yield task, Record("", "", method="")
            yield task, WorkerDied("killed")

    monkeypatch.setattr(local, "Pool", Fake)
    assert [r.row["status"] for r in local.records([TASK], 1) if "status" in r.row] == ["ok"] * 6


def test_only_what_is_not_done_is_missing():
    other = Unit(plain("data"), plain("net"), 1)
    cells = [Cell(other, m, plain("hits")) for m in (A, B)]
    plan = {UNIT: SINGLE, other: cells}
    assert missing(plan, set()) == [Task(UNIT, tuple(SINGLE)), Task(other, tuple(cells))]
    assert missing(plan, {c.key for c in SINGLE} | {cells[0].key}) == [Task(other, (cells[1],))]


@pytest.mark.parametrize("when", ["after the first is started", "before the second is started"])
def test_a_signal_while_workers_are_started_leaves_none_behind(deeds, monkeypatch, when):
    """One that nobody ended would be waited for when the program ends, for ever if it is suspended."""
    begun = pool(deeds)
    start = workers.context().Process.start

    def interrupted(process):
        if when == "before the second is started" and len(begun.workers) == 1:
            return start(process)
        if when == "after the first is started":
            start(process)
        os.kill(begun.workers[0].process.pid, signal.SIGSTOP)
        raise KeyboardInterrupt

    monkeypatch.setattr(workers.context().Process, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(begun.run(["hang", "hang"]))
    first = begun.workers[0].process
    assert first.exitcode == -signal.SIGKILL
    assert first not in multiprocessing.active_children()


def test_a_worker_whose_number_a_signal_kept_from_us_does_not_stay(deeds, monkeypatch):
    """It is suspended as soon as it is there, and the signal comes before the server has said who it is."""
    list(pool(deeds).run(["pid"]))
    server = psutil.Process(forkserver._forkserver._forkserver_pid)
    assert not server.children()

    def interrupted(_):
        while not (found := server.children()):
            time.sleep(0.001)
        found[0].suspend()
        raise KeyboardInterrupt

    monkeypatch.setattr(forkserver, "read_signed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(pool(deeds).run(["hang"]))
    assert psutil.wait_procs(server.children(), timeout=5)[1] == []


ASK = """
import os, socket
from multiprocessing import forkserver, reduction
from assay.benchmarks import workers

workers.PRELOAD = []
workers.warm_up([])
client = socket.socket(socket.AF_UNIX)
client.connect(forkserver._forkserver._forkserver_address)
if {sent}:  # what the worker is made of is on its way, and stops in the middle
    theirs, ours = os.pipe()
    answers, theirs_too = os.pipe()
    alive, tracker = os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)
    reduction.sendfds(client, [theirs, theirs_too, alive, tracker])
    os.write(ours, {sent})
    os.close(ours)
client.close()
if {sent}:
    forkserver.read_signed(answers)  # the worker's number
    forkserver.read_signed(answers)  # how it ended
else:
    os.waitpid(forkserver._forkserver._forkserver_pid, 0)
"""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="asks without the key of Python 3.14's fork server")
@pytest.mark.parametrize("sent", [b"", b"\x80\x05\x95\x10"], ids=["before", "within"])
def test_a_client_that_is_gone_while_it_asks_for_a_worker_leaves_no_traceback(sent):
    """As one that is killed; this one hangs up, so that the fork server is sure to notice that first."""
    command = [sys.executable, "-P", "-c", ASK.format(sent=sent)]
    asked = subprocess.run(command, stderr=subprocess.PIPE, timeout=60)
    assert (asked.returncode, asked.stderr) == (0, b"")
