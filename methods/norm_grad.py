"""NormGrad."""

from ..benchmarks.layermaps import Activations, PlaceMaps, layer_maps, over_channels
from ..benchmarks.plugin import Case, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/2004.02866",
    needs=("gradient", "layers", "convolution"),
    signed=False,
    cost="passes",
)
def norm_grad(case: Case, *, layer: int = -1) -> Samples:
    """The norm of a layer's activations at a place times the norm of its gradients there.

    It is the Frobenius norm of what the place adds to the gradient of the weights of a 1 x 1 convolution that
    is put behind the layer and changes nothing: one of the paper's virtual identities.  One layer is taken;
    the paper's combination of several is not.

    layer: among the layers laid out as pictures; -1 is the last before the places are pooled.

    Range: 0 and above.  Source: Rebuffi, Fong, Ji and Vedaldi 2020, arXiv 2004.02866.

    Raises:
        NotApplicable: the features are no pictures, or there is no such layer.
    """
    return over_channels(case, layer_maps(case, layer, _norms))


def _norms(activations: Activations, gradients: Activations) -> PlaceMaps:
    return activations.norm(dim=1) * gradients.norm(dim=1)
