"""The same seed gives the same bits: any number of workers, any order, fewer metrics, more methods."""

import random
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from assay.benchmarks import suites
from assay.benchmarks.chaos.victim import environment, run, tables
from assay.benchmarks.compare import compare

NAMED = ["dataset", "parameters", "noise", "model", "method", "metric", "seed", "model_seed", "method_seed"]
SUITE = Path(suites.__file__).with_name("smoke.toml")
FEW = 'dataset = ["symbolic[function=7,columns=[0,5],rows=500,explained=20]"]\nmodel = ["linear", "oracle"]\n'
# what docs/reliability.md states of other processors: of one cell, and of a mean skill of a method
RANKS = ["kendall_tau", "spearman"]  # they rank the rounding where the truth is as good as nothing
TOLERANCE, OF_RANKS, OF_MEANS = 1e-3, 0.1, 0.003
CPUS = {
    "plain": {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Prescott"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "OPENBLAS_CORETYPE": "Haswell"},
}


def scores(folder, name="scores"):
    columns = [*NAMED, "other"] if name == "agreement" else NAMED
    return (
        pd.read_csv(folder / f"{name}.csv", keep_default_na=False, dtype=str).set_index(columns).sort_index()
    )


def test_workers(tmp_path, small):
    for jobs in ("0", "3"):  # the others here have 2
        words = list(small.words)
        words[words.index("--jobs") + 1] = jobs
        folder = tmp_path / jobs
        assert run(folder, words).process.returncode == 0
        assert tables(folder) == small.files


def text_of(grid, seeds=2):
    lists = "\n".join(f"{kind} = {values!r}" for kind, values in grid.items())
    return f'title = "x"\nseeds = {seeds}\n\n[[grid]]\n{lists}\n'


@pytest.fixture(scope="module")
def grid():
    """The grid of `tiny`."""
    found = tomllib.loads(SUITE.read_text())["grid"][0]
    return found | tomllib.loads(FEW) | {"method": ["random", "saliency", "feature_ablation"]}


@pytest.fixture
def plain(tmp_path, tiny):
    return written(tmp_path / "plain", tiny)


def written(folder, whole):
    """The tables of an undisturbed run, in a folder."""
    folder.mkdir()
    for name, content in whole.files.items():
        (folder / name).write_bytes(content)
    return folder


def made(place, grid):
    (place / "own.toml").write_text(text_of(grid))
    victim = run(place / "run", ["run", str(place / "own.toml"), "--jobs", "2"])
    assert victim.process.returncode == 0, victim.said
    return place / "run"


def test_order(tmp_path, grid, plain):
    rng = random.Random(0)
    found = made(tmp_path, {kind: rng.sample(values, len(values)) for kind, values in grid.items()})
    pd.testing.assert_frame_equal(scores(found), scores(plain))


def test_fewer_metrics(tmp_path, grid, plain):
    few = ["auroc", "deletion", "completeness"]
    found, whole = scores(made(tmp_path, grid | {"metric": few})), scores(plain)
    kept = whole[whole.index.get_level_values("metric").isin(few)]
    assert len(kept)
    pd.testing.assert_frame_equal(found, kept)


def test_more_methods(tmp_path, grid, plain):
    """In front, so that everything moves back by one."""
    found = made(tmp_path, grid | {"method": ["gradient_shap", *grid["method"]]})
    for name in ("scores", "agreement"):
        before, after = scores(plain, name), scores(found, name)
        pd.testing.assert_frame_equal(after.loc[after.index.isin(before.index)], before)
        assert len(after) > len(before)


@pytest.mark.parametrize("cpu", CPUS)
def test_other_processors(tmp_path, smoke, cpu, record_property):
    """Arithmetic as other processors do it: no value moves by more than is stated."""
    folder = tmp_path / "run"
    victim = run(folder, smoke.words, env=environment(**CPUS[cpu]))
    assert victim.process.returncode == 0, victim.said
    whole = written(tmp_path / "whole", smoke)
    ours, theirs = (pd.read_csv(f / "scores.csv").set_index(NAMED) for f in (whole, folder))
    assert (ours.index == theirs.index).all()
    assert (ours["status"] == theirs["status"]).all()
    moved = (ours[["value", "skill"]] - theirs[["value", "skill"]]).abs()
    record_property("moved", moved.groupby("metric").max().to_json())
    assert (moved.isna() == ours[["value", "skill"]].isna()).all(axis=None)
    ranks = moved.index.get_level_values("metric").isin(RANKS)
    assert moved[~ranks].max(axis=None) <= TOLERANCE
    assert moved[ranks].max(axis=None) <= OF_RANKS
    means = [f[f["family"] == "ground truth"].groupby("method")["skill"].mean() for f in (ours, theirs)]
    assert (means[0] - means[1]).abs().max() <= OF_MEANS
    methods = compare(whole, folder).methods
    assert set(methods["verdict"]) == {"no difference seen"}
