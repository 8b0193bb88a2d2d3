"""A run that is killed goes on where it was, and ends with the same bytes; so does one with other workers."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

PROBLEM = "symbolic[function=[7,9],columns=[0,5],rows=500,explained=20]"
METHODS = ["random", "saliency", "feature_ablation", "gradient_shap", "kernel_shap"]
COMMAND = [
    *(sys.executable, "-P", "-m", "assay.benchmarks.cli", "run", "smoke", "--dataset", PROBLEM),
    *("--model", "linear", "--model", "oracle"),
    *(word for method in METHODS for word in ("--method", method)),
]
PICTURES = [
    *COMMAND[:6],
    *("--dataset", "vision[position=[fixed,random],train=60,explained=4,side=16,size=8]"),
    *("--model", "cnn[epochs=1,depth=1]", "--metric", "box_iou", "--metric", "attribution_mass"),
    *("--metric", "deletion", "--metric", "spearman", "--method", "occlusion", "--method", "rise[budget=60]"),
    *(word for method in ["random", "edge_detector", "grad_cam", "lime"] for word in ("--method", method)),
]
SOUND = [
    *COMMAND[:6],
    *("--metric", "spearman", "--dataset", "audio[position=[fixed,random],train=60,explained=4,channels=3]"),
    *("--model", "tcn[epochs=1]", "--metric", "channel_share", "--metric", "deletion"),
    *(word for method in ["random", "kernel_shap", "occlusion"] for word in ("--method", method)),
    *("--method", "expected_gradients", "--method", "smooth_grad", "--method", "feature_permutation"),
]
TABLES = ("scores.csv", "agreement.csv", "models.csv", "problems.csv")


def run(folder, jobs, command=COMMAND, files=TABLES):
    subprocess.run([*command, "--out", folder, "--jobs", str(jobs)], check=True, capture_output=True)
    return {name: (folder / name).read_bytes() for name in files}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"), 1)


def finished(folder):
    """Cells in the ledger of a run that was killed."""
    ledger = sqlite3.connect(folder / "ledger.sqlite")
    (count,) = ledger.execute("SELECT count(*) FROM scores").fetchone()
    ledger.close()
    return count


def killed_in_the_middle(folder, jobs, command=COMMAND, size=600_000):
    """Start the run, and kill it, workers and all, when some cells are written and some are not."""
    process = subprocess.Popen(
        [*command, "--out", folder, "--jobs", str(jobs)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    journal = folder / "ledger.sqlite-wal"
    while not journal.exists() or journal.stat().st_size < size:  # as written, about a hundred cells
        assert process.poll() is None, "the run was over before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_and_resumed_is_the_same_to_the_bit(tmp_path, uninterrupted, jobs):
    folder = tmp_path / "run"
    killed_in_the_middle(folder, jobs)
    count = finished(folder)
    assert 0 < count < 16 * 5 * 10
    assert run(folder, jobs) == uninterrupted


@pytest.mark.parametrize("command", [PICTURES, SOUND], ids=["pictures", "sound"])
def test_killed_and_resumed_is_the_same_to_the_bit_and_to_the_pixel(tmp_path, command):
    files = (*TABLES, "gallery.png")
    whole = run(tmp_path / "whole", 2, command, files)
    killed_in_the_middle(tmp_path / "run", 2, command, 400_000)
    assert 0 < finished(tmp_path / "run") < finished(tmp_path / "whole")
    assert run(tmp_path / "run", 2, command, files) == whole


def test_two_workers_write_what_one_process_writes(tmp_path, uninterrupted):
    assert run(tmp_path / "two", 2) == uninterrupted
