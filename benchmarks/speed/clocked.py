"""Imported by the fork server of a run that is timed: every worker writes down how long its work took.

Work is drawing, training, explaining and scoring; all else that a run takes is the runner's own.
"""

import json
import os
import time
from collections import Counter
from pathlib import Path

from assay.benchmarks import evaluation, scoring, tasks

FOLDER = "ASSAY_CLOCKED"  # where the workers write: names in the environment, seconds in a file each
WORK = {
    "drawing": (evaluation, "draw"),
    "training": (evaluation, "train"),
    "judging the model": (evaluation, "_about"),
    "explaining": (scoring, "attribute"),
    "scoring": (scoring.Explained, "_score"),
    "agreement": (scoring.Explained, "_agreement"),
}
took = Counter()
busy = [False]


def timed(name, function):
    """The function, its seconds added up; what one kind of work does inside another counts once."""

    def call(*given, **named):
        if busy[0]:
            return function(*given, **named)
        busy[0], start = True, time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            took[name] += time.perf_counter() - start
            busy[0] = False

    return call


def kept(run_unit):
    """`run_unit`, with what was added up written down after every unit."""

    def run(*given):
        yield from run_unit(*given)
        Path(os.environ[FOLDER], str(os.getpid())).write_text(json.dumps(took))

    return run


for name, (owner, attribute) in WORK.items():
    setattr(owner, attribute, timed(name, getattr(owner, attribute)))
tasks.run_unit = kept(tasks.run_unit)
