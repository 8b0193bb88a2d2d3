"""Guided Grad-CAM."""

import warnings

from captum.attr import GuidedBackprop
from torch import nn

from ..benchmarks.layermaps import Activations, PlaceMaps, layer_maps
from ..benchmarks.plugin import Case, Note, Samples, method
from ..benchmarks.relu_rules import through_relus


@method(
    version=1,
    paper="https://arxiv.org/abs/1610.02391",
    needs=("gradient", "layers", "convolution"),
    cost="passes",
)
def guided_grad_cam(case: Case, *, layer: int = -1) -> Samples:
    """Guided backpropagation times Grad-CAM, feature by feature.

    Grad-CAM is upsampled bilinearly and multiplies every channel of its place whole.  Where the network has
    no ReLU, guided backpropagation is the gradient, and the map says so.

    layer: of Grad-CAM, among the layers laid out as pictures; -1 is the last before the places are pooled.

    Source: Selvaraju et al. 2017, arXiv 1610.02391.

    Raises:
        NotApplicable: the features are no pictures, or there is no such layer.
    """
    where = layer_maps(case, layer, _grad_cam)
    if not any(isinstance(m, nn.ReLU) for m in case.model.modules()):
        warnings.warn(Note("is the gradient times Grad-CAM: the network has no ReLU"), stacklevel=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)  # would say that it is the gradient
        guided = through_relus(case, GuidedBackprop)
    return guided.detach() * where[:, None]


def _grad_cam(activations: Activations, gradients: Activations) -> PlaceMaps:
    return (gradients.mean((2, 3), keepdim=True) * activations).sum(1).relu()
