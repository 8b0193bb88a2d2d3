"""The words that plug-ins are declared with, and what they mean."""

from typing import Any, Literal, TypeAlias, get_args

from .registry import AssayError, near_miss

CACHE, DEVICE = "ASSAY_CACHE", "ASSAY_DEVICE"  # variables that the command sets, and workers inherit

Task: TypeAlias = Literal["regression", "classification"]

# What a method may need of a model.
Capability: TypeAlias = Literal[
    "gradient",  # its output is differentiable in its input
    "layers",  # it is built of nn.Module layers, none used twice, so that hooks see every operation
    "linear",  # it is nn.Sequential(nn.Flatten(), nn.Linear(...))
    "trees",  # it is a `trees.TreeEnsemble`
    "convolution",  # it has layers whose output is laid out as its input is: [n, channels, *places]
    "attention",  # its attention is `transformer.Attention`, whose weights can be read
]

# The exact quantity that a method estimates.
Estimand: TypeAlias = Literal[
    "gradient",  # the derivative in each feature
    "gradient_x_input",  # that, times the feature
    "ablation",  # what the output loses when one unit alone is absent
    "integrated_gradients",  # the derivative averaged on the straight path from absence, times the difference
    "shapley",  # what a unit adds, averaged over all orders in which units can come in
    "none",  # no such quantity: the method is then held against Shapley values
]

# What an absent feature is replaced by.
Value: TypeAlias = Literal[
    "baseline",  # the problem's one baseline
    "marginal",  # each row of the problem's background in turn; the output is averaged over them
]

# What holds for a method's attributions on every model that it can explain.
Promise: TypeAlias = Literal[
    "complete",  # they sum to f(x) - f(everything absent), row by row
    "dummy",  # a feature that the model does not use gets 0
    "symmetry",  # features that the model and the row cannot tell apart get the same
    "linearity",  # those of a sum of models are the sum of those of each
]

# Where networks of pictures and of sound run; `auto` is a GPU where there is one.
Device: TypeAlias = Literal["auto", "cpu", "cuda"]

# What decides how many model rows a method takes for a row explained.
Cost: TypeAlias = Literal[
    "none",  # no more than the prediction
    "passes",  # a fixed few, forward or backward
    "path",  # the steps of a path
    "samples",  # its budget
    "units",  # the number of units
    "exponential",  # two to the number of units
    "unknown",
]

# What a metric judges.
Family: TypeAlias = Literal[
    "ground truth",  # the map against what is known of the problem
    "faithfulness",  # the map against the model's outputs when features are taken away
    "retraining",  # the map against what models learn when features are taken away before training
    "robustness",  # how much the map changes when the input hardly does
    "randomisation",  # how much the map changes when the model, or the class, is another
    "complexity",  # how few features the map names
    "axiom",  # what a method's maps must satisfy
    "stability",  # how much the map owes to seeds
    "reliance",  # the map against what the model was measured to use, whatever causes the label
    "agreement",  # the map against another method's
    "end task",  # the answers that a user would read off the map, against what the model does
    "error split",  # how much of the map's error is the estimator's, the model's and the definition's
]

# What a metric needs beside the map.
Need: TypeAlias = Literal[
    "truth",  # the exact attribution
    "other",  # a second method's attribution: it then measures agreement
    "reference",  # one or the other: it measures both, in cells of their own
    "model",  # the model's outputs
    "explain",  # the method again, on other rows or another model
    "estimand",  # what the method says that it estimates: chance is then measured for each
    "training",  # models, trained anew
]

# Whose score counts as skill 1.
Ceiling: TypeAlias = Literal[
    "exact",  # the oracle's exact attribution's; where there is no oracle, `best`
    "ablation",  # that of the model's own exact single ablation
    "best",
    "none",  # nobody's: a constant or a random map may score best, so that there is a value and no skill
]

# What holds for a metric's scores.
Claim: TypeAlias = Literal[
    "exact",  # the exact attribution of a linear model scores `best`
    "scale",  # a map times a positive number scores the same
    "sign",  # a map and its negative score the same
    "ties",  # a tie scores what breaking it at random would on average
]


def aim(estimand: Estimand, value: Value) -> str:
    """What a method is held against, as in the tables: a derivative has no value function."""
    derivative = estimand in {"gradient", "gradient_x_input"}
    return estimand if derivative or value == "baseline" else f"{estimand} ({value})"


def words(what: str, given: str | tuple[str, ...], allowed: Any) -> tuple[str, ...]:
    """`given`, one word or several, as a tuple.

    Raises:
        AssayError: a word is none of the literal `allowed`.
    """
    found = (given,) if isinstance(given, str) else tuple(given)
    for word in found:
        if word not in get_args(allowed):
            raise AssayError(f"{what} cannot be {word!r}.{near_miss(word, get_args(allowed))}")
    return found
