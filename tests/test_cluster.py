"""The same numbers from a cluster, whatever becomes of its workers: a real scheduler, two real workers."""

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from assay.benchmarks import cluster, grid, keeper, loading, local, reach, runner, tasks
from assay.benchmarks.reach import Waits
from assay.benchmarks.registry import AssayError, load_file
from assay.benchmarks.store import Ledger
from assay.benchmarks.suite import Block, Suite
from assay.benchmarks.workers import NONE

distributed = pytest.importorskip(
    "distributed", reason="dask is not installed: pip install 'assay-xai[cluster]'"
)

PROBLEM = "symbolic[function=[7,9],columns=5,rows=500,explained=10]"
TABLES = ("scores.csv", "agreement.csv", "models.csv", "problems.csv")
PLUGINS = """
import multiprocessing
import os

import psutil
import torch

from assay.benchmarks.plugin import dataset, method
from assay.datasets.symbolic import symbolic


@method(paper="none")
def shipped(case, /):
    return (case.x * case.output(case.x)[:, None]).double()


@method(paper="none")
def leaves(case, /):
    os._exit(3)


@dataset(paper="none", noise=())
def slays(rng, /):
    '''Ends the Dask worker: the parent of the keeper, which is this process's.'''
    os.kill(psutil.Process(multiprocessing.parent_process().pid).ppid(), 9)
    return symbolic(rng)
"""


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """Address of a scheduler with two workers, `plain` and `gifted`, each of one process under a nanny."""
    folder = tmp_path_factory.mktemp("cluster")
    file = folder / "scheduler.json"
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    quiet = {"cwd": folder, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-P", "-m", "dask"]
    words = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file]
    started = [subprocess.Popen([*dask, *words], **quiet)]
    words = ["worker", "--scheduler-file", file, "--nthreads", "1", "--no-dashboard", "--memory-limit", "0"]
    for more in (["--name", "plain"], ["--name", "gifted", "--resources", "GPU=1"]):
        started.append(subprocess.Popen([*dask, *words, *more], **quiet))
    while not file.exists():
        assert started[0].poll() is None
        time.sleep(0.05)
    yield f"file:{file}"
    for process in reversed(started):
        process.terminate()
    for process in started:
        process.wait()


@pytest.fixture
def client(scheduler):
    with distributed.Client(scheduler_file=scheduler.removeprefix("file:"), set_as_default=False) as found:
        found.wait_for_workers(2)
        yield found


def plan_of(dataset=(PROBLEM,), model=("mlp", "oracle"), method=("random", "saliency"), seeds=2):
    loading.load_plugins()
    metric = ["auroc", "spearman"]
    block = Block(dataset=list(dataset), model=list(model), method=list(method), metric=metric)
    return grid.plan(Suite(name="few", seeds=seeds, grid=[block]))


def tables(folder, plan, source):
    """Write what a source of records gives, as a run does; the tables, and the rows of scores."""
    ledger = Ledger(folder)
    try:
        ledger.set_plan(runner.planned_rows(plan))
        for record in source(tasks.missing(plan, ledger.done())):
            if record.row:
                ledger.write(record.table, record.key, record.row)
        ledger.export()
    finally:
        ledger.close()
    return {name: (folder / name).read_bytes() for name in TABLES}


def rows_of(folder, columns):
    ledger = sqlite3.connect(folder / "ledger.sqlite")
    found = ledger.execute(f"SELECT {columns} FROM scores").fetchall()
    ledger.close()
    return found


@pytest.fixture(scope="module")
def at_home(tmp_path_factory):
    plan = plan_of()
    return tables(tmp_path_factory.mktemp("home"), plan, lambda left: local.records(left, 1))


def keepers():
    """All processes that compute for a Dask worker on this machine, and theirs."""
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        if keeper.__name__ in (process.info["cmdline"] or ()):
            found |= {process, *children(process)}
    return found


