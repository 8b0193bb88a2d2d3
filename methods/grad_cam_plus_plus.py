"""Grad-CAM++."""

from ..benchmarks.layermaps import Activations, PlaceMaps, layer_maps, over_channels
from ..benchmarks.plugin import Case, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/1710.11063",
    needs=("gradient", "layers", "convolution"),
    signed=False,
    cost="passes",
)
def grad_cam_plus_plus(case: Case, *, layer: int = -1) -> Samples:
    """A layer's activations, each channel weighted by its positive gradients, which are weighted themselves.

    ReLU(sum_k w_k A_k), w_k the sum over the places of a ReLU(g), where g is the derivative of the explained
    output in A_k and a = g^2 / (2 g^2 + g^3 sum A_k), the paper's closed form for an output that goes through
    an exponential.  The exponential itself, one positive factor a row, is left out, as it overflows; so is
    the division of a by its sum, a step of the authors' code that the formula lacks.

    layer: among the layers laid out as pictures; -1 is the last before the places are pooled.  The formula
        is made for activations that are not negative, as after a ReLU.

    Range: 0 and above.  Source: Chattopadhyay et al. 2018, arXiv 1710.11063.

    Raises:
        NotApplicable: the features are no pictures, or there is no such layer.
    """
    return over_channels(case, layer_maps(case, layer, _weighted))


def _weighted(activations: Activations, gradients: Activations) -> PlaceMaps:
    # g^2 cancels: small gradients would underflow in the powers
    below = 2 + gradients * activations.sum((2, 3), keepdim=True)
    share = (1 / below).where(below != 0, 0.0)
    weight = (share * gradients.relu()).sum((2, 3), keepdim=True)
    return (weight * activations).sum(1).relu()
