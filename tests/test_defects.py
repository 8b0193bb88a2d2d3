"""Nine defects of the reference code of arXiv 2406.12150, and the test that each cannot come back by.

1. DeepLIFT that is silently input x gradient on GELU.
2. |gradient| scored against a signed derivative.
3. Per-row precision that favours gradients, shown without the level of chance and of a perfect answer.
4. Path integrals by a left-point sum, incomplete by percents.
5. A zero norm that is NaN and counts as top; ties settled by position, where relevant columns come first.
6. Relevance declared instead of derived; effects below the label noise passed over.
7. Dropout and batch statistics at work while explaining.
8. Seed 0 taken for no seed; random state carried from one problem to the next.
9. A thousand full-batch epochs, which overfit, and then measure the overfitting.
"""

import ast
from pathlib import Path

import pytest
import torch

from assay.benchmarks.evaluation import draw
from assay.benchmarks.grid import expand
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import Case
from assay.benchmarks.randomness import rng_for
from assay.benchmarks.truth import exact_attribution
from assay.benchmarks.yardstick import Aim, Yardstick

load_plugins()
TESTS = {
    1: ("test_methods.py", "test_deep_lift_by_captum_s_rules_is_input_x_gradient_and_is_reported"),
    2: ("test_ranking.py", "test_sizes_are_scored_against_the_size_of_the_truth"),
    3: ("test_defects.py", "test_precision_a_row_favours_gradients_and_its_yardsticks_say_so"),
    4: ("test_truth.py", "test_left_point_sums_would_miss_completeness_by_percents_and_ours_do_not"),
    5: (
        "test_ranking.py",
        "test_a_constant_map_scores_the_share_of_relevant_features_though_they_come_first",
    ),
    6: ("test_symbolic.py", "test_some_relevant_columns_drown_in_the_label_noise"),
    7: ("test_methods.py", "test_dropout_is_off_while_a_map_is_made"),
    8: ("test_symbolic.py", "test_same_seed_same_bits_and_seed_0_is_a_seed"),
    9: ("test_models.py", "test_fast_overfits_less_than_the_published_protocol"),
}


@pytest.mark.parametrize(("file", "name"), TESTS.values(), ids=[f"defect_{n}" for n in TESTS])
def test_every_defect_has_its_test(file, name):
    tree = ast.parse((Path(__file__).parent / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


class Leaky(torch.nn.Module):
    """The exact function plus tiny weights on all columns: a perfect model as training leaves it."""

    def __init__(self, oracle, weights):
        super().__init__()
        self.oracle = oracle
        self.weights = weights

    def forward(self, x):
        return self.oracle(x) + x @ self.weights.to(x)[:, None]


def test_precision_a_row_favours_gradients_and_its_yardsticks_say_so():
    (dataset,), (metric,) = (
        expand("dataset", ["symbolic[function=14,columns=100,explained=200]"]),
        expand("metric", ["functional_precision"]),
    )
    problem = draw(dataset, 0)
    x, target = problem.x[problem.explained], torch.zeros(200, dtype=torch.int64)
    weights = 0.02 * torch.randn(x.shape[1], generator=torch.Generator().manual_seed(0))
    case = Case(
        model=Leaky(problem.oracle, weights).eval(),
        x=x,
        target=target,
        baseline=problem.baseline,
        background=problem.background,
        groups=None,
        rng=rng_for("leaky"),
    )
    yardstick = Yardstick(problem, case, "leaky")

    def score(values, estimand):
        return yardstick.rows_of(metric, yardstick.evidence(values, Aim(estimand))).mean()

    truths = {e: exact_attribution(problem, target, e) for e in ("gradient", "gradient_x_input", "ablation")}
    leak = {"gradient": weights.expand_as(x), "gradient_x_input": weights * x, "ablation": weights * x}
    found = {name: score(truth + leak[name].double(), name) for name, truth in truths.items()}
    assert found["gradient"] > found["gradient_x_input"] + 0.05
    assert found["gradient"] > found["ablation"] + 0.05
    for (
        estimand,
        truth,
    ) in truths.items():  # so every score stands beside what the exact answer gets, and chance
        chance, ceiling = yardstick.bounds(metric, Aim(estimand))
        assert ceiling.mean() == score(truth, estimand)
        assert chance.mean() == pytest.approx(10 / 110, abs=0.02)
        assert ceiling.mean() > found[estimand]
