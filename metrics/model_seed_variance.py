"""Variance between models of other seeds."""

from typing import Annotated

from annotated_types import Ge

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.sharing import of_map
from ..benchmarks.variants import SeedShares


@metric(
    version=1,
    paper="https://doi.org/10.2307/3001853",
    family="stability",
    best=0.0,
    worst=1.0,
    needs=("explain", "training"),
    ceiling="none",
    claims=("scale", "sign"),
)
def model_seed_variance(
    evidence: Evidence, *, models: Annotated[int, Ge(2)] = 3, seeds: Annotated[int, Ge(2)] = 2
) -> Scores:
    """Share of the map's mean square that is due to the seed that the model was trained from.

    The method explains several models of the same kind, its own seed drawn several times on each.  With m a
    model and s a run, a_ms = mean + model_m + run_ms: the nested random-effects analysis of variance
    estimates the variances of the last two without bias, here summed over the features.  The score is the
    variance between models, with what runs add to it taken off and not below 0, over E |a|^2, which is both
    variances and the squared mean.  The class explained stays the same.  A method that samples scores a
    little above 0 even where all models are one, as what is below 0 is cut off.

    models: this one among them; the others are trained for all methods alike.
    seeds: of the method, on each model.

    No unit; 0 (the map does not hang on the seed) to 1 (nothing is common to the models); lower is steadier.
    A zero map: 0.  Source: variance components, Henderson 1953.

    Raises:
        NotApplicable: it is not known how to train the model.
    """
    return of_map(evidence, SeedShares(models, seeds))[0]
