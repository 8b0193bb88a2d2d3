"""Control: the edges of the picture."""

import torch
from torch.nn import functional

from ..benchmarks.layermaps import over_channels, picture_size
from ..benchmarks.plugin import Case, Samples, method


@method(
    version=1,
    paper="https://arxiv.org/abs/1810.03292",
    signed=False,
    cost="none",
    control=True,
)
def edge_detector(case: Case) -> Samples:
    """How steep the picture is at each place: what a map gets that draws its edges and knows no model.

    The length of the gradient by Sobel's filters, averaged over the channels, in equal shares for these.  The
    picture goes on at its border as it ends there, so that the frame is no edge.

    In brightness a pixel, 0 and above.  Source: Adebayo et al. 2018, arXiv 1810.03292, where such maps look
    like those of methods that do not look at the weights.

    Raises:
        NotApplicable: the features are no pictures.
    """
    picture_size(case)
    pictures = functional.pad(case.x, (1, 1, 1, 1), mode="replicate").flatten(0, 1)[:, None]
    across = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0])) / 8
    filters = torch.stack([across, across.T])[:, None].to(case.x.dtype)
    steep = functional.conv2d(pictures, filters).norm(dim=1)
    return over_channels(case, steep.view(case.x.shape).mean(1))
