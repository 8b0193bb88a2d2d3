"""Model outputs under masks: the one place where features are taken away."""

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from .plugin import Case, Samples, Scores

ELEMENTS = 1_000_000  # of perturbed input held at once: 4 MB in float32


def outputs_under(case: Case, keep: Bool[Tensor, "#n m *feature"]) -> Float[Tensor, "n m"]:
    """The explained output of every row with the features outside `keep` replaced by the baseline.

    keep: one mask for each of m perturbations, for each row or (first axis 1) shared by all rows.
    """
    rows, masks, width = len(case.x), keep.shape[1], case.x[0].numel()
    step = max(1, ELEMENTS // (rows * width))
    return torch.cat([_outputs(case, keep[:, i : i + step]) for i in range(0, masks, step)], dim=1)


def _outputs(case: Case, keep: Bool[Tensor, "#n m *feature"]) -> Float[Tensor, "n m"]:
    """One batch of `outputs_under`."""
    x = torch.where(keep, case.x[:, None], case.baseline)
    rows, masks = x.shape[:2]
    with torch.no_grad():
        outputs: Tensor = case.model(x.flatten(0, 1))
    return outputs.gather(1, case.target.repeat_interleave(masks)[:, None]).view(rows, masks)


def difference(case: Case) -> Scores:
    """f(x) - f(baseline): what the attributions of a row should add up to."""
    with torch.no_grad():
        return case.output(case.x) - case.output(case.baselines)


def random_map(case: Case, rng: Generator) -> Samples:
    """Gaussian noise whose norm is |f(x) - f(baseline)|, row by row.

    The size matters to metrics that see scale: noise of any size would make chance as bad as one likes.
    """
    noise = torch.randn(case.x.shape, generator=rng)
    size = difference(case).abs() / noise.flatten(1).norm(dim=1)
    return noise * size.view(-1, *[1] * (noise.ndim - 1))
