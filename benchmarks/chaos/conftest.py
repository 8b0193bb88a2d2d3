"""Undisturbed runs, made once, with which what comes out of the disturbed ones is compared."""

import os
import resource

import pytest

from assay.benchmarks.chaos.victim import SMALL, SMOKE, TINY, whole

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    return whole(tmp_path_factory.mktemp("whole") / "smoke", SMOKE)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    return whole(tmp_path_factory.mktemp("whole") / "small", SMALL)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return whole(tmp_path_factory.mktemp("whole") / "tiny", TINY)


@pytest.fixture(autouse=True)
def no_core_files():
    """What is killed here leaves no picture of its memory."""
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, limits)
