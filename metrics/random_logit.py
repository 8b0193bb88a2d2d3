"""Random logit test."""

from ..benchmarks.plugin import Evidence, Scores, metric
from ..benchmarks.sharing import explained_again
from ..benchmarks.variants import OtherClass, correlation


@metric(
    version=1,
    paper="https://arxiv.org/abs/1912.09818",
    family="randomisation",
    best=-1.0,
    worst=1.0,
    needs=("model", "explain"),
    ceiling="none",
    claims=("scale", "sign"),
    chance=0.0,
)
def random_logit(evidence: Evidence) -> Scores:
    """Spearman's correlation of the map with the map of another class, drawn at random for every row.

    Signed, where the paper takes the structural similarity of pictures: what speaks for one of two classes
    speaks against the other, so that the exact maps of logits m and -m are each other's negative, -1.  Their
    sizes are the same, and a similarity of sizes would call them blind to the class: of two classes, methods
    that return sizes score 1 however right they are.  Two constant maps count as the same, 1, and one with a
    map that varies as unlike, 0.

    No unit; -1 (the reverse) to 1 (the map does not hang on the class), 0 for noise; lower is better.  NaN
    where there is one feature alone.  Source: Sixt, Granz and Landgraf 2020, arXiv 1912.09818.

    Raises:
        NotApplicable: the model has a single output.
    """
    other = explained_again(evidence, OtherClass(least_likely=False))
    return correlation(evidence.attribution, other, ranks=True)
