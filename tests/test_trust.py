"""Which metrics can stand in for the truth: on rankings whose tau is known, and on noise, where it is 0."""

import gzip
import itertools
import math

import numpy as np
import pandas as pd
import pytest

from assay.benchmarks import leaderboard as lead
from assay.benchmarks.registry import AssayError
from assay.benchmarks.store import COLUMNS
from assay.benchmarks.trust import FEWEST, Trust, display, load_trust, markdown, section, tidy, trust, write

INF = math.inf
TRUTH = {"a": 0.1, "b": 0.3, "c": 0.5, "d": 0.7, "e": 0.9}  # ground-truth skill by method
CONTROLS = ("random", "constant")
PLACE = {"dataset": "d", "parameters": "p", "noise": "n", "model": "mlp"}
PLACE |= dict.fromkeys(("seed", "model_seed", "method_seed"), 0)


def row(method, value, metric="m", **changed):
    """One row of scores.csv, of a metric that is not about the truth."""
    rest = {
        "family": "robustness",
        "value": value,
        "chance": math.nan,
        "ceiling": math.nan,
        "skill": math.nan,
    }
    found = PLACE | {"method": method, "metric": metric} | rest
    return found | {"rows": 9, "nan_rows": 0, "status": "ok", "reason": "", "version": "1"} | changed


def truth(skills, metric="auroc", **where):
    """Rows of a ground-truth metric; its values are turned, so that whoever takes them for skills fails."""
    rows = [row(m, -s, metric, family=lead.RANKED_BY, skill=s) for m, s in skills.items()]
    return [one | where for one in rows]


def unit(values, skills=TRUTH, metric="m", **where):
    """Rows of one unit: what the truth says of its methods, and what the metric does."""
    return truth(skills, **where) + [row(m, v, metric, **where) for m, v in values.items()]


def declared(scores, best=1.0, worst=0.0, caveat=""):
    names = dict.fromkeys(one["metric"] for one in scores)
    facts = {"family": "", "best": best, "worst": worst, "chance": math.nan, "caveat": caveat}
    return pd.DataFrame([{"metric": name} | facts for name in names])


def costs(controls=CONTROLS):
    return pd.DataFrame({"method": [*TRUTH, *CONTROLS]}).assign(control=lambda f: f["method"].isin(controls))


def asked(rows, controls=CONTROLS, **facts) -> Trust:
    return trust(pd.DataFrame(rows), declared(rows, **facts), costs(controls))


def one(rows, **facts):
    """The only row of the overall table."""
    (found,) = asked(rows, **facts).metrics.to_dict("records")
    return found


def turned(skills, sign=1.0):
    return {m: sign * s for m, s in skills.items()}


# ---- one unit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("best", "worst", "sign", "tau"),
    [
        *((1.0, 0.0, 1, 1), (1.0, 0.0, -1, -1), (0.0, 1.0, 1, -1), (0.0, 1.0, -1, 1)),
        *((0.0, INF, -1, 1), (0.0, INF, 1, -1), (INF, 0.0, 1, 1), (-INF, 0.0, -1, 1)),
        *((INF, -INF, 1, 1), (-INF, INF, 1, -1), (-1.0, -2.0, 1, 1)),
    ],
)
def test_a_metric_that_ranks_as_the_truth_has_tau_1_and_its_reverse_minus_1(best, worst, sign, tau):
    found = one(unit(turned(TRUTH, sign)), best=best, worst=worst)
    assert (found["tau"], found["tau_real"]) == (tau, tau)
    assert (found["units"], found["flat"]) == (1, 0)


@pytest.mark.parametrize("direction", [(math.nan, 1.0), (1.0, 1.0), (INF, INF)])
def test_a_metric_without_a_direction_is_refused(direction):
    with pytest.raises(AssayError, match="whether more of 'm' is better"):
        asked(unit(TRUTH), best=direction[0], worst=direction[1])


def test_a_metric_that_metrics_csv_does_not_have_is_refused():
    rows = unit(TRUTH)
    with pytest.raises(AssayError, match="whether more of 'm' is better"):
        trust(pd.DataFrame(rows), declared(rows[:1]), costs())


