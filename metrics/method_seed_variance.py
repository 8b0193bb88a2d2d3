"""Variance between runs of a method from other seeds."""

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
def method_seed_variance(
    evidence: Evidence, *, models: Annotated[int, Ge(2)] = 3, seeds: Annotated[int, Ge(2)] = 2
) -> Scores:
    """Share of the map's mean square that is due to the method's own random numbers.

    The variance between runs of the method on one model, averaged over several models, summed over the
    features, and divided by E |a|^2: see `model_seed_variance`, which reads the same maps.  A method that
    draws nothing scores exactly 0.

    models: this one among them; the others are trained for all methods alike.
    seeds: of the method, on each model.

    No unit; 0 (all runs are the same) to 1 (nothing is common to them); lower is steadier.  A zero map: 0.
    Source: variance components, Henderson 1953.

    Raises:
        NotApplicable: it is not known how to train the model.
    """
    return of_map(evidence, SeedShares(models, seeds))[1]
