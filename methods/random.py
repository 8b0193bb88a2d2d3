"""Control: an attribution that looks at nothing."""

from ..benchmarks.perturb import random_map
from ..benchmarks.plugin import Case, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/1810.03292",
    cost="none",
    control=True,
)
def random(case: Case) -> Samples:
    """Gaussian noise of the size of f(x) - f(baseline): the floor that every skill is measured from."""
    return random_map(case, case.rng)
