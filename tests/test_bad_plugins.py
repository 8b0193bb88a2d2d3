"""Plug-ins that misbehave, in a real run: their own cells say so, and nobody else's move by a bit."""

import json
import subprocess
import sys
import textwrap

import pandas as pd
import psutil
import pytest

from assay.benchmarks.tables import read_table

DATA = "symbolic[function=7,columns=3,rows=400,explained=10]"
VICTIMS = ["gradient", "random", "smooth_grad", "kernel_shap"]
METRICS = ["auroc", "deletion", "spearman"]  # of all kinds; for `spoils_evidence`, before and after it
HEAD = """
import math, os, sys, time, warnings
import numpy as np
import torch
from assay.benchmarks.plugin import NotApplicable, Note, dataset, method, metric, model
from assay.datasets.symbolic import symbolic
from assay.models.mlp import mlp
URL = "https://example.org"
"""
# body of a method -> what its rows say; nothing where it is scored like any other
METHODS = {
    "raises": ("raise ValueError('no')", "raises raised ValueError: no"),
    "raises_at_length": ("raise ValueError('long ' * 10_000)", "raised ValueError: long long"),
    "raises_lines": (r"raise ValueError('one\ntwo')", "raised ValueError: one two"),
    "raises_colours": (r"raise ValueError('\x1b[31mred\x1b[0m')", r"raised ValueError: \x1b[31mred"),
    "raises_bytes": (r"raise ValueError(os.fsdecode(b'/no/\xff'))", r"raised ValueError: /no/\udcff"),
    "nan": ("return case.x * float('nan')", "must return finite numbers"),
    "partly_infinite": (
        "out = case.x.clone(); out[0, 0] = float('inf'); return out",
        "must return finite numbers, 1 of",
    ),
    "wrong_shape": ("return case.x[:, :2]", "must return the shape of x"),
    "one_row_short": ("return case.x[1:]", "must return the shape of x"),
    "complex": ("return case.x + 1j", "must return real numbers, got torch.complex64"),
    "elsewhere": (
        "return case.x.to('meta')",
        "must return a dense tensor with values, got torch.strided on meta",
    ),
    "sparse": ("return case.x.to_sparse()", "must return a dense tensor with values, got torch.sparse_coo"),
    "whole_numbers": ("return (10 * case.x).int()", ""),
    "half": ("return case.x.half()", ""),
    "with_gradient": ("return case.x.clone().requires_grad_() * 2", ""),
    "nothing": ("return None", "must return a tensor, got NoneType"),
    "an_array": ("return case.x.numpy()", "must return a tensor, got ndarray"),
    "says_goodbye": ("sys.exit('bye')", "says_goodbye raised SystemExit: bye"),
    "exits": ("os._exit(7)", "worker process died (exit code 7)"),
    "aborts": ("os.abort()", "worker process died (exit code -6)"),
    "is_killed": ("os.kill(os.getpid(), 9)", "worker process died (exit code -9)"),  # as the OOM killer does
    "interrupts": ("raise KeyboardInterrupt", "worker process died"),
    "recurses": ("return recurses(case)", "raised RecursionError"),
    "hangs": ("time.sleep(3600)", "took longer than the 4 s of --timeout"),
    "hangs_busily": ("while True: pass", "took longer than the 4 s of --timeout"),
    "eats_memory": (
        "hoard = [torch.ones(25_000_000) for _ in range(40)]; return case.x",
        "more than the 1.20 GB of --memory",
    ),
    "leaks": ("LEAK.append(torch.ones(1_000_000)); return case.x", ""),
    "forks": ("os.fork(); return case.x", ""),
    "forks_and_leaves": ("os.fork() or time.sleep(3600); return case.x", ""),
    "prints": ("print('words ' * 100_000); os.write(1, b'natively'); return case.x", ""),
    "complains": ("[sys.stderr.write('woe') for _ in range(1000)]; return case.x", ""),
    "warns": ("[warnings.warn(f'{i}') for i in range(1000)]; return case.x", ""),
    "notes": ("[warnings.warn(f'{i}', Note) for i in range(1000)]; return case.x", ""),
    "closes_streams": ("os.close(1); os.close(2); return case.x", ""),
    "spoils_input": ("case.x.fill_(9); case.baseline.fill_(9); case.background.fill_(9); return case.x", ""),
    "spoils_arrays": ("case.x.numpy()[:] = 9; case.background.numpy()[:] = 9; return case.x + 1", ""),
    "spoils_model": (
        "[p.data.zero_() for p in case.model.parameters()]; case.model.train(); return case.x",
        "",
    ),
    "hooks_model": (
        "[m.register_forward_hook(lambda *a: a[2] * 0) for m in case.model.modules()]; return case.x",
        "",
    ),
    "seeds": ("torch.manual_seed(0); np.random.seed(0); return torch.rand(case.x.shape)", ""),
    "changes_gradients": ("torch.set_grad_enabled(False); return case.x", ""),
    "changes_precision": ("torch.set_default_dtype(torch.float64); return case.x", ""),
    "changes_threads": ("torch.set_num_threads(3); return case.x", ""),
    "changes_products": (
        "torch.set_float32_matmul_precision('medium'); torch.set_flush_denormal(True); return case.x",
        "",
    ),
    "changes_errors": ("np.seterr(all='raise'); warnings.simplefilter('error'); return case.x", ""),
    "changes_folder": ("os.chdir('/'); os.environ.clear(); sys.path.clear(); return case.x", ""),
}
OTHERS = """
LEAK = []

@metric(paper=URL, family="ground truth", best=1.0, worst=0.0)
def exits_at_scores(evidence, /):
    os._exit(8)

@metric(paper=URL, family="ground truth", best=1.0, worst=0.0)
def hangs_at_scores(evidence, /):
    time.sleep(3600)

@metric(paper=URL, family="ground truth", best=1.0, worst=0.0)
def leaves_at_scores(evidence, /):
    sys.exit(0)

@metric(paper=URL, family="ground truth", best=1.0, worst=0.0)
def nan_score(evidence, /):
    return evidence.attribution.sum(1) * float("nan")

@metric(paper=URL, family="ground truth", best=1.0, worst=0.0)
def spoils_evidence(evidence, /):
    evidence.masks["relevant"].logical_not_()
    evidence.case.x.fill_(3)
    evidence.case.background.numpy()[:] = 3
    evidence.problem.x.fill_(3)
    evidence.truth.fill_(3)
    evidence.explain(evidence.case).zero_()
    for p in evidence.case.model.parameters():
        p.data.fill_(1)
    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    return torch.rand(len(evidence.attribution))
"""


