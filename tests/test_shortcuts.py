"""From tables of many models: which method tells who uses the shortcut."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu, spearmanr

from assay.benchmarks import detection, shortcuts
from assay.benchmarks.leaderboard import Tables
from assay.benchmarks.registry import AssayError
from assay.benchmarks.store import COLUMNS
from assay.benchmarks.tables import read_table

LEVELS = (0.0, 0.5, 1.0)
USED = {"linear": (0.0, 0.1, 0.6), "mlp": (0.02, 0.4, 0.9)}  # share of reliance at each level


def rows_of(table, rows):
    return pd.DataFrame([dict.fromkeys(COLUMNS[table]) | row for row in rows])


def units():
    """(place, model's share): a model at a level; and one by hand, at every level."""
    for seed in (0, 1):
        for i, level in enumerate(LEVELS):
            place = {"dataset": "d", "parameters": "", "noise": f"correlation={level}", "seed": seed}
            place["model_seed"] = 0
            for model, shares in USED.items():
                yield place | {"model": model}, shares[i] + 0.01 * seed
            yield place | {"model": "region_only"}, 0.0
            yield place | {"model": "region_only[region=shortcut]"}, 1.0


def tables(methods, metric="shortcut_mass"):
    """methods: name -> what its map has on the shortcut of a model with such a share."""
    scores = [
        place
        | {"method": name, "metric": metric, "family": "reliance", "status": "ok", "value": mass(share, i)}
        | {"value_aligned": 0.2, "value_conflicting": 0.4}
        for name, mass in methods.items()
        for i, (place, share) in enumerate(units())
    ]
    used = [place | {"region": "shortcut", "share": share} for place, share in units()]
    used += [place | {"region": "relevant", "share": 1 - share} for place, share in units()]
    facts = {(p["noise"], p["seed"]): p for p, _ in units()}.values()
    problems = [
        {k: p[k] for k in ("dataset", "parameters", "noise", "seed")}
        | {"facts": json.dumps({"association": float(p["noise"].partition("=")[2])})}
        for p in facts
    ]
    models = [place | {"accuracy_aligned": 1.0, "accuracy_conflicting": 0.5} for place, _ in units()]
    whole = {"scores": scores, "reliance": used, "problems": problems, "models": models}
    found = {name: rows_of(name, rows) for name, rows in whole.items()}
    empty = {name: rows_of(name, []) for name in ("agreement", "costs")}
    return Tables(**found, **empty)


NOISE = np.random.default_rng(5).random(100)


def section(found):
    return shortcuts.section(shortcuts.answers(found), found)


METHODS = {
    "honest": lambda share, _: 0.3 * share + 0.1,
    "late": lambda share, _: 0.3 if share > 0.55 else 0.1,  # sees it only in the strongest users
    "random": lambda _, i: NOISE[i],
    "reverse": lambda share, _: -share,
}


@pytest.fixture(scope="module")
def answer():
    return shortcuts.answers(tables(METHODS))["shortcut_mass"].set_index("method")


def test_auroc_and_correlation_are_those_of_scipy(answer):
    share = np.array([share for _, share in units()])
    trained = np.array([not place["model"].startswith("region_only") for place, _ in units()])
    for name, mass in METHODS.items():
        value = np.array([mass(s, i) for i, s in enumerate(share)])
        users, others = value[trained & (share >= 0.25)], value[trained & (share <= 0.1)]
        wanted = mannwhitneyu(users, others).statistic / len(users) / len(others)
        assert answer["auroc"][name] == pytest.approx(wanted)
        own = spearmanr(value[trained], share[trained]).statistic
        assert answer["correlation"][name] == pytest.approx(own)
        assert answer["with_hand_made"][name] == pytest.approx(spearmanr(value, share).statistic)


def test_who_tells_the_hand_made_models_alone_reveals_nothing():
    """As a gradient of an untrained copy does: their architecture shows what they can see."""
    seen = tables({"blind": lambda share, _: share if share in (0.0, 1.0) else 0.3})
    found = shortcuts.answers(seen)["shortcut_mass"].iloc[0]
    assert found["with_hand_made"] > 0.9
    assert found["auroc"] < 0.9
    assert np.isnan(found["from"])


def test_a_method_reveals_from_the_level_on_at_which_all_users_are_told(answer):
    assert answer["from"]["honest"] == 0.5
    assert answer["from"]["late"] == 1.0
    assert np.isnan(answer["from"]["random"])
    assert np.isnan(answer["from"]["reverse"])


def test_thresholds_come_from_the_other_seed(answer):
    assert answer["sensitivity"]["honest"] == 1
    assert answer["specificity"]["honest"] == 1
    share, low, high = (answer[f"sensitivity{end}"]["late"] for end in ("", "_low", "_high"))
    assert share == pytest.approx(2 / 3)  # not the mlp at level 0.5, of three users in each of two seeds
    assert 0 < low < share < high < 1


def test_best_first_and_groups_beside(answer):
    assert answer.index[0] == "honest"
    assert answer["aligned"]["honest"] == pytest.approx(0.2)
    assert answer["conflicting"]["honest"] == pytest.approx(0.4)


def test_first_lines_answer_the_question():
    text = "\n\n".join(section(tables(METHODS)))
    assert "* From 0.5 on: `honest` (1.00)." in text
    assert "* From 1 on: `late`" in text
    assert "* At no strength: `random`" in text
    assert text.index("From 0.5 on") < text.index("| method")
    assert "What the models rely on" in text


def test_without_reliance_there_is_nothing_to_say():
    found = tables(METHODS)
    assert section(Tables(found.scores, found.agreement, found.models, found.costs)) == []
    assert section(tables(METHODS, metric="deletion")) == []


def test_a_model_that_relies_on_nothing_has_no_share_and_harms_nobody(tmp_path):
    """As one does that always says the same."""
    found = tables(METHODS)
    found.reliance.loc[found.reliance.index[0], "share"] = None
    found.reliance.drop(columns="key", errors="ignore").to_csv(tmp_path / "reliance.csv", index=False)
    read = read_table(tmp_path, "reliance")
    assert read["share"].isna().sum() == 1
    assert "From 0.5 on: `honest`" in "\n".join(section(replace(found, reliance=read)))


def test_nobody_is_judged_on_easier_models():
    """A method that explains half of the models takes the others from nobody's list but its own."""
    found = tables(METHODS)
    scores = found.scores
    gone = (scores["method"] == "honest") & (scores["model"] == "mlp")
    answer = shortcuts.answers(replace(found, scores=scores[~gone]))["shortcut_mass"]
    counts = answer.set_index("method")[["users", "non_users"]]
    assert (counts.loc["late"] == counts.loc["honest"]).all()


def test_unlearned_models_do_not_count():
    found = tables(METHODS)
    found.scores["status"] = "unlearned"
    assert section(found) == []


def judged(users, others, size=1):
    """Models, `size` of them of one draw."""
    share = np.array([1.0] * len(users) + [0.0] * len(others))
    return np.concatenate([users, others]), share, np.arange(len(share)) // size


def test_intervals_hold_the_mean_and_shrink_with_models():
    rng = np.random.default_rng(0)
    widths = []
    for n in (10, 250):
        models = judged(rng.normal(1, 1, n), rng.normal(0, 1, n))
        mean, low, high = detection.mean_auroc([models], 0.1, 0.25, rng)
        assert low < mean < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("size", [1, 4])
def test_intervals_of_aurocs_cover_the_truth(size):
    """Two normal laws one deviation apart: Phi(1 / sqrt 2), .760; models of a draw say the same."""
    rng, inside = np.random.default_rng(1), 0
    for _ in range(200):
        users, others = (rng.normal(mean, 1, 30).repeat(size) for mean in (1, 0))
        _, low, high = detection.mean_auroc([judged(users, others, size)], 0.1, 0.25, rng)
        inside += low < 0.7602 < high
    assert 178 <= inside <= 199


def test_intervals_of_correlations_cover_the_truth():
    """Of two normals of correlation .8 Spearman's is 6 / pi asin(.4)."""
    rng, inside, wanted = np.random.default_rng(2), 0, 6 / np.pi * np.arcsin(0.4)
    for _ in range(200):
        a, e = rng.normal(size=(2, 60))
        models = a, 0.8 * a + 0.6 * e, np.arange(60)
        _, low, high = detection.mean_correlation([models], rng)
        inside += low < wanted < high
    assert 178 <= inside <= 199


def test_few_draws_have_no_interval():
    assert np.isnan(
        detection.mean_auroc([judged(np.ones(3), np.zeros(3))], 0.1, 0.25, np.random.default_rng(0))[1]
    )


@pytest.mark.parametrize(("hits", "of"), [(0, 5), (5, 5), (3, 8)])
def test_proportions_have_wilson_intervals(hits, of):
    share, low, high = detection.proportion(hits, of)
    z = 1.959964
    centre, half = (
        (hits + z**2 / 2) / (of + z**2),
        z * np.sqrt(hits * (of - hits) / of + z**2 / 4) / (of + z**2),
    )
    assert share == hits / of
    assert low == pytest.approx(centre - half, abs=1e-6)
    assert high == pytest.approx(centre + half, abs=1e-6)


@pytest.mark.parametrize("facts", ["", "{", "[]", "3", '{"association": "high"}', '{"association": [1]}'])
def test_facts_that_are_no_facts_are_named(facts):
    with pytest.raises(
        AssayError, match=r"column 'facts' of problems\.csv has .*; make it again with `report`"
    ):
        shortcuts._fact(facts, "association")
