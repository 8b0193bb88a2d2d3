"""UScore."""

from jaxtyping import Float
from torch import Tensor

from ..benchmarks.plugin import Evidence, Scores, metric

EPSILON = 1e-7  # the paper's


@metric(
    version=1,
    paper="https://arxiv.org/abs/2406.12150",
    family="ground truth",
    best=1.0,
    worst=0.0,
    needs=("truth",),
    claims=("exact", "scale"),
)
def uscore(evidence: Evidence) -> Scores:
    """Mean over the relevant features of 1 - |a - t| / (|a| + |t| + 1e-7), after L1 normalisation.

    The attribution a and the truth t are each divided by their own L1 norm over all features of the row;
    a zero norm leaves zeros.  Signs count: a method that returns sizes must be handed |t|.  Per feature the
    score is relative, so a small effect weighs as much as a large one.

    No unit; 0 (wrong sign everywhere, or all mass elsewhere) to 1 (equal up to scale); higher is better.
    NaN where no feature is relevant.  Source: ChaosMining, arXiv 2406.12150.
    """
    assert evidence.truth is not None  # declared in `needs`
    a, t = _shares(evidence.attribution), _shares(evidence.truth)
    relevant = evidence.relevant.flatten(1)
    similarity = 1 - (a - t).abs() / (a.abs() + t.abs() + EPSILON)
    return (similarity * relevant).sum(1) / relevant.sum(1)


def _shares(a: Float[Tensor, "n *feature"]) -> Float[Tensor, "n d"]:
    """Every row divided by its L1 norm; a zero row stays zero."""
    flat = a.double().flatten(1)
    norm = flat.abs().sum(1, keepdim=True)
    return flat / norm.where(norm > 0, 1.0)