def test_tau_b_by_hand():
    """Of 10 pairs one, a and b, is the wrong way round and one, a and c, is tied in the metric."""
    found = one(unit({"a": 3.0, "b": 1.0, "c": 3.0, "d": 4.0, "e": 5.0}))
    assert found["tau"] == pytest.approx((8 - 1) / math.sqrt(9 * 10))


def test_methods_that_differ_by_rounding_tie_whichever_side_says_so():
    values = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    skills = {"a": 0.1, "b": 0.2, "c": 0.99999998, "d": 0.99999994}
    assert one(unit(values, skills))["tau"] == pytest.approx(5 / math.sqrt(6 * 5))
    assert one(unit(values | {"d": 3.0 + 1e-8}, skills))["tau"] == pytest.approx(1)
    assert one(unit(values | {"d": 3.0 + 1e-4}, skills))["tau"] == pytest.approx(5 / math.sqrt(6 * 5))


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_what_is_rounding_goes_by_the_size_of_the_values(scale):
    assert one(unit(turned(TRUTH, scale)))["tau"] == 1


def test_one_method_that_explodes_does_not_make_the_others_tie():
    assert one(unit(TRUTH | {"e": 1e9}))["tau"] == 1


def test_a_metric_that_is_0_for_nearly_all_still_has_a_size():
    found = one(unit(dict.fromkeys("abcd", 0.0) | {"e": 1e-9}))
    assert found["tau"] == pytest.approx(4 / math.sqrt(10 * 4))


def test_a_metric_that_tells_nobody_apart_has_tau_0_and_counts():
    rows = unit(TRUTH, seed=0) + unit(dict.fromkeys(TRUTH, 7.0), seed=1)
    found = one(rows)
    assert (found["tau"], found["units"], found["flat"]) == (0.5, 2, 1)
    assert (found["tau_real"], found["units_real"], found["flat_real"]) == (0.5, 2, 1)


def test_a_metric_that_tells_only_the_controls_apart_is_flat_without_them():
    skills = TRUTH | {"random": 0.0}
    found = one(unit(dict.fromkeys(TRUTH, 1.0) | {"random": 0.0}, skills))
    assert found["tau"] > 0.5
    assert (found["flat"], found["flat_real"], found["tau_real"]) == (0, 1, 0)
    shown = display(asked(unit(dict.fromkeys(TRUTH, 1.0) | {"random": 0.0}, skills)))
    assert shown["flat"].tolist() == ["1"]


def test_where_the_truth_tells_nobody_apart_there_is_no_tau():
    rows = unit(TRUTH, seed=0) + unit(turned(TRUTH, -1), dict.fromkeys(TRUTH, 0.4), seed=1)
    rows += unit(dict.fromkeys(TRUTH, 1.0), dict.fromkeys(TRUTH, 0.4), seed=2)
    assert (one(rows)["tau"], one(rows)["units"], one(rows)["flat"]) == (1, 1, 0)


def test_fewer_than_four_methods_have_no_tau():
    few = dict(list(TRUTH.items())[: FEWEST - 1])
    rows = unit(TRUTH, seed=0) + unit(turned(few, -1), few, seed=1)
    assert (one(rows)["tau"], one(rows)["units"]) == (1, 1)
    with pytest.raises(AssayError, match="no unit has 4 methods that can be ranked both ways"):
        asked(unit(few, few))
    enough = dict(list(TRUTH.items())[:FEWEST])
    assert one(unit(enough, enough))["units"] == 1


@pytest.mark.parametrize("status", ["trivial", "broken"])
def test_a_cell_where_the_metric_cannot_tell_noise_from_the_truth_counts(status):
    rows = [r | ({"status": status} if r["metric"] == "m" else {}) for r in unit(turned(TRUTH, -1))]
    assert one(unit(TRUTH, seed=1) + rows)["tau"] == 0


@pytest.mark.parametrize("status", ["unlearned", "undefined", "failed", "skipped"])
def test_any_other_cell_does_not_count_whatever_number_it_holds(status):
    rows = [r | ({"status": status} if r["metric"] == "m" else {}) for r in unit(turned(TRUTH, -1))]
    found = one(unit(TRUTH, seed=1) + rows)
    assert (found["tau"], found["units"]) == (1, 1)


