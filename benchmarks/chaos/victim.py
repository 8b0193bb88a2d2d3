"""A run of the command line, to be killed, stopped and starved; and what must hold after that."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

COMMAND = (sys.executable, "-P", "-m", "assay.benchmarks.cli")
SMOKE = ("run", "smoke", "--jobs", "2")
TINY = (
    *("run", "smoke", "--jobs", "2", "--model", "linear", "--model", "oracle"),
    *("--dataset", "symbolic[function=7,columns=[0,5],rows=500,explained=20]"),
    *(w for m in ("random", "saliency", "feature_ablation") for w in ("--method", m)),
)
SMALL = (
    *("run", "smoke", "--jobs", "2", "--model", "linear", "--model", "oracle"),
    *("--dataset", "symbolic[function=[7,9],columns=[0,5],rows=500,explained=20]"),
    *(w for m in ("random", "saliency", "feature_ablation", "gradient_shap") for w in ("--method", m)),
)
TABLES = ("scores.csv", "agreement.csv", "models.csv", "problems.csv", "metrics.csv")
LEDGER = "ledger.sqlite"
TIMED = {"costs", "scoring"}  # tables that no two runs have alike
EXPORTED = ("scores.csv", "agreement.csv", "costs.csv", "leaderboard.csv", "leaderboard.md")
MARKS = (LEDGER, "manifest.json", *EXPORTED)
JOURNAL = 4_000_000  # bytes at which SQLite starts its journal again from the front
MOST_WRITES = 300  # a run of `smoke` makes some thousands
LOGS = tempfile.TemporaryDirectory(prefix="assay-chaos-")  # removed when this process ends
PATIENCE = 120.0  # seconds after which what should have come will not


@dataclass(frozen=True)
class Moment:
    """When to strike: after a share of an undisturbed run's time, at a size of the journal, or after a file.

    kind: "elapsed", "journal", "writes", or the file that must be there, and newer than the run.
    amount: of 1 for the whole run or journal; a number of writes to the journal; after a file, seconds.
    """

    kind: str
    amount: float | int


def moments(seed: int, count: int) -> list[Moment]:
    """Moments of runs that go on with one another's work: most while they start and compute, the rest later.

    Those in the export of tables and the report come last, since nothing is left to compute after them.
    """
    rng = random.Random(seed)
    late = count * 3 // 10
    return [_early(rng) for _ in range(count - late)] + [
        Moment(rng.choice(EXPORTED), rng.uniform(0, 0.3)) for _ in range(late)
    ]


def _early(rng: random.Random) -> Moment:
    """One while modules are imported, the ledger is made, or cells are computed and written."""
    kind = rng.choices(("elapsed", "writes", "file"), (55, 35, 10))[0]
    if kind == "elapsed":
        return Moment(kind, rng.uniform(0, 0.5))
    if kind == "writes":
        return Moment(kind, rng.randint(1, MOST_WRITES))
    return Moment(rng.choice((LEDGER, "manifest.json")), rng.uniform(0, 0.05))


@dataclass
class Victim:
    """A run under way, in a session of its own; what it prints goes to files beside its results folder.

    mark: what all its processes have in their environment.
    anew: there was no results folder yet.
    writes: how often its journal was seen to have changed, at `journal`.
    """

    process: "subprocess.Popen[bytes]"
    folder: Path
    mark: str
    out: Path
    err: Path
    anew: bool
    start: float = field(default_factory=time.monotonic)
    stamps: dict[str, int] = field(default_factory=dict)
    writes: int = 0
    journal: int = 0

    def strike(self, how: int = signal.SIGKILL, *, alone: bool = False) -> None:
        """Send a signal to the run's foreground processes, as a terminal does, or to the first alone."""
        with contextlib.suppress(ProcessLookupError):
            (os.kill if alone else os.killpg)(self.process.pid, how)

    def kill(self) -> None:
        """End every process of the run at once, as when the machine goes down."""
        while found := marked(self.mark):
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def workers(self) -> list[int]:
        """Its worker processes, the children of its fork server, as soon as there are any."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                below = psutil.Process(self.process.pid).children(recursive=True)
                servers = {p.pid for p in below if "forkserver" in name_of(p.pid)}
                if found := [p.pid for p in below if p.ppid() in servers]:
                    return found
            time.sleep(0.002)
        raise AssertionError("the run has no workers")

    def at(self, moment: Moment, seconds: float) -> bool:
        """Wait for the moment; False if the run was over before."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            if self._reached(moment, seconds):
                return self.process.poll() is None
            time.sleep(0.001)
        return False

    def _reached(self, moment: Moment, seconds: float) -> bool:
        if moment.kind == "elapsed":
            return time.monotonic() - self.start >= moment.amount * seconds
        if moment.kind == "journal":
            return size(self.folder / f"{LEDGER}-wal") > moment.amount * JOURNAL
        if moment.kind == "writes":
            return self._written() >= moment.amount
        if stamp(self.folder / moment.kind) == self.stamps.get(moment.kind, 0):
            return False
        time.sleep(moment.amount)
        return True

    def _written(self) -> int:
        """Changes of the journal so far; a journal that an earlier run has left counts as one."""
        now = stamp(self.folder / f"{LEDGER}-wal")
        self.writes += now != self.journal
        self.journal = now
        return self.writes

    def end(self) -> int:
        """Wait for its exit code, and for the end of every process that it started."""
        code = self.process.wait(PATIENCE)
        assert not self.survivors(), f"still there: {[name_of(pid) for pid in self.survivors(0.0)]}"
        return code

    def survivors(self, seconds: float = 10.0) -> list[int]:
        """Its processes that are still there after that long."""
        deadline = time.monotonic() + seconds
        while (left := marked(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left

    @property
    def said(self) -> str:
        """What stands on its error stream."""
        return self.err.read_text(encoding="utf-8", errors="replace")


def start(folder: Path, words: Sequence[str] = SMALL, **how: Any) -> Victim:
    """Start a run into `folder`; `how` is handed to Popen."""
    logs = Path(tempfile.mkdtemp(dir=LOGS.name))
    out, err = logs / "out", logs / "err"
    stamps, anew = {name: stamp(folder / name) for name in MARKS}, not stamp(folder)
    with out.open("wb") as first, err.open("wb") as second:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": first, "stderr": second} | how
        command = [*COMMAND, *words, "--out", str(folder)]
        mark = f"ASSAY_CHAOS={uuid.uuid4()}"
        streams["env"] = dict(how.get("env") or os.environ) | {"ASSAY_CHAOS": mark.partition("=")[2]}
        process = subprocess.Popen(command, start_new_session=True, **streams)
    return Victim(process, folder, mark, out, err, anew, stamps=stamps)


def run(folder: Path, words: Sequence[str] = SMALL, **how: Any) -> Victim:
    """A run that ends by itself."""
    victim = start(folder, words, **how)
    victim.end()
    return victim


def environment(**changed: str | None) -> dict[str, str]:
    """This process's environment, with some variables changed, or taken away where None is given."""
    return {k: v for k, v in {**os.environ, **changed}.items() if v is not None}


def size(path: Path) -> int:
    """Bytes of a file; none where it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def stamp(path: Path) -> int:
    """What tells a file from the one that was there before; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def marked(mark: str) -> list[int]:
    """Processes that were started with this in their environment, and have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
    return found


def name_of(pid: int) -> str:
    """The command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200]
    except OSError:
        return str(pid)


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: its tables, its rows, and how long it took."""

    words: tuple[str, ...]
    files: Mapping[str, bytes]
    rows: Mapping[str, Mapping[str, tuple[object, ...]]]
    seconds: float


def whole(folder: Path, words: Sequence[str] = SMALL) -> Whole:
    """What must come out in the end, whatever happens on the way."""
    begin = time.monotonic()
    victim = run(folder, words)
    assert victim.process.returncode == 0, victim.said
    return Whole(tuple(words), tables(folder), rows(folder), time.monotonic() - begin)


def tables(folder: Path) -> dict[str, bytes]:
    """The exported tables that are equal to the bit for a seed."""
    return {name: (folder / name).read_bytes() for name in TABLES if (folder / name).is_file()}


def rows(folder: Path) -> dict[str, dict[str, tuple[object, ...]]]:
    """Rows of the ledger, by table and key, without what a clock said; of a copy, since reading mends it.

    Raises:
        AssertionError: the ledger is damaged.
    """
    if not (folder / LEDGER).is_file():
        return {}
    with tempfile.TemporaryDirectory() as place:
        for file in folder.glob(f"{LEDGER}*"):
            shutil.copy(file, place)
        db = sqlite3.connect(Path(place) / LEDGER)
        try:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            names = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: dict(_rows(db, name)) for name in names if name not in {"plan", "finished"}}
        finally:
            db.close()


def _rows(db: sqlite3.Connection, table: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
    kept = ["key"] if table in TIMED else [c for c in columns if c != "seconds"]
    for key, *values in db.execute(f"SELECT key, {', '.join(kept)} FROM {table}"):
        yield key, tuple(values)


def assert_sound(folder: Path, whole: Whole) -> int:
    """What stands in the folder of a stopped run is complete, as in the undisturbed one; its cells."""
    found = rows(folder)
    for table, content in found.items():
        other = whole.rows[table]
        wrong = [key for key, row in content.items() if other.get(key) != row]
        assert not wrong, f"{len(wrong)} rows of {table} are not those of the undisturbed run: {wrong[:3]}"
    for name, text in tables(folder).items():
        assert text == whole.files[name], f"{name} is neither missing nor whole"
    return sum(len(found.get(table, {})) for table in ("scores", "agreement"))


def assert_resumes(folder: Path, whole: Whole, **how: Any) -> None:
    """The same command given again goes on, and ends with the bytes of the undisturbed run.

    Times of metrics may be missing: see test_times_of_metrics_survive_a_kill.
    """
    victim = run(folder, whole.words, **how)
    assert victim.process.returncode == 0, victim.said
    assert tables(folder) == whole.files
    found, wanted = rows(folder), dict(whole.rows)
    assert found.pop("scoring").keys() <= wanted.pop("scoring").keys()
    assert found == wanted
    assert [p.name for p in folder.iterdir() if p.name.endswith((".half", "-wal", "-shm"))] == []


def assert_one_line(victim: Victim, code: int, *words: str) -> None:
    """It ended with this code and one line on the error stream that has these words."""
    assert victim.end() == code, victim.said
    assert victim.said.count("\n") == 1, victim.said
    assert victim.said.startswith("error: "), victim.said
    for word in words:
        assert word in victim.said, victim.said


def struck(folder: Path, whole: Whole, moment: Moment, strike: Callable[[Victim], None]) -> Victim:
    """A run into `folder` that was struck at this moment.

    One that is over before is whole, and the next begins anew: halfway to the moment, if it did so itself.
    """
    for _ in range(8):
        victim = start(folder, whole.words)
        if victim.at(moment, whole.seconds):
            strike(victim)
            return victim
        assert victim.end() == 0, victim.said
        assert tables(folder) == whole.files
        shutil.rmtree(folder)
        if victim.anew:
            moment = Moment("elapsed", (moment.amount if moment.kind == "elapsed" else 1) / 2)
    raise AssertionError("the run was always over before it could be struck")


def killed(folder: Path, whole: Whole, moment: Moment) -> Victim:
    """A run into `folder` of which every process was killed at this moment, and none is left."""
    victim = struck(folder, whole, moment, lambda v: v.kill())
    assert victim.process.returncode == -signal.SIGKILL
    assert not victim.survivors()
    return victim
