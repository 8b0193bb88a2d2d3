"""Grad-CAM."""

from ..benchmarks.layermaps import Activations, PlaceMaps, layer_maps, over_channels
from ..benchmarks.plugin import Case, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/1610.02391",
    needs=("gradient", "layers", "convolution"),
    signed=False,
    cost="passes",
)
def grad_cam(case: Case, *, layer: int = -1, relu: bool = True) -> Samples:
    """A layer's activations, each channel weighted by its mean gradient, summed over the channels.

    ReLU(sum_k w_k A_k), w_k the mean over the places of the derivative of the explained output (a logit, not
    a probability) in A_k; upsampled bilinearly, in equal shares for the channels of the picture.

    layer: among the layers laid out as pictures; -1 is the last before the places are pooled, -2 the one
        before.
    relu: drop what speaks against the output, as the paper does; else the map has a sign, though it is still
        scored against sizes.

    Range: 0 and above, with `relu`.  Source: Selvaraju et al. 2017, arXiv 1610.02391.

    Raises:
        NotApplicable: the features are no pictures, or there is no such layer.
    """

    def rule(activations: Activations, gradients: Activations) -> PlaceMaps:
        weight = gradients.mean((2, 3), keepdim=True)
        total = (weight * activations).sum(1)
        return total.relu() if relu else total

    return over_channels(case, layer_maps(case, layer, rule))