def children(process):
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def all_gone(processes):
    """Wait until none is left; hangs, and fails by that, if one goes on."""
    psutil.wait_procs(processes, timeout=30)
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


# ---- the same table -------------------------------------------------------------------------------------


def test_two_workers_write_what_one_process_writes_even_if_one_is_killed(
    tmp_path, at_home, scheduler, client
):
    plan = plan_of()
    killed, orphans, keys = [], set(), []

    def murderous(left):
        pids = client.run(os.getpid)
        for record in cluster.records(left, scheduler):
            keys.extend([record.key] if record.table == "scores" else [])
            if record.row and not killed:
                killed.append(max(pids.values()))
                orphans.update(children(psutil.Process(killed[0])))
                os.kill(killed[0], signal.SIGKILL)
            yield record

    assert tables(tmp_path / "run", plan, murderous) == at_home
    assert orphans
    assert all_gone(orphans)
    assert sorted(keys) == sorted(c.key for cells in plan.values() for c in cells if c.other is None)
    assert {status for (status,) in rows_of(tmp_path / "run", "status")} <= {"ok", "trivial", "unlearned"}


def test_workers_of_our_own_and_a_cache_give_the_same_and_train_once(tmp_path, at_home, monkeypatch, recwarn):
    monkeypatch.setenv(cluster.CACHE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    submitted = []
    submit = distributed.Client.submit

    def noting(self, function, *given, **named):
        submitted.append(function.__name__)
        return submit(self, function, *given, **named)

    monkeypatch.setattr(distributed.Client, "submit", noting)
    plan = plan_of()
    assert tables(tmp_path / "run", plan, lambda left: cluster.records(left, "local:2")) == at_home
    networks = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.network")}
    assert len(networks) == 4  # a perceptron for two functions and two seeds
    assert submitted.count("train") == submitted.count("explain") == len(plan)
    assert all_gone(keepers())


# ---- plug-ins -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugins") / "of_mine.py"
    path.write_text(PLUGINS)
    load_file(path)
    return path


def test_a_plugin_file_is_shipped_and_one_that_leaves_costs_its_own_cells(
    tmp_path, plugins, scheduler, client, monkeypatch
):
    dataset, methods = ["symbolic[function=7,rows=500,explained=10]"], ["random", "shipped", "leaves"]
    plan = plan_of(dataset, ["oracle"], methods, seeds=1)
    home = tables(tmp_path / "home", plan, lambda left: local.records(left, 1, [plugins]))
    packed = cluster.packed

    def gone_afterwards(left, files, limits):
        kit = packed(left, files, limits)
        plugins.rename(tmp_path / "elsewhere.py")
        return kit

    monkeypatch.setattr(cluster, "packed", gone_afterwards)
    try:
        away = tables(tmp_path / "away", plan, lambda left: cluster.records(left, scheduler, [plugins]))
    finally:
        (tmp_path / "elsewhere.py").rename(plugins)
    assert away == home
    found = {row[0]: row[1:] for row in rows_of(tmp_path / "away", "method, status, reason, version")}
    assert found["shipped"][0] == found["random"][0] == "ok"
    assert found["shipped"][2] == f"1/1/{loading.REGISTRIES['method']['shipped'].version}/1"
    assert found["leaves"][0] == "failed"
    assert "exit code 3" in found["leaves"][1]


def test_a_unit_that_kills_its_workers_is_given_up_and_the_others_are_not(
    tmp_path, plugins, scheduler, client
):
    datasets = ["slays", "symbolic[function=7,rows=500,explained=10]"]
    plan = plan_of(datasets, ["oracle"], ["random"], seeds=1)
    source = list(cluster.records(tasks.missing(plan, set()), scheduler, [plugins]))
    found = {r.row["dataset"]: r.row for r in source if r.table == "scores"}
    assert found["symbolic"]["status"] == "ok"
    assert found["slays"]["status"] == "failed"
    assert found["slays"]["reason"].startswith("its Dask worker died 2 times")
    client.wait_for_workers(2)


# ---- where it runs --------------------------------------------------------------------------------------


def test_who_asks_for_a_gpu_is_where_there_is_one(scheduler, client, monkeypatch):
    monkeypatch.setenv(cluster.DEVICE, "cuda")
    monkeypatch.setattr(cluster, "laid_out", lambda dataset, seed: dataset.name == "suppressor")
    plan = plan_of(["suppressor", "symbolic[function=7,rows=500,explained=10]"], ["oracle"], ["random"], 3)
    words = [r.key for r in cluster.records(tasks.missing(plan, set()), scheduler) if not r.row]
    asking = [word for word in words if word.startswith("suppressor")]
    assert len(words) == 6
    assert len(asking) == 3
    assert all(word.endswith("on gifted") for word in asking)
    assert any(word.endswith("on plain") for word in words)


def test_rows_and_pictures_are_told_apart_and_what_cannot_be_drawn_may_be_either():
    loading.load_plugins()
    rows, pictures = (
        grid.expand("dataset", [text])[0]
        for text in ("suppressor", "vision[train=20,explained=2,side=16,size=8]")
    )
    assert not cluster.laid_out(rows, 0)
    assert cluster.laid_out(pictures, 0)
    assert cluster.laid_out(grid.expand("dataset", ["chaosmining_vision"])[0], 0)


# ---- what goes wrong ------------------------------------------------------------------------------------


def test_other_versions_are_refused_before_anything_is_sent(scheduler, client, monkeypatch):
    ours = keeper.versions() | {"numpy": "1.0.0"}
    monkeypatch.setattr(keeper, "versions", lambda: ours)
    monkeypatch.setattr(cluster.Run, "_submit", pytest.fail)
    left = tasks.missing(plan_of(), set())
    with pytest.raises(AssayError, match=r"versions of numpy differ, 1\.0\.0 here and .* on worker tcp://"):
        list(cluster.records(left, scheduler))


def test_what_the_user_did_wrong_arrives_as_the_same_sentence(tmp_path, scheduler, client):
    (tmp_path / "table.csv").write_text("a,b\n" + "1,2\n2,1\n" * 50)
    plan = plan_of([f'tabular[csv="{tmp_path}/table.csv",target="c"]'], ["oracle"], ["random"], 1)
    left = tasks.missing(plan, set())
    said = []
    for source in (local.records(left, 1), cluster.records(left, scheduler)):
        with pytest.raises(AssayError) as error:
            list(source)
        said.append(str(error.value))
    assert said[0] == said[1]
    assert all_gone(keepers())


def test_nothing_goes_on_when_the_caller_stops_early(scheduler, client):
    source = cluster.records(tasks.missing(plan_of(), set()), scheduler)
    next(source)
    assert keepers()
    source.close()
    assert all_gone(keepers())
    assert not any(client.processing().values())


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("somewhere", "--cluster cannot be 'somewhere'; give dask://HOST:PORT"),
        ("dask://host", "--cluster cannot be 'dask://host'"),
        ("dask://host:99999", "has port 99999; give one from 1 to 65535"),
        ("local:0", "give local:N with N from 1"),
        ("file:nowhere.json", "scheduler file 'nowhere.json' is not there"),
        ("nowhere.json", "scheduler file 'nowhere.json' is not there"),
        ("tcp://127.0.0.1:9", "no Dask scheduler answers at 'tcp://127.0.0.1:9' within 0.5 seconds"),
        ("broken.json", "scheduler file 'broken.json' tells no address"),
    ],
)
def test_a_wrong_address_is_told(tmp_path, monkeypatch, address, says):
    monkeypatch.chdir(tmp_path)
    Path("broken.json").write_text("{")
    with pytest.raises(AssayError) as error, reach.connected(address, Waits(scheduler=0.5)):
        pass
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_without_dask_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(AssayError, match=r"pip install 'assay-xai\[cluster\]'"), reach.connected("local:1"):
        pass


