"""SmoothGrad, as captum computes it."""

from typing import Annotated

from annotated_types import Ge, Gt
from captum.attr import NoiseTunnel, Saliency

from ..benchmarks.plugin import Case, Samples, method


@method(
    version=2,
    paper="https://arxiv.org/abs/1706.03825",
    needs="gradient",
    estimand="gradient",
    promises=("dummy", "linearity"),
    cost="samples",
)
def smooth_grad(
    case: Case, *, n_samples: Annotated[int, Ge(1)] = 50, spread: Annotated[float, Gt(0)] = 0.15
) -> Samples:
    """The signed gradient averaged over noisy copies of the row.

    n_samples: copies a row.
    spread: deviation of the noise, as a share of the range of the background, feature by feature's mean.
    """
    scale = (case.background.amax(0) - case.background.amin(0)).mean().item()
    tunnel = NoiseTunnel(Saliency(case.model))
    return tunnel.attribute(
        case.x.clone().requires_grad_(),
        nt_type="smoothgrad",
        nt_samples=n_samples,
        nt_samples_batch_size=n_samples,
        stdevs=spread * scale,
        target=case.target,
        abs=False,
    ).detach()
