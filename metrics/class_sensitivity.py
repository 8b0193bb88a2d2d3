"""Class sensitivity."""

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.sharing import explained_again
from ..benchmarks.variants import OtherClass, correlation


@metric(
    version=1,
    paper="https://arxiv.org/abs/2004.02866",
    family="randomisation",
    best=-1.0,
    worst=1.0,
    needs=("model", "explain"),
    ceiling="none",
    claims=("scale", "sign"),
    chance=0.0,
)
def class_sensitivity(evidence: Evidence) -> Scores:
    """Pearson's correlation of the maps of the most and of the least likely class.

    The most likely class is the one explained; the least likely one has the smallest output of the row.  The
    correlation is of the maps as given.  The paper's own maps are sizes, of which the best that can be had is
    about 0; signed maps of opposite classes reach -1.  Of two classes, maps of sizes score 1 however right
    they are.  Two constant maps count as the same, 1, and one with a map that varies as unlike, 0.

    No unit; -1 (the reverse) to 1 (the map does not hang on the class), 0 for noise; lower is better.  NaN
    where there is one feature alone.  Source: Rebuffi, Fong, Ji and Vedaldi 2020, arXiv 2004.02866.

    Raises:
        NotApplicable: the model has a single output.
    """
    return correlation(evidence.attribution, explained_again(evidence, OtherClass(least_likely=True)))