# ---- the window, without a network ----------------------------------------------------------------------


class Landed:
    """A future that is done at once."""

    def __init__(self, key, outcome):
        self.key = key
        self.outcome = outcome

    def add_done_callback(self, call):
        call(self)

    def result(self, timeout):
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


class Scheduler:
    """What a run asks of a client."""

    status = "running"

    def __init__(self, threads):
        self.threads = threads
        self.aloft = self.most = self.asked = 0
        self.outcome = ("records", pickle.dumps([])), "somewhere"

    def scheduler_info(self, n_workers):
        worker = {"nthreads": self.threads, "resources": {}}
        return {"workers": {"tcp://somewhere:1": worker} if self.threads else {}}

    def run(self, function, *given, on_error):
        return {}

    def cancel(self, futures, force):
        self.asked += 1

    def submit(self, function, *given, key, **named):
        self.aloft += 1
        self.most = max(self.most, self.aloft)
        return Landed(key, self.outcome)


def a_run(client, waits=reach.WAITS):
    left = tasks.missing(plan_of(["symbolic[function=7]"], ["oracle"], ["random"], 40), set())
    return cluster.Run(client, cluster.packed(left, [], NONE), waits), left


def test_no_more_is_in_flight_than_there_are_threads_and_those_that_join_are_used(monkeypatch):
    monkeypatch.setattr(cluster, "LOOK", 0.0)
    client = Scheduler(threads=3)
    run, left = a_run(client)
    landed = 0
    for record in run.records(left):
        landed += not record.row
        client.aloft -= 1
        assert len(run.flying) <= client.threads
        if landed == 20:
            assert client.most == 3
            client.threads = 7
    assert landed == len(left) == 40
    assert client.most == 7


