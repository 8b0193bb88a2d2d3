"""Undisturbed runs, made once, with which what comes out of the disturbed ones is compared."""

import fcntl
import os
import pickle
import resource

import pytest

from assay.benchmarks.chaos.victim import SMALL, SMOKE, TINY, whole

os.environ.setdefault("OMP_NUM_THREADS", "1")
LONGEST = "test_kill.py"  # whose chains come first, so that no process is left alone with one at the end


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name != LONGEST)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, request):
    """Make an undisturbed run, or take the one that another test process has made: they share a folder."""
    place = tmp_path_factory.getbasetemp()
    place = place.parent if hasattr(request.config, "workerinput") else place

    def get(name, words):
        kept = place / f"{name}.pickle"
        with (place / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                kept.write_bytes(pickle.dumps(whole(place / "whole" / name, words)))
            return pickle.loads(kept.read_bytes())

    return get


@pytest.fixture(scope="session")
def smoke(undisturbed):
    return undisturbed("smoke", SMOKE)


@pytest.fixture(scope="session")
def small(undisturbed):
    return undisturbed("small", SMALL)


@pytest.fixture(scope="session")
def tiny(undisturbed):
    return undisturbed("tiny", TINY)


@pytest.fixture(autouse=True)
def no_core_files():
    """What is killed here leaves no picture of its memory."""
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, limits)