def text():
    methods = "".join(
        f"\n@method(paper=URL)\ndef {name}(case, /):\n    {body}\n" for name, (body, _) in METHODS.items()
    )
    return HEAD + OTHERS + methods


def command(folder, methods, metrics, *more, models=("linear",)):
    words = [sys.executable, "-P", "-m", "assay.benchmarks.cli", "run", "smoke", "--seeds", "1"]
    words += ["--dataset", DATA, *more]
    for kind, names in (("model", models), ("method", methods), ("metric", metrics)):
        words += [word for name in names for word in (f"--{kind}", name)]
    return [*words, "--jobs", "2", "--out", str(folder)]


def run(*arguments, cwd, **options):
    done = subprocess.run(
        command(*arguments, **options), cwd=cwd, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr
    return done


def scores(folder):
    """The exported rows, by what they are of."""
    keys = ["dataset", "parameters", "noise", "model", "method", "metric", "seed"]
    return read_table(folder, "scores").set_index(keys, drop=False).sort_index()


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    file = tmp_path_factory.mktemp("bad") / "bad.py"
    file.write_text(text())
    return file


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What the victims score when they are by themselves."""
    folder = tmp_path_factory.mktemp("alone")
    run(folder / "r", VICTIMS, METRICS, cwd=folder)
    return folder / "r"


@pytest.fixture(scope="module")
def together(tmp_path_factory, plugins):
    """The run with all bad methods in it, and what it said."""
    folder = tmp_path_factory.mktemp("together")
    mixed = [name for pair in zip(METHODS, VICTIMS * len(METHODS), strict=False) for name in pair]
    more = ("--plugin", str(plugins), "--timeout", "4", "--memory", "1.2GB")
    done = run(folder / "r", list(dict.fromkeys(mixed)), METRICS, *more, cwd=folder)
    return folder / "r", done


def unchanged(found, before):
    """Whether every row of one table stands in the other, to the bit."""
    pd.testing.assert_frame_equal(found.loc[before.index], before, check_exact=True)


def test_nobody_else_s_score_moves_by_a_bit(alone, together):
    unchanged(scores(together[0]), scores(alone))
    keys = ["model", "method", "other", "metric"]
    before, found = (read_table(f, "agreement").set_index(keys) for f in (alone, together[0]))
    assert len(before) == 6
    columns = ["value", "chance", "skill", "status"]
    pd.testing.assert_frame_equal(found.loc[before.index, columns], before[columns], check_exact=True)


@pytest.mark.parametrize("name", METHODS)
def test_its_own_cells_say_what_became_of_it(together, name):
    mine = scores(together[0]).query("method == @name")
    reason = METHODS[name][1]
    assert len(mine) == len(METRICS)
    if not reason:
        assert set(mine["status"]) <= {"ok", "undefined"}, mine["reason"].tolist()
        return
    assert set(mine["status"]) == {"failed"}
    assert all(reason in why for why in mine["reason"]), mine["reason"].tolist()
    assert all(len(why) < 600 and "\n" not in why for why in mine["reason"])


def test_a_thousand_notes_are_not_a_thousand_lines(together):
    (why,) = set(scores(together[0]).query("method == 'notes'")["reason"])
    assert why == "0; 1; 2; 3; 4; and 995 notes more"


def test_what_plugins_print_is_kept_and_told_of_and_not_on_the_screen(together):
    folder, done = together
    assert done.stderr == ""
    assert "words words" not in done.stdout
    assert f"plug-ins have printed something: {folder / 'plugins.log'}" in done.stdout
    log = (folder / "plugins.log").read_text()
    assert "words words" in log
    assert "natively" in log


def test_nothing_that_they_started_goes_on(together):
    folder, _ = together
    left = [
        p.info for p in psutil.process_iter(["cmdline", "pid"]) if str(folder) in (p.info["cmdline"] or [])
    ]
    assert left == []


def test_metrics_that_end_or_spoil_everything_cost_their_own_cells(tmp_path, alone, plugins):
    bad = ["exits_at_scores", "leaves_at_scores", "hangs_at_scores", "nan_score", "spoils_evidence"]
    more = ("--plugin", str(plugins), "--timeout", "4")
    run(tmp_path / "r", VICTIMS, [*METRICS[:1], *bad, *METRICS[1:], "attribution_error"], *more, cwd=tmp_path)
    found = scores(tmp_path / "r")
    unchanged(found, scores(alone))
    why = {name: set(found.query("metric == @name")["reason"]) for name in bad}
    assert why["exits_at_scores"] == {"worker process died (exit code 8)"}
    assert why["leaves_at_scores"] == {"leaves_at_scores raised SystemExit: 0"}
    assert why["hangs_at_scores"] == {"worker process was ended: it took longer than the 4 s of --timeout"}
    assert set(found.query("metric == 'nan_score'")["status"]) == {"undefined"}
    assert set(found.query("metric == 'spoils_evidence'")["status"]) <= {"ok", "broken", "trivial"}


BAD = {
    ("model", "ends"): ("os._exit(9)", "worker process died (exit code 9)"),
    ("model", "leaves"): ("sys.exit(9)", "SystemExit: 9"),
    ("model", "sleeps"): ("time.sleep(3600)", "took longer than the 4 s of --timeout"),
    ("dataset", "vanishes"): ("os._exit(9)", "worker process died (exit code 9)"),
    ("dataset", "goes"): ("sys.exit()", "SystemExit"),
}


def test_a_bad_model_or_dataset_costs_its_own_units(tmp_path, alone):
    facts = {"model": "has='gradient'", "dataset": "noise=()"}
    takes = {"model": "problem, rng", "dataset": "rng"}
    text = HEAD + "".join(
        f"\n@{kind}(paper=URL, {facts[kind]})\ndef {name}({takes[kind]}, /):\n    {body}\n"
        for (kind, name), (body, _) in BAD.items()
    )
    (tmp_path / "bad.py").write_text(text)
    names = {kind: [name for k, name in BAD if k == kind] for kind in facts}
    more = ["--plugin", "bad.py", "--timeout", "4"]
    more += [word for name in names["dataset"] for word in ("--dataset", name)]
    run(tmp_path / "r", VICTIMS, METRICS, *more, cwd=tmp_path, models=("linear", *names["model"]))
    found = scores(tmp_path / "r")
    unchanged(found, scores(alone))
    for (kind, name), (_, why) in BAD.items():
        mine = found[found[kind] == name]
        others = 1 + len(names["model"]) if kind == "dataset" else 1 + len(names["dataset"])
        assert len(mine) == others * len(METRICS) * len(VICTIMS)
        assert set(mine["status"]) == {"failed"}
        good = mine[(mine["model"] == "linear") | (mine["dataset"] == "symbolic")]
        assert all(why in reason for reason in good["reason"]), set(good["reason"])


@pytest.mark.parametrize("body", ["raise ValueError('at import')", "import sys; sys.exit(3)", "def f(:"])
def test_a_file_that_cannot_be_imported_is_one_line(tmp_path, body):
    (tmp_path / "bad.py").write_text(textwrap.dedent(body))
    words = command(tmp_path / "r", ["random"], ["auroc"], "--plugin", "bad.py")
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: plug-in file")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--timeout", "0"), "--timeout cannot be 0"),
        (("--timeout", "-3"), "--timeout cannot be -3"),
        (("--timeout", "inf"), "--timeout cannot be inf"),
        (("--memory", "much"), "--memory cannot be 'much'"),
        (("--memory", "0"), "--memory cannot be '0'"),
        (("--memory", "-2GB"), "--memory cannot be '-2GB'"),
    ],
)
def test_limits_that_are_none_are_refused(tmp_path, words, said):
    done = subprocess.run(
        command(tmp_path / "r", ["random"], ["auroc"], *words), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_manifest_tells_the_limits(together):
    made = json.loads((together[0] / "manifest.json").read_text())
    assert made["limits"] == {"timeout": 4.0, "memory": 1_200_000_000}
