"""The sentences say what the tables say, and nothing that they do not."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest

from assay.benchmarks import breakdown, leaderboard
from assay.benchmarks.leaderboard import Tables
from assay.benchmarks.overview import overview
from assay.benchmarks.pairs import pairs
from assay.benchmarks.trust import Trust

NOISE = ("columns=0", "columns=20", "columns=100")
SKILL = {"best": 0.8, "close": 0.79, "poor": 0.3, "random": 0.0}


def told(skill_of, problems=4, seeds=2, noise=NOISE, failed=0, trust=None):
    """The sentences on a grid of two models; skill_of(method, problem, noise, model), with a little noise."""
    rng = np.random.default_rng(0)
    rows = []
    grid = itertools.product(range(problems), noise, ("oracle", "mlp"), range(seeds))
    for problem, level, model, seed in grid:
        common = 0.01 * rng.normal()
        for method in SKILL:
            skill = skill_of(method, problem, level, model) + common + 0.001 * rng.normal()
            place = {"dataset": f"d{problem}", "parameters": "", "noise": level, "model": model, "seed": seed}
            rows.append(place | {"method": method, "metric": "auroc", "skill": skill, "value": skill})
    scores = pd.DataFrame(rows).assign(
        family="ground truth", status="ok", reason="", model_seed=0, method_seed=0
    )
    scores.loc[scores.index[:failed], "status"] = "failed"
    cost = {"seconds_per_row": 1.0, "model_rows_per_row": 1.0, "backward_rows_per_row": 0.0, "peak_mb": 1.0}
    costs = pd.DataFrame([{"method": m, "control": float(m == "random")} | cost for m in SKILL])
    agreement = pd.DataFrame(columns=["method", "other", "metric", "status", "skill"])
    tables = Tables(scores, agreement, pd.DataFrame(), costs)
    board = leaderboard.leaderboard(tables, "overall")
    return overview(tables, board, pairs(scores), breakdown.breakdowns(scores), trust)


def flat(method, problem, level, model):
    return SKILL[method] - (0.4 if model == "mlp" else 0.0) * (method != "random")


def test_the_best_is_named_with_both_intervals_and_who_cannot_be_told_from_it():
    def skill(method, problem, level, model):
        return flat(method, problem, level, model) + 0.05 * (problem - 1.5) * (method == "best")

    first = told(skill)[0]
    assert first.startswith("Use `best`: mean skill 0.60 (")
    assert "on problems like these)" in first
    assert first.endswith("On problems like these it cannot be told from `close`.")


def test_one_that_leads_everywhere_is_ahead_of_all():
    assert told(flat)[0].endswith("it is ahead of all others beyond its interval.")


def test_a_control_is_never_recommended():
    def skill(method, *_):
        return 0.9 if method == "random" else 0.1

    assert not told(skill)[0].startswith("Use `random`")


def test_one_problem_speaks_of_these_problems_alone_and_one_seed_of_nothing():
    assert "problems like these" not in told(flat, problems=1)[0]
    assert "On these problems" in told(flat, problems=1)[0]
    assert "With one seed nobody can say" in told(flat, problems=1, seeds=1)[0]


def test_whether_the_model_matters_more_than_the_method():
    sentences = told(flat)
    assert any(s.startswith("The model matters less than the method") for s in sentences)  # .4 < .5

    def hard(method, problem, level, model):
        return flat(method, problem, level, model) - (0.3 if model == "mlp" else 0.0) * (method != "random")

    found = next(s for s in told(hard) if "model matters" in s)
    assert found.startswith("The model matters more than the method: on the same problems mean skill is 0.6")
    assert "on `oracle`" in found


def test_who_loses_half_of_the_skill_and_where():
    def skill(method, problem, level, model):
        lost = {"columns=0": 0.0, "columns=20": 0.1, "columns=100": 0.2}[level]
        return SKILL[method] - lost * (method == "poor")

    found = next(s for s in told(skill) if s.startswith("Along"))
    assert found.startswith(
        "Along `columns`, 2 of 3 methods keep half of the skill that they have at every level run"
    )
    level = float(re.search(r"half is lost by `poor` by columns ([\d.]+) of", found)[1])
    assert abs(level - 60) < 8  # .3 falls to .2 at 20 and to .1 at 100: .15 is in the middle


def test_what_it_rests_on_and_what_failed():
    assert "no cell failed" in told(flat)[-1]
    assert "48 cells that all 4 ranked methods share: 4 problems, 12 conditions, 2 seeds" in told(flat)[-1]
    assert "2 cells failed" in told(flat, failed=2)[-1]


def test_without_a_real_method_there_is_nothing_to_recommend():
    board = pd.DataFrame({"rank": [1.0], "method": ["random"], "control": [True]})
    empty = pd.DataFrame()
    none = Tables(empty, empty, empty, empty)
    assert "All ranked methods are controls" in overview(none, board, empty, empty, None)[0]
    board["rank"] = np.nan
    assert "Nothing here has a skill" in overview(none, board, empty, empty, None)[0]


def test_methods_that_tie_at_the_top_are_not_ahead_of_each_other():
    def skill(method, problem, level, model):
        return flat("best" if method == "close" else method, problem, level, model)

    rows = told(lambda *where: round(skill(*where), 1))
    assert "cannot be told from" in rows[0]


def test_a_method_that_is_no_better_than_chance_is_not_recommended():
    first = told(lambda method, *_: -0.4 if method != "random" else 0.0)[0]
    assert first.startswith("No method is seen to be better than chance. Highest is")


def test_who_breaks_first_is_told_by_the_way_from_the_cleanest_level():
    """Where less is noisier: from 20 dB down to 0."""
    levels = ("snr_db=20.0", "snr_db=10.0", "snr_db=0.0")

    def skill(method, problem, level, model):
        steps = levels.index(level)
        return {"best": 0.8 - 0.3 * steps, "close": 0.8 - 0.5 * min(steps, 1), "poor": 0.8}.get(method, 0.0)

    found = next(s for s in told(skill, noise=levels) if s.startswith("Along"))
    assert found.index("`close` by snr_db") < found.index("`best` by snr_db")


def trusted(tau, low, metrics=("deletion", "insertion")):
    frame = pd.DataFrame({"metric": metrics, "tau_real": [tau, 0.1], "low_real": [low, np.nan]})
    frame = frame.assign(high_real=frame["low_real"] + 0.3, beaten_methods=[0, 2])
    return Trust(frame, frame, frame, (), 0.5)


@pytest.mark.parametrize(
    ("tau", "low", "says"),
    [(0.9, 0.8, "it can stand in for it"), (0.9, 0.2, "not known"), (0.5, 0.4, "none can stand in for it")],
)
def test_a_metric_stands_in_for_the_truth_only_where_that_is_sure(tau, low, says):
    sentence = next(s for s in told(flat, trust=trusted(tau, low)) if "need no truth" in s)
    assert says in sentence
    assert "`deletion` ranks the methods most as the truth does" in sentence
    assert "`insertion` ranks `random` above a real method" in sentence