@pytest.mark.parametrize("status", ["trivial", "broken", "unlearned", "undefined"])
def test_the_truth_is_of_cells_that_are_ok(status):
    rows = unit(TRUTH) + [r | {"status": status} for r in truth(turned(TRUTH, -9), "uscore")]
    assert one(rows)["tau"] == 1


@pytest.mark.parametrize("value", [math.nan, INF])
def test_a_value_that_is_no_number_is_no_value(value):
    assert one(unit(TRUTH | {"e": value}))["tau"] == 1
    few = dict(list(TRUTH.items())[:FEWEST])
    with pytest.raises(AssayError, match="ranked both ways"):
        asked(unit(few | {"a": value}, few))


# ---- which cells make the truth -------------------------------------------------------------------------


def test_the_truth_is_a_mean_over_metrics_that_all_the_methods_have():
    """The hard metric gives everybody 0 and lacks the worst method, whom that must not put first."""
    hard = dict.fromkeys("bcde", -5.0)
    rows = unit(TRUTH) + truth(hard, "hard")
    assert one(rows)["tau"] == 1
    assert one(unit(TRUTH) + truth(hard | {"a": 5.0}, "hard"))["tau"] == pytest.approx(0.2)  # all have it


def test_the_truth_is_the_mean_skill():
    rows = unit(TRUTH) + truth({"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.7, "e": 0.9}, "uscore")
    order = {"a": 0.1, "b": 0.6, "c": 0.5, "d": 0.7, "e": 0.9}
    assert one(rows)["tau"] == pytest.approx(0.8)
    assert one(unit(order)[5:] + rows[:5] + rows[10:])["tau"] == 1


def test_a_method_without_a_value_is_left_out_of_the_ranking_of_that_metric_alone():
    values = {"a": 9.0, **{m: s for m, s in TRUTH.items() if m != "a"}}
    rows = unit(values) + [row(m, v, "other") for m, v in values.items() if m != "a"]
    found = asked(rows).metrics.set_index("metric")["tau"]
    assert found.to_dict() == {"m": pytest.approx(0.2), "other": 1}


def test_a_method_without_a_skill_is_left_out():
    assert one(unit(TRUTH | {"f": -9.0}))["tau"] == 1


def test_agreement_and_the_truth_itself_are_not_asked():
    rows = unit(TRUTH) + [row(m, v, "spearman", family="agreement") for m, v in TRUTH.items()]
    assert asked(rows).metrics["metric"].tolist() == ["m"]


def test_how_well_ground_truth_metrics_predict_each_other_without_controls():
    less = {m: s for m, s in TRUTH.items() if m != "e"}
    rows = unit(TRUTH)
    assert math.isnan(asked(rows).within_truth)
    assert asked(rows + truth(TRUTH, "uscore")).within_truth == 1
    assert asked(rows + truth(turned(TRUTH, -0.5), "uscore")).within_truth == -1
    liked = TRUTH | {"random": 9.0}  # by one of the two
    rows = unit(TRUTH, liked) + truth(less | {"e": 0.9, "random": -9.0}, "uscore")
    assert asked(rows).within_truth == 1
    three = unit(TRUTH) + truth(turned(TRUTH), "uscore") + truth(turned(TRUTH, -0.5), "mass")
    assert asked(three).within_truth == pytest.approx((1 + 1 - 1) / 3)


# ---- controls -------------------------------------------------------------------------------------------

WITH_CONTROLS = {"random": 0.0, "constant": 0.01} | TRUTH


def test_tau_is_given_with_and_without_controls():
    """Real methods the wrong way round, and both controls rightly below them."""
    values = {"random": -9.0, "constant": -8.0} | turned(TRUTH, -1)
    found = one(unit(values, WITH_CONTROLS))
    assert found["tau_real"] == -1
    assert found["tau"] == pytest.approx((11 - 10) / 21)
    assert asked(unit(values, WITH_CONTROLS)).controls == CONTROLS


@pytest.mark.parametrize("yes", [True, 1, 1.0, "1"])
def test_whatever_the_ledger_made_of_true_is_true(yes):
    table = costs().assign(control=lambda f: [yes if m == "constant" else type(yes)(0) for m in f["method"]])
    rows = unit({"random": 9.0, "constant": 9.0} | TRUTH, WITH_CONTROLS)
    found = trust(pd.DataFrame(rows), declared(rows), table)
    assert found.controls == CONTROLS  # random is one, whatever the table says
    assert found.metrics["tau_real"].tolist() == [1]


def test_without_a_column_of_controls_only_random_is_known_to_be_one():
    rows = unit({"random": 9.0, "constant": -9.0} | TRUTH, WITH_CONTROLS)
    found = trust(pd.DataFrame(rows), declared(rows), costs().drop(columns="control"))
    assert found.controls == ("random",)
    assert found.metrics["tau_real"].tolist() == [1]


def test_too_few_real_methods_leave_the_tau_with_controls():
    few = {"random": 0.0, "constant": 0.01, "a": 0.1, "b": 0.2}
    found = asked(unit(few, few))
    assert found.metrics[["tau", "units", "units_real"]].to_numpy().tolist() == [[1, 1, 0]]
    assert found.metrics["tau_real"].isna().all()
    assert found.metrics["tau_shared"].isna().all()
    assert "+1.00" in markdown(found)


# ---- noise above a real method --------------------------------------------------------------------------


def oracle(random, seed=0, metric="m", **where):
    """Where the model is the truth: a metric that ranks rightly but for the value of `random`."""
    return unit(TRUTH | {"random": random}, WITH_CONTROLS, metric, model="oracle", seed=seed, **where)


def test_real_methods_below_random_on_the_oracle_are_named_the_commonest_first():
    found = one(oracle(0.4, seed=0) + oracle(0.2, seed=1) + oracle(-0.1, seed=2))
    assert found["beaten"] == "a (2 of 3)"  # b is above it in the mean: 0.3 > 0.17
    found = one(oracle(0.8, seed=0) + oracle(0.2, seed=1))
    assert found["beaten"] == "a (2 of 2), b (1 of 2)"
    assert found["beaten_methods"] == 2


def test_below_random_goes_by_the_direction_of_the_metric():
    rows = [r | ({"value": -r["value"]} if r["metric"] == "m" else {}) for r in oracle(0.2)]
    assert one(rows, best=0.0, worst=INF)["beaten"] == "a (1 of 1)"
    assert one(oracle(0.8), best=0.0, worst=INF)["beaten"] == "e (1 of 1)"


def test_random_above_a_method_on_another_model_is_the_models_doing():
    rows = oracle(-0.1)
    rows += unit(TRUTH | {"random": 9.0}, WITH_CONTROLS, model="mlp")
    assert one(rows)["beaten"] == ""
    assert one(rows)["beaten_methods"] == 0


def test_a_control_below_random_and_a_difference_by_rounding_are_nothing():
    rows = [*oracle(0.1 + 1e-9), row("constant", -9.0, model="oracle")]
    assert one(rows)["beaten_methods"] == 0
    assert one(oracle(0.1 + 1e-4))["beaten"] == "a (1 of 1)"
    assert one(oracle(0.1 + 1e-9) + oracle(0.2, seed=1))["beaten"] == "a (1 of 2)"


def test_a_unit_where_all_values_are_0_says_nothing_of_random():
    rows = unit(dict.fromkeys([*TRUTH, "random"], 0.0), WITH_CONTROLS, model="oracle", seed=1)
    assert one(oracle(0.2) + rows)["beaten"] == "a (1 of 2)"


def test_a_problem_whose_values_are_large_does_not_decide_alone_who_is_below_random():
    """a is far below random by two small problems and a little above it by a large one."""
    rows = oracle(0.5, parameters="p") + oracle(0.5, parameters="q")
    large = turned(TRUTH | {"random": 0.0}, 1e6)
    rows += unit(large, WITH_CONTROLS, model="oracle", parameters="large")
    assert one(rows)["beaten"].startswith("a (2 of 3)")


def test_only_units_where_both_have_a_value_count():
    rows = oracle(0.2) + unit(TRUTH, model="oracle", seed=1)
    rows += [r for r in oracle(0.2, seed=2) if r["metric"] != "m" or r["method"] != "a"]
    assert one(rows)["beaten"] == "a (1 of 1)"


def test_noise_levels_of_one_problem_count_once_in_the_mean():
    rows = [r for noise in ("n", "more", "most") for r in oracle(0.2, noise=noise)]
    rows += oracle(-0.1, parameters="q")
    assert one(rows)["beaten_methods"] == 0  # 3 units of one problem for, one of another against


def test_without_the_oracle_or_random_it_is_not_known():
    for rows in (unit(TRUTH | {"random": 9.0}, WITH_CONTROLS), unit(TRUTH, model="oracle")):
        assert math.isnan(one(rows)["beaten_methods"])
        assert one(rows)["beaten"] == ""
        assert "is not known" in section(asked(rows))[-1]


def test_metrics_that_prefer_noise_are_named():
    rows = oracle(0.2, metric="odd") + [r for r in oracle(-0.1, metric="fine") if r["metric"] == "fine"]
    found = asked(rows)
    assert section(found)[-1].endswith("rank `random` above a real method: `odd`.")
    assert "* `odd`: a (1 of 1)" in markdown(found)
    assert "* `fine`" not in markdown(found)
    assert section(asked(oracle(-0.1)))[-1].endswith(": none.")


# ---- means and intervals --------------------------------------------------------------------------------


def agreeing(taus, **where):
    """A unit for every entry, over all problems, with a metric of that tau: 1, -1 or 0 (flat)."""
    rows = []
    for i, sign in enumerate(taus):
        rows += unit(turned(TRUTH, sign), parameters=f"function={i}", **where)
    return rows


def test_a_problem_counts_once_however_many_units_it_has():
    rows = agreeing([1, -1]) + agreeing([1], noise="more") + agreeing([1], seed=1) + agreeing([1], model="x")
    assert one(rows)["tau"] == one(rows)["tau_real"] == pytest.approx(0)
    assert one(rows)["units"] == 5


def test_a_single_problem_has_no_interval_and_several_have_one_around_the_mean():
    assert math.isnan(one(agreeing([1]))["low"])
    found = one(agreeing([1, 1, -1, 1, 0, 1, -1, 1]))
    assert found["low"] < found["tau"] < found["high"]
    assert found["low_real"] < found["tau_real"] < found["high_real"]


def test_one_problem_at_several_noise_levels_makes_no_interval_narrower():
    taus = [1, 1, -1, 1, 0, 1]
    columns = ["tau", "low", "high"]
    single = one(agreeing(taus, noise="n"))
    several = one([r for noise in ("n", "more", "most") for r in agreeing(taus, noise=noise)])
    assert [several[c] for c in columns] == pytest.approx([single[c] for c in columns])
    assert several["units"] == 3 * single["units"]


def test_by_noise_and_by_model():
    rows = agreeing([1, 1]) + agreeing([-1, 1], noise="more") + agreeing([-1, -1], noise="more", model="x")
    found = asked(rows)
    assert found.by_noise.set_index("noise")["tau"].to_dict() == {"n": 1, "more": -0.5}
    assert found.by_model.set_index("model")["tau_real"].to_dict() == {"mlp": 0.5, "x": -1}
    assert found.by_noise.set_index("noise")["units"].to_dict() == {"n": 2, "more": 4}
    assert found.by_noise["dataset"].unique().tolist() == ["d"]


def test_intervals_are_the_same_whenever_they_are_made_and_whoever_else_is_there():
    rng = np.random.default_rng(2)
    rows = []
    for problem, seed in itertools.product(range(8), range(3)):
        values, skills = (dict(zip("abcdefghijklm", rng.normal(size=13), strict=True)) for _ in range(2))
        rows += unit(values, skills, parameters=f"function={problem}", seed=seed)
    more = [r | {"metric": "other", "value": -r["value"]} for r in rows if r["metric"] == "m"]
    columns = ["tau", "low", "high", "low_real", "high_real"]
    alone, beside = (asked(r).metrics.set_index("metric").loc["m", columns] for r in (rows, rows + more))
    assert alone.tolist() == beside.tolist()


def test_the_best_without_controls_comes_first():
    rows = unit({"random": 8.0, "constant": 9.0} | TRUTH, WITH_CONTROLS, "good")
    worse = {"a": 2.0, "b": 1.0, "c": 3.0, "d": 4.0, "e": 5.0, "random": -1.0, "constant": -0.5}
    rows += [row(m, v, "with controls") for m, v in worse.items()]
    rows += [row(m, v, "bad") for m, v in turned(TRUTH, -1).items()]
    assert asked(rows).metrics["metric"].tolist() == ["good", "with controls", "bad"]


def test_metrics_are_compared_on_the_units_that_they_share():
    """m is asked on a hard model too, which the other metric is spared."""
    rows = agreeing([1, 1]) + agreeing([-1, -1], model="hard")
    rows += [r | {"metric": "spared"} for r in agreeing([1, 1]) if r["metric"] == "m"]
    found = asked(rows).metrics.set_index("metric")
    assert found["tau_real"].to_dict() == {"spared": 1, "m": 0}
    assert found["tau_shared"].to_dict() == {"spared": 1, "m": 1}
    again = [r for r in agreeing([-1], noise="more") if r["metric"] == "m"]  # a second unit of one problem
    again += truth(TRUTH, parameters="function=0", noise="more")
    again += [r | {"metric": "spared"} for r in again if r["metric"] == "m"]
    found = asked(rows + again).metrics.set_index("metric")
    assert found["tau_shared"].to_dict() == {"spared": 0.5, "m": 0.5}


def test_a_metric_without_any_value_is_listed():
    rows = unit(TRUTH) + [row(m, math.nan, "never", status="skipped") for m in TRUTH]
    found = asked(rows).metrics.set_index("metric")
    assert found.loc["never", ["units", "units_real", "flat"]].tolist() == [0, 0, 0]
    assert math.isnan(found.loc["never", "tau"])
    assert found.index.tolist() == ["m", "never"]
    assert display(asked(rows))["tau with controls"].tolist() == ["+1.00", ""]


def simulated(metrics, problems, seeds):
    """Metrics that follow the truth on some problems and turn it round on as many: the mean tau is 0."""
    rng = np.random.default_rng(0)
    rows = []
    for problem in range(problems):
        leanings = rng.choice([-1.5, 1.5], size=metrics)
        for seed in range(seeds):
            skills = dict(zip("abcdef", rng.normal(size=6), strict=True))
            where = {"parameters": f"function={problem}", "seed": seed}
            rows += truth(skills, **where)
            for i, lean in enumerate(leanings):
                rows += [row(m, lean * s + rng.normal(), f"m{i}", **where) for m, s in skills.items()]
    return rows


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    """Measured 0.97 of 100 metrics; with every unit taken for a problem of its own it is 0.88."""
    found = asked(simulated(100, problems=12, seeds=2), best=INF, worst=-INF).metrics
    covered = (found["low"] <= 0) & (found["high"] >= 0)
    assert 0.91 <= covered.sum() / len(found) <= 0.99
    assert abs(found["tau"].mean()) < 0.05


def test_a_metric_that_is_independent_of_the_truth_has_tau_0_within_its_interval():
    rng = np.random.default_rng(1)
    rows = []
    for problem, seed in itertools.product(range(10), range(3)):
        values = dict(zip(TRUTH, rng.permutation(5) * 1.0, strict=True))
        rows += unit(values, parameters=f"function={problem}", seed=seed)
    found = one(rows)
    assert abs(found["tau"]) < 0.2
    assert found["low"] < 0 < found["high"]
    assert found["high"] - found["low"] < 0.6


# ---- files and text -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A results folder with all that is needed."""
    rows = oracle(0.2) + unit(TRUTH | {"random": 0.5}, WITH_CONTROLS)
    scores = pd.DataFrame(rows)
    scores.to_csv(tmp_path / "scores.csv", index=False)
    facts = declared(rows, best=0.0, worst=-INF, caveat="Look twice.").assign(
        needs="model", paper="", version="1"
    )
    facts.to_csv(tmp_path / "metrics.csv", index=False)
    table = costs().assign(control=lambda f: f["control"].astype(int))
    table.reindex(columns=[*COLUMNS["costs"]], fill_value="").to_csv(tmp_path / "costs.csv", index=False)
    return tmp_path


def test_a_results_folder_says_what_its_frames_say(folder):
    found = load_trust(folder)
    assert found.controls == CONTROLS
    assert found.metrics["tau_real"].tolist() == [1]
    assert found.metrics["beaten"].tolist() == ["a (1 of 1)"]
    assert found.metrics["caveat"].tolist() == ["Look twice."]
    for name in ("scores", "metrics", "costs"):
        file = folder / f"{name}.csv"
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    pd.testing.assert_frame_equal(load_trust(folder).metrics, found.metrics)


def test_trust_can_be_asked_of_some_methods_alone(folder):
    scores = pd.read_csv(folder / "scores.csv", keep_default_na=False)
    names = list(scores["method"].unique())
    assert load_trust(folder, [n for n in names if n != "a"]).metrics["beaten"].tolist() == [""]
    with pytest.raises(AssayError, match="ranked both ways"):
        load_trust(folder, names[: FEWEST - 1])
    with pytest.raises(AssayError, match=r"no method in .* is 'nobody'\. Known: "):
        load_trust(folder, ["nobody", *names])


@pytest.mark.parametrize("caveat", ["", None])
def test_a_metric_without_a_caveat_has_none(caveat):
    assert "Caveats" not in markdown(asked(unit(TRUTH), caveat=caveat))


def test_a_folder_without_metrics_csv_says_what_to_do(folder):
    (folder / "metrics.csv").unlink()
    with pytest.raises(AssayError, match=r"has no metrics\.csv.*make the tables again with `report`"):
        load_trust(folder)


def test_results_without_truth_or_without_another_metric_are_refused():
    rows = unit(TRUTH)
    with pytest.raises(AssayError, match="no ground-truth cell is ok"):
        asked(rows[5:])
    with pytest.raises(AssayError, match="no metric beside ground truth and agreement has a value"):
        asked(rows[:5])
    with pytest.raises(AssayError, match="no ground-truth cell is ok"):
        trust(pd.DataFrame(rows).iloc[:0], declared(rows), costs())
    with pytest.raises(AssayError, match="ranked both ways"):
        asked(truth(TRUTH, seed=0) + unit(TRUTH, seed=1)[5:])


def test_what_is_written(folder):
    found = load_trust(folder)
    write(found, folder / "new")
    back = pd.read_csv(folder / "new" / "trust.csv")
    assert back["scope"].tolist() == ["overall", "noise=d n", "model=oracle", "model=mlp"]
    assert back["tau_real"].tolist() == [1, 1, 1, 1]
    assert list(back.columns) == list(tidy(found).columns)
    assert not {"dataset", "noise", "model"} & set(back.columns)
    text = (folder / "new" / "trust.md").read_text(encoding="utf-8")
    assert text == markdown(found)
    assert text.startswith("# Can the other metrics be trusted?\n")
    for said in (
        "## Tau without controls by noise",
        "by model",
        "* `m`: Look twice.",
        "Controls: random, constant.",
    ):
        assert said in text
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    assert [cell.strip() for cell in lines[-2]] == ["metric", "oracle", "mlp"]
    assert [cell.strip() for cell in lines[-1]] == ["m", "+1.00", "+1.00"]


def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(folder):
    (folder / "file").write_text("")
    with pytest.raises(AssayError, match=r"cannot be written .*; give another with --out"):
        write(load_trust(folder), folder / "file" / "below")


def test_the_section_of_the_leaderboard_says_how_to_read_it(folder):
    found = load_trust(folder)
    parts = section(found)
    assert parts[0] == "## Can the other metrics be trusted?"
    assert "than three\nproblems there is none" in parts[1]
    assert display(found)["tau without controls"].tolist() == ["+1.00"]
    assert display(found).map(lambda cell: isinstance(cell, str)).all(axis=None)
    assert parts[-1].endswith("`m`.")