def test_a_cluster_without_workers_is_waited_for_and_then_given_up():
    run, left = a_run(Scheduler(threads=0), Waits(workers=0.2))
    with pytest.raises(AssayError, match=r"no worker has been at the scheduler for 0\.2 seconds"):
        list(run.records(left))


def test_workers_that_all_leave_end_the_run_and_what_is_finished_is_kept(monkeypatch):
    monkeypatch.setattr(cluster, "LOOK", 0.0)
    client = Scheduler(threads=2)
    run, left = a_run(client, Waits(workers=0.2))
    found = []

    def leaving():
        for record in run.records(left):
            found.append(record)
            client.threads = 0

    with pytest.raises(AssayError, match="what is finished is kept"):
        leaving()
    assert 1 <= len(found) < 40
    assert client.asked == 1  # what was in flight is taken back


def test_a_scheduler_that_goes_away_is_told():
    client = Scheduler(threads=2)
    client.outcome = distributed.CancelledError("scheduler-connection-lost")
    run, left = a_run(client)
    with pytest.raises(AssayError, match="the Dask scheduler is gone"):
        list(run.records(left))


def test_a_unit_whose_keeper_dies_time_and_again_has_a_reason():
    client = Scheduler(threads=2)
    client.outcome = RuntimeError("the process that computed the unit for its Dask worker died")
    run, left = a_run(client)
    rows = [record.row for record in run.records(left[:1])]
    assert [row["status"] for row in rows] == ["failed"] * len(left[0].cells)
    assert rows[0]["reason"] == str(client.outcome)


def test_two_files_of_one_name_do_not_take_each_others_place(tmp_path):
    found = keeper.unpacked([("/a/mine.py", b"1"), ("/b/mine.py", b"2")], tmp_path)
    assert [path.read_bytes() for path in found] == [b"1", b"2"]
    assert [path.name for path in found] == ["mine.py"] * 2
    assert list(found.values()) == ["/a/mine.py", "/b/mine.py"]
