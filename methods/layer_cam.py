"""LayerCAM."""

from ..benchmarks.layermaps import Activations, PlaceMaps, layer_maps, over_channels
from ..benchmarks.plugin import Case, Samples, method


@method(
    version=1,
    paper="https://doi.org/10.1109/TIP.2021.3089943",
    needs=("gradient", "layers", "convolution"),
    signed=False,
    cost="passes",
)
def layer_cam(case: Case, *, layer: int = -1) -> Samples:
    """A layer's activations, each weighted by its own gradient where that is positive, summed over channels.

    ReLU(sum_k ReLU(g_k) A_k), place by place, g_k the derivative of the explained output in A_k; upsampled
    bilinearly, in equal shares for the channels of the picture.  Weights differ from place to place, so that
    it serves earlier layers too, where Grad-CAM's means say little.

    layer: among the layers laid out as pictures; -1 is the last before the places are pooled.

    Range: 0 and above.  Source: Jiang et al. 2021, doi 10.1109/TIP.2021.3089943.

    Raises:
        NotApplicable: the features are no pictures, or there is no such layer.
    """
    return over_channels(case, layer_maps(case, layer, _weighted))


def _weighted(activations: Activations, gradients: Activations) -> PlaceMaps:
    return (gradients.relu() * activations).sum(1).relu()
